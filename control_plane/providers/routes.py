"""/providers: who runs the models that a tenant's bots ask."""

import time
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from control_plane.access.http import Call, HouseDep, TransactionRoute, admit, permit, scope_of
from control_plane.access.permissions import Actor, Permission
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.providers import service
from control_plane.providers.check import check
from control_plane.providers.models import Provider
from control_plane.providers.schemas import (
    ProviderCheckOut,
    ProviderIn,
    ProviderOut,
    ProviderPatch,
)

router = APIRouter(prefix="/providers", tags=["providers"], route_class=TransactionRoute)
# It calls the provider, and keeps no transaction open meanwhile.
plain = APIRouter(prefix="/providers", tags=["providers"])

Reader = Annotated[Call, permit(Permission.PROVIDERS_READ)]
Writer = Annotated[Call, permit(Permission.PROVIDERS_WRITE)]


@router.post("", status_code=201)
async def create_provider(body: ProviderIn, call: Writer) -> ProviderOut:
    """Enter an account at a provider; configurations then name it by its id."""
    provider = await service.create(
        call.session, call.keys, call.house.outbound, body=body, actor=call.actor, now=call.now
    )
    return _out(provider)


@router.get("")
async def list_providers(call: Reader, window: Annotated[Window, Depends()]) -> Page[ProviderOut]:
    """The tenant's providers, oldest first."""
    rows = await service.list_providers(call.session, after=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(items=[_out(row) for row in page], next=cursor(last.id) if last else None)


@router.get("/{provider_id}")
async def get_provider(provider_id: UUID, call: Reader) -> ProviderOut:
    """One provider."""
    return _out(await service.get(call.session, provider_id))


@router.patch("/{provider_id}")
async def change_provider(provider_id: UUID, body: ProviderPatch, call: Writer) -> ProviderOut:
    """Change what is given; bots that ask it use it at once."""
    provider = await service.change(
        call.session,
        call.keys,
        call.house.outbound,
        provider_id,
        body=body,
        actor=call.actor,
        now=call.now,
    )
    return _out(provider)


@router.delete("/{provider_id}", status_code=204)
async def delete_provider(provider_id: UUID, call: Writer) -> None:
    """Forget a provider and its key, unless a published configuration names it."""
    await service.remove(call.session, provider_id, actor=call.actor, now=call.now)


@plain.post("/{provider_id}/check")
async def check_provider(
    provider_id: UUID,
    actor: Annotated[Actor, admit(Permission.PROVIDERS_WRITE)],
    house: HouseDep,
) -> ProviderCheckOut:
    """Ask the provider now whether it takes our calls; no model is asked, nothing is spent."""
    async with house.database.session(scope_of(actor)) as session:
        provider = await service.get(session, provider_id)
        outbound = await service.door(session, house.outbound, provider.tenant_id)
    started = time.monotonic()
    key = service.opened(house.keys, provider)
    works, detail = await check(outbound, provider.kind, provider.base_url, key)
    latency_ms = round((time.monotonic() - started) * 1000)
    return ProviderCheckOut(works=works, detail=detail, latency_ms=latency_ms)


def _out(provider: Provider) -> ProviderOut:
    return ProviderOut(
        **provider.model_dump(exclude={"tenant_id", "api_key"}),
        has_key=provider.api_key is not None,
    )
