"""/media: reserve room, send the bytes to a link, get them back through another."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.access.routes import stranger
from control_plane.kit.openapi import fails, streams
from control_plane.kit.problems import problem
from control_plane.media import kinds, links, names, ranges, service
from control_plane.media.links import LINK_LIFE
from control_plane.media.models import Media
from control_plane.media.ranges import Unsatisfiable
from control_plane.media.schemas import MediaIn, MediaOut, ReservedOut
from control_plane.media.service import Source
from control_plane.media.transfer import Transfers

# No script of a stored file ever runs in our origin, whatever it is taken for.
_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
_LASTING = f"private, max-age={LINK_LIFE // timedelta(seconds=1)}, immutable"

router = APIRouter(prefix="/media", tags=["media"], route_class=TransactionRoute)
# Links stand outside the API: whoever holds one needs no other proof.
link_router = APIRouter(prefix="/media", tags=["media"], dependencies=[Depends(stranger)])


def transfers_of(request: Request) -> Transfers:
    transfers: Transfers = request.app.state.transfers
    return transfers


TransfersDep = Annotated[Transfers, Depends(transfers_of)]


@router.post("", status_code=201)
async def reserve_media(
    body: MediaIn, call: Annotated[Call, permit(Permission.CONVERSATIONS_WRITE)]
) -> ReservedOut:
    """Room for a picture, voice, film or file, and where to send its bytes."""
    actor = call.actor
    media = await service.reserve(
        call.session,
        tenant_id=actor.tenant,
        source=Source(kind="member", id=actor.member_id or actor.identity_id),
        size=body.size,
        name=body.name,
        now=call.now,
    )
    link = links.make(call.keys, "upload", tenant_id=actor.tenant, media_id=media.id, now=call.now)
    return ReservedOut(
        media_id=media.id, name=media.name, upload_url=link.path, expires_at=link.expires_at
    )


@link_router.put(
    "/{token}",
    responses=fails(403, 404, 409),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kinds.UNKNOWN: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload_media(token: str, request: Request, transfers: TransfersDep) -> MediaOut:
    """Send the bytes of a reservation; may be repeated."""
    declared = request.headers.get("content-length", "")
    media = await transfers.receive(
        token, _body(request), declared=int(declared) if declared.isdecimal() else None
    )
    return MediaOut(
        media_id=media.id,
        name=media.name,
        size=media.size,
        content_type=media.content_type or kinds.UNKNOWN,
        sha256=(media.sha256 or b"").hex(),
    )


@link_router.get(
    "/{token}",
    response_class=StreamingResponse,
    responses={
        **streams(kinds.UNKNOWN),
        206: streams(kinds.UNKNOWN)[200] | {"description": "The part that `Range` asked for."},
        304: {"description": "What the caller has is the same."},
        **fails(403, 404, 416),
    },
)
async def download_media(
    token: str, request: Request, transfers: TransfersDep, original: bool = False
) -> Response:
    """The bytes behind a link, or one range of them.

    Of a voice that no browser plays these are an MP3, as soon as there is one; with `original` they
    are what was stored.
    """
    media = await transfers.find(token, original=original)
    headers = _headers(media, lasting=original or media.conversion is None)
    asked = request.headers
    if asked.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    wanted = (
        asked.get("range") if asked.get("if-range", headers["etag"]) == headers["etag"] else None
    )
    try:
        part = ranges.parse(wanted, media.size)
    except Unsatisfiable:
        return problem(
            status=416,
            title="Range not satisfiable",
            code="range_not_satisfiable",
            detail="There is no such part.",
            headers={"content-range": f"bytes */{media.size}"},
        )
    start, end = part or (0, media.size)
    chunks = await transfers.give(media, start, end)
    headers["content-length"] = str(end - start)
    if part is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{media.size}"
    return StreamingResponse(
        chunks, 200 if part is None else 206, headers=headers, media_type=media.content_type
    )


def _headers(media: Media, *, lasting: bool) -> dict[str, str]:
    """What goes with the bytes; `lasting` where the link will lead to no others."""
    inline = media.content_type in kinds.INLINE
    return {
        "content-disposition": names.disposition(media.name, inline=inline),
        "content-security-policy": _POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": _LASTING if lasting else "private, no-cache",
        "accept-ranges": "bytes",
        "etag": f'"{(media.sha256 or b"").hex()}"',
    }


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
