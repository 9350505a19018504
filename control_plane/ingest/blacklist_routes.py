"""Agents pull their tenant's blacklist: signed like their events, page by page."""

from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from control_plane.access.http import HouseDep
from control_plane.access.routes import stranger
from control_plane.channels import blacklist
from control_plane.db.session import Scope
from control_plane.ingest.verify import Verifier
from control_plane.kit.errors import BadRequest
from instance_agent.protocol import BlacklistRequest

router = APIRouter(include_in_schema=False, dependencies=[Depends(stranger)])


@router.post("/instances/{instance_id}/blacklist")
async def pull_blacklist(instance_id: UUID, request: Request, house: HouseDep) -> Response:
    """A page of what concerns this instance, with the list's version."""
    verifier: Verifier = request.app.state.verifier
    body = await request.body()
    proven = await verifier.prove(instance_id, request.headers, body)
    wanted = _wanted(body)
    async with house.database.plain(Scope(tenants=(proven.tenant_id,))) as session:
        page = await blacklist.page(
            session,
            proven.tenant_id,
            instance_id,
            after=wanted.after,
            now=house.clock.now(),
        )
    return Response(
        msgspec.json.encode(page),
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _wanted(body: bytes) -> BlacklistRequest:
    try:
        return msgspec.json.decode(body, type=BlacklistRequest)
    except msgspec.DecodeError as error:
        raise BadRequest("malformed_request", str(error)[:256]) from None
