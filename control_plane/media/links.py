"""Links to stored bytes: an opaque token, signed for one purpose and one object, for a while.

Whoever holds a link may use it. It is the same for some minutes, so that browsers can keep what
they have fetched already. Paths are relative to wherever the API was reached.
"""

import base64
import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal
from uuid import UUID

from itsdangerous import BadData, URLSafeSerializer

from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Forbidden, not_found
from control_plane.media.service import Playback

# How long a link works at least: a page is open, a large file is on its way.
LINK_LIFE = timedelta(minutes=10)
# Links made within this are one and the same.
_STEP_S = 300

Purpose = Literal["upload", "download"]

_NOBODY = UUID(int=0)

_FORM = struct.Struct(">Q16s16s")


@dataclass(frozen=True, kw_only=True)
class Link:
    """A path, and when it stops working."""

    path: str
    expires_at: datetime


def make(
    keys: Keyring, purpose: Purpose, *, tenant_id: UUID, media_id: UUID, now: datetime
) -> Link:
    """A link to one object for one purpose."""
    until = -(-int((now + LINK_LIFE).timestamp()) // _STEP_S) * _STEP_S
    payload = base64.urlsafe_b64encode(_FORM.pack(until, tenant_id.bytes, media_id.bytes)).decode()
    token = _serializer(keys, purpose).dumps(payload)
    text = token if isinstance(token, str) else token.decode()
    return Link(path=f"/media/{text}", expires_at=datetime.fromtimestamp(until, now.tzinfo))


def read(keys: Keyring, purpose: Purpose, token: str, *, now: datetime) -> tuple[UUID, UUID]:
    """(tenant, media) of a token; NotFound for one that is not ours, Forbidden for an old one."""
    try:
        payload = _serializer(keys, purpose).loads(token)
        until, tenant, media = _FORM.unpack(base64.urlsafe_b64decode(payload))
    except (BadData, ValueError, struct.error):
        raise not_found("link") from None
    if now.timestamp() > until:
        raise Forbidden("link_expired", "This link has expired; ask for a new one.")
    return UUID(bytes=tenant), UUID(bytes=media)


def voices(segments: Iterable[dict[str, Any]]) -> Iterator[UUID]:
    """The ids of the voices that are ours, quoted ones too."""
    for segment in segments:
        if segment["type"] == "voice" and (media_id := _ours(segment.get("ref"))):
            yield media_id
        yield from voices(segment.get("quoted") or ())


def dressed(
    keys: Keyring,
    segments: list[dict[str, Any]],
    *,
    tenant_id: UUID,
    now: datetime,
    playback: Mapping[UUID, Playback] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Segments as people get them: beside each of our refs the link to its bytes.

    A voice that no browser plays as it came says how far the one is that it does play.
    """

    def link(ref: Any) -> str | None:
        media_id = _ours(ref)
        if media_id is None:
            return None
        return make(keys, "download", tenant_id=tenant_id, media_id=media_id, now=now).path

    def played(segment: dict[str, Any]) -> dict[str, Any]:
        known = playback.get(_ours(segment.get("ref")) or _NOBODY)
        if segment["type"] != "voice" or known is None:
            return {}
        original = f"{link(segment['ref'])}?original=true"
        return {"playback": asdict(known) | {"original_url": original}}

    shown = []
    for segment in segments:
        more: dict[str, Any] = {
            name: path
            for name, ref in (("url", segment.get("ref")), ("thumb_url", segment.get("thumb")))
            if (path := link(ref)) is not None
        }
        if segment.get("quoted"):
            more["quoted"] = dressed(
                keys, segment["quoted"], tenant_id=tenant_id, now=now, playback=playback
            )
        shown.append(segment | more | played(segment))
    return shown


def _ours(ref: Any) -> UUID | None:
    """The id of an object of ours; None for what a platform keeps."""
    if not isinstance(ref, dict) or ref.get("via") != "media":
        return None
    try:
        return UUID(ref["id"])
    except ValueError:
        return None


def _serializer(keys: Keyring, purpose: Purpose) -> URLSafeSerializer:
    salt = f"media.{purpose}.v1"
    return URLSafeSerializer(
        keys.derive(salt)[::-1],  # itsdangerous wants the oldest key first
        salt=salt,
        signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
    )
