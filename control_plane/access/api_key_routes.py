"""/api-keys: what a tenant's own programs call the API with."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from control_plane.access import api_keys
from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.models import ApiKey
from control_plane.access.permissions import Permission
from control_plane.access.schemas import ApiKeyIn, ApiKeyMade, ApiKeyOut
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(tags=["api keys"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.API_KEYS_READ)]
Writer = Annotated[Call, permit(Permission.API_KEYS_WRITE)]


@router.post("/api-keys", status_code=201)
async def create_api_key(body: ApiKeyIn, call: Writer) -> ApiKeyMade:
    """Make an API key; its secrets are in this answer and nowhere else."""
    made = await api_keys.create(call.session, call.keys, body=body, actor=call.actor, now=call.now)
    return ApiKeyMade(
        **_out(made.key).model_dump(), key=made.secret, signing_secret=made.signing_secret
    )


@router.get("/api-keys")
async def list_api_keys(call: Reader, window: Annotated[Window, Depends()]) -> Page[ApiKeyOut]:
    """The tenant's API keys, newest first, with when each was last used."""
    rows = await api_keys.list_keys(call.session, after=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(items=[_out(key) for key in page], next=cursor(last.id) if last else None)


@router.delete("/api-keys/{key_id}", status_code=204)
async def revoke_api_key(key_id: UUID, call: Writer) -> None:
    """Refuse a key from its next request on."""
    await api_keys.revoke(call.session, key_id, actor=call.actor, now=call.now)


def _out(key: ApiKey) -> ApiKeyOut:
    return ApiKeyOut.model_validate(key, from_attributes=True)
