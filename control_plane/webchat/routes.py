"""The visitor's page and socket, and the calls that the adapter makes to the platform."""

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request, WebSocket
from fastapi.responses import FileResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import BaseModel, Field

from adapters.model import Segment
from control_plane.access.http import House, HouseDep
from control_plane.access.routes import stranger
from control_plane.access.schemas import Body
from control_plane.conversations.segments import SendableSegments, encode
from control_plane.db.session import Scope
from control_plane.kit.errors import Invalid, NotFound, Unauthorized, not_found
from control_plane.media import kinds, names, refs
from control_plane.media import service as media_store
from control_plane.media.routes import TransfersDep
from control_plane.webchat import pictures, store
from control_plane.webchat.sockets import Sockets
from control_plane.webchat.store import Place

# Scripts and styles are files of ours; the channel says which sites may embed the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; font-src 'self'; base-uri 'none'; form-action 'none'; "
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
    segments = msgspec.convert(body.segments, list[Segment])
    shown = refs.ours(segments)
    async with house.database.session(Scope(tenants=(place.tenant_id,))) as session:
        if await media_store.stored(session, place.tenant_id, shown) != shown:
            raise Invalid("unknown_media", "A picture is not, or no longer, in the store.")
        taken = await store.add(
            session,
            place,
            visitor,
            key=store.to_visitor(body.key),
            sender=(body.sender.kind, body.sender.name),
            segments=encode(segments),
            now=house.clock.now(),
        )
    if taken is None:
        raise NotFound("recipient_not_found", "There is no such visitor.")
    return PlatformTaken(id=taken)


@router.get("/webchat/{token}/media/{media_id}")
async def picture(
    token: str, media_id: UUID, house: HouseDep, transfers: TransfersDep, bearer: Bearer
) -> Response:
    """A picture of the visitor's own chat; the visitor's secret proves whose that is."""
    async with house.database.session() as session:
        place = await store.find_place(session, token, "callback")
    if place is None or bearer is None:
        raise not_found("media")
    async with house.database.session(Scope(tenants=(place.tenant_id,))) as session:
        visitor = await store.find_visitor(session, place.channel_id, bearer.credentials)
        if visitor is None:
            raise not_found("media")
        media = await pictures.find(session, visitor, media_id)
    headers = {
        "content-disposition": names.disposition(media.name, inline=False),
        "content-length": str(media.size),
        "x-content-type-options": "nosniff",
        "cache-control": "private, max-age=86400, immutable",
    }
    chunks = await transfers.give(media, 0, media.size)
    return StreamingResponse(
        chunks, headers=headers, media_type=media.content_type or kinds.UNKNOWN
    )


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
