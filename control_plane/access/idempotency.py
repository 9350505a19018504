"""`Idempotency-Key`: the first answer to a POST is kept and given again to its repeat.

The record is written in the transaction of the request itself, so an effect and its answer are
kept together or not at all. A repeat that comes while the first is under way waits for it.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import driver
from control_plane.kit.errors import BadRequest, Invalid

MAX_KEY_LENGTH = 200

_BEGIN = """
INSERT INTO idempotency (tenant_id, actor_id, key, request_sha256, created_at)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
"""
_FIND = """
SELECT request_sha256, status, body FROM idempotency
WHERE tenant_id = $1 AND actor_id = $2 AND key = $3
"""
_END = """
UPDATE idempotency SET status = $4, body = $5 WHERE tenant_id = $1 AND actor_id = $2 AND key = $3
"""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """One request under its key."""

    tenant_id: UUID
    actor_id: UUID
    key: str


class Replay(Exception):
    """This request was answered before: give the same answer."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def check(key: str) -> None:
    """Raises BadRequest for what is no key, whoever sends it."""
    if not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise BadRequest(
            "invalid_idempotency_key", "The Idempotency-Key is empty, too long or no text."
        )


async def begin(
    session: AsyncSession, ticket: Ticket, *, target: str, body: bytes, now: datetime
) -> None:
    """Take the key for this request; raises Replay if it was answered before."""
    request = hashlib.sha256(target.encode() + b"\n" + body).digest()
    connection = await driver(session)
    identity = (ticket.tenant_id, ticket.actor_id, ticket.key)
    # A concurrent first request holds the row: this waits until it commits or rolls back.
    if await connection.execute(_BEGIN, *identity, request, now) == "INSERT 0 1":
        return
    first = await connection.fetchrow(_FIND, *identity)
    if first["request_sha256"] != request:
        raise Invalid(
            "idempotency_key_reused", "This Idempotency-Key was used for a different request."
        )
    raise Replay(first["status"], first["body"])


async def end(session: AsyncSession, ticket: Ticket, *, status: int, body: bytes) -> None:
    """Keep the answer beside the effect."""
    await (await driver(session)).execute(
        _END, ticket.tenant_id, ticket.actor_id, ticket.key, status, body
    )
