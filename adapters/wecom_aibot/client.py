"""What goes over HTTP: media in, and late answers to callbacks.

Both addresses come with messages and open by themselves, so neither leaves this module.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
from msgspec import Struct

from adapters import platform
from adapters.model import Ref
from adapters.platform import MEDIA_TIMEOUT_S, Cut, PlatformError
from adapters.wecom_aibot import codec
from adapters.wecom_aibot.media import Unreadable, Unsealing
from adapters.wecom_aibot.settings import Settings

# Opened in a thread in pieces of this size: a thousandth of a second each.
_PIECE_BYTES = 1024 * 1024
# What a file may weigh once it is opened; the seal adds up to a block.
_MAX_SEALED_BYTES = codec.MAX_FILE_BYTES + 32
# Names kept from a fetch until its message is reported.
_MAX_NAMES = 200
_MAX_NAME = 200
_TOO_OFTEN = 45009


class _Answer(Struct):
    errcode: int = 0


class Client:
    """HTTP for one bot."""

    def __init__(self, http: httpx2.AsyncClient, settings: Settings) -> None:
        self._http = http
        self._base = settings.base_url.rstrip("/")
        key = settings.encoding_aes_key
        self._key = "" if key is None else key.get_secret_value()
        # A stand-in or a private deployment without certificates has none for its media, either.
        plain = f"{settings.base_url} {settings.websocket_url}"
        self._plain_hosts = {
            urlsplit(url).netloc for url in plain.split() if url.startswith(("http://", "ws://"))
        }
        self._names: OrderedDict[str, str] = OrderedDict()

    async def answer(self, url: str, body: Mapping[str, Any]) -> None:
        """Answer once more, at the address that came with the question.

        Raises PlatformError, Unreachable, Cut or Refused.
        """
        if not url.startswith(f"{self._base}/"):
            raise PlatformError("url", "reply_handle_invalid", "the address is not WeCom's")
        async with platform.called(
            self._http,
            "POST",
            url,
            body=msgspec.json.encode(body),
            headers={"content-type": "application/json"},
        ) as response:
            if response.status_code >= 500:
                raise Cut
            content = await platform.read(response)
            status = response.status_code
        if status == 429:
            raise PlatformError(_TOO_OFTEN, "rate_limited", f"WeCom answered {_TOO_OFTEN}")
        if status != 200:
            raise PlatformError(status, "reply_handle_invalid", f"WeCom answered {status}")
        try:
            errcode = msgspec.json.decode(content, type=_Answer).errcode
        except (msgspec.MsgspecError, ValueError):
            raise Cut from None
        if errcode != 0:
            error_class = codec.answer_class(errcode)
            raise PlatformError(errcode, error_class, f"WeCom answered {errcode}")

    async def download(self, ref: Ref) -> AsyncGenerator[bytes]:
        """The bytes of something that a person sent, opened."""
        if not self._may_fetch(ref.id):
            raise PlatformError("url", "media_failed", "the address is not safe")
        try:
            unsealing = Unsealing(ref.more.get("aeskey") or self._key)
            async with aclosing(self._pieces(ref.id)) as pieces:
                async for piece in pieces:
                    yield await asyncio.to_thread(unsealing.feed, piece)
            yield unsealing.end()
        except Unreadable as error:
            raise PlatformError("seal", "media_failed", str(error)) from None

    def name(self, url: str) -> str | None:
        """What the sender called it, known once it was fetched; told once."""
        return self._names.pop(url, None)

    def _may_fetch(self, url: str) -> bool:
        if url.startswith("https://"):
            return True
        return url.startswith("http://") and urlsplit(url).netloc in self._plain_hosts

    async def _pieces(self, url: str) -> AsyncGenerator[bytes]:
        async with platform.called(self._http, "GET", url, timeout_s=MEDIA_TIMEOUT_S) as response:
            if response.status_code >= 500:
                raise Cut
            if response.status_code != 200:
                raise PlatformError(response.status_code, "media_failed", "the medium is gone")
            self._note_name(url, response.headers.get("content-disposition", ""))
            gathered = bytearray()
            async with aclosing(platform.chunks(response, max_bytes=_MAX_SEALED_BYTES)) as chunks:
                async for chunk in chunks:
                    gathered += chunk
                    if len(gathered) >= _PIECE_BYTES:
                        yield bytes(gathered)
                        gathered.clear()
            if gathered:
                yield bytes(gathered)

    def _note_name(self, url: str, disposition: str) -> None:
        name = file_name(disposition)
        if name:
            self._names[url] = name
            if len(self._names) > _MAX_NAMES:
                self._names.popitem(last=False)


def file_name(disposition: str) -> str:
    """The name in a Content-Disposition, in any of its spellings; empty where there is none."""
    header = Message()
    try:
        header["content-disposition"] = disposition
        found = header.get_filename() or ""
    except (ValueError, LookupError):
        return ""
    return "".join(each for each in found if each.isprintable())[:_MAX_NAME]
