"""`/ws` and `/stream`: the same frames over a socket and as an event stream.

Neither is in the OpenAPI document, which knows no streams; docs/realtime.md describes both.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import APIRouter, Header, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from control_plane.access import tokens
from control_plane.access.gate import address_of, bearer_of
from control_plane.access.http import Caller, HouseDep, caller
from control_plane.access.standing import SignIn
from control_plane.db.session import DATABASE_ERRORS
from control_plane.kit.errors import BotyardError, Unauthorized, Unavailable
from control_plane.realtime import commands, frames
from control_plane.realtime.connections import Connection, Connections, check_standing, refuse
from control_plane.realtime.feed import Ended, Listener, seeing
from control_plane.realtime.frames import Resume, Said
from control_plane.realtime.outlet import UNAUTHORIZED, Outlet
from control_plane.realtime.wire import EXTENSION, StreamWire

# Seconds for the first frame, which says who it is.
AUTH_WITHIN_S = 10.0
# What ends a connection with a reason that its client understands.
_REFUSALS = (BotyardError, Ended, *DATABASE_ERRORS)

router = APIRouter(include_in_schema=False)
log = structlog.get_logger()


@router.get("/stream")
async def stream(
    request: Request,
    house: HouseDep,
    who: Annotated[Caller, caller()],
    last_event_id: Annotated[str | None, Header(max_length=64)] = None,
) -> StreamingResponse:
    """What happens, as server-sent events; `Last-Event-ID` says where the client stopped."""
    check_standing(who.actor)
    claims = tokens.read_access(house.keys, bearer_of(request.scope) or "", now=house.clock.now())
    wire = StreamWire()
    connection = Connection(
        who=SignIn(actor=who.actor, family_id=who.family_id),
        expires_at=claims["exp"],
        listener=Listener(
            outlet=Outlet(wire),
            sight=seeing(frames.server_sent, who.actor.permissions, who.actor.masked),
        ),
    )
    body = _told(
        request.app.state.realtime,
        connection,
        wire,
        address=address_of(request.scope),
        resume=frames.read_event_id(last_event_id),
    )
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


async def _told(
    connections: Connections,
    connection: Connection,
    wire: StreamWire,
    *,
    address: str,
    resume: Resume | None,
) -> AsyncIterator[bytes]:
    """The body of an event stream; its last event says why it ended."""
    listening = asyncio.create_task(
        _listen(connections, connection, address=address, resume=resume)
    )
    try:
        async for data in wire.body():
            yield data
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _listen(
    connections: Connections, connection: Connection, *, address: str, resume: Resume | None
) -> None:
    """Listen until cancelled; beside the body, so that a long replay has somebody who takes it."""
    try:
        with connections.arrival(address):
            async with connections.join(connection, resume):
                await asyncio.Event().wait()
    except _REFUSALS as error:
        refuse(connection.outlet, error)


@router.websocket("/ws")
async def socket(websocket: WebSocket) -> None:
    """A member's socket, from its connect to its end."""
    connections: Connections = websocket.app.state.realtime
    await websocket.accept()
    outlet = Outlet(websocket.scope["extensions"][EXTENSION])
    try:
        with connections.arrival(address_of(websocket.scope)):
            connection, resume = await _enter(connections, websocket, outlet)
            async with connections.join(connection, resume):
                while True:
                    await _answer(connections, connection, await _receive(websocket))
    except WebSocketDisconnect:
        log.debug("socket left", reason=outlet.closed)
    except _REFUSALS as error:
        refuse(outlet, error)


async def _enter(
    connections: Connections, websocket: WebSocket, outlet: Outlet
) -> tuple[Connection, Resume | None]:
    """Wait for the first frame and believe it, or raise."""
    try:
        async with asyncio.timeout(AUTH_WITHIN_S):
            said = frames.read(await _receive(websocket))
    except TimeoutError:
        raise Unauthorized("auth_timeout", "Say who you are with the first frame.") from None
    if said.type != "auth":
        raise Unauthorized("not_signed_in", "Say who you are with the first frame.")
    who, expires_at = await connections.prove(said.token)
    listener = Listener(
        outlet=outlet, sight=seeing(frames.websocket, who.actor.permissions, who.actor.masked)
    )
    return Connection(who=who, expires_at=expires_at, listener=listener), said.resume


async def _receive(websocket: WebSocket) -> str | bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    data: str | bytes = message.get("text") or message.get("bytes") or ""
    return data


async def _answer(connections: Connections, connection: Connection, data: str | bytes) -> None:
    """One frame of a client's: a new token, or a command."""
    said = None
    try:
        await connections.charge(connection.who)
        said = frames.read(data)
        if said.type == "auth":
            await _renew(connections, connection, said)
            return
        answer, note = await commands.run(connections.house, connection.who, said)
    except Unauthorized as error:
        refuse(connection.outlet, error)
    except BotyardError as error:
        connection.show(_error(said, error))
    except DATABASE_ERRORS as error:
        log.warning("command lost the database", error=type(error).__name__)
        away = Unavailable("database_unavailable", "The database cannot be reached.")
        connection.show(_error(said, away))
    else:
        if note is not None:
            connections.tell(note)
        ack = {"type": "ack", "id": said.id, "data": answer}
        connection.show(msgspec.json.encode(ack))


async def _renew(connections: Connections, connection: Connection, said: Said) -> None:
    """The next token of the same person; the socket lives on with it."""
    who, expires_at = await connections.prove(said.token)
    actor, former = who.actor, connection.who.actor
    if (actor.identity_id, actor.tenant_id) != (former.identity_id, former.tenant_id):
        connection.outlet.close(UNAUTHORIZED, "other_person")
        return
    connection.expires_at = expires_at
    connection.heed(who)
    renewed = {"type": "renewed", "expires_at": expires_at}
    connection.show(msgspec.json.encode(renewed))


def _error(said: Said | None, error: BotyardError) -> bytes:
    frame: dict[str, Any] = {
        "type": "error",
        "id": (said and said.id) or None,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.errors:
        frame["errors"] = error.errors
    if error.retry_after_s is not None:
        frame["retry_after"] = math.ceil(error.retry_after_s)
    return msgspec.json.encode(frame)
