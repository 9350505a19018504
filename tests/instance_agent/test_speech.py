"""Voices written down through the agent's own HTTP interface, over real sockets on both sides."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import msgspec
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from adapters.base import Content, MediaRefused, NotAccepted
from adapters.model import Ref
from adapters.outbound import Outbound, networks
from instance_agent import app as agent_app
from instance_agent import speech
from instance_agent.document import Llm, LlmProvider
from instance_agent.llm.circuits import FAILURES
from instance_agent.llm.failures import ModelFailed
from instance_agent.metrics import Metrics
from instance_agent.problems import Refusal
from instance_agent.process import listen
from instance_agent.protocol import (
    MAX_MEDIA_BYTES,
    MAX_TRANSCRIPT,
    TranscribeRequest,
    Transcript,
)
from instance_agent.speech import Transcription, read
from tests.model_provider import KEY, Asked, ModelProvider, providing

PATIENCE_S = 15.0
HEARS, VOICE = uuid4(), uuid4()
# What ends a line, a part and a form, where a form is put together carelessly.
BYTES = b"\x02#!SILK_V3\r\n--\r\n\r\n" + bytes(range(256)) * 40


class Store:
    """The tenant's store, with one voice in it."""

    def __init__(self) -> None:
        self.content = Content(body=BYTES, name="一.silk", content_type="audio/silk", sha256="")
        self.refuses: Exception | None = None
        self.read_now = 0
        self.most_at_once = 0

    async def read(self, ref: Ref) -> Content:
        assert ref == Ref(via="media", id=str(VOICE))
        if self.refuses is not None:
            raise self.refuses
        return self.content

    async def store(self, chunks: Any, *, name: str = "", content_type: str = "") -> Ref:
        raise AssertionError("nothing is stored")


class Bench:
    """One agent's way to who hears, served on a port."""

    def __init__(self, provider: ModelProvider) -> None:
        self.now = 0.0
        self.allow = "127.0.0.0/8"
        self.metrics = Metrics()
        self.store = Store()
        one = LlmProvider(id=HEARS, kind="openai", base_url=f"{provider.url}/", api_key=KEY)
        self.transcription = Transcription(
            lambda: Llm(providers=[one]),
            lambda: Outbound(networks(self.allow)),
            media=self.store,
            metrics=self.metrics,
            now=lambda: self.now,
        )
        self.url = ""

    async def serve(self, request: Request) -> Response:
        ask = msgspec.json.decode(await request.body(), type=TranscribeRequest)
        return agent_app._json(await self.transcription.transcribe(ask))

    async def ask(self, provider: UUID = HEARS, **more: Any) -> httpx2.Response:
        body = {
            "task_id": str(uuid4()),
            "media_id": str(VOICE),
            "provider": str(provider),
            "model": "whisper-1",
            **more,
        }
        async with httpx2.AsyncClient(timeout=PATIENCE_S, trust_env=False) as http:
            return await http.post(self.url, json=body)

    async def refused(self, **more: Any) -> tuple[int, str]:
        answer = await self.ask(**more)
        return answer.status_code, answer.json()["code"]


@pytest.fixture
async def provider() -> AsyncIterator[ModelProvider]:
    async with providing() as provider:
        yield provider


@pytest.fixture
async def bench(provider: ModelProvider) -> AsyncIterator[Bench]:
    bench = Bench(provider)
    routes = [Route("/transcribe", bench.serve, methods=["POST"])]
    refused = {Refusal: agent_app._refused}
    application = Starlette(routes=routes, exception_handlers=refused)  # type: ignore[arg-type]
    config = uvicorn.Config(
        application, lifespan="off", log_config=None, ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]
    listener = listen("127.0.0.1", 0)
    bench.url = f"http://127.0.0.1:{listener.getsockname()[1]}/transcribe"
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield bench
    server.should_exit = True
    await serving
    listener.close()
    await bench.transcription.close()


def saying(body: Any, status: int = 200) -> Any:
    """A provider that answers this."""

    async def answer(_asked: Asked) -> Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Response(raw, status, media_type="application/json")

    return answer


