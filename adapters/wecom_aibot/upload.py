"""A medium up the long connection, in pieces, one after the other."""

import asyncio
import base64
import hashlib
import re
from typing import TypeVar

import msgspec
from msgspec import Struct

from adapters.base import Content
from adapters.platform import Cut
from adapters.wecom_aibot.codec import CHUNK_BYTES, Frame
from adapters.wecom_aibot.connection import Connection


class _Begun(Struct):
    upload_id: str


class _Done(Struct):
    media_id: str


_Answer = TypeVar("_Answer", _Begun, _Done)


async def upload(connection: Connection, kind: str, content: Content) -> str:
    """The id of the medium, good for three days; raises PlatformError, Unreachable or Cut."""
    body = content.body
    begun = await connection.ask(
        "aibot_upload_media_init",
        {
            "type": kind,
            "filename": ascii_name(content.name),
            "total_size": len(body),
            "total_chunks": -(-len(body) // CHUNK_BYTES),
            "md5": await asyncio.to_thread(_digest, body),
        },
    )
    upload_id = _read(begun, _Begun).upload_id
    for index, start in enumerate(range(0, len(body), CHUNK_BYTES)):
        # From 0, as the platform's own kit does.
        await connection.ask(
            "aibot_upload_media_chunk",
            {
                "upload_id": upload_id,
                "chunk_index": index,
                "base64_data": base64.b64encode(body[start : start + CHUNK_BYTES]).decode(),
            },
        )
    done = await connection.ask("aibot_upload_media_finish", {"upload_id": upload_id})
    return _read(done, _Done).media_id


def ascii_name(name: str) -> str:
    """A name that every platform reads alike."""
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        stem, suffix = name, ""
    stem, suffix = (re.sub(r"[^A-Za-z0-9-]+", "_", part).strip("_") for part in (stem, suffix))
    ending = f".{suffix[:20]}" if suffix else ""
    return f"{stem[:80] or 'file'}{ending}"


def _digest(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _read(frame: Frame, kind: type[_Answer]) -> _Answer:
    try:
        return msgspec.json.decode(frame.body, type=kind)
    except (msgspec.MsgspecError, ValueError):
        raise Cut from None
