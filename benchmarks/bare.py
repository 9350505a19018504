"""Bare peers of the ingest: the least that checks a signature, and one commit per request.

`python -m benchmarks.bare PORT SECRET [DATABASE]` serves; with a database, each request inserts
its row and commits before it is answered.
"""

import asyncio
import base64
import hashlib
import hmac
import sys
from typing import Any
from uuid import uuid4

import asyncpg
import uvicorn

# As many connections as the product has.
POOL = 16
TABLE = "CREATE TABLE IF NOT EXISTS bare_events (id uuid PRIMARY KEY, body jsonb NOT NULL)"
_INSERT = "INSERT INTO bare_events VALUES ($1, $2)"


class Bare:
    """204 for what carries the right signature, after the commit where there is a database."""

    def __init__(self, secret: str, database: str | None) -> None:
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._database = database
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = dict(scope["headers"])
        signed = headers[b"webhook-id"] + b"." + headers[b"webhook-timestamp"] + b"." + body
        expected = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256))
        if not hmac.compare_digest(headers[b"webhook-signature"], b"v1," + expected):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if self._database is not None:
            await self._insert(body)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def _insert(self, body: bytes) -> None:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(self._database, min_size=POOL, max_size=POOL)
        await self._pool.execute(_INSERT, uuid4(), body.decode())


if __name__ == "__main__":
    port, secret, *database = sys.argv[1:]
    uvicorn.run(
        Bare(secret, database[0] if database else None),
        port=int(port),
        log_level="critical",
        access_log=False,
    )
