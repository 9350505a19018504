"""What agents ask of the media store: signed like their events, whatever their epoch."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from control_plane.access.http import House, HouseDep
from control_plane.access.routes import stranger
from control_plane.db.session import Scope
from control_plane.ingest.verify import Verifier
from control_plane.kit.errors import BadRequest
from control_plane.media import kinds, links, service
from control_plane.media.service import Source
from instance_agent.protocol import MediaLink, MediaRequest, MediaReserved, media_target

# Characters of a name on the wire; what is kept of it is shorter.
_MAX_NAME = 500
# Characters of a webhook id, which becomes part of an index key.
_MAX_ID = 200

router = APIRouter(include_in_schema=False, dependencies=[Depends(stranger)])


@router.post("/instances/{instance_id}/media")
async def reserve_for_agent(instance_id: UUID, request: Request, house: HouseDep) -> Response:
    """Room for bytes that a platform delivered."""
    verifier: Verifier = request.app.state.verifier
    body = await request.body()
    proven = await verifier.prove(instance_id, request.headers, body)
    wanted = _wanted(body, proven.webhook_id)
    now = house.clock.now()
    async with house.database.session(Scope(tenants=(proven.tenant_id,))) as session:
        media = await service.reserve(
            session,
            tenant_id=proven.tenant_id,
            source=Source(kind="agent", id=instance_id),
            size=wanted.size,
            name=wanted.name,
            request_id=proven.webhook_id,
            now=now,
        )
    link = links.make(house.keys, "upload", tenant_id=proven.tenant_id, media_id=media.id, now=now)
    reserved = MediaReserved(media_id=media.id, upload_url=link.path, expires_at=link.expires_at)
    return _json(reserved, 201)


@router.get("/instances/{instance_id}/media/{media_id}")
async def link_for_agent(
    instance_id: UUID, media_id: UUID, request: Request, house: HouseDep
) -> Response:
    """Where the bytes of one of the tenant's objects are for a while."""
    verifier: Verifier = request.app.state.verifier
    target = media_target(instance_id, media_id)
    proven = await verifier.prove(instance_id, request.headers, target)
    return _json(await _link(house, proven.tenant_id, media_id, house.clock.now()), 200)


async def _link(house: House, tenant_id: UUID, media_id: UUID, now: datetime) -> MediaLink:
    async with house.database.session(Scope(tenants=(tenant_id,))) as session:
        media = await service.get_stored(session, media_id)
    link = links.make(house.keys, "download", tenant_id=tenant_id, media_id=media_id, now=now)
    return MediaLink(
        url=link.path,
        name=media.name,
        content_type=media.content_type or kinds.UNKNOWN,
        size=media.size,
        sha256=(media.sha256 or b"").hex(),
    )


def _wanted(body: bytes, webhook_id: str) -> MediaRequest:
    try:
        wanted = msgspec.json.decode(body, type=MediaRequest)
    except msgspec.DecodeError as error:
        raise BadRequest("malformed_request", str(error)[:256]) from None
    if wanted.size < 1 or len(wanted.name) > _MAX_NAME or len(webhook_id) > _MAX_ID:
        raise BadRequest("malformed_request", "The size is at least 1, and the name is shorter.")
    return wanted


def _json(answer: Any, status: int) -> Response:
    return Response(
        msgspec.json.encode(answer),
        status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )
