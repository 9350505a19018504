"""What people who stay connected may still do, asked for many of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access.permissions import Actor, Role, role_permissions
from control_plane.db.session import driver

_STANDING = """
SELECT s.n, m.role, r.permissions AS granted, t.state, t.mask_numbers
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])
    WITH ORDINALITY AS s (identity_id, tenant_id, family_id, n)
JOIN members AS m ON m.identity_id = s.identity_id AND m.tenant_id = s.tenant_id
JOIN tenants AS t ON t.id = s.tenant_id
LEFT JOIN roles AS r ON r.id = m.role_id
WHERE EXISTS (SELECT FROM credentials AS c WHERE c.family_id = s.family_id AND c.revoked_at IS NULL)
"""


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """A member, and the sign-in by which they came."""

    actor: Actor
    family_id: UUID


async def again(session: AsyncSession, sign_ins: Sequence[SignIn]) -> list[Actor | None]:
    """Each as they are now; None for who left the tenant or whose sign-in has ended.

    The session must speak for all their tenants.
    """
    rows = await (await driver(session)).fetch(
        _STANDING,
        [one.actor.identity_id for one in sign_ins],
        [one.actor.tenant for one in sign_ins],
        [one.family_id for one in sign_ins],
    )
    found = {row["n"]: row for row in rows}
    return [_now(one.actor, found.get(n)) for n, one in enumerate(sign_ins, start=1)]


def _now(actor: Actor, row: Any) -> Actor | None:
    if row is None:
        return None
    return replace(
        actor,
        role=Role(row["role"]),
        granted=role_permissions(row["granted"] or ()),
        tenant_state=row["state"],
        mask_numbers=row["mask_numbers"],
    )
