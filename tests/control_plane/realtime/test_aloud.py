"""Answers that are told while a model says them."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from control_plane.bus.hints import LocalBus
from control_plane.realtime import notes
from control_plane.realtime.aloud import MAX_TEXT, MAX_WATCHED, Aloud
from control_plane.realtime.notes import LIFE_S, Answering, Note
from control_plane.turns.running import Running


def turn(conversation_id: UUID) -> Running:
    return Running(
        id=uuid4(),
        tenant_id=uuid4(),
        conversation_id=conversation_id,
        number=1,
        from_number=3,
        through_number=4,
        owner_version=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def looks(conversation_id: UUID | None, kind: str = "viewing") -> str:
    note = Note(
        tenant_id=uuid4(),
        kind=kind,
        member_id=uuid4(),
        name="Lin",
        state="on",
        conversation_id=conversation_id,
    )
    return note.written()


class Ear:
    """What was told on a bus, each text as it came."""

    def __init__(self) -> None:
        self.texts: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, said: str) -> None:
        note = notes.read(said)
        assert isinstance(note, Answering)
        assert note.through_number == 4
        self.texts.put_nowait(note.text)

    def so_far(self) -> list[str]:
        return [self.texts.get_nowait() for _ in range(self.texts.qsize())]


class TestAloud:
    @pytest.fixture
    def now(self) -> list[float]:
        return [100.0]

    @pytest.fixture
    def bus(self) -> LocalBus:
        return LocalBus()

    @pytest.fixture
    def aloud(self, bus: LocalBus, now: list[float]) -> Aloud:
        return Aloud(bus, lambda: now[0])

    async def test_tells_the_first_words_at_once_and_the_newest_after_a_pause(
        self, aloud: Aloud, bus: LocalBus
    ) -> None:
        one, ear = uuid4(), Ear()
        aloud.hear(looks(one))

        with bus.hear(ear), aloud.reading(turn(one)) as grew:
            for text in ("我", "我们", "我们九", "我们九点"):
                grew(text)
            assert ear.so_far() == ["我"]
            assert await ear.texts.get() == "我们九点"
            grew("我们九点开门。")
        # What came last is the message itself.
        assert ear.so_far() == []

    async def test_tells_nothing_where_nobody_looks(
        self, aloud: Aloud, bus: LocalBus, now: list[float]
    ) -> None:
        one, other, ear = uuid4(), uuid4(), Ear()
        aloud.hear(looks(one))
        aloud.hear(looks(other, "typing"))
        aloud.hear(looks(None))
        aloud.hear("not a note")

        with bus.hear(ear):
            with aloud.reading(turn(other)) as grew:
                grew("a")
            now[0] += LIFE_S["viewing"]
            with aloud.reading(turn(one)) as grew:
                grew("b")
                # Somebody comes in the middle of it.
                aloud.hear(looks(one))
                grew("bc")

        assert ear.so_far() == ["bc"]

    async def test_hears_who_looks_for_as_long_as_it_runs(
        self, aloud: Aloud, bus: LocalBus
    ) -> None:
        one, ear = uuid4(), Ear()
        running = asyncio.create_task(aloud.run())
        await asyncio.sleep(0)
        bus.tell(looks(one))
        aloud.stop()
        await running

        with bus.hear(ear), aloud.reading(turn(one)) as grew:
            grew("a")
        assert ear.so_far() == ["a"]

    async def test_remembers_so_many_and_forgets_those_who_left_first(
        self, aloud: Aloud, bus: LocalBus, now: list[float]
    ) -> None:
        ear, late = Ear(), uuid4()
        for _ in range(MAX_WATCHED):
            aloud.hear(looks(uuid4()))
        aloud.hear(looks(late))
        with bus.hear(ear), aloud.reading(turn(late)) as grew:
            grew("a")
        assert ear.so_far() == []

        now[0] += LIFE_S["viewing"]
        aloud.hear(looks(late))
        with bus.hear(ear), aloud.reading(turn(late)) as grew:
            grew("a")
        assert ear.so_far() == ["a"]

    async def test_tells_the_end_of_what_is_too_long_for_a_note(
        self, aloud: Aloud, bus: LocalBus
    ) -> None:
        one, ear = uuid4(), Ear()
        aloud.hear(looks(one))
        text = "头" + "\n" * (MAX_TEXT - 1) + "尾"

        with bus.hear(ear), aloud.reading(turn(one)) as grew:
            grew(text)

        assert ear.so_far() == ["…" + text[1:]]


class TestAnswering:
    def test_is_a_frame_without_a_member(self) -> None:
        one = uuid4()
        note = Answering(tenant_id=uuid4(), conversation_id=one, through_number=4, text="我们")
        frame: dict[str, Any] = json.loads(note.payload())

        assert notes.read(note.written()) == note
        assert frame["event"] == {
            "type": "answering",
            "data": {
                "conversation_id": str(one),
                "through_number": 4,
                "text": "我们",
                "ttl_s": LIFE_S["answering"],
            },
        }
