"""`python -m tests.helm`: fetch what tests would otherwise wait for in silence."""

import sys

from tests.cluster.substrate.packages import UnavailableError
from tests.helm import engine, prometheus


def main() -> int:
    try:
        engine.shared_object()
        prometheus.promtool()
    except UnavailableError as error:
        print(f"No Helm or no promtool here: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
