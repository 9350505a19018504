"""/instances/{id}/channels, /channels, and the public /im/{token} that platforms call."""

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response, WebSocket

from adapters.model import RawCallback
from control_plane.access.http import Call, HouseDep, TransactionRoute, admit, permit, scope_of
from control_plane.access.permissions import Actor, Permission
from control_plane.access.routes import stranger
from control_plane.channels import gaps, kinds, service, settings
from control_plane.channels.callbacks import Callbacks
from control_plane.channels.check import Checks
from control_plane.channels.models import Channel
from control_plane.channels.relays import Relays
from control_plane.channels.schemas import (
    ChannelCheckOut,
    ChannelIn,
    ChannelKindsOut,
    ChannelOut,
    ChannelPatch,
    FindingOut,
    GapOut,
)
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(tags=["channels"], route_class=TransactionRoute)
# It asks the agent, and keeps no transaction open meanwhile.
plain = APIRouter(tags=["channels"])
public_router = APIRouter(tags=["callbacks"])
# Platforms choose; what their adapter does not take, it refuses.
ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

Reader = Annotated[Call, permit(Permission.CHANNELS_READ)]
Writer = Annotated[Call, permit(Permission.CHANNELS_WRITE)]


@router.get("/channel-kinds")
async def list_kinds(_call: Reader) -> ChannelKindsOut:
    """The kinds of IM account that can be connected, and what each asks for."""
    return ChannelKindsOut(items=list(kinds.installed()))


@router.post("/instances/{instance_id}/channels", status_code=201)
async def create_channel(instance_id: UUID, body: ChannelIn, call: Writer) -> ChannelOut:
    """Connect an IM account to a bot."""
    channel = await service.create(
        call.session,
        call.keys,
        instance_id=instance_id,
        body=body,
        actor=call.actor,
        now=call.now,
    )
    return _out(call, channel)


@router.get("/instances/{instance_id}/channels")
async def list_channels(
    instance_id: UUID, call: Reader, window: Annotated[Window, Depends()]
) -> Page[ChannelOut]:
    """A bot's IM accounts."""
    rows = await service.list_channels(
        call.session, instance_id, after=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    return Page(items=[_out(call, row) for row in page], next=cursor(last.id) if last else None)


@router.get("/channels/{channel_id}")
async def get_channel(channel_id: UUID, call: Reader) -> ChannelOut:
    """One IM account: settings, state, proof of life."""
    return _out(call, await service.get(call.session, channel_id))


@router.patch("/channels/{channel_id}")
async def change_channel(channel_id: UUID, body: ChannelPatch, call: Writer) -> ChannelOut:
    """Change an IM account; only this one reconnects."""
    channel = await service.change(
        call.session,
        call.keys,
        channel_id=channel_id,
        body=body,
        actor=call.actor,
        now=call.now,
    )
    return _out(call, channel)


@router.delete("/channels/{channel_id}", status_code=204)
async def delete_channel(channel_id: UUID, call: Writer) -> None:
    """Disconnect an IM account."""
    await service.remove(call.session, channel_id=channel_id, actor=call.actor, now=call.now)


@plain.post("/channels/{channel_id}/check")
async def check_channel(
    channel_id: UUID,
    request: Request,
    actor: Annotated[Actor, admit(Permission.CHANNELS_WRITE)],
    house: HouseDep,
) -> ChannelCheckOut:
    """Try an IM account now, and say in plain words what is wrong; nothing is sent."""
    async with house.database.session(scope_of(actor)) as session:
        channel = await service.get(session, channel_id)
    checks: Checks = request.app.state.checks
    found = await checks.of(channel)
    return ChannelCheckOut(
        ready=all(each.ok for each in found),
        findings=[FindingOut(**asdict(each)) for each in found],
        callback_url=callback_url(house.public_url, channel),
    )


@public_router.api_route(
    "/im/{token}",
    methods=ANY_METHOD,
    dependencies=[Depends(stranger)],
    include_in_schema=False,
)
@public_router.api_route(
    "/im/{token}/{rest:path}",
    methods=ANY_METHOD,
    dependencies=[Depends(stranger)],
    include_in_schema=False,
)
async def platform_callback(
    token: str, request: Request, house: HouseDep, rest: str = ""
) -> Response:
    """Where platforms deliver; answered only after a copy exists that outlives the pod."""
    callbacks: Callbacks = request.app.state.callbacks
    answer = await callbacks.accept(
        token,
        RawCallback(
            method=request.method,
            path="/" + rest,
            query=request.url.query,
            headers=dict(request.headers.items()),
            body=await request.body(),
            received_at=house.clock.now().timestamp(),
        ),
    )
    return Response(answer.body, answer.status, media_type=answer.content_type)


@public_router.websocket("/im/{token}")
@public_router.websocket("/im/{token}/{rest:path}")
async def platform_socket(token: str, websocket: WebSocket, rest: str = "") -> None:
    """Where platforms' clients connect; carried to the agent, who speaks their protocol."""
    relays: Relays = websocket.app.state.relays
    await relays.serve(websocket, token, rest)


def callback_url(base: str, channel: Channel) -> str | None:
    """The address that a person enters at the platform, for kinds that have one."""
    kind = settings.kind_of(channel.kind)
    return f"{base}/im/{channel.public_token}" if kind.callback else None


def _out(call: Call, channel: Channel) -> ChannelOut:
    base = call.house.public_url
    ours = channel.kind == "webchat"
    return ChannelOut(
        id=channel.id,
        instance_id=channel.instance_id,
        kind=channel.kind,
        name=channel.name,
        settings=channel.settings,
        secrets_set=sorted(settings.unseal(call.keys, channel.secrets).keys()),
        state=channel.state,
        state_reason=channel.state_reason,
        proof_at=channel.proof_at,
        gaps=[_gap(channel.kind, each) for each in channel.gaps],
        keep_raw=channel.keep_raw,
        callback_url=callback_url(base, channel),
        webchat_url=f"{base}/webchat/{channel.public_token}" if ours else None,
        created_at=channel.created_at,
    )


def _gap(kind: str, data: dict[str, str]) -> GapOut:
    gap = gaps.told(kind, data)
    text, text_zh = gaps.sentences(gap)
    return GapOut(from_at=gap.begin, to_at=gap.end, text=text, text_zh=text_zh)
