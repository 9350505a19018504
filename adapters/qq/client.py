"""QQ's API as one bot's secret opens it: token, sends, uploads, the way to the gateway."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import httpx2
import msgspec
from msgspec import Struct

from adapters import platform
from adapters.base import Content
from adapters.platform import MEDIA_TIMEOUT_S, TIMEOUT_S, Cut, PlatformError, Unreachable
from adapters.qq import outgoing
from adapters.qq.outgoing import Body, Target
from adapters.token import Granted, Token
from adapters.uploads import Kept

# What a person can send, and more than our store takes.
MAX_MEDIA_BYTES = 50 * 1024 * 1024
# A body of this size is written beside the loop: ten megabytes take it a tenth of a second.
_HEAVY_BYTES = 256 * 1024


class Gateway(NamedTuple):
    """Where the gateway is, and what is left of the logins of this period."""

    url: str
    logins_left: int
    more_after_s: float


class _Limit(Struct):
    remaining: int = 1
    reset_after: float = 0


class _Granted(Struct):
    access_token: str = ""
    # A number, or the same in quotes.
    expires_in: str | float = 0
    code: int = 0


class _Answer(Struct):
    code: int = 0
    id: str | int = ""
    url: str = ""
    session_start_limit: _Limit | None = None
    file_info: str = ""
    ttl: float = 0


def refused(http: int, code: int, *, retry_after_s: float | None = None) -> PlatformError:
    """The platform's no, without its words."""
    found = outgoing.error_class(http, code)
    said = code or http
    return PlatformError(said, found, f"QQ answered {said}", retry_after_s=retry_after_s)


