"""A node without a kubelet: says that pods run, or whatever their annotations ask for.

`python -m tests.cluster.simulator KUBECONFIG [--name NAME] [--taint]`. The API server, the
scheduler and the controllers are real; containers do not exist. A pod's annotations:

simulator/ready-after: seconds     becomes ready later
simulator/never-ready: "yes"       runs and is never ready
simulator/crash-after: seconds     its containers end with 1 and are started again, each time
simulator/exits: code              its containers end at once, for good
simulator/waiting: reason          waits for ever, as with ImagePullBackOff
"""

import argparse
import asyncio
import ipaddress
from pathlib import Path

from tests.cluster.api import Api, Json
from tests.cluster.kubelet import Container, Node, now, tell, terminated
from tests.cluster.substrate.plan import SIMULATED

BACK_OFF_S = 0.2
"""How long a crashed container waits, and how long a pod takes to end."""

ADDRESSES = ipaddress.ip_network("10.128.0.0/9")


class Pod:
    """One pod's life, told by patches of its status."""

    def __init__(self, api: Api, pod: Json, address: str) -> None:
        self._api = api
        self._pod = pod
        self._address = address
        self._wish = pod["metadata"].get("annotations", {})
        self._restarts = 0

    async def live(self) -> None:
        if reason := self._asked("waiting"):
            await self._say("Pending", {"waiting": {"reason": reason, "message": "simulated"}})
            return
        if code := self._asked("exits"):
            phase = "Succeeded" if code == "0" else "Failed"
            await self._say(phase, {"terminated": terminated(int(code))})
            return
        running = {"running": {"startedAt": now()}}
        if seconds := self._asked("ready-after"):
            await self._say("Running", running)
            await asyncio.sleep(float(seconds))
        await self._say("Running", running, ready=self._asked("never-ready") is None)
        while seconds := self._asked("crash-after"):
            await asyncio.sleep(float(seconds))
            self._restarts += 1
            waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "simulated"}}
            await self._say("Running", waiting)
            await asyncio.sleep(BACK_OFF_S)
            await self._say("Running", {"running": {"startedAt": now()}}, ready=True)

    def _asked(self, name: str) -> str | None:
        wish: str | None = self._wish.get(f"simulator/{name}")
        return wish

    async def end(self, grace_s: float) -> None:
        await asyncio.sleep(min(grace_s, BACK_OFF_S))

    async def _say(self, phase: str, state: Json, *, ready: bool = False) -> None:
        container = Container(
            state=state,
            ready=ready,
            started="running" in state,
            restarts=self._restarts,
            ended=1 if self._restarts else None,
        )
        await tell(self._api, self._pod, phase, self._address, container)


async def main(kubeconfig: Path, name: str, *, taint: bool) -> None:
    addresses = ADDRESSES.hosts()
    async with Api.at(kubeconfig) as api:

        def begin(pod: Json) -> Pod:
            return Pod(api, pod, str(next(addresses)))

        await Node(api, name, kind=SIMULATED, taint=taint, begin=begin).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--name", default=SIMULATED)
    parser.add_argument("--taint", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.kubeconfig, given.name, taint=given.taint))
