"""A tenant's routing settings: read, replaced as a whole, and the work row while switched on."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db import leases
from control_plane.db.session import Session, driver
from control_plane.kit.errors import Conflict, Invalid, not_found
from control_plane.routing import hours
from control_plane.routing.choosing import Rules
from control_plane.routing.schemas import Routing, RoutingIn
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants.service import ROUTING

_READ = "SELECT version, document, updated_at FROM routing_settings WHERE tenant_id = $1"
_WRITE = """
INSERT INTO routing_settings AS s (tenant_id, version, document, updated_at)
VALUES ($1, 1, $2, $3)
ON CONFLICT (tenant_id) DO UPDATE
SET version = s.version + 1, document = excluded.document, updated_at = excluded.updated_at
RETURNING version
"""
_CHANNELS = """
SELECT count(*) FROM channels WHERE id = ANY ($1::uuid[]) AND deleted_at IS NULL
"""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The document and its version; 0 is the one that nobody wrote."""

    routing: Routing
    version: int
    updated_at: datetime | None

    @property
    def rules(self) -> Rules:
        weights = self.routing.weights
        return Rules(
            skill=weights.skill,
            load=weights.load,
            hours=weights.hours,
            state=weights.state,
            known=weights.known,
            patience=timedelta(minutes=self.routing.patience_min),
            busy_takes=self.routing.busy_takes,
        )

    @property
    def away_after(self) -> timedelta:
        return timedelta(minutes=self.routing.away_after_min)


async def read(session: Session, tenant_id: UUID) -> Kept:
    """What counts for the tenant now."""
    row = await (await driver(session)).fetchrow(_READ, tenant_id)
    if row is None:
        return Kept(routing=Routing(), version=0, updated_at=None)
    return Kept(
        routing=Routing.model_validate_json(row["document"]),
        version=row["version"],
        updated_at=row["updated_at"],
    )


async def replace(
    session: AsyncSession, tenant_id: UUID, body: RoutingIn, *, actor: Actor, now: datetime
) -> Kept:
    """Put a document in the place of the one before; raises Conflict for another version."""
    routing = Routing(**body.model_dump(exclude={"version"}))
    check(routing)
    connection = await driver(session)
    # Two editors at once: the later one waits and is compared.
    await connection.execute("SELECT 1 FROM tenants WHERE id = $1 FOR UPDATE", tenant_id)
    before = await read(session, tenant_id)
    if body.version is not None and body.version != before.version:
        raise Conflict("settings_changed", f"They have changed: it is version {before.version}.")
    channels = {need.channel_id for need in routing.needs}
    if channels and await connection.fetchval(_CHANNELS, list(channels)) != len(channels):
        raise not_found("channel")
    version = await connection.fetchval(_WRITE, tenant_id, routing.model_dump_json(), now)
    audit.record(
        session,
        actor=actor,
        tenant_id=tenant_id,
        action="routing.change_settings",
        target=("tenant", tenant_id),
        now=now,
        before=before.routing.model_dump(mode="json"),
        after=routing.model_dump(mode="json"),
    )
    # The work ends by itself once the document says so.
    if routing.enabled or before.routing.enabled:
        await leases.call(session, ROUTING, [(tenant_id, tenant_id)])
    entry = Entry(type="routing.changed", data={"version": version})
    await stream.append(session, tenant_id, [entry])
    return Kept(routing=routing, version=version, updated_at=now)


def check(routing: Routing) -> None:
    """Raises Invalid where the parts do not fit each other."""
    keys = [skill.key for skill in routing.skills]
    if len(set(keys)) < len(keys):
        raise Invalid("skill_twice", "Two skills have the same key.")
    known_skills(routing, [need.skill for need in routing.needs])
    channels = [need.channel_id for need in routing.needs]
    if len(set(channels)) < len(channels):
        raise Invalid("channel_twice", "A channel asks for one skill only.")
    hours.check(routing.hours, "/hours")
    closing = routing.closing
    if closing.after_min and closing.warning and closing.warn_before_min >= closing.after_min:
        raise Invalid("warning_too_early", "The warning would come before the silence begins.")


def known_skills(routing: Routing, named: Collection[str]) -> None:
    """Raises Invalid for a skill that the tenant has not listed."""
    unknown = sorted(set(named) - {skill.key for skill in routing.skills})
    if unknown:
        raise Invalid("unknown_skill", f"Not among the skills: {', '.join(unknown)[:200]}.")
