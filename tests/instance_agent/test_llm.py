"""Models through the agent's own HTTP interface, over real sockets on both sides."""

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
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.outbound import Outbound, networks
from instance_agent import app as agent_app
from instance_agent.document import Llm, LlmProvider
from instance_agent.gate import Gate
from instance_agent.llm.answering import Answering
from instance_agent.llm.circuits import FAILURES
from instance_agent.llm.inference import Inference
from instance_agent.metrics import Metrics
from instance_agent.problems import Refusal
from instance_agent.process import listen
from instance_agent.protocol import InferRequest
from tests.model_provider import KEY, ModelProvider, providing

PATIENCE_S = 15.0
OPENAI, DIFY = uuid4(), uuid4()


@pytest.fixture
async def provider() -> AsyncIterator[ModelProvider]:
    async with providing() as provider:
        yield provider


class Bench:
    """One agent's way to models, served on a port."""

    def __init__(self, provider: ModelProvider) -> None:
        self.now = 0.0
        self.metrics = Metrics()
        self.gate = Gate()
        self.allow = "127.0.0.0/8"
        self.deadlines: dict[str, float] = {}
        self.inference = Inference(
            lambda: self._llm(provider),
            lambda: Outbound(networks(self.allow)),
            metrics=self.metrics,
            now=lambda: self.now,
        )
        self.url = ""

    def _llm(self, provider: ModelProvider) -> Llm:
        made = [
            LlmProvider(id=OPENAI, kind="openai", base_url=provider.url, api_key=KEY),
            LlmProvider(id=DIFY, kind="dify", base_url=f"{provider.url}/", api_key=KEY),
        ]
        return Llm(providers=made).model_copy(update=self.deadlines)

    async def serve(self, request: Request) -> Response:
        ask = msgspec.json.decode(await request.body(), type=InferRequest)
        return Answering(
            self.gate,
            self.inference.pieces(ask),
            stream=ask.stream,
            within_s=self.inference.within_s,
        )

    def body(self, provider: UUID = OPENAI, **more: Any) -> dict[str, Any]:
        messages = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "几点开门"},
        ]
        return {"provider": str(provider), "model": "m-1", "messages": messages, **more}

    async def ask(self, provider: UUID = OPENAI, **more: Any) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=PATIENCE_S, trust_env=False) as http:
            return await http.post(self.url, json=self.body(provider, **more))


@pytest.fixture
async def bench(provider: ModelProvider) -> AsyncIterator[Bench]:
    bench = Bench(provider)
    routes = [Route("/infer", bench.serve, methods=["POST"])]
    refused = {Refusal: agent_app._refused}
    application = Starlette(routes=routes, exception_handlers=refused)  # type: ignore[arg-type]
    config = uvicorn.Config(
        application, lifespan="off", log_config=None, ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]
    listener = listen("127.0.0.1", 0)
    bench.url = f"http://127.0.0.1:{listener.getsockname()[1]}/infer"
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield bench
    server.should_exit = True
    await serving
    listener.close()
    await bench.inference.close()


def events(text: str) -> list[dict[str, Any]]:
    """What a stream held, without its end."""
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


