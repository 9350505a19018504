"""An agent's configuration, channels and disk, with a scripted platform and a control plane.

Store, configs, supervisor and holds are the real ones. The process dies by standing still at an
effect until everything that ran in it is cut; what was on its disk is there for the next one.
"""

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel

from adapters import registry
from adapters.base import ChannelRefused
from adapters.outbound import Door
from instance_agent import supervisor
from instance_agent.channel_host import ChannelSpec, Surroundings
from instance_agent.configs import Configs
from instance_agent.document import digest
from instance_agent.holds import Holds
from instance_agent.metrics import Metrics
from instance_agent.problems import Refusal
from instance_agent.protocol import ConfigOutcome, ConfigUpdate, LeaseAnswer, Revision
from instance_agent.spool import Spool
from instance_agent.store import Store
from instance_agent.supervisor import Supervisor
from instance_agent.trial import SHOWN_BY_TRIAL

WINDOW_S = 1000.0
# Steps of the loop within which whatever was begun comes to rest.
STEPS = 30
ROUNDS = 6
CHANNELS = {"shared": UUID(int=1), "single": UUID(int=2), "another": UUID(int=3)}


class Platform:
    """Accounts by name, and who is connected to them."""

    def __init__(self) -> None:
        self.down = False
        self.moods: dict[str, str] = {}
        self.connected: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def mood(self, account: str) -> str:
        return "down" if self.down else self.moods.get(account, "up")

    def set(self, account: str | None, mood: str) -> None:
        if account is None:
            self.down = mood == "down"
        else:
            self.moods[account] = mood
        self.tell()

    def tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed(self) -> None:
        await self._changed.wait()


class Settings(BaseModel):
    account: str
    nick: str = ""


class Account:
    """A scripted adapter."""

    exclusive: ClassVar[bool] = False
    platform: ClassVar[Platform]

    def __init__(self, settings: Settings, host: Any) -> None:
        self.settings, self.host = settings, host

    def account(self) -> str:
        return self.settings.account

    async def probe(self) -> None:
        if self.platform.mood(self.settings.account) == "refusing":
            raise ChannelRefused("/account", "no such account")

    async def run(self) -> None:
        name = self.settings.account
        while True:
            match self.platform.mood(name):
                case "up" | "slow":
                    await self._stay(name)
                case "down":
                    raise ConnectionError(name)
                case "silent":
                    await self.platform.changed()
                case _:
                    raise ChannelRefused("/account", "no such account")

    async def _stay(self, name: str) -> None:
        self.platform.connected[name] += 1
        self.platform.most[name] = max(self.platform.most[name], self.platform.connected[name])
        try:
            self.host.connected()
            while self.platform.mood(name) in ("up", "slow"):
                await self.platform.changed()
        finally:
            while self.platform.mood(name) == "slow":
                # It does not let go at once, whatever it is told.
                with contextlib.suppress(asyncio.CancelledError):
                    await self.platform.changed()
            self.platform.connected[name] -= 1


class Single(Account):
    exclusive: ClassVar[bool] = True


@dataclass(frozen=True)
class FakeKind:
    name: str
    made: type
    takes_sockets: bool = False

    def adapter(self) -> type:
        return self.made

    def settings(self) -> type[BaseModel]:
        return Settings


KINDS = {name: FakeKind(name, kind) for name, kind in (("shared", Account), ("single", Single))}


class Soon(Random):
    def uniform(self, a: float, b: float) -> float:
        return 0.002


class Disk(Store):
    """A file whose commits are effects."""

    effect: Callable[[], Awaitable[None]]

    async def run(self, job):
        await self.effect()
        found = await super().run(job)
        await self.effect()
        return found


def revision(number: int, accounts: dict[str, str], **sections: Any) -> Revision:
    """A document with these channels, by name."""
    channels = [
        {
            "id": str(CHANNELS[name]),
            "kind": "shared" if name == "shared" else "single",
            "name": name,
            "settings": {"account": account},
        }
        for name, account in accounts.items()
    ]
    document = {"channels": channels, **sections}
    return Revision(number=number, sha256=digest(document), document=document)


