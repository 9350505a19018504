"""The secrets between us and an agent, replaced while it runs: no event is lost, nobody locked out.

Pushed by us, since the fleet's looks have leases and repeat what was cut, and since it is we who
know when. First the new ones are written beside the old, and both count; then the agent is told;
then ours is taken into use and the old ones end. Whoever dies between two steps, the next look
repeats the call with the same new secrets, and either side still takes the old.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from adapters import standard_webhooks
from control_plane.db.session import Session, driver
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id, new_token

# How old a running agent's secrets get.
EVERY = timedelta(days=30)
# An agent that has the new webhook secret may have posts under way that the old one signed.
GRACE = timedelta(seconds=60)
# An agent that cannot be told is not heard after this; the fleet replaces it, which also helps.
BOUND = timedelta(hours=1)

# Part of a statement on an instance `i` and its active session `a`, if it has one: whether its
# secrets are to be replaced, or a replacement was cut. $2 is the age of those that are too old.
DUE = """
coalesce(a.token_at < greatest(i.secrets_before, $2) OR a.next_token IS NOT NULL
    OR (SELECT max(c.created_at) FROM credentials AS c
        WHERE c.instance_id = a.instance_id AND c.kind = 'webhook')
       < greatest(i.secrets_before, $2), false)
"""
_SESSION = """
SELECT s.tenant_id, s.next_token, greatest(i.secrets_before, $2) AS before
FROM agent_sessions AS s JOIN instances AS i ON i.id = s.instance_id
WHERE s.id = $1 AND s.state = 'active' FOR UPDATE OF s
"""
_SECRETS = """
SELECT id, sealed, created_at FROM credentials
WHERE instance_id = $1 AND kind = 'webhook' AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > $2)
ORDER BY id DESC LIMIT 2
"""
_END_OLD = """
UPDATE credentials SET expires_at = least(expires_at, $3)
WHERE instance_id = $1 AND kind = 'webhook' AND id <> $2
"""
_NEW_SECRET = """
INSERT INTO credentials (id, kind, sealed, tenant_id, instance_id, created_at)
VALUES ($1, 'webhook', $2, $3, $4, $5)
"""
_NEXT = "UPDATE agent_sessions SET next_token = $2 WHERE id = $1"
_TAKEN = """
UPDATE agent_sessions SET api_token = next_token, next_token = NULL, token_at = $3
WHERE id = $1 AND next_token = $2
"""


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """What an agent is to take; never logged."""

    next_token: bytes
    newest: UUID
    api_token: str
    webhook_secrets: list[str]

    def __repr__(self) -> str:
        return "Fresh()"


async def prepare(
    session: Session, keys: Keyring, *, instance_id: UUID, session_id: UUID, now: datetime
) -> Fresh | None:
    """The new secrets, made once; None when the session is not active any more."""
    connection = await driver(session)
    row = await connection.fetchrow(_SESSION, session_id, now - EVERY)
    if row is None:
        return None
    next_token = row["next_token"]
    if next_token is None:
        next_token = keys.seal(new_token().encode())
        await connection.execute(_NEXT, session_id, next_token)
    secrets: list[Any] = await connection.fetch(_SECRETS, instance_id, now)
    sealed = [each["sealed"] for each in secrets]
    newest = secrets[0]["id"] if secrets else None
    if newest is None or secrets[0]["created_at"] < row["before"]:
        made = standard_webhooks.make_secret(new_token().encode())
        newest, sealed = new_id(), [keys.seal(made.encode()), *sealed[:1]]
        await connection.execute(_NEW_SECRET, newest, sealed[0], row["tenant_id"], instance_id, now)
        await connection.execute(_END_OLD, instance_id, newest, now + BOUND)
    return Fresh(
        next_token=next_token,
        newest=newest,
        api_token=keys.open(next_token).decode(),
        webhook_secrets=[keys.open(each).decode() for each in sealed],
    )


async def taken(
    session: Session, fresh: Fresh, *, instance_id: UUID, session_id: UUID, now: datetime
) -> None:
    """The agent has them: ours is in use from now on, and the old ones end."""
    connection = await driver(session)
    await connection.execute(_TAKEN, session_id, fresh.next_token, now)
    await connection.execute(_END_OLD, instance_id, fresh.newest, now + GRACE)
