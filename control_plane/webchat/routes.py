"""The visitor's page and socket, and the calls that the adapter makes to the platform."""

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request, WebSocket
from fastapi.responses import FileResponse, Response
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import BaseModel, Field

from adapters.model import Segment
from control_plane.access.http import House, HouseDep
from control_plane.access.routes import stranger
from control_plane.access.schemas import Body
from control_plane.conversations.segments import SendableSegments, encode
from control_plane.db.session import Scope
from control_plane.kit.errors import NotFound, Unauthorized, not_found
from control_plane.webchat import store
from control_plane.webchat.sockets import Sockets
from control_plane.webchat.store import Place

# Scripts and styles are files of ours; the channel says which sites may embed the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors {ancestors}"
)

router = APIRouter(include_in_schema=False, dependencies=[Depends(stranger)])
platform_bearer = HTTPBearer(auto_error=False)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(platform_bearer)]


class PlatformSender(Body):
    kind: str = Field(pattern="^(bot|human|system)$")
    name: str = Field(default="", max_length=80)


class PlatformMessage(Body):
    """What the adapter sends; `key` makes it idempotent, for ever."""

    to: str = Field(max_length=64)
    key: str = Field(min_length=1, max_length=200)
    segments: SendableSegments
    sender: PlatformSender = PlatformSender(kind="bot")


class PlatformTaken(BaseModel):
    id: UUID


@router.get("/webchat/{token}")
async def page(token: str, request: Request, house: HouseDep) -> Response:
    """The chat page; it finds its channel in its own address."""
    pages: Path = request.app.state.web_pages
    file = pages / "webchat" / "index.html"
    if not file.is_file():
        raise not_found("page")
    policy = _POLICY.format(ancestors=await _ancestors(house, token))
    return FileResponse(
        file, headers={"content-security-policy": policy, "cache-control": "no-cache"}
    )


@router.websocket("/webchat/{token}/ws")
async def socket(token: str, websocket: WebSocket) -> None:
    """A visitor's socket."""
    sockets: Sockets = websocket.app.state.webchat_sockets
    await sockets.serve(websocket, token)


@router.get("/webchat-platform/account")
async def account(house: HouseDep, bearer: Bearer) -> dict[str, Any]:
    """Proof that the platform knows the account."""
    place = await _place(house, bearer)
    return {"channel_id": str(place.channel_id)}


@router.post("/webchat-platform/messages")
async def take_message(body: PlatformMessage, house: HouseDep, bearer: Bearer) -> PlatformTaken:
    """Show a visitor a message; a repeated key shows nothing twice."""
    place = await _place(house, bearer)
    try:
        visitor = UUID(body.to)
    except ValueError:
        raise NotFound("recipient_not_found", "There is no such visitor.") from None
    async with house.database.session(Scope(tenants=(place.tenant_id,))) as session:
        taken = await store.add(
            session,
            place,
            visitor,
            key=store.to_visitor(body.key),
            sender=(body.sender.kind, body.sender.name),
            segments=encode(msgspec.convert(body.segments, list[Segment])),
            now=house.clock.now(),
        )
    if taken is None:
        raise NotFound("recipient_not_found", "There is no such visitor.")
    return PlatformTaken(id=taken)


async def _ancestors(house: House, token: str) -> str:
    """Which sites may show the page, as its policy says it; the page of no channel is harmless."""
    async with house.database.session() as session:
        place = await store.find_place(session, token, "callback")
    if place is None:
        return "*"
    async with house.database.session(Scope(tenants=(place.tenant_id,))) as session:
        chat = await store.find_channel(session, place.channel_id)
    allowed: list[str] = chat.shown.get("allowed_origins", []) if chat else []
    return " ".join(["'self'", *allowed]) if allowed else "*"


async def _place(house: HouseDep, bearer: Bearer) -> Place:
    async with house.database.session() as session:
        place = bearer and await store.find_place(session, bearer.credentials, "platform")
    if not place:
        raise Unauthorized("unknown_account", "No web-chat account has this secret.")
    return place
