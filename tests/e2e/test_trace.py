"""One customer's message, one trace: in the spans and the log lines of all processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from control_plane.serve import listen
from tests.control_plane.delivery.stand_in import _Server


class Collector:
    """Takes spans like any collector: (name, trace id) of each."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str]] = []

    async def take(self, request: Request) -> Response:
        said = ExportTraceServiceRequest.FromString(await request.body())
        self.spans += [
            (span.name, span.trace_id.hex())
            for resource in said.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return Response(b"")


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """Running, and named to whatever is started."""
    collector = Collector()
    listener = listen("127.0.0.1", 0)
    app = Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
    monkeypatch.setenv("BOTYARD_OTLP_URL", url)
    yield collector
    server.should_exit = True
    await task
    listener.close()


def lines(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in folder.glob(pattern)
        for line in file.read_text().splitlines()
        if line.startswith("{")
    ]


class TestMessage:
    async def test_has_one_trace_from_the_callback_to_the_answer(
        self, collector: Collector, up, visitor, until
    ) -> None:
        await visitor.sees(lambda page: page.socket is not None)
        await visitor.say("1", "你好")
        await visitor.sees(lambda page: bool(page.answers))

        async def collected() -> bool:
            names = [name for name, _ in collector.spans]
            return "visitor's message" in names and "lane" in names

        await until(collected, "the spans of a message")
        [trace_id] = [trace for name, trace in collector.spans if name == "visitor's message"]
        about = {name for name, trace in collector.spans if trace == trace_id}
        # The requests are the agent's: with what it reported, and with the answer.
        assert about - {"callback"} == {"visitor's message", "request", "turn", "lane"}
        elsewhere = {name for name, trace in collector.spans if trace != trace_id}
        assert elsewhere <= {"request"}
        said = {
            line["data"].get("route", line["message"])
            for pattern in ("log/control-plane.log", "instances/*/log/agent.log")
            for line in lines(up.folder, pattern)
            if line["traceId"] == trace_id
        }
        assert said >= {
            "/webchat-platform/messages",
            "events reported",
            "message sent",
        }
