"""A person's sign-ins: which there are, and ending them."""

from datetime import datetime
from uuid import UUID

from sqlmodel import col, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import tokens
from control_plane.access.models import Credential
from control_plane.access.schemas import SessionOut
from control_plane.db.session import driver, hint
from control_plane.kit.errors import not_found

# Sign-ins that are shown, the last used first; whoever has more can end all at once.
MOST_SHOWN = 200

# A token lives while it is neither spent nor over; a family lives by its newest one.
_LIST = """
SELECT family_id AS id, min(created_at) AS created_at, max(created_at) AS used_at,
       (array_agg(label ORDER BY id DESC))[1] AS label,
       (array_agg(address ORDER BY id DESC))[1] AS address
FROM credentials
WHERE identity_id = $1 AND kind = 'refresh' AND revoked_at IS NULL
GROUP BY family_id HAVING bool_or(used_at IS NULL AND expires_at > $2)
ORDER BY 3 DESC, 1 DESC LIMIT $3
"""


async def list_sessions(
    session: AsyncSession, identity_id: UUID, *, current: UUID, now: datetime
) -> list[SessionOut]:
    """The sign-ins that could still be used, the last used first."""
    rows = await (await driver(session)).fetch(_LIST, identity_id, now, MOST_SHOWN)
    return [SessionOut(**dict(row), current=row["id"] == current) for row in rows]


async def end_session(
    session: AsyncSession, identity_id: UUID, family_id: UUID, *, now: datetime
) -> None:
    """End one sign-in of this person."""
    ended = await session.exec(
        update(Credential)
        .where(
            col(Credential.family_id) == family_id,
            col(Credential.identity_id) == identity_id,
            col(Credential.revoked_at).is_(None),
        )
        .values(revoked_at=now)
    )
    if ended.rowcount == 0:
        raise not_found("session")
    hint(session, tokens.ENDED)


async def end_sessions(
    session: AsyncSession, identity_id: UUID, *, keep: UUID | None, now: datetime
) -> None:
    """End all sign-ins of this person but the one to keep."""
    await session.exec(
        update(Credential)
        .where(
            col(Credential.identity_id) == identity_id,
            col(Credential.kind) == "refresh",
            col(Credential.family_id).is_distinct_from(keep),
            col(Credential.revoked_at).is_(None),
        )
        .values(revoked_at=now)
    )
    hint(session, tokens.ENDED)