class World:
    """One agent after another, on one disk, under one control plane."""

    def __init__(self) -> None:
        self.platform = Account.platform = Platform()
        self.now = 0.0
        self.folder = tempfile.TemporaryDirectory()
        self.disks = 0
        self.free = 2**40
        # The control plane.
        self.desired: Revision | None = None
        self.applied: Revision | None = None
        self.good: Revision | None = None
        self.refused: tuple[int, str, list] | None = None
        self.published: dict[tuple[int, str], Revision] = {}
        self.bad: set[tuple[int, str]] = set()
        self.lost: set[tuple[int, str]] = set()
        self.events: list[tuple[str, Any]] = []
        self.effects_left: int | None = None

    def publish(self, given: Revision, *, bad: bool = False) -> Revision:
        self.desired = self.published[given.number, given.sha256] = given
        if bad:
            self.bad.add((given.number, given.sha256))
        return given

    # --- the process ---

    async def start(self) -> None:
        self.dead = asyncio.Event()
        self.effects_left = None
        self.store = Disk(Path(self.folder.name) / f"{self.disks}.db")
        self.store.effect = self.effect
        spool = Spool(self.store)
        await spool.load()
        self.holds = Holds(self._claim, every_s=1000, clock=lambda: self.now)
        around = Surroundings(
            http=None,
            control=None,
            media=None,
            blacklist=None,
            intake=None,
            late=None,
            metrics=Metrics(),
            clock=lambda: self.now,
            random=Soon(),
            holds=self.holds,
            door=Door(()),
        )
        self.supervisor = Supervisor(around, self._status)
        self.configs = Configs(
            store=self.store,
            spool=spool,
            supervisor=self.supervisor,
            record=self._record,
            door=Door(()),
            free_bytes=lambda: self.free,
            window_s=WINDOW_S,
            clock=lambda: self.now,
        )
        self.loops = [
            asyncio.create_task(self.configs.watch()),
            asyncio.create_task(self.holds.keep()),
            asyncio.create_task(self.supervisor.report_states()),
        ]

    async def boot(self) -> None:
        refused = []
        if self.refused is not None and self.desired is not None:
            number, sha256, errors = self.refused
            if (number, sha256) == (self.desired.number, self.desired.sha256):
                refused = errors
        await self.configs.boot(self.desired, self.good, refused)
        await self.rest()

    async def kill(self) -> None:
        """`kill -9`: nothing that ran goes on, and the platform sees the connections end."""
        for name, mood in self.platform.moods.items():
            self.platform.moods[name] = "up" if mood == "slow" else mood
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for _ in range(3):
            for task in running:
                task.cancel()
            self.platform.tell()
            await asyncio.sleep(0)
        await asyncio.gather(*running, return_exceptions=True)
        await self.store.close()

    async def restart(self, *, clean: bool = False, lose_disk: bool = False) -> None:
        if clean:
            await self.configs.close()
        await self.kill()
        self.disks += lose_disk
        await self.start()
        await self.boot()

    async def close(self) -> None:
        await self.kill()
        self.folder.cleanup()

    async def effect(self) -> None:
        """Between two effects the process may die."""
        if self.effects_left is None:
            return
        self.effects_left -= 1
        if self.effects_left < 0:
            self.dead.set()
            await asyncio.Event().wait()

    async def unless_dead(self, work: Awaitable[None]) -> bool:
        """Do it; True if the process died midway, and another one took its place."""
        doing = asyncio.ensure_future(work)
        dying = asyncio.create_task(self.dead.wait())
        await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
        died = self.dead.is_set()
        self.effects_left = None
        if died:
            await self.restart()
        else:
            dying.cancel()
            doing.result()
        return died

    # --- what happens ---

    async def push(self, given: Revision | None = None) -> ConfigOutcome | None:
        """As the fleet does it; None for one that the agent calls stale."""
        given = given or self.desired
        update = ConfigUpdate(revision=given.number, sha256=given.sha256, document=given.document)
        try:
            outcome = await self.configs.update(update)
        except Refusal as refusal:
            if refusal.code != "stale_revision":
                raise
            return None
        await self.rest()
        return outcome

    async def pass_window(self) -> None:
        """The time of a trial is over."""
        self.now += WINDOW_S + 1
        self.supervisor._moved.set()
        await self.rest()

    async def rest(self) -> None:
        """Let everything that was begun go as far as it can."""
        for _ in range(ROUNDS):
            for _ in range(STEPS):
                await asyncio.sleep(0)
            # Whatever waits for the disk goes on behind this; and adapters are started again.
            await Store.run(self.store, lambda _: None)
            await asyncio.sleep(0.002)

    def states(self) -> dict[str, str]:
        names = {channel: name for name, channel in CHANNELS.items()}
        return {names[each.channel_id]: each.state for each in self.supervisor.statuses()}

    def specs(self) -> dict[UUID, ChannelSpec]:
        return self.supervisor.specs()

    # --- the control plane ---

    async def _claim(self, accounts, number) -> LeaseAnswer:
        return LeaseAnswer(accounts=dict.fromkeys(accounts, "held"), life_s=10**9)

    async def _status(self, _) -> None:
        pass

    async def _record(self, kind, data) -> None:
        await self.effect()
        self.events.append((kind, data))
        if kind == "config.applied":
            self.good = self.applied = self.published[data.revision, data.sha256]
        else:
            self.refused = (data.revision, data.sha256, data.errors)
            if any(each.code in SHOWN_BY_TRIAL for each in data.errors):
                self.lost.add((data.revision, data.sha256))
        await self.effect()


@contextlib.contextmanager
def kinds():
    """The scripted adapters, in the place of the real ones."""
    before, patience = dict(registry._KINDS), supervisor.STOP_S
    registry._KINDS.update(KINDS)
    supervisor.STOP_S = 0.01
    try:
        yield
    finally:
        supervisor.STOP_S = patience
        registry._KINDS.clear()
        registry._KINDS.update(before)
