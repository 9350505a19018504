"""Feishu's API as one application opens it: token, sends, media, and the way to the events."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
from msgspec import Struct

from adapters import platform
from adapters.base import Content
from adapters.feishu import codec, errors
from adapters.feishu.endpoint import Endpoint, EndpointError, endpoint
from adapters.feishu.outgoing import Call
from adapters.model import Ref
from adapters.platform import MEDIA_TIMEOUT_S, TIMEOUT_S, Cut, PlatformError
from adapters.token import STALE, Granted, Token

# What the platform gives of one resource.
MAX_RESOURCE_BYTES = 100 * 1024 * 1024
# A merged forward has up to a hundred messages of text.
MAX_MESSAGES_BYTES = 2 * 1024 * 1024
# No pause that the platform asks for is longer.
_MAX_RETRY_AFTER_S = 300.0


class _Bot(Struct):
    open_id: str = ""


class _Data(Struct):
    message_id: str = ""
    image_key: str = ""
    file_key: str = ""


class _Answer(Struct):
    code: int = 0
    tenant_access_token: str = ""
    expire: float = 0
    bot: _Bot | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")

    def told(self) -> _Data:
        """What a send or an upload came to; raises Cut where that cannot be read."""
        try:
            return msgspec.json.decode(self.data, type=_Data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise Cut from None


class Client:
    """Calls of one application; concurrent callers share one token, and one renewal of it."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        base_url: str,
        app_id: str,
        app_secret: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = base_url.rstrip("/")
        self._app_id = app_id
        self._app_secret = app_secret
        self._token = Token(self._new_token, clock=clock)

    async def look(self) -> None:
        """Whether the platform is there and the secret good; of no account to any quota."""
        await self._new_token()

    async def ready(self) -> None:
        """Have a token, so that the next call is the only one."""
        await self._token.current()

    async def bot_open_id(self) -> str:
        """Who we are where people mention us."""
        answer = await self._token.asked(lambda token: self._call("GET", "bot/v3/info", token))
        if answer.bot is None or not answer.bot.open_id:
            raise Cut
        return answer.bot.open_id

    async def endpoint(self) -> Endpoint:
        """A new address for a long connection; it is good once."""
        body = {"AppID": self._app_id, "AppSecret": self._app_secret}
        answer = await self._post_json("/callback/ws/endpoint", body, {"locale": "zh"})
        try:
            return endpoint(msgspec.json.decode(answer.data))
        except EndpointError:
            raise Cut from None

    async def send(self, call: Call) -> str:
        """One message; its id at the platform."""
        answer = await self._token.asked(
            lambda token: self._call(
                "POST",
                f"im/v1/{call.path}",
                token,
                query=call.query,
                body=msgspec.json.encode(call.body),
            )
        )
        return answer.told().message_id

    async def upload(self, kind: str, content: Content) -> str:
        """Keep bytes at the platform; their key there."""
        boundary = f"botyard-{content.sha256}"
        is_image = kind == "image"
        fields = (
            {"image_type": "message"}
            if is_image
            else {"file_type": kind, "file_name": content.name or "file"}
        )
        part = "image" if is_image else "file"
        body = _multipart(boundary, fields, part, content.body)
        answer = await self._token.asked(
            lambda token: self._call(
                "POST",
                "im/v1/images" if is_image else "im/v1/files",
                token,
                body=body,
                content_type=f"multipart/form-data; boundary={boundary}",
                timeout_s=MEDIA_TIMEOUT_S,
            )
        )
        told = answer.told()
        if not (key := told.image_key or told.file_key):
            raise Cut
        return key

    async def download(self, ref: Ref) -> AsyncGenerator[bytes]:
        """The bytes of something that a person sent."""
        if ref.via != codec.RESOURCE:
            raise PlatformError("sticker", "media_failed", "Feishu gives no pictures of stickers")
        token = await self._token.current()
        try:
            async with aclosing(self._bytes(ref, token)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        except PlatformError as error:
            if error.error_class not in STALE:
                raise
        # The token was refused before the first byte.
        self._token.drop(token)
        async with aclosing(self._bytes(ref, await self._token.current())) as chunks:
            async for chunk in chunks:
                yield chunk

    async def messages(self, message_id: str) -> bytes:
        """A message as the platform keeps it, with those that it forwards: its JSON."""
        answer = await self._token.asked(
            lambda token: self._call(
                "GET",
                f"im/v1/messages/{quote(message_id, safe='')}",
                token,
                max_bytes=MAX_MESSAGES_BYTES,
            )
        )
        return bytes(answer.data)

    async def _new_token(self) -> Granted:
        body = {"app_id": self._app_id, "app_secret": self._app_secret}
        path = "/open-apis/auth/v3/tenant_access_token/internal"
        answer = await self._post_json(path, body, {})
        return Granted(answer.tenant_access_token, answer.expire)

    # --- the calls ---

    async def _post_json(
        self, path: str, body: Mapping[str, str], headers: Mapping[str, str]
    ) -> _Answer:
        """The calls that need no token: they bring the secret."""
        headers = {"content-type": "application/json; charset=utf-8", **headers}
        encoded = msgspec.json.encode(body)
        async with platform.called(
            self._http, "POST", f"{self._url}{path}", body=encoded, headers=headers
        ) as response:
            return await _read(response)

    async def _call(
        self,
        method: str,
        path: str,
        token: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json; charset=utf-8",
        timeout_s: float = TIMEOUT_S,
        max_bytes: int = platform.MAX_ANSWER_BYTES,
    ) -> _Answer:
        async with self._response(
            method,
            path,
            token,
            query=query,
            body=body,
            headers={"content-type": content_type} if body is not None else {},
            timeout_s=timeout_s,
        ) as response:
            return await _read(response, max_bytes=max_bytes)

    async def _bytes(self, ref: Ref, token: str) -> AsyncGenerator[bytes]:
        message_id = quote(ref.more.get("message_id", ""), safe="")
        path = f"im/v1/messages/{message_id}/resources/{quote(ref.id, safe='')}"
        query = {"type": ref.more.get("resource_type", "file")}
        async with self._response(
            "GET", path, token, query=query, timeout_s=MEDIA_TIMEOUT_S
        ) as response:
            if response.status_code != 200:
                await _read(response)
                raise Cut
            async with aclosing(platform.chunks(response, max_bytes=MAX_RESOURCE_BYTES)) as chunks:
                async for chunk in chunks:
                    yield chunk

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        path: str,
        token: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> AsyncIterator[httpx2.Response]:
        async with platform.called(
            self._http,
            method,
            f"{self._url}/open-apis/{path}",
            query=query or None,
            body=body,
            headers={"authorization": f"Bearer {token}", **(headers or {})},
            timeout_s=timeout_s,
        ) as response:
            yield response


async def _read(
    response: httpx2.Response, *, max_bytes: int = platform.MAX_ANSWER_BYTES
) -> _Answer:
    """The platform's word, which also comes with 400; raises PlatformError for a no."""
    status = response.status_code
    if status >= 500:
        # Whatever stands before the platform gave up; the platform may have acted.
        raise Cut
    content = await platform.read(response, max_bytes=max_bytes)
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        if status < 400:
            raise Cut from None
        answer = _Answer(code=status)
    if answer.code != 0 or status >= 400:
        raise _refused(answer.code or status, status, response.headers)
    return answer


def _refused(code: int, status: int, headers: Mapping[str, str]) -> PlatformError:
    """The platform's no; its words may quote what was sent, so they are not kept."""
    error_class = errors.error_class(code, status=status)
    pause = headers.get("x-ogw-ratelimit-reset", "") if error_class == "rate_limited" else ""
    retry_after = min(float(pause), _MAX_RETRY_AFTER_S) if pause.isdecimal() else None
    return PlatformError(code, error_class, f"Feishu answered {code}", retry_after_s=retry_after)


def _multipart(boundary: str, fields: Mapping[str, Any], name: str, body: bytes) -> bytes:
    parts = []
    for field, value in fields.items():
        # A line's end would end the field.
        clean = "".join(each for each in str(value) if each.isprintable())
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n'
        parts.append(f"{head}{clean}\r\n".encode())
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n"
    )
    # One copy: thirty megabytes are not moved in no time.
    return b"".join([*parts, head.encode(), body, f"\r\n--{boundary}--\r\n".encode()])
