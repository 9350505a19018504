"""Lets a forecast come true: each fault is over before its gust is."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from adapters.simulators.wecom_company import Faults
from tests.e2e.conftest import until
from tests.faults.installation import Installation
from tests.faults.weather import PARTS, Fault, Gust

# A platform that takes so long to answer is slow; ours waits longer for it.
SLOW_S = 2.0


class Storm:
    """Keeps a timeline of what it did."""

    def __init__(self, house: Installation) -> None:
        self._house = house
        self._began = time.monotonic()
        self.timeline: list[str] = []
        self.faults = 0
        # Two faults of one part at a time would say nothing more, and need each other's state.
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def rage(self, forecast: Sequence[Gust]) -> None:
        for gust in forecast:
            await asyncio.sleep(gust.calm_s)
            await asyncio.gather(*(self._strike(fault) for fault in gust.faults))

    def note(self, words: str) -> None:
        self.timeline.append(f"{time.monotonic() - self._began:6.1f} s  {words}")

    async def _strike(self, fault: Fault) -> None:
        strikes: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "kill": self._kill,
            "pause": self._pause,
            "fill": self._fill,
            "cut": self._bend,
            "slow": self._bend,
            "lose": self._bend,
            "annoy": self._annoy,
            "set": self._set_clock,
        }
        verb = fault.kind.split()[0]
        async with self._place(fault):
            self.faults += 1
            self.note(str(fault))
            await strikes[verb](fault)
            self.note(f"{fault} is over")

    @contextlib.asynccontextmanager
    async def _place(self, fault: Fault) -> AsyncIterator[None]:
        """Agents are the controller's, so what befalls either befalls both."""
        place = "controller" if fault.target == "agent" else fault.target
        if fault.kind.startswith("annoy"):
            place = "platform"
        if fault.kind.startswith("set"):
            place = f"clock of {fault.target}"
        async with self._locks[place]:
            yield

    async def _kill(self, fault: Fault) -> None:
        house = self._house
        if fault.target in PARTS:
            await asyncio.to_thread(house.kill, fault.target)
        elif fault.target == "database":
            await house.kill_database()
        elif fault.target == "redis":
            house.redis.kill()
            await asyncio.sleep(fault.lasts_s)
            await asyncio.to_thread(house.redis.start)
        elif fault.kind == "kill":
            for agent in house.agents():
                agent.kill()
        else:
            await self._kill_with_disk()

    async def _kill_with_disk(self) -> None:
        with self._house.paused("controller"):
            agents = self._house.agents()
            for agent in agents:
                agent.kill()

            async def gone() -> bool:
                return not self._house.living(agents)

            await until(gone, "agents that are gone")
            self._house.forget_disks()

    async def _pause(self, fault: Fault) -> None:
        with self._house.paused(fault.target):
            await asyncio.sleep(fault.lasts_s)

    async def _fill(self, fault: Fault) -> None:
        self._house.fill_disks(True)
        await asyncio.sleep(fault.lasts_s)
        self._house.fill_disks(False)

    async def _bend(self, fault: Fault) -> None:
        link = self._house.links[fault.target]
        if fault.kind.startswith("cut"):
            link.cut()
        elif fault.kind == "slow":
            link.delay_s = 0.02 + fault.amount / 2
        else:
            link.loss = 0.02 + fault.amount / 3
        await asyncio.sleep(fault.lasts_s)
        link.heal()

    async def _annoy(self, fault: Fault) -> None:
        wecom = self._house.wecom
        if fault.target == "expire_tokens":
            wecom.expire_tokens()
        else:
            how = SLOW_S * fault.amount if fault.target == "slow_s" else fault.count
            setattr(wecom.faults, fault.target, how)
        await asyncio.sleep(fault.lasts_s)
        wecom.faults = Faults()

    async def _set_clock(self, fault: Fault) -> None:
        self._house.set_clock(fault.target, fault.ahead_s)
        await asyncio.sleep(fault.lasts_s)
        self._house.set_clock(fault.target, 0.0)
