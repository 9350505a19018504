"""Visitors and their messages in PostgreSQL. A message is kept once per key, for ever resumable."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import driver, hint
from control_plane.kit.ids import fingerprint, new_id
from control_plane.webchat.models import Shown

# Messages that a page gets at once; the rest follows right behind.
PAGE = 100
# Messages shown to a visitor who comes back without saying where they stopped.
RECENT = 50

_ROUTE = """
SELECT tenant_id, instance_id, channel_id FROM routes WHERE sha256 = $1 AND kind = $2
"""
_CHANNEL = """
SELECT c.settings, c.secrets, t.state FROM channels AS c JOIN tenants AS t ON t.id = c.tenant_id
WHERE c.id = $1 AND c.kind = 'webchat' AND c.deleted_at IS NULL
    AND t.state NOT IN ('deleting', 'deleted')
"""
_VISITOR = "SELECT id FROM webchat_visitors WHERE channel_id = $1 AND secret_sha256 = $2"
_NEW_VISITOR = """
INSERT INTO webchat_visitors (id, tenant_id, channel_id, secret_sha256, created_at)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (channel_id, secret_sha256) DO NOTHING
"""
_LOCK = "SELECT 1 FROM webchat_visitors WHERE id = $1 AND channel_id = $2 FOR UPDATE"
_ADVANCE = "UPDATE webchat_visitors SET last_seq = last_seq + 1 WHERE id = $1 RETURNING last_seq"
_FIND = "SELECT id FROM webchat_messages WHERE visitor_id = $1 AND key = $2"
_ADD = """
INSERT INTO webchat_messages
    (id, tenant_id, visitor_id, seq, key, sender_kind, sender_name, segments, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_SEQ = "SELECT seq FROM webchat_messages WHERE id = $1 AND visitor_id = $2"
_RECENT = """
SELECT coalesce(min(seq), 1) - 1 FROM (
    SELECT seq FROM webchat_messages WHERE visitor_id = $1 ORDER BY seq DESC LIMIT $2) AS recent
"""
_BEHIND = """
SELECT id, seq, key, sender_kind, sender_name, segments, at FROM webchat_messages
WHERE visitor_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The channel that a public token or a platform secret means."""

    tenant_id: UUID
    instance_id: UUID
    channel_id: UUID


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A web-chat channel: its settings, its sealed secrets, and whether its tenant rests."""

    shown: dict[str, Any]
    sealed: bytes
    paused: bool


def topic(visitor_id: UUID) -> str:
    """What to listen to for a visitor's new messages."""
    return f"visitor.{visitor_id}"


def arrival(channel_id: UUID, secret: str) -> str:
    """What to listen to for the first word of whoever holds `secret`."""
    return f"stranger.{channel_id}.{fingerprint(secret).hex()}"


def from_visitor(client_id: str) -> str:
    """The key of a message that a visitor wrote."""
    return f"in:{client_id}"


def to_visitor(idempotency_key: str) -> str:
    """The key of a message that the adapter sent."""
    return f"out:{idempotency_key}"


async def find_place(session: AsyncSession, token: str, kind: str) -> Place | None:
    """The channel that presents `token`, whoever asks."""
    row = await (await driver(session)).fetchrow(_ROUTE, fingerprint(token), kind)
    return Place(**dict(row)) if row else None


async def find_channel(session: AsyncSession, channel_id: UUID) -> Chat | None:
    """A living web-chat channel; those of a tenant that is being deleted live no longer."""
    row = await (await driver(session)).fetchrow(_CHANNEL, channel_id)
    if row is None:
        return None
    shown = json.loads(row["settings"])
    return Chat(shown=shown, sealed=row["secrets"], paused=row["state"] != "active")


async def find_visitor(session: AsyncSession, channel_id: UUID, secret: str) -> UUID | None:
    """The visitor who holds `secret`, once they have written something."""
    found: UUID | None = await (await driver(session)).fetchval(
        _VISITOR, channel_id, fingerprint(secret)
    )
    return found


async def ensure_visitor(
    session: AsyncSession, place: Place, secret: str, *, now: datetime
) -> UUID:
    """The visitor who holds `secret`; made with their first message."""
    connection = await driver(session)
    made = await connection.execute(
        _NEW_VISITOR, new_id(), place.tenant_id, place.channel_id, fingerprint(secret), now
    )
    if made == "INSERT 0 1":
        hint(session, arrival(place.channel_id, secret))
    visitor: UUID = await connection.fetchval(_VISITOR, place.channel_id, fingerprint(secret))
    return visitor


async def add(
    session: AsyncSession,
    place: Place,
    visitor_id: UUID,
    *,
    key: str,
    sender: tuple[str, str],
    segments: str,
    now: datetime,
) -> UUID | None:
    """Keep a message once; its id, also when it was kept before. None for an unknown visitor."""
    connection = await driver(session)
    # The visitor's row lock makes the positions gapless and the keys unique.
    if await connection.fetchval(_LOCK, visitor_id, place.channel_id) is None:
        return None
    known: UUID | None = await connection.fetchval(_FIND, visitor_id, key)
    if known is not None:
        return known
    seq = await connection.fetchval(_ADVANCE, visitor_id)
    message_id = new_id()
    await connection.execute(
        _ADD, message_id, place.tenant_id, visitor_id, seq, key, *sender, segments, now
    )
    hint(session, topic(visitor_id))
    return message_id


async def position(
    session: AsyncSession, visitor_id: UUID, last_id: UUID | None
) -> tuple[int, bool]:
    """Where a page that last saw `last_id` goes on, and whether it has to start over."""
    connection = await driver(session)
    if last_id is not None:
        seq = await connection.fetchval(_SEQ, last_id, visitor_id)
        if seq is not None:
            return seq, False
    return await connection.fetchval(_RECENT, visitor_id, RECENT), True


async def behind(
    session: AsyncSession, visitor_id: UUID, seq: int, *, limit: int = PAGE
) -> list[tuple[int, Shown]]:
    """A visitor's messages behind a position, oldest first."""
    rows = await (await driver(session)).fetch(_BEHIND, visitor_id, seq, limit)
    return [(row["seq"], _shown(row)) for row in rows]


def _shown(row: Any) -> Shown:
    direction, _, key = row["key"].partition(":")
    return Shown(
        id=row["id"],
        sender={"kind": row["sender_kind"], "name": row["sender_name"]},
        segments=json.loads(row["segments"]),
        at=row["at"],
        client_id=key if direction == "in" else None,
    )