class Client:
    """Calls of one bot; concurrent callers share one token, and one renewal of it."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        base_url: str,
        login_url: str,
        app_id: str,
        secret: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = base_url.rstrip("/")
        self._login_url = login_url.rstrip("/")
        self._app_id = app_id
        self._secret = secret
        self._token = Token(self._new_token, clock=clock)

    async def ready(self) -> str:
        """Have a token, so that the next call is the only one."""
        return await self._token.current()

    def drop(self, token: str) -> None:
        """The gateway does not take it."""
        self._token.drop(token)

    async def look(self) -> str:
        """Whether app and secret are good; the bot's own id within guilds."""
        return str((await self._asked("GET", "/users/@me")).id)

    async def gateway(self) -> Gateway:
        """The address to dial; raises Cut where there is none."""
        answer = await self._asked("GET", "/gateway/bot")
        if not answer.url:
            raise Cut
        limit = answer.session_start_limit or _Limit()
        return Gateway(answer.url, limit.remaining, limit.reset_after / 1000)

    async def send(self, to: Target, body: Body) -> str:
        """Post a message; its id, or nothing while people look at it first."""
        answer = await self._asked("POST", f"{to.path}/messages", msgspec.json.encode(body))
        return str(answer.id)

    async def send_picture(self, to: Target, body: Body, content: Content) -> str:
        """Post a message with its picture inside, as guilds take it."""
        boundary = f"botyard-{content.sha256}"
        multipart = _multipart(boundary, body, content)
        answer = await self._asked(
            "POST",
            f"{to.path}/messages",
            multipart,
            content_type=f"multipart/form-data; boundary={boundary}",
            timeout_s=MEDIA_TIMEOUT_S,
        )
        return str(answer.id)

    async def upload(self, to: Target, body: Body) -> Kept:
        """Have a medium kept; what a message names it by, and how long that is good for."""
        data = body.get("file_data", b"")
        if len(data) > _HEAVY_BYTES:
            packed = await asyncio.to_thread(msgspec.json.encode, body)
        else:
            packed = msgspec.json.encode(body)
        answer = await self._asked("POST", f"{to.path}/files", packed, timeout_s=MEDIA_TIMEOUT_S)
        if not answer.file_info:
            raise Cut
        return Kept(answer.file_info, answer.ttl)

    async def acknowledge(self, interaction_id: str) -> None:
        """Say that a button was heard, or it spins before the customer."""
        path = f"/interactions/{outgoing.in_path(interaction_id)}"
        await self._asked("PUT", path, b'{"code":0}')

    async def download(self, url: str) -> AsyncGenerator[bytes]:
        """The bytes of something that a person sent: its address is all that opens it."""
        if not url.startswith("https://") and not self._url.startswith("http://"):
            raise PlatformError("address", "media_failed", "the medium is not at an https address")
        async with platform.called(self._http, "GET", url, timeout_s=MEDIA_TIMEOUT_S) as response:
            if response.status_code >= 500:
                raise Cut
            if response.status_code != 200:
                status = response.status_code
                found = "rate_limited" if status == 429 else "media_failed"
                raise PlatformError(status, found, f"the medium is not there: {status}")
            async with aclosing(platform.chunks(response, max_bytes=MAX_MEDIA_BYTES)) as chunks:
                async for chunk in chunks:
                    yield chunk

    # --- the calls ---

    async def _new_token(self) -> Granted:
        body = msgspec.json.encode({"appId": self._app_id, "clientSecret": self._secret})
        url = f"{self._login_url}/app/getAppAccessToken"
        headers = {"content-type": "application/json"}
        async with platform.called(self._http, "POST", url, body=body, headers=headers) as response:
            http, content = response.status_code, await platform.read(response)
        if http >= 500:
            raise Unreachable
        granted = _decoded(content, _Granted)
        if granted is None:
            raise Unreachable if http == 200 else refused(http, 0)
        if not granted.access_token:
            # Whatever the code: it was asked for nothing but app and secret.
            code = granted.code or http
            found = outgoing.error_class(http, granted.code)
            passing = found in ("rate_limited", "server_busy", "ip_not_allowed")
            known = found if passing else "secret_invalid"
            raise PlatformError(code, known, f"QQ answered {code} to the login")
        try:
            return Granted(granted.access_token, float(granted.expires_in))
        except ValueError:
            raise Unreachable from None

    async def _asked(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        timeout_s: float = TIMEOUT_S,
    ) -> _Answer:
        async def ask(token: str) -> _Answer:
            headers = {"authorization": f"QQBot {token}", "x-union-appid": self._app_id}
            async with platform.called(
                self._http,
                method,
                self._url + path,
                body=body,
                headers=headers | ({"content-type": content_type} if body is not None else {}),
                timeout_s=timeout_s,
            ) as response:
                return await _read(response)

        return await self._token.asked(ask)


async def _read(response: httpx2.Response) -> _Answer:
    """The platform's word; raises PlatformError for a no, and Cut where nobody knows."""
    http, content = response.status_code, await platform.read(response)
    answer: _Answer | None = _decoded(content, _Answer) if content else _Answer()
    if answer is None and http < 300:
        raise Cut
    code = answer.code if answer is not None else 0
    found = outgoing.error_class(http, code)
    if found == "server_busy":
        # Whatever stands before the platform gave up; the platform may have acted.
        raise Cut
    if found == "async_audit":
        # Taken; people look at it before it is shown.
        return _Answer()
    if answer is None or found != "ok":
        raise refused(http, code, retry_after_s=_pause(response))
    return answer


def _decoded(content: bytes, type_: Any) -> Any:
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _pause(response: httpx2.Response) -> float | None:
    given = response.headers.get("retry-after", "")
    return float(given) if re.fullmatch(r"[0-9]{1,5}", given) else None


def _multipart(boundary: str, body: Body, content: Content) -> bytes:
    """Plain fields and the picture; what is more than a text goes as JSON."""
    parts = []
    for name, value in body.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts.append(f"{head}{text}\r\n".encode())
    suffix = content.content_type.rpartition("/")[2]
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="file_image"; filename="image.{suffix}"\r\n'
        f"Content-Type: {content.content_type}\r\n\r\n"
    )
    return b"".join([*parts, head.encode(), content.body, f"\r\n--{boundary}--\r\n".encode()])
