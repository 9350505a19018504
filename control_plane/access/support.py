"""An operator's look into a tenant: by a grant that ends by itself and that the tenant sees."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db.session import Scope, driver, enter
from control_plane.kit.errors import not_found

HEADER = "x-botyard-tenant"

_GRANT = """
SELECT g.id, g.used_at, t.state, t.mask_numbers
FROM support_grants AS g JOIN tenants AS t ON t.id = g.tenant_id
WHERE g.tenant_id = $1 AND g.operator_id = $2 AND g.ended_at IS NULL AND g.expires_at > $3
ORDER BY g.expires_at DESC LIMIT 1
"""
_USE = "UPDATE support_grants SET used_at = $2 WHERE id = $1 AND used_at IS NULL"


async def lend(session: AsyncSession, actor: Actor, wanted: str, *, now: datetime) -> Actor:
    """The actor with a viewer's eyes in the tenant of the header; 404 without a grant.

    The first use of a grant is audited; it is kept if the request itself succeeds.
    """
    try:
        tenant_id = UUID(wanted)
    except ValueError:
        raise not_found("tenant") from None
    if tenant_id == actor.tenant_id:
        return actor
    if not actor.operator or actor.role is not None:
        raise not_found("tenant")
    await enter(session, Scope(tenants=(tenant_id,)))
    connection = await driver(session)
    grant = await connection.fetchrow(_GRANT, tenant_id, actor.identity_id, now)
    if grant is None:
        raise not_found("tenant")
    lent = replace(
        actor,
        tenant_id=tenant_id,
        tenant_state=grant["state"],
        support_id=grant["id"],
        mask_numbers=grant["mask_numbers"],
    )
    if await connection.execute(_USE, grant["id"], now) == "UPDATE 1":
        audit.record(
            session,
            actor=lent,
            tenant_id=tenant_id,
            action="support.use",
            target=("support_grant", grant["id"]),
            now=now,
        )
        await session.flush()
    return lent
