"""The hops of a message's journey over bare starlette and httpx2, with one commit each.

`python -m benchmarks.bare_chain front PORT AGENT_URL DATABASE` takes the customer's
message, stores it and answers through the agent; `… agent PORT FRONT_URL PLATFORM_URL FILE` is the
agent between.
"""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TABLE = """
CREATE TABLE IF NOT EXISTS bare_said (id uuid PRIMARY KEY, who text NOT NULL, body text NOT NULL)
"""
_INSERT = "INSERT INTO bare_said VALUES ($1, $2, $3)"
_LIMITS = httpx2.Limits(max_connections=200, max_keepalive_connections=100, keepalive_expiry=300)


def front(agent_url: str, database: str) -> Starlette:
    """Stores what comes up and what goes down, each with a commit of its own."""
    answering: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        app.state.pool = await asyncpg.create_pool(database, min_size=16, max_size=16)
        app.state.http = httpx2.AsyncClient(limits=_LIMITS, timeout=60)
        yield
        await app.state.http.aclose()
        await app.state.pool.close()

    async def callback(request: Request) -> Response:
        body = await request.body()
        answer = await request.app.state.http.post(f"{agent_url}/callback", content=body)
        return Response(status_code=answer.status_code)

    async def events(request: Request) -> Response:
        who = (await request.body()).decode()
        await request.app.state.pool.execute(_INSERT, uuid4(), who, "question")
        task = asyncio.create_task(respond(request.app, who))
        answering.add(task)
        task.add_done_callback(answering.discard)
        return Response(status_code=202)

    async def respond(app: Starlette, who: str) -> None:
        await app.state.pool.execute(_INSERT, uuid4(), who, "answer")
        await app.state.http.post(f"{agent_url}/send", content=who.encode())

    routes = [
        Route("/callback", callback, methods=["POST"]),
        Route("/events", events, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=life)


def agent(front_url: str, platform_url: str, file: str) -> Starlette:
    """Passes messages up, and sends answers after a commit in its journal."""
    journal = sqlite3.connect(file, isolation_level=None)
    for statement in (
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "CREATE TABLE journal (id TEXT PRIMARY KEY)",
    ):
        journal.execute(statement)

    @contextlib.asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        async with httpx2.AsyncClient(limits=_LIMITS, timeout=60) as app.state.http:
            yield

    async def callback(request: Request) -> Response:
        body = await request.body()
        answer = await request.app.state.http.post(f"{front_url}/events", content=body)
        return Response(status_code=200 if answer.status_code == 202 else 503)

    async def send(request: Request) -> Response:
        who = (await request.body()).decode()
        journal.execute("INSERT INTO journal VALUES (?)", (str(uuid4()),))
        await request.app.state.http.post(platform_url, json={"touser": who})
        return Response(status_code=200)

    routes = [
        Route("/callback", callback, methods=["POST"]),
        Route("/send", send, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=life)


if __name__ == "__main__":
    role, port, *rest = sys.argv[1:]
    app = front(*rest) if role == "front" else agent(*rest)
    # Longer than a run: a connection that ends under a call would lose the message.
    uvicorn.run(app, port=int(port), log_level="critical", access_log=False, timeout_keep_alive=600)
