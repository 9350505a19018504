"""What a model is saying, told while it says it to the members who look at the conversation.

Workers know from the members' own notes which conversations somebody looks at: of the others they
tell nothing. Nothing here is needed for the answer; what gets lost is made good by the next words.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from control_plane.bus.hints import Bus
from control_plane.realtime import notes
from control_plane.realtime.notes import LIFE_S, Answering, Note
from control_plane.turns.running import Running

# Seconds between two tellings of one answer.
PAUSE_S = 0.25
# The newest characters of an answer that are told: a note has to fit into PostgreSQL's 8,000 bytes.
MAX_TEXT = 1_000
# Conversations that a worker knows to be looked at.
MAX_WATCHED = 10_000


class Aloud:
    """Reads answers aloud that somebody looks out for; as a part, it hears who does."""

    name = "turns.aloud"

    def __init__(self, bus: Bus, now: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._now = now
        self._until: dict[UUID, float] = {}
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Hear who looks at what, until stopped."""
        with self._bus.hear(self.hear):
            await self._stopped.wait()

    def stop(self) -> None:
        self._stopped.set()

    def hear(self, text: str) -> None:
        """A note of somebody's; who looks away is remembered until their note ends."""
        note = notes.read(text)
        if not isinstance(note, Note) or note.kind != "viewing" or note.conversation_id is None:
            return
        if len(self._until) >= MAX_WATCHED:
            now = self._now()
            self._until = {one: until for one, until in self._until.items() if until > now}
        if note.conversation_id in self._until or len(self._until) < MAX_WATCHED:
            self._until[note.conversation_id] = self._now() + LIFE_S["viewing"]

    @contextmanager
    def reading(self, turn: Running) -> Iterator[Callable[[str], None]]:
        """What tells of a turn's answer as it grows: at once, then after pauses."""
        answer = _Answer(self._bus, turn, lambda: self._is_watched(turn.conversation_id))
        try:
            yield answer.grew
        finally:
            answer.end()

    def _is_watched(self, conversation_id: UUID) -> bool:
        return self._until.get(conversation_id, 0.0) > self._now()


class _Answer:
    """One answer, and when more of it may be told."""

    def __init__(self, bus: Bus, turn: Running, is_watched: Callable[[], bool]) -> None:
        self._bus = bus
        self._turn = turn
        self._is_watched = is_watched
        self._text = self._told = ""
        self._pausing: asyncio.TimerHandle | None = None

    def grew(self, text: str) -> None:
        self._text = text
        if self._pausing is None:
            self._tell()

    def end(self) -> None:
        if self._pausing is not None:
            self._pausing.cancel()

    def _tell(self) -> None:
        self._pausing = None
        if self._text == self._told or not self._is_watched():
            return
        self._told = self._text
        self._bus.tell(_note(self._turn, self._text).written())
        self._pausing = asyncio.get_running_loop().call_later(PAUSE_S, self._tell)


def _note(turn: Running, text: str) -> Answering:
    cut = text if len(text) <= MAX_TEXT else f"…{text[-MAX_TEXT:]}"
    return Answering(
        tenant_id=turn.tenant_id,
        conversation_id=turn.conversation_id,
        through_number=turn.through_number,
        text=cut,
    )