class TestTranscript:
    async def test_says_what_the_provider_heard_and_how_sure_it_was(self, bench: Bench) -> None:
        answer = await bench.ask()

        assert answer.status_code == 200
        assert answer.json() == {
            "text": "你们几点开门",
            "language": "chinese",
            "duration_s": 3.25,
            "confidence": 0.9048,
        }

    async def test_is_asked_for_with_the_bytes_the_key_and_what_was_wished(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        await bench.ask(language="zh")

        [asked] = provider.asked
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert asked.body == {
            "model": "whisper-1",
            "language": "zh",
            "response_format": "verbose_json",
        }
        # The name that a customer's file had goes nowhere.
        assert asked.file == ("voice.silk", BYTES)

    async def test_leaves_out_a_language_that_nobody_named(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        await bench.ask()

        assert "language" not in provider.asked[0].body

    async def test_is_asked_for_plainly_where_the_model_says_the_text_alone(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        told = {"error": {"message": "response_format 'verbose_json' is not compatible"}}
        provider.then(saying(told, 400))

        assert (await bench.ask()).json() == {"text": "你们几点开门"}
        assert [asked.body["response_format"] for asked in provider.asked] == [
            "verbose_json",
            "json",
        ]

    async def test_is_empty_where_nobody_speaks(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        provider.heard = " "

        assert (await bench.ask()).json()["text"] == ""

    async def test_the_largest_voice_goes_through(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        body = bytes(MAX_MEDIA_BYTES)
        bench.store.content = Content(body=body, name="", content_type="audio/wav", sha256="")

        assert (await bench.ask()).status_code == 200
        assert provider.asked[0].file == ("voice.wav", body)
        # What these servers take at most, the form around the bytes included.
        assert int(provider.asked[0].headers["content-length"]) < 25_000_000


class TestFailure:
    @pytest.mark.parametrize(
        ("status", "error_class"),
        [
            (401, "unauthorized"),
            (404, "model_unknown"),
            (413, "too_large"),
            (415, "refused"),
            (429, "rate_limited"),
            (500, "server_error"),
            (504, "timeout"),
            (302, "bad_answer"),
        ],
    )
    async def test_has_the_class_of_the_providers_answer_and_none_of_its_words(
        self, bench: Bench, provider: ModelProvider, status: int, error_class: str
    ) -> None:
        provider.then(provider.error(status, location="http://127.0.0.1:1/"))
        answer = await bench.ask()

        assert (answer.status_code, answer.json()["code"]) == (502, error_class)
        assert KEY not in answer.text
        assert len(provider.asked) == 1

    @pytest.mark.parametrize(
        "rubbish",
        [
            b"",
            b"hello",
            b"[]",
            b"{}",
            b'{"text": 3}',
            b'{"text": null}',
            b"\xff\xfe",
            b"[" * 10_000,
        ],
        ids=range(8),
    )
    async def test_rubbish_is_a_bad_answer(
        self, bench: Bench, provider: ModelProvider, rubbish: bytes
    ) -> None:
        provider.then(saying(rubbish))

        assert await bench.refused() == (502, "bad_answer")

    async def test_an_answer_without_end_is_cut(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        left = asyncio.Event()

        async def endless(_asked: Asked) -> Response:
            async def words() -> AsyncIterator[bytes]:
                try:
                    while True:
                        yield b" " * 65_536
                        await asyncio.sleep(0)
                finally:
                    left.set()

            return StreamingResponse(words(), media_type="application/json")

        provider.then(endless)

        assert await bench.refused() == (502, "server_error")
        async with asyncio.timeout(PATIENCE_S):
            await left.wait()

    async def test_silence_ends_with_the_deadline(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        bench.transcription.within_s = 0.05
        provider.then(provider.hang)

        assert await bench.refused() == (502, "timeout")

    async def test_an_address_in_our_own_network_is_not_called(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        bench.allow = "127.0.0.2/32"

        assert await bench.refused() == (502, "refused")
        assert provider.asked == []

    async def test_a_provider_that_fails_again_and_again_is_left_alone_for_a_while(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        provider.then(*[provider.error(500)] * FAILURES)
        for _ in range(FAILURES + 1):
            assert await bench.refused() == (502, "server_error")
        assert len(provider.asked) == FAILURES

        bench.now += 60
        assert (await bench.ask()).status_code == 200

    async def test_one_that_the_configuration_has_not_is_not_the_providers_fault(
        self, bench: Bench
    ) -> None:
        assert await bench.refused(provider=uuid4()) == (409, "unknown_provider")

    @pytest.mark.parametrize(
        ("refusal", "told"),
        [
            (MediaRefused("gone"), (404, "media_gone")),
            (NotAccepted("later"), (503, "not_accepted")),
        ],
    )
    async def test_of_the_store_is_not_counted_against_the_provider(
        self, bench: Bench, provider: ModelProvider, refusal: Exception, told: tuple[int, str]
    ) -> None:
        bench.store.refuses = refusal
        for _ in range(FAILURES):
            assert await bench.refused() == told
        bench.store.refuses = None

        assert (await bench.ask()).status_code == 200

    async def test_gives_its_place_back(self, bench: Bench, provider: ModelProvider) -> None:
        """More in a row than there are places."""
        for _ in range(speech.MAX_AT_ONCE + 1):
            provider.then(provider.error(429))
            await bench.refused()
            bench.now += 3600

        assert (await bench.ask()).status_code == 200


class TestPlaces:
    async def test_so_many_voices_are_held_at_a_time_and_the_others_wait(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        many = speech.MAX_AT_ONCE + 2
        inside, most, full = 0, 0, asyncio.Event()

        async def counted(asked: Asked) -> Response:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            if inside == speech.MAX_AT_ONCE:
                full.set()
            async with asyncio.timeout(PATIENCE_S):
                await full.wait()
            inside -= 1
            return JSONResponse({"text": "x"})

        provider.then(*[counted] * many)
        answers = await asyncio.gather(*[bench.ask() for _ in range(many)])

        assert [answer.status_code for answer in answers] == [200] * many
        assert most == speech.MAX_AT_ONCE


class TestRead:
    def test_takes_numbers_that_some_servers_write_as_text(self) -> None:
        assert read(b'{"text": "a", "duration": "8.47"}').duration_s == 8.47

    @pytest.mark.parametrize(
        "odd",
        [
            {"language": "x" * 41},
            {"language": "a\nb"},
            {"duration": -1},
            {"duration": 1e12},
            {"segments": []},
            {"segments": None},
            {"segments": [{"text": "x"}]},
        ],
        ids=str,
    )
    def test_leaves_out_what_makes_no_sense(self, odd: dict[str, Any]) -> None:
        assert read(json.dumps({"text": "a", **odd}).encode()) == Transcript(text="a")

    def test_a_text_without_end_is_a_bad_answer(self) -> None:
        whole = "x" * MAX_TRANSCRIPT
        assert read(json.dumps({"text": whole}).encode()).text == whole
        with pytest.raises(ModelFailed):
            read(json.dumps({"text": whole + "x"}).encode())

    @given(
        st.one_of(
            st.binary(max_size=200),
            st.fixed_dictionaries(
                {"text": st.text(max_size=50)},
                optional={
                    "language": st.none() | st.text(max_size=60),
                    "duration": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                    "segments": st.lists(
                        st.fixed_dictionaries(
                            {"avg_logprob": st.floats(allow_nan=False, allow_infinity=False)}
                        ),
                        max_size=4,
                    ),
                },
            ).map(lambda value: json.dumps(value).encode()),
        )
    )
    def test_whatever_comes_is_fit_or_fails(self, body: bytes) -> None:
        try:
            heard = read(body)
        except ModelFailed:
            return
        assert "\0" not in heard.text
        assert heard.confidence is None or 0 <= heard.confidence <= 1
        assert heard.duration_s is None or heard.duration_s >= 0


class TestRoute:
    async def test_needs_the_token_and_tells_what_is_not_configured(
        self, agents, control_plane, revision, web
    ) -> None:
        control_plane.newest = revision(1, {uuid4(): web})
        agent = await agents.start()
        path = "/astrbot-api/v1/speech/transcribe"
        ask = TranscribeRequest(task_id=uuid4(), media_id=VOICE, provider=HEARS, model="whisper-1")
        body = msgspec.json.encode(ask)

        told = await agent.call("POST", path, content=body)
        stranger = await agent.call(
            "POST", path, content=body, headers={"authorization": "Bearer no"}
        )
        long = await agent.call("POST", path, content=b" " * 5000)

        assert (told.status_code, told.json()["code"]) == (409, "unknown_provider")
        assert (stranger.status_code, long.status_code) == (401, 413)
