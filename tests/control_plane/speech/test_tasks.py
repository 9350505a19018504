"""Voices written down: begun once, ended once, whatever dies and whoever answers nonsense."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adapters.model import Image, Ref, Text, Voice
from control_plane.conversations import search_index
from control_plane.conversations.search_index import SearchIndex
from control_plane.db import leases
from control_plane.db.leases import LeaseLost
from control_plane.kit.ids import new_id
from control_plane.media import service as media_service
from control_plane.media.voices import Voices
from control_plane.parts import Parts
from control_plane.speech.worker import AGENT_PATIENCE, CONVERSION_PATIENCE, RETRY_AFTER
from control_plane.turns import worker as turns
from control_plane.turns.worker import Turns
from control_plane.webhooks.events import public
from tests.control_plane.conversations.scene import PATIENCE_S, Gated, Worker
from tests.control_plane.media import sound
from tests.control_plane.media.conftest import add
from tests.control_plane.speech.conftest import VOICE, Shop

HEARD = "你们几点开门"


class TestBegin:
    async def test_the_message_is_there_at_once_and_the_task_is_told(self, shop: Shop) -> None:
        conversation = await shop.hears()

        [message] = await shop.bot.thread(conversation)
        assert await shop.said(conversation) == [None]
        assert await shop.left() == (1, 1)
        [started] = await shop.told("asr.started")
        assert started == {
            "task_id": str(await shop.task()),
            "conversation_id": str(conversation),
            "message_id": message["id"],
            "number": 1,
        }

    async def test_a_redelivery_begins_nothing(self, shop: Shop) -> None:
        media_id = await add(shop.agent, VOICE)
        event = shop.agent.message("a", segments=[Voice(ref=Ref(via="media", id=media_id))])

        for _ in range(2):
            await shop.agent.post(event, event)

        assert await shop.left() == (1, 1)
        assert len(await shop.told("asr.started")) == 1

    async def test_what_a_platform_has_written_down_is_used_as_it_is(self, shop: Shop) -> None:
        conversation = await shop.hears(transcript="从平台来的")

        assert await shop.left() == (0, 0)
        assert await shop.said(conversation) == ["从平台来的"]

    async def test_only_voices_that_we_store_are_heard(self, shop: Shop) -> None:
        picture = Image(ref=Ref(via="media", id=await add(shop.agent)))
        await shop.hears(segments=[Text(text="hello"), picture, Voice(transcript="x")])

        assert await shop.left() == (0, 0)

    async def test_nobody_is_asked_where_the_document_names_nobody(self, shop: Shop) -> None:
        await shop.publish(persona={"name": "小花"})
        await shop.hears()

        assert await shop.left() == (0, 0)
        assert await shop.told("asr.started") == []


class TestEnd:
    async def test_the_words_are_in_the_message_and_told_once(
        self, shop: Shop, worker: Worker
    ) -> None:
        conversation = await shop.hears()
        task = await shop.task()

        assert await worker.once() is None

        assert await shop.said(conversation) == [HEARD]
        [told] = await shop.told()
        [started] = await shop.told("asr.started")
        assert told == started | {
            "text": HEARD,
            "language": "chinese",
            "duration_s": 3.25,
            "confidence": 0.9048,
            "error_class": None,
        }
        assert await shop.left() == (0, 0)
        [asked] = shop.provider.asked
        assert asked.file == ("voice.mp3", VOICE)
        assert (asked.body["model"], asked.body["language"]) == ("whisper-1", "zh")
        assert [ask.task_id for ask in shop.hearing.asked] == [task]
        [listed] = (await shop.owner.get("/conversations")).json()["items"]
        assert listed["preview"] == HEARD

    async def test_a_voice_that_few_read_is_heard_as_what_is_made_of_it(
        self, shop: Shop, worker: Worker, parts: Parts
    ) -> None:
        house = parts.house
        voices = Voices(house.database, parts.storage, house.clock)
        media_id = await add(shop.agent, sound.amr(), "一.amr")
        conversation = await shop.hears(segments=[Voice(ref=Ref(via="media", id=media_id))])

        early = await worker.once()
        asked_early = list(shop.provider.asked)
        await Worker(house.database, media_service.VOICE, voices.convert).once()
        await worker.again(await shop.task())

        assert (early, asked_early) == (timedelta(seconds=2), [])
        [asked] = shop.provider.asked
        assert asked.file[0] == "voice.mp3"
        assert sound.heard(asked.file[1])[1] == pytest.approx(1, abs=0.2)
        assert await shop.said(conversation) == [HEARD]

    async def test_a_voice_of_which_nothing_can_be_made_is_heard_as_it_came(
        self, shop: Shop, worker: Worker, parts: Parts
    ) -> None:
        house = parts.house
        noise = b"#!AMR\n" + bytes(range(256))
        media_id = await add(shop.agent, noise, "一.amr")
        await shop.hears(segments=[Voice(ref=Ref(via="media", id=media_id))])
        voices = Voices(house.database, parts.storage, house.clock)
        await Worker(house.database, media_service.VOICE, voices.convert).once()

        await worker.once()

        [asked] = shop.provider.asked
        assert asked.file == ("voice.amr", noise)

    async def test_a_voice_whose_conversion_does_not_come_is_heard_as_it_came(
        self, shop: Shop, worker: Worker, clock: Any
    ) -> None:
        media_id = await add(shop.agent, sound.amr(), "一.amr")
        await shop.hears(segments=[Voice(ref=Ref(via="media", id=media_id))])
        clock.advance(CONVERSION_PATIENCE)

        await worker.once()

        [asked] = shop.provider.asked
        assert asked.file == ("voice.amr", sound.amr())

    async def test_of_two_voices_each_gets_its_own(self, shop: Shop, worker: Worker) -> None:
        one, two = [await add(shop.agent, VOICE + mark) for mark in (b"1", b"2")]
        voices = [Voice(ref=Ref(via="media", id=media_id)) for media_id in (one, two)]
        conversation = await shop.hears(segments=[*voices])

        await worker.all()

        assert await shop.said(conversation) == [HEARD, HEARD]
        heard = sorted(asked.file[1] for asked in shop.provider.asked)
        assert heard == [VOICE + b"1", VOICE + b"2"]

    @pytest.mark.parametrize("before", [True, False])
    async def test_the_words_are_found_whether_the_message_was_indexed_before_or_not(
        self, shop: Shop, worker: Worker, before: bool
    ) -> None:
        index = Worker(shop.bot.database, search_index.WORK, SearchIndex(shop.bot.database).fill)
        await shop.hears()
        if before:
            await index.again(UUID(int=2))
        await worker.once()
        await index.again(UUID(int=2))

        for text, found in (("几点开门", 1), ("几点关门", 0)):
            items = (await shop.owner.get(f"/messages/search?text={text}")).json()["items"]
            assert len(items) == found

    async def test_what_webhooks_are_told_holds_no_words(self, shop: Shop, worker: Worker) -> None:
        await shop.hears()
        await worker.once()

        [told] = await shop.told()
        name, data = public("asr.completed", told) or ("", {})
        assert name == "asr.completed"
        assert HEARD not in str(data)
        assert (data["language"], data["error_class"]) == ("chinese", None)


class TestFailure:
    async def test_two_retries_and_then_a_transcript(self, shop: Shop, worker: Worker) -> None:
        shop.provider.then(shop.provider.error(500), shop.provider.error(429))
        conversation = await shop.hears()
        task = await shop.task()

        assert await worker.once() == RETRY_AFTER[0]
        assert await worker.again(task) == RETRY_AFTER[1]
        assert await worker.again(task) is None

        assert await shop.said(conversation) == [HEARD]
        assert len(await shop.told()) == 1

    @pytest.mark.parametrize("rubbish", [True, False], ids=["rubbish", "errors"])
    async def test_the_third_is_the_last(self, shop: Shop, worker: Worker, rubbish: bool) -> None:
        how = shop.provider.garbage if rubbish else shop.provider.error(500)
        shop.provider.then(how, how, how)
        conversation = await shop.hears()
        task = await shop.task()

        await worker.once()
        await worker.again(task)
        assert await worker.again(task) is None

        assert await shop.said(conversation) == [None]
        [told] = await shop.told()
        assert told["error_class"] == ("bad_answer" if rubbish else "server_error")
        assert (told["text"], told["confidence"]) == (None, None)
        assert await shop.left() == (0, 0)

    @pytest.mark.parametrize(
        ("status", "error_class"),
        [(401, "unauthorized"), (404, "model_unknown"), (413, "too_large"), (415, "refused")],
    )
    async def test_what_would_not_change_is_not_asked_again(
        self, shop: Shop, worker: Worker, status: int, error_class: str
    ) -> None:
        shop.provider.then(shop.provider.error(status))
        await shop.hears()

        assert await worker.once() is None

        [told] = await shop.told()
        assert told["error_class"] == error_class
        assert len(shop.provider.asked) == 1

    async def test_silence_is_a_failure_like_others(self, shop: Shop, worker: Worker) -> None:
        shop.hearing.transcription.within_s = 0.05
        shop.provider.then(shop.provider.hang)
        await shop.hears()

        assert await worker.once() == RETRY_AFTER[0]

    async def test_an_agent_that_is_away_is_waited_for_but_not_for_ever(
        self, shop: Shop, worker: Worker, clock
    ) -> None:
        await shop.bot.attach("http://127.0.0.1:9", new_id())
        await shop.hears()
        task = await shop.task()
        for _ in range(4):
            again = await worker.again(task)
            assert again is not None
        assert await shop.superuser.fetchval("SELECT failures FROM speech_tasks") == 0

        clock.advance(AGENT_PATIENCE)
        assert await worker.again(task) is None
        [told] = await shop.told()
        assert told["error_class"] == "agent_away"

    async def test_an_agent_without_the_configuration_is_waited_for(
        self, shop: Shop, worker: Worker
    ) -> None:
        shop.hearing.learn({})
        conversation = await shop.hears()
        task = await shop.task()
        assert await worker.once() is not None

        await shop.learn()
        await worker.again(task)
        assert await shop.said(conversation) == [HEARD]

    async def test_nobody_is_asked_any_more_where_the_document_was_changed(
        self, shop: Shop, worker: Worker
    ) -> None:
        await shop.hears()
        await shop.publish(persona={"name": "小花"})

        assert await worker.once() is None
        [told] = await shop.told()
        assert told["error_class"] == "not_configured"
        assert shop.provider.asked == []


class TestCrash:
    async def test_a_worker_that_dies_behind_the_call_leaves_a_task_that_is_done_once(
        self, shop: Shop, worker: Worker, parts, monkeypatch
    ) -> None:
        conversation = await shop.hears()
        behind = Gated(parts.agents.transcribe, after=True)
        monkeypatch.setattr(parts.agents, "transcribe", behind)
        dying = asyncio.create_task(worker.once())
        await behind.wait()
        dying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await dying
        monkeypatch.undo()
        assert await shop.said(conversation) == [None]
        async with shop.bot.database.session() as session:
            await leases.release_all(session)

        await worker.once()

        assert await shop.said(conversation) == [HEARD]
        assert len(shop.provider.asked) == 2
        assert len(await shop.told()) == 1

    async def test_a_worker_that_dies_behind_the_words_has_done_it(
        self, shop: Shop, worker: Worker
    ) -> None:
        conversation = await shop.hears()
        lease = await worker.claim()
        assert lease is not None
        await worker.handle(lease)
        async with shop.bot.database.session() as session:
            await leases.release_all(session)

        assert await worker.once() is None

        assert len(shop.provider.asked) == 1
        assert len(await shop.told()) == 1
        assert await shop.said(conversation) == [HEARD]
        assert await shop.left() == (0, 0)

    async def test_a_worker_that_comes_back_late_changes_nothing(
        self, shop: Shop, worker: Worker, parts, monkeypatch
    ) -> None:
        conversation = await shop.hears()
        behind = Gated(parts.agents.transcribe, after=True)
        monkeypatch.setattr(parts.agents, "transcribe", behind)
        late = await worker.claim()
        assert late is not None
        slow = asyncio.create_task(worker.handle(late))
        await behind.wait()
        monkeypatch.undo()
        async with shop.bot.database.session() as session:
            await leases.release_all(session)
        shop.provider.heard = "新的"
        await worker.claim()

        behind.open.set()
        with pytest.raises(LeaseLost):
            async with asyncio.timeout(PATIENCE_S):
                await slow
        assert await shop.said(conversation) == [None]
        assert await shop.told() == []


class TestErased:
    async def erase(self, shop: Shop, conversation: UUID) -> None:
        contact = (await shop.owner.get(f"/conversations/{conversation}")).json()["contact"]["id"]
        answer = await shop.owner.post(f"/contacts/{contact}/erase")
        assert answer.status_code == 200, answer.text

    async def test_words_are_not_written_into_what_was_erased_meanwhile(
        self, shop: Shop, worker: Worker, parts, monkeypatch
    ) -> None:
        conversation = await shop.hears()
        behind = Gated(parts.agents.transcribe, after=True)
        monkeypatch.setattr(parts.agents, "transcribe", behind)
        hearing = asyncio.create_task(worker.once())
        await behind.wait()
        await self.erase(shop, conversation)
        behind.open.set()

        assert await hearing is None

        assert await shop.told() == []
        assert await shop.left() == (0, 0)
        everything = await shop.superuser.fetch("SELECT segments::text FROM messages")
        assert HEARD not in str(everything)

    async def test_words_in_the_stream_go_with_whoever_said_them(
        self, shop: Shop, worker: Worker
    ) -> None:
        conversation = await shop.hears()
        await worker.once()
        await self.erase(shop, conversation)

        [told] = await shop.told()
        assert told["text"] is None
        assert told["language"] == "chinese"
        assert HEARD not in str(await shop.superuser.fetch("SELECT data::text FROM stream"))


class TestTurn:
    @pytest.fixture
    async def turning(self, shop: Shop, parts) -> Worker:
        items = [{"question": "你们几点开门？", "answer": "九点开门。"}]
        answer = await shop.owner.call("PUT", "/answers", json={"items": items})
        assert answer.status_code == 200
        house = parts.house
        turn = Turns(house.database, house.keys, house.clock, parts.agents)
        return Worker(house.database, turns.WORK, turn.run)

    async def answers(self, shop: Shop, conversation: UUID) -> list[Any]:
        thread = await shop.bot.thread(conversation)
        return [m["segments"][0]["text"] for m in thread if m["sender"]["kind"] == "bot"]

    async def test_waits_for_the_words_and_answers_them_when_they_are_there(
        self, shop: Shop, worker: Worker, turning: Worker
    ) -> None:
        conversation = await shop.hears()
        assert await turning.once() == timedelta(seconds=10)
        assert await turning.claim() is None

        await worker.once()
        await turning.once()

        assert await self.answers(shop, conversation) == ["九点开门。"]

    async def test_goes_on_without_them_when_the_time_is_up(
        self, shop: Shop, worker: Worker, turning: Worker, clock
    ) -> None:
        await shop.publish(speech=shop.heard_by(wait_s=4))
        conversation = await shop.hears()
        assert await turning.once() == timedelta(seconds=4)

        clock.advance(timedelta(seconds=4))
        await turning.again(conversation)

        [item] = (await shop.owner.get("/conversations")).json()["items"]
        assert (item["owner"], item["waiting_reason"]) == ("waiting", "no_answer")
        await worker.once()
        assert await shop.said(conversation) == [HEARD]

    async def test_goes_on_as_before_when_nobody_could_write_them_down(
        self, shop: Shop, worker: Worker, turning: Worker
    ) -> None:
        shop.provider.then(shop.provider.error(401))
        await shop.hears()
        await turning.once()

        await worker.once()
        await turning.once()

        [item] = (await shop.owner.get("/conversations")).json()["items"]
        assert item["owner"] == "waiting"

    async def test_does_not_wait_for_ever_for_one_voice_after_the_other(
        self, shop: Shop, turning: Worker, clock
    ) -> None:
        await shop.publish(speech=shop.heard_by(wait_s=30))
        conversation = await shop.hears("1")
        for key in ("2", "3"):
            clock.advance(timedelta(seconds=25))
            await shop.superuser.execute(
                "DELETE FROM speech_tasks WHERE conversation_id = $1", conversation
            )
            await shop.hears(key)

        # 50 s have gone by; the newest alone would make it wait for 30 more.
        assert await turning.again(conversation) == timedelta(seconds=10)


class TestDocument:
    async def test_names_a_provider_that_hears_and_its_model(self, shop: Shop) -> None:
        body = {"name": "D", "kind": "dify", "base_url": shop.provider.url, "api_key": "k"}
        dify = (await shop.owner.post("/providers", body)).json()["id"]
        wrong: list[tuple[dict[str, Any], str, str]] = [
            ({"provider": str(new_id()), "model": "m"}, "/speech/provider", "unknown_provider"),
            ({"provider": dify, "model": "m"}, "/speech/provider", "no_speech"),
            ({"provider": shop.account}, "/speech/model", "missing"),
            (shop.heard_by(language="Chinese"), "/speech/language", "string_pattern_mismatch"),
            (shop.heard_by(wait_s=31), "/speech/wait_s", "less_than_equal"),
            ({"enabled": True}, "/speech/enabled", "extra_forbidden"),
        ]
        for speech, path, code in wrong:
            answer = await shop.write(speech=speech)
            assert answer.status_code == 422
            [error] = answer.json()["errors"]
            assert (error["path"], error["code"]) == (path, code)

    async def test_keeps_its_provider_from_being_deleted(self, shop: Shop) -> None:
        answer = await shop.owner.delete(f"/providers/{shop.account}")

        assert (answer.status_code, answer.json()["code"]) == (409, "provider_in_use")
