"""A platform, a control plane and an agent's way in between them, which may die at every effect.

Spool, reporter, intake and disk are the real ones. The process "dies" by standing still at an
effect until everything that ran in it is cut; what was on its disk is there for the next one.
"""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from uuid import UUID, uuid5

import httpx2
import msgspec

from adapters import standard_webhooks
from adapters.base import NotAccepted
from adapters.kind import Acknowledge
from adapters.model import ConversationKey, Inbound, Sender, Text
from instance_agent.intake import Intake
from instance_agent.metrics import Metrics
from instance_agent.protocol import EventBatch, EventResult, EventResults
from instance_agent.reporter import Reporter
from instance_agent.spool import Spool
from instance_agent.store import Store

CHANNEL = UUID(int=7)
OTHER = UUID(int=8)
SECRET = standard_webhooks.make_secret(b"w" * 32)
NOW = 1_755_850_000.0

# How a platform brings its messages: frames that are acknowledged one by one (and repeated, or
# never again), a stream that goes on at a position, pages behind a cursor.
STYLES: dict[str, Acknowledge] = {
    "repeating": "kept",
    "once": "spooled",
    "resumed": "kept",
    "resumed from its disk": "spooled",
    "pulled": "stored",
}
POSITIONED = frozenset({"resumed", "resumed from its disk", "pulled"})
PAGE = 3


class Disk(Store):
    """A file whose commits are effects."""

    effect: Callable[[str], Awaitable[None]]

    async def run(self, job):
        await self.effect("before the disk")
        found = await super().run(job)
        await self.effect("behind the disk")
        return found


