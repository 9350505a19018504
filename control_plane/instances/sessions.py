"""Agent sessions: who may act for an instance, and how to reach them.

A bootstrap makes a `standby` session. Activation raises the instance's epoch and turns the former
active session into `draining`: that, not the generation, fences ghosts. The epoch fences what
goes down (sends, configuration), never events: a draining agent posts until its spool is empty.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import Session, driver
from control_plane.instances.models import AgentSession
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Unavailable
from control_plane.kit.ids import new_id, new_token
from instance_agent.protocol import BootstrapRequest

# Between heartbeats of an agent.
HEARTBEAT = timedelta(seconds=10)
# Without any for this long an agent is taken for dead.
DEAD_AFTER = HEARTBEAT * 3

_ACTIVE = """
SELECT id, endpoint, api_token, epoch, journal_id FROM agent_sessions
WHERE instance_id = $1 AND state = 'active'
"""
_DRAIN = "UPDATE agent_sessions SET state = 'draining' WHERE instance_id = $1 AND state = 'active'"
_RAISE = (
    "UPDATE instances SET session_epoch = session_epoch + 1 WHERE id = $1 RETURNING session_epoch"
)
_STANDBY = "SELECT 1 FROM agent_sessions WHERE id = $1 AND state = 'standby' FOR UPDATE"
_ACTIVATE = "UPDATE agent_sessions SET state = 'active', epoch = $2 WHERE id = $1"
_GONE = """
UPDATE agent_sessions SET gone_at = $3 WHERE instance_id = $1 AND place = $2 AND gone_at IS NULL
"""
_END = """
UPDATE agent_sessions SET state = 'ended' WHERE instance_id = $1 AND state <> 'ended'
AND id <> ALL ($2::uuid[])
"""


@dataclass(frozen=True, kw_only=True)
class AgentAddress:
    """How to call the active agent of an instance; never logged, since it holds the token."""

    session_id: UUID
    endpoint: str
    api_token: str
    epoch: int
    journal_id: UUID

    def __repr__(self) -> str:
        return f"AgentAddress({self.session_id}, epoch={self.epoch})"


async def open_session(
    session: AsyncSession,
    keys: Keyring,
    *,
    tenant_id: UUID,
    instance_id: UUID,
    request: BootstrapRequest,
    now: datetime,
    place: str = "",
) -> tuple[AgentSession, str]:
    """A standby session for a new agent, and the token that we shall present to it.

    Whoever was in its place before has ended: a place begins none while another lives there.
    """
    if place:
        await (await driver(session)).execute(_GONE, instance_id, place, now)
    token = new_token()
    opened = AgentSession(
        id=new_id(),
        tenant_id=tenant_id,
        instance_id=instance_id,
        generation=request.generation,
        state="standby",
        endpoint=request.endpoint,
        api_token=keys.seal(token.encode()),
        journal_id=request.journal_id,
        version=request.version,
        schema_version=request.schema_version,
        token_at=now,
        place=place,
        created_at=now,
        seen_at=now,
    )
    session.add(opened)
    await session.flush()
    return opened, token


async def activate(session: AsyncSession, *, instance_id: UUID, session_id: UUID) -> int | None:
    """Make a standby session the active one; its epoch, or None when it is not standby."""
    connection = await driver(session)
    if await connection.fetchval(_STANDBY, session_id) is None:
        return None
    epoch: int = await connection.fetchval(_RAISE, instance_id)
    await connection.execute(_DRAIN, instance_id)
    await connection.execute(_ACTIVATE, session_id, epoch)
    return epoch


async def end_others(session: AsyncSession, instance_id: UUID, *, keep: list[UUID]) -> None:
    """End every session of an instance but `keep`."""
    await (await driver(session)).execute(_END, instance_id, keep)


async def active_agent(session: Session, keys: Keyring, instance_id: UUID) -> AgentAddress | None:
    """The agent that may act for the instance now, if there is one."""
    row = await (await driver(session)).fetchrow(_ACTIVE, instance_id)
    return address(row, keys) if row else None


def address(row: Any, keys: Keyring) -> AgentAddress:
    """How to call the agent of a session row."""
    return AgentAddress(
        session_id=row["id"],
        endpoint=row["endpoint"],
        api_token=keys.open(row["api_token"]).decode(),
        epoch=row["epoch"] or 0,
        journal_id=row["journal_id"],
    )


class NoAgent(Unavailable):
    """The instance has no active agent now."""

    def __init__(self) -> None:
        super().__init__("no_agent", "The bot is not running at the moment.")
