"""WeCom's API as one application's secret opens it: token, sends, media.

The token travels in the query, so no address, and no error of the HTTP library that may quote one,
leaves this module: every failure becomes PlatformError, Unreachable or Cut.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import httpx2
import msgspec
from msgspec import Struct, field

from adapters.base import Content
from adapters.wecom import codec

# One answer without media; a healthy platform needs a tenth of it.
TIMEOUT_S = 10.0
# Twenty megabytes over a slow line.
MEDIA_TIMEOUT_S = 25.0
# Answers are a few hundred bytes.
MAX_ANSWER_BYTES = 256 * 1024
# A token is renewed at this share of its life, and never later than this many seconds before its
# end: a call that sets out with it must still find it good.
RENEW_AT = 0.8
RENEW_BEFORE_S = 300.0

# Codes for what the platform says by other means: one recipient whom it does not know or who has
# no licence, and HTTP's own "too often".
_NOBODY = 81013
_UNLICENSED = 48002
_TOO_OFTEN = 45009
_NO_SUCH_MEDIA = 40007
_NOT_FOUND = 404

_STALE = frozenset({"token_invalid", "token_expired", "token_missing"})
_ADDRESS = re.compile(r"from ip: ?([0-9a-fA-F.:]{3,45})")

T = TypeVar("T")


class PlatformError(Exception):
    """The platform said no: nothing was done. `address` is what it saw us come from."""

    def __init__(self, errcode: int, message: str = "") -> None:
        super().__init__(f"WeCom answered {errcode}")
        self.errcode = errcode
        self.error_class = codec.error_class(errcode)
        found = _ADDRESS.search(message)
        self.address = found[1] if found else None


class Unreachable(Exception):
    """There was no connection: nothing was done."""


class Cut(Exception):
    """The call set out and no answer came that could be read: nobody knows."""


class _Answer(Struct):
    errcode: int = 0
    errmsg: str = ""
    access_token: str = ""
    expires_in: float = 0
    msgid: str = ""
    media_id: str = ""
    invaliduser: str = ""
    unlicenseduser: str = ""


class Token(Struct):
    """A token and until when to use it, by the clock that the client was given."""

    value: str = field(default="")
    until: float = 0.0


class Client:
    """Calls for one application. Concurrent callers share one token, and one renewal of it."""

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
        self._clock = clock
        self._token = Token()
        self._renewing = asyncio.Lock()

    async def look(self, agent_id: int) -> None:
        """Whether secret, address and application are good; nothing changes by it."""
        await self._asked(lambda token: self._get("agent/get", token, {"agentid": str(agent_id)}))

    async def ready(self) -> None:
        """Have a token, so that the next call is the only one."""
        await self._current()

    async def send(self, path: str, body: dict[str, Any]) -> str:
        """Post a message to one person or group; its id at the platform."""
        answer = await self._asked(
            lambda token: self._post(path, token, {}, msgspec.json.encode(body))
        )
        if answer.invaliduser:
            # Taken, and sent to nobody: there was one recipient.
            raise PlatformError(_NOBODY)
        if answer.unlicenseduser:
            raise PlatformError(_UNLICENSED)
        return answer.msgid

    async def upload(self, kind: str, content: Content) -> str:
        """Keep bytes at the platform for three days; their id there."""
        boundary = f"botyard-{content.sha256}"
        multipart = _multipart(boundary, content)
        answer = await self._asked(
            lambda token: self._post(
                "media/upload",
                token,
                {"type": kind},
                multipart,
                content_type=f"multipart/form-data; boundary={boundary}",
                timeout_s=MEDIA_TIMEOUT_S,
            )
        )
        if not answer.media_id:
            raise Cut
        return answer.media_id

    async def download(self, media_id: str) -> AsyncGenerator[bytes]:
        """The bytes of something that a person sent, never more than a file may have."""
        token = await self._current()
        try:
            async with aclosing(self._bytes(media_id, token)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        except PlatformError as error:
            if error.error_class not in _STALE:
                raise
        # The token was refused before the first byte.
        self._drop(token)
        async with aclosing(self._bytes(media_id, await self._current())) as chunks:
            async for chunk in chunks:
                yield chunk

    # --- the token ---

    async def _asked(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """Ask with the token; once more with a new one if the platform does not like it."""
        token = await self._current()
        try:
            return await ask(token)
        except PlatformError as error:
            if error.error_class not in _STALE:
                raise
        self._drop(token)
        return await ask(await self._current())

    async def _current(self) -> str:
        async with self._renewing:
            if self._clock() >= self._token.until:
                self._token = await self._new_token()
            return self._token.value

    async def _new_token(self) -> Token:
        query = {"corpid": self._corp_id, "corpsecret": self._secret}
        asked_at = self._clock()
        try:
            answer = await self._call("GET", "gettoken", query)
        except Cut:
            # What the token was for has not been asked yet.
            raise Unreachable from None
        if not answer.access_token:
            raise Unreachable
        life = answer.expires_in
        kept_s = max(min(life * RENEW_AT, life - RENEW_BEFORE_S), 0.0)
        return Token(value=answer.access_token, until=asked_at + kept_s)

    def _drop(self, token: str) -> None:
        # Another caller may have renewed it already.
        if self._token.value == token:
            self._token = Token()

    # --- the calls ---

    async def _get(self, path: str, token: str, query: dict[str, str]) -> _Answer:
        return await self._call("GET", path, {"access_token": token, **query})

    async def _post(
        self,
        path: str,
        token: str,
        query: dict[str, str],
        body: bytes,
        *,
        content_type: str = "application/json",
        timeout_s: float = TIMEOUT_S,
    ) -> _Answer:
        return await self._call(
            "POST",
            path,
            {"access_token": token, **query},
            body=body,
            headers={"content-type": content_type},
            timeout_s=timeout_s,
        )

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> _Answer:
        async with self._response(
            method, path, query, body=body, headers=headers, timeout_s=timeout_s
        ) as response:
            return await _read(response)

    async def _bytes(self, media_id: str, token: str) -> AsyncGenerator[bytes]:
        query = {"access_token": token, "media_id": media_id}
        async with self._response("GET", "media/get", query, timeout_s=MEDIA_TIMEOUT_S) as response:
            if "json" in response.headers.get("content-type", "json"):
                await _read(response)
                raise Cut
            size = 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > codec.MAX_FILE_BYTES:
                    raise PlatformError(_NO_SUCH_MEDIA)
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
        """A 200 whose body is still to come. None of the library's errors gets out."""
        try:
            async with self._http.stream(
                method,
                f"{self._url}/{path}",
                params=query,
                content=body,
                # Packed answers could grow without end while they are unpacked.
                headers={"accept-encoding": "identity", **(headers or {})},
                timeout=timeout_s,
            ) as response:
                if response.status_code >= 500:
                    # Whatever stands before the platform gave up; the platform may have acted.
                    raise Cut
                if response.status_code != 200:
                    raise PlatformError(_TOO_OFTEN if response.status_code == 429 else _NOT_FOUND)
                yield response
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            raise Unreachable from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
            raise Unreachable from None
        except httpx2.HTTPError:
            raise Cut from None


async def _read(response: httpx2.Response) -> _Answer:
    """The platform's word; raises PlatformError for a no."""
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise Cut
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except (msgspec.MsgspecError, ValueError):
        raise Cut from None
    if answer.errcode != 0:
        raise PlatformError(answer.errcode, answer.errmsg)
    return answer


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