class World:
    """One channel. `number`s count what its customers said, in two conversations."""

    def __init__(self, style: str) -> None:
        self.style, self.rule = style, STYLES[style]
        # The platform.
        self.said: list[int] = []
        self.acknowledged: set[int] = set()
        # The control plane.
        self.mode = "up"
        self.stored: list[int] = []
        self.checkpoints: dict[str, str] = {}
        # What may be missing in the end, and why.
        self.on_lost_disks: set[int] = set()
        self.never_taken: set[int] = set()
        self.effects_left: int | None = None
        self.folder = tempfile.TemporaryDirectory()
        self.disks = 0

    # --- the process ---

    async def start(self) -> None:
        self.dead = asyncio.Event()
        self.effects_left = None
        self.store = Disk(Path(self.folder.name) / f"{self.disks}.db")
        self.store.effect = self.effect
        self.spool = Spool(self.store)
        await self.spool.load()
        self.http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._take))
        self.reporter = Reporter(
            http=self.http,
            url="http://control/events",
            session_id=UUID(int=1),
            secret=lambda: SECRET,
            spool=self.spool,
            metrics=Metrics(),
            clock=lambda: NOW,
            random=Random(1),
        )
        self.intake = Intake(
            reporter=self.reporter,
            spool=self.spool,
            store=self.store,
            clock=lambda: NOW,
            random=Random(1),
        )
        await self.intake.load(self.checkpoints)

    async def end(self) -> None:
        """`kill -9`: nothing that ran goes on."""
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.http.aclose()
        await self.store.close()

    async def close(self) -> None:
        await self.end()
        self.folder.cleanup()

    async def effect(self, name: str) -> None:
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
        if died:
            await self.end()
            await self.start()
        else:
            dying.cancel()
            doing.result()
        return died

    async def restart(self, *, lose_disk: bool) -> None:
        if lose_disk:
            self.on_lost_disks |= await self.waiting()
            self.disks += 1
        await self.end()
        await self.start()

    # --- the control plane ---

    async def _take(self, request: httpx2.Request) -> httpx2.Response:
        await self.effect("before the control plane")
        if self.mode == "away":
            return httpx2.Response(503)
        batch = msgspec.json.decode(request.content, type=EventBatch)
        results = []
        for event in batch.events:
            number = int(event.data["message_id"])
            known = number in self.stored
            if not known:
                self.stored.append(number)
            results.append(EventResult(id=event.id, status="duplicate" if known else "stored"))
        self._name(batch.checkpoints)
        await self.effect("behind the control plane")
        if self.mode == "mute":
            raise httpx2.ReadError("cut")
        return httpx2.Response(202, content=msgspec.json.encode(EventResults(results=results)))

    def _name(self, checkpoints: dict[str, str]) -> None:
        for channel, value in checkpoints.items():
            self.checkpoints[channel] = max(self.checkpoints.get(channel, ""), value)

    # --- the platform, and an adapter ---

    def say(self, count: int) -> None:
        self.said += range(len(self.said), len(self.said) + count)

    async def bring(self, most: int = 100) -> None:
        """What the platform has for us, in its way; several frames at a time."""
        if self.style == "pulled":
            for _ in range(most):
                await self._pull()
            return
        position = self.intake.resume(CHANNEL)
        if self.style in POSITIONED:
            begin = 0 if position is None else int(position) + 1
            numbers = self.said[begin : begin + most]
        else:
            numbers = [
                number
                for number in self.said
                if number not in self.acknowledged and number not in self.never_taken
            ][:most]
        if self.style == "once":
            # Sent, and never again: unless it is safe in a moment it is nobody's.
            self.never_taken |= set(numbers)
        # An adapter that reads on meets what was refused only later.
        for wave in (numbers[:2], numbers[2:]):
            await asyncio.gather(*(self._frame(number) for number in wave))

    async def _pull(self) -> None:
        cursor = self.intake.resume(CHANNEL)
        begin = 0 if cursor is None else int(cursor)
        page = self.said[begin : begin + PAGE]
        try:
            await self.intake.take(
                CHANNEL,
                self.rule,
                [inbound(number) for number in page],
                position=str(begin + len(page)),
            )
        except NotAccepted:
            return
        # The platform drops what is before the cursor that we name next.
        self.acknowledged |= set(page)

    async def _frame(self, number: int) -> None:
        position = str(number) if self.style in POSITIONED else None
        try:
            await self.intake.take(CHANNEL, self.rule, [inbound(number)], position=position)
        except NotAccepted:
            return
        self.never_taken.discard(number)
        await self.effect("before the acknowledgement")
        self.acknowledged.add(number)
        await self.effect("behind the acknowledgement")

    async def post_spool(self) -> None:
        """Until the spool is empty or refused."""
        posting = asyncio.create_task(self.reporter.post_spool())
        emptied = asyncio.create_task(self.spool.empty.wait())
        await asyncio.wait(
            {posting, emptied},
            timeout=None if self.mode == "up" else 0.05,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in (posting, emptied):
            task.cancel()
        for each in await asyncio.gather(posting, emptied, return_exceptions=True):
            if isinstance(each, Exception):
                raise each

    async def beat(self) -> None:
        """What a heartbeat names."""
        named = self.intake.checkpoints()
        if self.mode != "away":
            await self.effect("before the heartbeat")
            self._name(named)
        if self.mode == "up":
            self.intake.told(named)

    # --- what must be true ---

    async def waiting(self) -> set[int]:
        """The messages on the disk of now."""
        effects, self.effects_left = self.effects_left, None
        rows = await self.store.run(
            lambda disk: disk.execute("SELECT body FROM spool ORDER BY seq").fetchall()
        )
        self.effects_left = effects
        return {int(json.loads(body)["data"]["message_id"]) for (body,) in rows}

    async def check(self) -> None:
        safe = set(self.stored) | await self.waiting()
        lost = self.acknowledged - safe
        assert lost <= self.on_lost_disks, "acknowledged, and nowhere"
        if self.rule == "stored":
            assert self.acknowledged <= set(self.stored)
        for conversation in (0, 1):
            heard = [number for number in self.stored if number % 2 == conversation]
            assert heard == sorted(heard), "out of order"
        assert len(self.stored) == len(set(self.stored))
        # Not by `resume`, which would take what was refused back.
        position = self.intake._line(CHANNEL).position.value
        if position is not None:
            passed = int(position) + (0 if self.style == "pulled" else 1)
            assert set(self.said[:passed]) <= safe, "the position passed what is not safe"
        if named := self.checkpoints.get(str(CHANNEL)):
            passed = int(named.partition(":")[2]) + (0 if self.style == "pulled" else 1)
            assert set(self.said[:passed]) <= set(self.stored), "named above, and not stored"

    async def heal(self) -> None:
        """Everything works again: what may be missing is only what the rule gives up."""
        self.mode = "up"
        for _ in range(2 + len(self.said) // PAGE):
            await self.bring()
            await self.post_spool()
        await self.beat()
        await self.check()
        missing = set(self.said) - set(self.stored)
        if self.style in POSITIONED:
            assert not missing
            assert self.checkpoints or not self.said
        elif self.style == "repeating":
            assert missing <= self.on_lost_disks
        else:
            assert missing <= self.on_lost_disks | self.never_taken


def inbound(number: int) -> Inbound:
    conversation = f"c{number % 2}"
    return Inbound(
        dedupe_key=str(uuid5(OTHER, str(number))),
        message_id=str(number),
        occurred_at=NOW,
        conversation=ConversationKey(type="direct", id=conversation),
        sender=Sender(id=conversation),
        segments=[Text(text=str(number))],
    )
