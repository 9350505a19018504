"""WeCom's API as one secret opens it: token, sends, media.

The token travels in the query, so no address leaves this module: see `adapters.platform`.
"""

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import httpx2
import msgspec
from msgspec import Struct

from adapters import platform, wx_json
from adapters.base import Content
from adapters.platform import (
    MAX_ANSWER_BYTES,
    MEDIA_TIMEOUT_S,
    TIMEOUT_S,
    Cut,
    PlatformError,
)
from adapters.token import STALE, Granted, Token
from adapters.wecom import codec

# Codes for what the platform says by other means: one recipient whom it does not know or who has
# no licence, and HTTP's own "too often".
_NOBODY = 81013
_UNLICENSED = 48002
_TOO_OFTEN = 45009
_NOT_FOUND = 404

_ADDRESS = re.compile(r"from ip: ?([0-9a-fA-F.:]{3,45})")


def refused(errcode: int, message: str = "") -> PlatformError:
    """The platform's no. The one thing kept of its words: where it saw us come from."""
    found = _ADDRESS.search(message)
    error = PlatformError(errcode, codec.error_class(errcode), f"WeCom answered {errcode}")
    error.address = found[1] if found else None
    return error


class Answer(Struct):
    """What every answer of WeCom has."""

    errcode: int = 0
    errmsg: str = ""


A = TypeVar("A", bound=Answer)


class _Answer(Answer):
    access_token: str = ""
    expires_in: float = 0
    msgid: str = ""
    media_id: str = ""
    invaliduser: str = ""
    unlicenseduser: str = ""


class Client:
    """Calls with one secret; concurrent callers share one token, and one renewal of it."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        base_url: str,
        corp_id: str,
        secret: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = f"{base_url.rstrip('/')}/cgi-bin"
        self._corp_id = corp_id
        self._secret = secret
        self._token = Token(self._new_token, clock=clock)

    async def look(self, agent_id: int) -> None:
        """Whether secret, address and application are good; nothing changes by it."""
        await self._token.asked(
            lambda token: self._get("agent/get", token, {"agentid": str(agent_id)})
        )

    async def ready(self) -> None:
        """Have a token, so that the next call is the only one."""
        await self._token.current()

    async def ask(
        self, path: str, body: dict[str, Any], of: type[A], *, max_bytes: int = MAX_ANSWER_BYTES
    ) -> A:
        """Post a question; its answer, which holds at most so many bytes."""
        content = msgspec.json.encode(body)
        return await self._token.asked(
            lambda token: self._post(path, token, {}, content, of, max_bytes=max_bytes)
        )

    async def send(self, path: str, body: dict[str, Any]) -> str:
        """Post a message to one person or group; its id at the platform."""
        answer = await self.ask(path, body, _Answer)
        if answer.invaliduser:
            # Taken, and sent to nobody: there was one recipient.
            raise refused(_NOBODY)
        if answer.unlicenseduser:
            raise refused(_UNLICENSED)
        return answer.msgid

    async def upload(self, kind: str, content: Content) -> str:
        """Keep bytes at the platform for three days; their id there."""
        boundary = f"botyard-{content.sha256}"
        multipart = _multipart(boundary, content)
        answer = await self._token.asked(
            lambda token: self._post(
                "media/upload",
                token,
                {"type": kind},
                multipart,
                _Answer,
                content_type=f"multipart/form-data; boundary={boundary}",
                timeout_s=MEDIA_TIMEOUT_S,
            )
        )
        if not answer.media_id:
            raise Cut
        return answer.media_id

    async def download(self, media_id: str) -> AsyncGenerator[bytes]:
        """The bytes of something that a person sent, never more than a file may have."""
        token = await self._token.current()
        try:
            async with aclosing(self._bytes(media_id, token)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        except PlatformError as error:
            if error.error_class not in STALE:
                raise
        # The token was refused before the first byte.
        self._token.drop(token)
        async with aclosing(self._bytes(media_id, await self._token.current())) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _new_token(self) -> Granted:
        query = {"corpid": self._corp_id, "corpsecret": self._secret}
        answer = await self._call("GET", "gettoken", query, _Answer)
        return Granted(answer.access_token, answer.expires_in)

    # --- the calls ---

    async def _get(self, path: str, token: str, query: dict[str, str]) -> _Answer:
        return await self._call("GET", path, {"access_token": token, **query}, _Answer)

    async def _post(
        self,
        path: str,
        token: str,
        query: dict[str, str],
        body: bytes,
        of: type[A],
        *,
        content_type: str = "application/json",
        timeout_s: float = TIMEOUT_S,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> A:
        return await self._call(
            "POST",
            path,
            {"access_token": token, **query},
            of,
            body=body,
            headers={"content-type": content_type},
            timeout_s=timeout_s,
            max_bytes=max_bytes,
        )

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        of: type[A],
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> A:
        async with self._response(
            method, path, query, body=body, headers=headers, timeout_s=timeout_s
        ) as response:
            return await _read(response, of, max_bytes)

    async def _bytes(self, media_id: str, token: str) -> AsyncGenerator[bytes]:
        query = {"access_token": token, "media_id": media_id}
        async with self._response("GET", "media/get", query, timeout_s=MEDIA_TIMEOUT_S) as response:
            if "json" in response.headers.get("content-type", "json"):
                await _read(response, Answer, MAX_ANSWER_BYTES)
                raise Cut
            async with aclosing(
                platform.chunks(response, max_bytes=codec.MAX_FILE_BYTES)
            ) as chunks:
                async for chunk in chunks:
                    yield chunk

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float,
    ) -> AsyncIterator[httpx2.Response]:
        """A 200 whose body is still to come."""
        async with platform.called(
            self._http,
            method,
            f"{self._url}/{path}",
            query=query,
            body=body,
            headers=headers,
            timeout_s=timeout_s,
        ) as response:
            if response.status_code >= 500:
                # Whatever stands before the platform gave up; the platform may have acted.
                raise Cut
            if response.status_code != 200:
                raise refused(_TOO_OFTEN if response.status_code == 429 else _NOT_FOUND)
            yield response


async def _read(response: httpx2.Response, of: type[A], max_bytes: int) -> A:
    """The platform's word; raises PlatformError for a no."""
    content = await platform.read(response, max_bytes=max_bytes)
    try:
        answer = _decoded(content, of)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Cut from None
    if answer.errcode != 0:
        raise refused(answer.errcode, answer.errmsg)
    return answer


def _decoded(content: bytes, of: type[A]) -> A:
    try:
        return msgspec.json.decode(content, type=of)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(wx_json.mended(content), type=of)


def _multipart(boundary: str, content: Content) -> bytes:
    name = _ascii_name(content.name)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="media"; filename="{name}"; '
        f"filelength={len(content.body)}\r\n"
        f"Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + content.body + f"\r\n--{boundary}--\r\n".encode()


def _ascii_name(name: str) -> str:
    """A name that no header can trip over; the platform reads others wrongly."""
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        stem, suffix = name, ""
    stem, suffix = (re.sub(r"[^A-Za-z0-9-]+", "_", part).strip("_") for part in (stem, suffix))
    ending = f".{suffix[:20]}" if suffix else ""
    return f"{stem[:80] or 'file'}{ending}"
