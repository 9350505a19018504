"""`python -m tests.peers`: make what tests would otherwise wait for in silence."""

import sys

from tests.cluster.substrate.packages import UnavailableError
from tests.peers import place


def main() -> int:
    try:
        place.interpreter()
    except UnavailableError as error:
        print(f"No vendors' SDKs here: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
