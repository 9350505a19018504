"""Channels: add, change, remove. The fleet compiles them into what the agent runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.channels import settings
from control_plane.channels.models import Channel
from control_plane.channels.schemas import ChannelIn, ChannelPatch
from control_plane.db import leases
from control_plane.db.session import driver, hint
from control_plane.instances import service as instances
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Conflict, not_found
from control_plane.kit.ids import fingerprint, new_id, new_token
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota
from control_plane.tenants import service as tenants

# Channels of one instance: what the configuration document takes.
MAX_CHANNELS = 50

_ROUTE = """
INSERT INTO routes (sha256, kind, tenant_id, instance_id, channel_id)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (sha256) DO NOTHING
"""


async def create(
    session: AsyncSession,
    keys: Keyring,
    *,
    instance_id: UUID,
    body: ChannelIn,
    actor: Actor | None,
    now: datetime,
) -> Channel:
    """A new account for an instance; the secrets that we make up are made here."""
    instance = await instances.get(session, instance_id, lock=True)
    await instances.wake(session, instance_id, now=now)
    standing = await quota.standing(session, instance.tenant_id, now=now, lock=True)
    standing.room_for("channels")
    counted = await session.exec(
        select(func.count()).select_from(Channel).where(*_living(instance_id))
    )
    if counted.one() >= MAX_CHANNELS:
        raise Conflict("quota_exceeded", f"An instance may have {MAX_CHANNELS} channels.")
    kind = settings.kind_of(body.kind)
    given = settings.complete(kind, body.settings)
    settings.check(kind, given)
    shown, hidden = settings.split(kind, given)
    channel = Channel(
        id=new_id(),
        tenant_id=instance.tenant_id,
        instance_id=instance_id,
        kind=body.kind,
        name=body.name,
        settings=shown,
        secrets=settings.seal(keys, hidden),
        public_token=new_token(),
        created_at=now,
    )
    session.add(channel)
    await session.flush()
    await _add_route(session, channel, "callback", channel.public_token)
    for name in settings.generated_names(kind):
        await _add_route(session, channel, "platform", hidden[name])
    entries = await quota.crossed(session, standing, now=now)
    await _changed(session, channel, "channel.create", actor=actor, now=now, entries=entries)
    return channel


async def list_channels(
    session: AsyncSession, instance_id: UUID, *, after: UUID | None, limit: int
) -> Sequence[Channel]:
    """An instance's channels, oldest first; one more than `limit` when there are more."""
    await instances.get(session, instance_id)
    query = select(Channel).where(*_living(instance_id)).order_by(col(Channel.id))
    if after is not None:
        query = query.where(col(Channel.id) > after)
    return (await session.exec(query.limit(limit + 1))).all()


async def get(session: AsyncSession, channel_id: UUID, *, lock: bool = False) -> Channel:
    """The channel, if this session may see it."""
    query = select(Channel).where(Channel.id == channel_id, col(Channel.deleted_at).is_(None))
    channel = (
        await session.exec(query.with_for_update(key_share=True) if lock else query)
    ).one_or_none()
    if channel is None:
        raise not_found("channel")
    return channel


async def change(
    session: AsyncSession,
    keys: Keyring,
    *,
    channel_id: UUID,
    body: ChannelPatch,
    actor: Actor,
    now: datetime,
) -> Channel:
    """Change what is given; a generated secret stays as it is."""
    channel = await get(session, channel_id, lock=True)
    before = _shown(channel)
    if body.name is not None:
        channel.name = body.name
    if body.keep_raw is not None:
        channel.keep_raw = body.keep_raw
    if body.settings is not None:
        kind = settings.kind_of(channel.kind)
        old = channel.settings | settings.unseal(keys, channel.secrets)
        merged = old | settings.with_previous(kind, old, body.settings)
        fixed = settings.generated_names(kind) & body.settings.keys()
        if fixed:
            raise Conflict("generated_setting", f"{', '.join(sorted(fixed))} cannot be changed.")
        given = {name: value for name, value in merged.items() if value is not None}
        settings.check(kind, given)
        channel.settings, hidden = settings.split(kind, given)
        channel.secrets = settings.seal(keys, hidden)
    session.add(channel)
    await session.flush()
    await instances.wake(session, channel.instance_id, now=now)
    await _changed(session, channel, "channel.change", actor=actor, now=now, before=before)
    return channel