class TestAnswer:
    @pytest.mark.parametrize("kind", [OPENAI, DIFY])
    async def test_streams_in_one_form_and_ends_with_what_it_took(
        self, bench: Bench, kind: UUID
    ) -> None:
        answer = await bench.ask(kind, stream=True, user="u-1")

        *said, end = events(answer.text)
        assert answer.headers["content-type"] == "text/event-stream"
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in said) == (
            "我们九点开门。"
        )
        assert {one["object"] for one in [*said, end]} == {"chat.completion.chunk"}
        assert end["choices"] == []
        assert end["usage"]["completion_tokens"] == 3
        assert answer.text.endswith("data: [DONE]\n\n")

    @pytest.mark.parametrize("kind", [OPENAI, DIFY])
    async def test_comes_whole_when_no_stream_is_wanted(self, bench: Bench, kind: UUID) -> None:
        said = (await bench.ask(kind, user="u-1")).json()

        assert said["object"] == "chat.completion"
        message = said["choices"][0]["message"]
        assert message == {"role": "assistant", "content": "我们九点开门。"}
        assert said["choices"][0]["finish_reason"] == "stop"
        assert said["usage"]["prompt_tokens"] in {21, 33}

    async def test_is_asked_for_with_the_key_and_what_was_wished(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        await bench.ask(temperature=0.5, max_tokens=100)

        [asked] = provider.asked
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert asked.body["model"] == "m-1"
        assert asked.body["stream"] is True
        assert (asked.body["temperature"], asked.body["max_tokens"]) == (0.5, 100)
        assert asked.body["messages"][0] == {"role": "system", "content": "Be kind."}


class TestDify:
    async def test_is_told_only_what_is_new_and_who_asks(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        first = (await bench.ask(DIFY, user="u-1")).json()
        again = (await bench.ask(DIFY, user="u-1", conversation=first["conversation"])).json()

        assert provider.asked[0].body["query"] == "几点开门"
        assert [one.body["user"] for one in provider.asked] == ["u-1", "u-1"]
        assert [one.body["conversation_id"] for one in provider.asked] == [
            "",
            first["conversation"],
        ]
        assert again["conversation"] == first["conversation"]
        assert "renewed" not in again

    async def test_whose_conversation_vanished_begins_anew_and_says_so(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        said = (await bench.ask(DIFY, user="u-1", conversation="gone")).json()

        assert said["renewed"] is True
        assert said["conversation"] in provider.conversations
        assert [one.body["conversation_id"] for one in provider.asked] == ["gone", ""]

    async def test_that_stays_open_behind_its_end_is_left(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        provider.then(provider.stays_open)

        assert (await bench.ask(DIFY, user="u-1")).status_code == 200

        async with asyncio.timeout(PATIENCE_S):
            await provider.asked[0].left.wait()

    async def test_is_never_called_twice_at_once_about_one_conversation(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        provider.then(provider.hang)
        first = asyncio.create_task(bench.ask(DIFY, user="u-1"))
        await provider.arrived.wait()
        second = asyncio.create_task(bench.ask(DIFY, user="u-1"))
        other = await bench.ask(DIFY, user="u-2")
        assert (other.status_code, len(provider.asked)) == (200, 2)

        provider.released.set()

        assert [(await one).status_code for one in (first, second)] == [200, 200]
        assert provider.most_at_once == 1


class TestFailure:
    @pytest.mark.parametrize("kind", [OPENAI, DIFY])
    @pytest.mark.parametrize(
        ("status", "code", "error_class"),
        [
            (401, "invalid_api_key", "unauthorized"),
            (403, "forbidden", "unauthorized"),
            (404, "no_route", "model_unknown"),
            (400, "model_not_found", "model_unknown"),
            (400, "context_length_exceeded", "context_too_long"),
            (400, "content_filter", "refused"),
            (400, "provider_quota_exceeded", "rate_limited"),
            (422, "whatever", "refused"),
            (500, "oops", "server_error"),
            (503, "overloaded", "server_error"),
            (504, "slow", "timeout"),
            (302, "elsewhere", "bad_answer"),
        ],
    )
    async def test_has_one_of_a_few_classes_and_says_nothing_of_the_providers(
        self, bench: Bench, provider: ModelProvider, kind: UUID, status: int, code: str, error_class
    ) -> None:
        provider.then(provider.error(status, code))

        answer = await bench.ask(kind, stream=True)

        assert (answer.status_code, answer.json()["code"]) == (502, error_class)
        assert answer.headers["content-type"] == "application/problem+json"
        assert KEY not in answer.text

    async def test_by_too_many_calls_says_when_to_come_again(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        provider.then(provider.error(429, "rate_limit", **{"retry-after": "7"}))

        answer = await bench.ask()

        assert (answer.json()["code"], answer.headers["retry-after"]) == ("rate_limited", "7")
        bench.now = 6.9
        assert (await bench.ask()).json()["code"] == "rate_limited"
        assert len(provider.asked) == 1
        bench.now = 7.1
        assert (await bench.ask()).status_code == 200

    @pytest.mark.parametrize("kind", [OPENAI, DIFY])
    async def test_by_a_cut_is_no_short_answer(
        self, bench: Bench, provider: ModelProvider, kind: UUID
    ) -> None:
        provider.then(provider.cut)

        assert (await bench.ask(kind)).json()["code"] == "server_error"

    async def test_in_the_middle_of_a_stream_ends_it_with_a_problem(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        provider.then(provider.endless)

        answer = await bench.ask(stream=True)

        assert answer.status_code == 200
        assert "event: error\n" in answer.text
        assert events(answer.text)[-1]["code"] == "bad_answer"
        assert "[DONE]" not in answer.text
        async with asyncio.timeout(PATIENCE_S):
            await provider.asked[0].left.wait()

    async def test_by_garbage(self, bench: Bench, provider: ModelProvider) -> None:
        provider.then(provider.garbage)

        assert (await bench.ask()).json()["code"] == "bad_answer"

    async def test_by_saying_nothing(self, bench: Bench, provider: ModelProvider) -> None:
        provider.answer = ""

        assert (await bench.ask()).json()["code"] == "bad_answer"

    @pytest.mark.parametrize("name", ["first_token_s", "total_s"])
    async def test_by_the_deadline(self, bench: Bench, provider: ModelProvider, name: str) -> None:
        bench.deadlines = {name: 0.2}
        provider.then(provider.silence)

        assert (await bench.ask()).json()["code"] == "timeout"

        async with asyncio.timeout(PATIENCE_S):
            await provider.asked[0].left.wait()

    async def test_that_repeats_itself_keeps_everybody_away_for_a_while(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        provider.then(*[provider.error(500)] * FAILURES)
        for _ in range(FAILURES):
            await bench.ask()

        cut = await bench.ask()

        assert (cut.json()["code"], "retry-after" in cut.headers) == ("server_error", True)
        assert len(provider.asked) == FAILURES
        assert (await bench.ask(DIFY)).status_code == 200
        bench.now += 11
        assert (await bench.ask()).status_code == 200

    async def test_of_a_provider_that_is_not_configured(self, bench: Bench) -> None:
        answer = await bench.ask(uuid4())

        assert (answer.status_code, answer.json()["code"]) == (409, "unknown_provider")


class TestDoor:
    async def test_leads_into_no_private_network(
        self, bench: Bench, provider: ModelProvider
    ) -> None:
        bench.allow = "10.0.0.0/8"

        answer = await bench.ask()

        assert answer.json()["code"] == "refused"
        assert "127.0.0.1" not in answer.text
        assert provider.asked == []


class TestCaller:
    async def test_who_goes_ends_the_call(self, bench: Bench, provider: ModelProvider) -> None:
        provider.then(provider.silence)
        asking = asyncio.create_task(bench.ask(stream=True))
        await provider.arrived.wait()

        asking.cancel()

        async with asyncio.timeout(PATIENCE_S):
            await provider.asked[0].left.wait()
        assert await bench.gate.close(PATIENCE_S) is True

    async def test_comes_too_late_for_an_agent_that_drains(self, bench: Bench) -> None:
        await bench.gate.close(0)

        assert (await bench.ask()).status_code == 503
