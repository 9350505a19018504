"""Providers of models: make, change, remove, and what of them an agent's configuration gets."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters import egress
from adapters.outbound import Outbound, Refused
from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db import leases
from control_plane.db.session import driver
from control_plane.instances import service as instances
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Conflict, Invalid, not_found
from control_plane.kit.ids import new_id
from control_plane.providers.models import Provider
from control_plane.providers.schemas import ProviderIn, ProviderPatch
from control_plane.stream import log as stream
from control_plane.tenants import quota
from control_plane.tenants import service as tenants

# Providers of a tenant: a handful of accounts, and room to move from one to another.
MAX_PROVIDERS = 20

# Documents that an agent has, runs or may fall back to.
_NAMED = """
SELECT EXISTS (
    SELECT FROM config_states AS s
    JOIN instances AS i ON i.id = s.instance_id AND i.phase <> 'deleted'
    JOIN revisions AS r ON r.instance_id = s.instance_id
        AND r.number IN (s.desired, s.delivered, s.applied, s.last_good)
    WHERE r.document -> 'llm' -> 'models'
        @> jsonb_build_array(jsonb_build_object('provider', $1::text))
      OR r.document -> 'speech' ->> 'provider' = $1::text
)
"""
# Whoever deletes one meanwhile waits, and then sees that it is named.
_LIVING = "SELECT id, kind FROM providers WHERE id = ANY($1::uuid[]) ORDER BY id FOR KEY SHARE"


async def create(
    session: AsyncSession,
    keys: Keyring,
    outbound: Outbound,
    *,
    body: ProviderIn,
    actor: Actor,
    now: datetime,
) -> Provider:
    """A new provider; nothing asks it before a document names it."""
    await _check(session, outbound, body.base_url, actor.tenant)
    # The lock keeps the count true while several are made at once.
    await tenants.lock(session, actor.tenant)
    if (await session.exec(select(func.count()).select_from(Provider))).one() >= MAX_PROVIDERS:
        raise Conflict("quota_exceeded", f"A tenant has at most {MAX_PROVIDERS} providers.")
    provider = Provider(
        id=new_id(),
        tenant_id=actor.tenant,
        name=body.name,
        kind=body.kind,
        base_url=body.base_url,
        api_key=keys.seal(body.api_key.get_secret_value().encode()) if body.api_key else None,
        created_at=now,
        updated_at=now,
    )
    session.add(provider)
    await _changed(session, provider, "create", actor=actor, now=now, after=_shown(provider))
    return provider


async def door(session: AsyncSession, outbound: Outbound, tenant_id: UUID) -> Outbound:
    """The guarded door, with what the tenant's plan opens."""
    return outbound.opened_to(egress.read(await quota.egress(session, tenant_id)))


async def list_providers(
    session: AsyncSession, *, after: UUID | None, limit: int
) -> Sequence[Provider]:
    """The tenant's providers, oldest first; one more than `limit` if any."""
    query = select(Provider).order_by(col(Provider.id)).limit(limit + 1)
    if after is not None:
        query = query.where(col(Provider.id) > after)
    return (await session.exec(query)).all()


async def get(session: AsyncSession, provider_id: UUID, *, lock: bool = False) -> Provider:
    """The provider, if this session may see it."""
    query = select(Provider).where(Provider.id == provider_id)
    provider = (await session.exec(query.with_for_update() if lock else query)).one_or_none()
    if provider is None:
        raise not_found("provider")
    return provider


async def change(
    session: AsyncSession,
    keys: Keyring,
    outbound: Outbound,
    provider_id: UUID,
    *,
    body: ProviderPatch,
    actor: Actor,
    now: datetime,
) -> Provider:
    """Change what is given; agents that ask this provider get it at once."""
    provider = await get(session, provider_id, lock=True)
    before = _shown(provider)
    if body.base_url is not None and body.base_url != provider.base_url:
        await _check(session, outbound, body.base_url, actor.tenant)
        # Who may write a key may not read it, not by having it sent to themselves either.
        if provider.api_key is not None and body.api_key is None:
            raise Conflict("api_key_needed", "Another address needs its API key with it.")
        provider.base_url = body.base_url
    provider.name = body.name or provider.name
    if body.api_key is not None:
        provider.api_key = keys.seal(body.api_key.get_secret_value().encode())
    provider.updated_at = now
    session.add(provider)
    after = _shown(provider)
    await _changed(session, provider, "change", actor=actor, now=now, before=before, after=after)
    return provider


async def remove(session: AsyncSession, provider_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Forget a provider that no bot asks."""
    provider = await get(session, provider_id, lock=True)
    if await (await driver(session)).fetchval(_NAMED, str(provider_id)):
        raise Conflict("provider_in_use", "A published configuration names this provider.")
    before = _shown(provider)
    await session.delete(provider)
    await _changed(session, provider, "delete", actor=actor, now=now, before=before)


async def living(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, str]:
    """Which of these the tenant has, with their kinds; they stay until the transaction ends."""
    rows = await (await driver(session)).fetch(_LIVING, list(ids)) if ids else ()
    return {row["id"]: row["kind"] for row in rows}


async def compiled(
    session: AsyncSession, keys: Keyring, ids: Collection[UUID]
) -> list[dict[str, Any]]:
    """These providers as the configuration document has them, secrets included."""
    query = select(Provider).where(col(Provider.id).in_(ids)).order_by(col(Provider.id))
    return [
        configured(keys, provider.id, provider.kind, provider.base_url, provider.api_key)
        for provider in (await session.exec(query) if ids else ())
    ]


def configured(
    keys: Keyring, provider_id: UUID, kind: str, base_url: str, api_key: bytes | None
) -> dict[str, Any]:
    """One provider as the configuration document has it, secrets included."""
    return {
        "id": str(provider_id),
        "kind": kind,
        "base_url": base_url,
        "api_key": None if api_key is None else keys.open(api_key).decode(),
    }


def opened(keys: Keyring, provider: Provider) -> str | None:
    """The key, to be sent to the provider and nowhere else."""
    return None if provider.api_key is None else keys.open(provider.api_key).decode()


async def _check(session: AsyncSession, outbound: Outbound, base_url: str, tenant_id: UUID) -> None:
    try:
        url = (await door(session, outbound, tenant_id)).check(base_url)
        if url.query:
            raise Refused("The address must end before any question mark.")
    except Refused as refused:
        raise Invalid("address_refused", str(refused)) from None


def _shown(provider: Provider) -> dict[str, Any]:
    """As the audit has it: that there is a key, and never which."""
    return {
        "name": provider.name,
        "kind": provider.kind,
        "base_url": provider.base_url,
        "api_key": None if provider.api_key is None else audit.MASK,
    }


async def _changed(
    session: AsyncSession,
    provider: Provider,
    action: str,
    *,
    actor: Actor,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=provider.tenant_id,
        action=f"provider.{action}",
        target=("provider", provider.id),
        now=now,
        before=before,
        after=after,
    )
    await session.flush()
    # Agents whose document names it get what has changed.
    await leases.call_tenant(session, instances.WORK, provider.tenant_id)
    data = {"provider_id": str(provider.id), "action": action}
    await stream.append(
        session, provider.tenant_id, [stream.Entry(type="provider.changed", data=data)]
    )
