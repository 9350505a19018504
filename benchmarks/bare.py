"""Bare peers of the ingest: the least that checks a signature, and one commit per request.

`python -m benchmarks.bare PORT SECRET [DATABASE TENANT]` serves; with a database, each request
inserts its row and commits before it is answered, over the product's own pool and for its tenant.
"""

import base64
import hashlib
import hmac
import sys
from typing import Any
from uuid import UUID, uuid4

import uvicorn

from control_plane.db.session import Database, Scope, driver

TABLE = """
CREATE TABLE IF NOT EXISTS bare_events (id uuid PRIMARY KEY, body jsonb NOT NULL);
GRANT INSERT ON bare_events TO PUBLIC
"""
_INSERT = "INSERT INTO bare_events VALUES ($1, $2)"


class Bare:
    """204 for what carries the right signature, after the commit where there is a database."""

    def __init__(self, secret: str, database: str = "", tenant: str = "") -> None:
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._database = Database(database) if database else None
        self._scope = Scope(tenants=(UUID(tenant),) if tenant else ())

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
            async with self._database.plain(self._scope) as session:
                await (await driver(session)).execute(_INSERT, uuid4(), body.decode())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    port, *given = sys.argv[1:]
    uvicorn.run(
        Bare(*given),
        port=int(port),
        log_level="critical",
        access_log=False,
    )
