"""`python -m tests.cluster build|up|down`: make the programs; keep a cluster up by hand."""

import sys

from tests.cluster import handle
from tests.cluster.substrate import build, image, keeper
from tests.cluster.substrate.packages import UnavailableError
from tests.cluster.substrate.plan import Plan

FOLDER = build.cache() / "cluster"


def make() -> None:
    """What tests would otherwise wait for in silence."""
    build.programs()
    build.daemons()
    if keeper.why_no_real_node() is None:
        image.pack(handle.CHECKOUT)


def up() -> None:
    if not (FOLDER / "ready").exists():
        down()
        FOLDER.mkdir(mode=0o700)
        keeper.start(FOLDER, stay=True)
    plan = Plan.read(FOLDER)
    cluster = handle.local(plan)
    nodes = "a real node and a simulated one" if plan.real else "a simulated node"
    print(f"A cluster with {nodes} is up. The agent's image: {cluster.agent_image}")
    print(f"export KUBECONFIG={plan.kubeconfig} {handle.GIVEN}={plan.kubeconfig}")
    if plan.real:
        print(f"Pods are reached by: {' '.join(cluster.inside())}")


def down() -> None:
    if FOLDER.exists():
        keeper.stop(FOLDER)


def main(arguments: list[str]) -> int:
    commands = {"build": make, "up": up, "down": down}
    if len(arguments) != 1 or arguments[0] not in commands:
        print(__doc__)
        return 2
    try:
        commands[arguments[0]]()
    except UnavailableError as error:
        print(f"No cluster here: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
