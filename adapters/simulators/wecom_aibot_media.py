"""The AI bot's media on the platform's side: sealed for us, and taken from us in pieces."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from starlette.responses import Response

# The scheme pads to 32 bytes; the library counts in bits.
_PAD_BITS = 32 * 8
_MB = 1024 * 1024
_LIMITS = {"image": 10 * _MB, "voice": 2 * _MB, "video": 10 * _MB, "file": 20 * _MB}
_BEGINNINGS = {"image": (b"\xff\xd8", b"\x89PNG"), "voice": (b"#!AMR",)}
_CHUNK = 512 * 1024


def seal(content: bytes, key: str) -> bytes:
    """What lies behind a medium's address."""
    raw = base64.b64decode(key)
    padder = padding.PKCS7(_PAD_BITS).padder()
    encryptor = Cipher(algorithms.AES(raw), modes.CBC(raw[:16])).encryptor()
    return encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()


class Kept:
    """What customers sent, behind addresses that open by themselves."""

    def __init__(self) -> None:
        self._sealed: dict[str, tuple[bytes, str]] = {}

    def keep(self, content: bytes, key: str, *, name: str) -> tuple[str, str]:
        """Its id, and its own key where none is given."""
        own = "" if key else base64.b64encode(secrets.token_bytes(32)).decode()
        medium_id = secrets.token_urlsafe(16)
        self._sealed[medium_id] = (seal(content, key or own), name)
        return medium_id, own.rstrip("=")

    def answer(self, medium_id: str) -> Response:
        sealed, name = self._sealed.get(medium_id, (b"", ""))
        if not sealed:
            return Response("gone", 404)
        quoted = "".join(f"%{byte:02X}" for byte in name.encode())
        given = {"content-disposition": f"attachment; filename*=UTF-8''{quoted}"} if name else {}
        return Response(sealed, media_type="application/octet-stream", headers=given)

    def forget(self) -> None:
        """All addresses are dead: they live for five minutes."""
        self._sealed.clear()


@dataclass(kw_only=True)
class Medium:
    """One upload, begun or done."""

    kind: str
    name: str
    size: int
    chunks: int
    md5: str
    pieces: dict[int, bytes] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces[index] for index in sorted(self.pieces))


class Uploads:
    """The three steps of an upload; each raises ValueError for what the platform refuses."""

    def __init__(self) -> None:
        self.done: dict[str, Medium] = {}
        self._begun: dict[str, Medium] = {}

    def take(self, cmd: str, body: dict[str, Any]) -> dict[str, Any]:
        match cmd.removeprefix("aibot_upload_media_"):
            case "init":
                return {"upload_id": self._begin(body)}
            case "chunk":
                piece = base64.b64decode(body["base64_data"], validate=True)
                if len(piece) > _CHUNK:
                    raise ValueError("the piece is too large")
                self._begun[body["upload_id"]].pieces[body["chunk_index"]] = piece
                return {}
            case "finish":
                return self._finish(body["upload_id"])
            case _:
                raise ValueError("unknown step")

    def _begin(self, body: dict[str, Any]) -> str:
        kind, size, chunks = body["type"], body["total_size"], body["total_chunks"]
        if kind not in _LIMITS or not 5 < size <= _LIMITS[kind] or not 0 < chunks <= 100:
            raise ValueError("invalid media size")
        upload_id = secrets.token_hex(8)
        self._begun[upload_id] = Medium(
            kind=kind, name=body["filename"], size=size, chunks=chunks, md5=body.get("md5", "")
        )
        return upload_id

    def _finish(self, upload_id: str) -> dict[str, Any]:
        medium = self._begun.pop(upload_id)
        body = medium.body
        whole = sorted(medium.pieces) == list(range(medium.chunks)) and len(body) == medium.size
        digest = hashlib.md5(body).hexdigest()  # noqa: S324 - their check
        if not whole or digest != medium.md5:
            raise ValueError("the upload is not whole")
        if not body.startswith(_BEGINNINGS.get(medium.kind, (b"",))):
            raise ValueError("invalid file type")
        media_id = secrets.token_urlsafe(16)
        self.done[media_id] = medium
        return {"type": medium.kind, "media_id": media_id, "created_at": 0}