async def remove(session: AsyncSession, *, channel_id: UUID, actor: Actor, now: datetime) -> None:
    """Disconnect an account; its conversations are kept."""
    channel = await get(session, channel_id, lock=True)
    standing = await quota.standing(session, channel.tenant_id, now=now, lock=True)
    channel.deleted_at = now
    channel.state = "stopped"
    session.add(channel)
    await session.flush()
    connection = await driver(session)
    await connection.execute("DELETE FROM routes WHERE channel_id = $1", channel_id)
    # Visitors who are connected notice.
    hint(session, tenants.topic(channel.tenant_id))
    entries = await quota.crossed(session, standing, now=now)
    await _changed(session, channel, "channel.delete", actor=actor, now=now, entries=entries)


async def compiled(session: AsyncSession, keys: Keyring, instance_id: UUID) -> list[dict[str, Any]]:
    """The channels as the configuration document has them, secrets included."""
    query = select(Channel).where(*_living(instance_id)).order_by(col(Channel.id))
    return [
        configured(keys, channel.id, channel.kind, channel.name, channel.settings, channel.secrets)
        for channel in await session.exec(query)
    ]


def configured(
    keys: Keyring, channel_id: UUID, kind: str, name: str, shown: dict[str, Any], secrets: bytes
) -> dict[str, Any]:
    """One channel as the configuration document has it, secrets included."""
    return {
        "id": str(channel_id),
        "kind": kind,
        "name": name,
        "settings": shown | settings.unseal(keys, secrets),
    }


def _living(instance_id: UUID) -> tuple[Any, ...]:
    return (Channel.instance_id == instance_id, col(Channel.deleted_at).is_(None))


async def _add_route(session: AsyncSession, channel: Channel, kind: str, token: str) -> None:
    added = await (await driver(session)).execute(
        _ROUTE, fingerprint(token), kind, channel.tenant_id, channel.instance_id, channel.id
    )
    # A token says which channel is meant, so two channels cannot share one.
    if added != "INSERT 0 1":
        raise Conflict("setting_taken", "A secret like this is in use; leave it out.")


def _shown(channel: Channel) -> dict[str, Any]:
    """As the audit has it: that there is a secret, and never which."""
    kept = dict.fromkeys(settings.secret_names(settings.kind_of(channel.kind)), audit.MASK)
    return {
        "kind": channel.kind,
        "name": channel.name,
        "keep_raw": channel.keep_raw,
        "settings": channel.settings | kept,
    }


async def _changed(
    session: AsyncSession,
    channel: Channel,
    action: str,
    *,
    actor: Actor | None,
    now: datetime,
    before: dict[str, Any] | None = None,
    entries: Sequence[Entry] = (),
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=channel.tenant_id,
        action=action,
        target=("channel", channel.id),
        now=now,
        before=before,
        after=_shown(channel),
    )
    instances.note(
        session,
        tenant_id=channel.tenant_id,
        instance_id=channel.instance_id,
        event=action,
        message=f"channel {channel.name}: {action.removeprefix('channel.')}",
        now=now,
        data={"channel_id": str(channel.id), "kind": channel.kind},
    )
    await session.flush()
    await leases.call(session, instances.WORK, [(channel.instance_id, channel.tenant_id)])
    data = {"channel_id": str(channel.id), "action": action}
    told = Entry(type="channel.changed", data=data)
    await stream.append(session, channel.tenant_id, [told, *entries])
