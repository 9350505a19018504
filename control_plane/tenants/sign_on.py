"""How a tenant's people sign in through their company's own provider: the settings.

The client secret goes to the provider alone: whoever points the settings at another one has to
give a secret for that one.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.http import Call
from control_plane.access.models import Credential, SignOn
from control_plane.access.permissions import Actor
from control_plane.kit.errors import Invalid, not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import service
from control_plane.tenants.schemas import SignOnIn


async def find(session: AsyncSession) -> SignOn | None:
    """The settings of the tenant that this session speaks for."""
    found = await session.exec(select(SignOn).execution_options(populate_existing=True))
    return found.one_or_none()


async def save(call: Call, body: SignOnIn) -> SignOn:
    """Make or change the settings; another provider ends the sign-ins through the old one."""
    session, actor, now = call.session, call.actor, call.now
    await service.lock(session, actor.tenant)
    kept = await find(session)
    moved = kept is None or (kept.issuer, kept.client_id) != (body.issuer, body.client_id)
    if moved and body.client_secret is None:
        raise Invalid("client_secret_needed", "Give the client secret for this provider.")
    before = shown(kept) if kept else None
    settings = kept or SignOn(
        id=new_id(),
        tenant_id=actor.tenant,
        issuer=body.issuer,
        client_id=body.client_id,
        client_secret=b"",
        domains=[],
        first_sign_on=body.first_sign_on,
        created_at=now,
        updated_at=now,
    )
    settings.issuer, settings.client_id = body.issuer, body.client_id
    if body.client_secret is not None:
        settings.client_secret = call.keys.seal(body.client_secret.encode())
    settings.domains = sorted(set(body.domains))
    settings.first_sign_on, settings.required = body.first_sign_on, body.required
    settings.updated_at = now
    session.add(settings)
    await session.flush()
    if kept is not None and moved:
        await _end_sign_ins(session, actor.tenant, now=now)
    await _changed(session, settings, "change", actor=actor, now=now, before=before)
    return settings


async def remove(call: Call) -> None:
    """No sign-on from now on; sign-ins through the provider end."""
    session, actor = call.session, call.actor
    await service.lock(session, actor.tenant)
    settings = await find(session)
    if settings is None:
        raise not_found("sign_on")
    before = shown(settings)
    await session.delete(settings)
    await session.flush()
    await _end_sign_ins(session, actor.tenant, now=call.now)
    await _changed(session, settings, "remove", actor=actor, now=call.now, before=before, gone=True)


def shown(settings: SignOn) -> dict[str, Any]:
    """What may be written down about the settings."""
    return {
        "issuer": settings.issuer,
        "client_id": settings.client_id,
        "domains": list(settings.domains),
        "first_sign_on": settings.first_sign_on,
        "required": settings.required,
    }


async def _end_sign_ins(session: AsyncSession, tenant_id: UUID, *, now: datetime) -> None:
    await session.exec(
        update(Credential)
        .where(col(Credential.sign_on_tenant_id) == tenant_id, col(Credential.revoked_at).is_(None))
        .values(revoked_at=now)
    )


async def _changed(
    session: AsyncSession,
    settings: SignOn,
    action: str,
    *,
    actor: Actor,
    now: datetime,
    before: dict[str, Any] | None,
    gone: bool = False,
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=settings.tenant_id,
        action=f"sign_on.{action}",
        target=("sign_on", settings.id),
        now=now,
        before=before,
        after=None if gone else shown(settings),
    )
    await session.flush()
    told = Entry(type="sign_on.changed", data={"action": f"sign_on.{action}"})
    await stream.append(session, settings.tenant_id, [told])
