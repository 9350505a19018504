"""Voices written down without anybody outside: the real engine, and what it refuses."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from adapters.model import Ref, Voice
from control_plane.kit.ids import new_id
from control_plane.media import child, decoder
from control_plane.media import service as media_service
from control_plane.media.child import Ended
from control_plane.media.voices import Voices
from control_plane.parts import Parts, build
from control_plane.speech import offline, sphinx
from control_plane.speech import worker as speech
from control_plane.speech.offline import Offline
from control_plane.speech.worker import Speech
from tests.conftest import PUBLIC_URL
from tests.control_plane.conversations.scene import Worker
from tests.control_plane.media import sound
from tests.control_plane.media.conftest import add
from tests.control_plane.speech.conftest import LOOPBACK, Shop
from tests.control_plane.speech.spoken import spoken

SAID = "one two three four five"
# What the engine makes of a machine's voice, at the least.
HEARD = {"two", "three", "four", "five"}
PROGRAM = Path(sphinx.__file__)


@pytest.fixture(scope="module")
def said() -> bytes:
    return spoken(SAID)


@pytest.fixture
async def parts(app_url, keys, clock, rates, storage) -> AsyncIterator[Parts]:
    """The parts of a platform whose operator has switched it on."""
    parts = build(
        database_url=app_url,
        keys=keys,
        clock=clock,
        public_url=PUBLIC_URL,
        rates=rates,
        media=storage,
        outbound_allow=LOOPBACK,
        offline_speech=True,
    )
    yield parts
    await parts.close()


@pytest.fixture
def listener(parts: Parts) -> Offline:
    return Offline(parts.house.database, parts.storage)


@pytest.fixture
def worker(parts: Parts, listener: Offline) -> Worker:
    house = parts.house
    hearer = Speech(house.database, house.keys, house.clock, parts.agents, listener)
    return Worker(house.database, speech.WORK, hearer.run)


async def hears(shop: Shop, body: bytes, name: str = "a.wav") -> UUID:
    media_id = await add(shop.agent, body, name)
    return await shop.hears(segments=[Voice(ref=Ref(via="media", id=media_id))])


class TestProgram:
    async def run(self, voice: bytes) -> Ended:
        return await child.run(PROGRAM, voice, within_s=500, at_most=100_000)

    async def test_writes_down_what_was_said(self, said: bytes) -> None:
        ended = await self.run(said)

        told = msgspec.json.decode(ended.written)
        assert ended.code == 0
        assert set(told["text"].split()) >= HEARD
        assert told["duration_s"] == pytest.approx(1.9, abs=0.2)

    @pytest.mark.parametrize("voice", [b"", b"RIFF" + bytes(100), b"<html>", b"#EXTM3U\n/etc/x"])
    async def test_refuses_what_is_no_voice(self, voice: bytes) -> None:
        assert (await self.run(voice)).code == decoder.UNDECODABLE

    async def test_refuses_what_would_take_too_long(self) -> None:
        long = b"#!AMR\n" + (b"\x04" + bytes(12)) * 50 * (sphinx.MAX_SECONDS + 1)

        assert (await self.run(long)).code == decoder.TOO_LONG

    @pytest.mark.parametrize(
        ("beginning", "reader"),
        [
            (b"ID3\x04", "mp3"),
            (b"\0\0\0\x20ftypM4A ", "mov"),
            (b"OggS", "ogg"),
            (b"#!AMR-WB\n", "amr"),
        ],
    )
    def test_names_who_reads_it(self, beginning: bytes, reader: str) -> None:
        assert sphinx.reader_of(beginning) == reader


class TestTask:
    async def test_is_ended_without_a_provider_and_without_the_agent(
        self, shop: Shop, worker: Worker, said: bytes
    ) -> None:
        await shop.publish(speech={"language": "en"})
        conversation = await hears(shop, said)

        assert await worker.once() is None

        [text] = await shop.said(conversation)
        assert set(text.split()) >= HEARD
        [told] = await shop.told()
        assert (told["text"], told["language"], told["error_class"]) == (text, "en", None)
        assert (shop.provider.asked, shop.hearing.asked) == ([], [])
        assert await shop.left() == (0, 0)

    async def test_hears_what_was_made_of_a_voice_that_no_browser_plays(
        self, shop: Shop, worker: Worker, parts: Parts
    ) -> None:
        await shop.publish(speech={"language": "en"})
        await hears(shop, sound.silk(), "a.silk")
        house = parts.house
        voices = Voices(house.database, parts.storage, house.clock)
        await Worker(house.database, media_service.VOICE, voices.convert).once()

        await worker.once()

        [told] = await shop.told()
        # A tone says nothing in particular, but it was heard.
        assert told["error_class"] is None
        assert told["duration_s"] == pytest.approx(1, abs=0.2)

    @pytest.mark.parametrize("document", [{"language": "zh"}, {}])
    async def test_is_not_begun_for_another_language(self, shop: Shop, document: dict) -> None:
        await shop.publish(speech=document)
        await shop.hears()

        assert await shop.left() == (0, 0)

    async def test_goes_to_the_provider_where_there_is_one(
        self, shop: Shop, worker: Worker
    ) -> None:
        await shop.publish(speech=shop.heard_by(language="en"))
        await shop.hears()

        await worker.once()

        assert len(shop.provider.asked) == 1


class TestFailure:
    @pytest.mark.parametrize(
        ("code", "error_class"),
        [
            (decoder.UNDECODABLE, "refused"),
            (decoder.NO_DECODER, "not_configured"),
            (decoder.TOO_LONG, "too_large"),
            (child.KILLED, "too_large"),
        ],
    )
    async def test_is_told_once_and_for_good(
        self,
        shop: Shop,
        worker: Worker,
        monkeypatch: pytest.MonkeyPatch,
        code: int,
        error_class: str,
    ) -> None:
        async def run(*_arguments: object, **_named: object) -> Ended:
            return Ended(code=code, written=b"")

        monkeypatch.setattr(offline.child, "run", run)
        await shop.publish(speech={"language": "en"})
        await shop.hears()

        assert await worker.once() is None

        assert [told["error_class"] for told in await shop.told()] == [error_class]

    async def test_of_a_program_that_was_taken_over_believes_nothing(
        self, shop: Shop, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def run(*_arguments: object, **_named: object) -> Ended:
            return Ended(code=0, written=b'{"text": 1}')

        monkeypatch.setattr(offline.child, "run", run)
        await shop.publish(speech={"language": "en"})
        await shop.hears()

        await worker.once()

        assert [told["error_class"] for told in await shop.told()] == ["refused"]

    async def test_of_what_is_no_longer_stored_is_said(self, shop: Shop, listener: Offline) -> None:
        assert await listener.hear(shop.bot.tenant_id, new_id()) == "media_gone"
