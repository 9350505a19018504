"""What the fleet serves: the agents' bootstrap, and logs."""

from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.security.http import HTTPAuthorizationCredentials

from control_plane.access.http import HouseDep, admit, bearer_token, scope_of
from control_plane.access.permissions import Actor, Permission
from control_plane.access.routes import stranger
from control_plane.fleet.bootstrap import Bootstraps
from control_plane.fleet.following import Readers
from control_plane.fleet.provision.base import Provisioner
from control_plane.instances import service as instances
from control_plane.instances.schemas import LogsOut
from control_plane.kit.errors import BadRequest, Unauthorized, Unavailable
from control_plane.kit.openapi import fails, streams
from instance_agent.protocol import BootstrapRequest

# Lines that one answer carries.
MAX_TAIL = 10_000

router = APIRouter(tags=["instances"])


@router.post(
    "/instances/{instance_id}/bootstrap",
    include_in_schema=False,
    dependencies=[Depends(stranger)],
)
async def bootstrap(
    instance_id: UUID,
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_token)],
) -> Response:
    """An agent presents its single-use token and gets its session."""
    if bearer is None:
        raise Unauthorized("invalid_bootstrap_token", "Send the bootstrap token as a bearer.")
    try:
        body = msgspec.json.decode(await request.body(), type=BootstrapRequest)
    except msgspec.DecodeError as error:
        raise BadRequest("malformed_bootstrap", str(error)[:256]) from None
    bootstraps: Bootstraps = request.app.state.bootstraps
    given = await bootstraps.exchange(instance_id, bearer.credentials, body)
    return Response(
        msgspec.json.encode(given),
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


@router.get(
    "/instances/{instance_id}/logs",
    response_model=LogsOut,
    responses=streams("application/x-ndjson") | fails(429),
)
async def get_logs(
    instance_id: UUID,
    request: Request,
    house: HouseDep,
    actor: Annotated[Actor, admit(Permission.INSTANCES_READ)],
    tail: Annotated[int, Query(ge=1, le=MAX_TAIL)] = 200,
    follow: Annotated[
        bool,
        Query(
            description="Stream new lines, one JSON string a line; an empty line says that there is"
            " nothing new. Ends after 10 min: ask again."
        ),
    ] = False,
) -> Response:
    """The end of the agent's log."""
    async with house.database.session(scope_of(actor)) as session:
        await instances.get(session, instance_id)
    provisioner: Provisioner | None = request.app.state.provisioner
    if provisioner is None:
        raise Unavailable("logs_elsewhere", "Logs are served where the bots run.")
    lines = provisioner.logs(instance_id, tail=tail, follow=follow)
    if follow:
        readers: Readers = request.app.state.log_readers
        return StreamingResponse(readers.follow(lines), media_type="application/x-ndjson")
    return Response(
        LogsOut(lines=[line async for line in lines]).model_dump_json(),
        media_type="application/json",
    )
