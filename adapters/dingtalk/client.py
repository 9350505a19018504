"""DingTalk's API as one application's secret opens it: token, stream, sends, media.

Tokens travel in addresses of the older API, and the addresses for replies are secrets themselves:
neither leaves this module (see `adapters.platform`).
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import msgspec
from msgspec import Struct

from adapters import platform
from adapters.base import Content
from adapters.dingtalk import frames, outgoing
from adapters.dingtalk.outgoing import MAX_FILE_BYTES, Body
from adapters.outbound import Refused
from adapters.platform import MEDIA_TIMEOUT_S, TIMEOUT_S, Cut, PlatformError
from adapters.token import STALE, Granted, Token

_TOKEN_PATH = "/v1.0/oauth2/accessToken"
_DOWNLOAD_PATH = "/v1.0/robot/messageFiles/download"
_TOKEN_HEADER = "x-acs-dingtalk-access-token"
_JSON = {"content-type": "application/json"}
_BLAMES_SECRET = STALE | {"content_invalid", "secret_invalid"}


class _Answer(Struct):
    """All that is read of any answer."""

    # The new API's refusals.
    code: str = ""
    # The older API's.
    errcode: int = 0
    accessToken: str = ""  # noqa: N815 - the platform's names
    expireIn: float = 0  # noqa: N815
    endpoint: str = ""
    ticket: str = ""
    processQueryKey: str = ""  # noqa: N815
    downloadUrl: str = ""  # noqa: N815
    media_id: str = ""
    invalidStaffIdList: list[str] | None = None  # noqa: N815
    flowControlledStaffIdList: list[str] | None = None  # noqa: N815
    filteredStaffIdList: list[str] | None = None  # noqa: N815


class Client:
    """Calls with one secret; concurrent callers share one token, and one renewal of it."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        api_url: str,
        oapi_url: str,
        client_id: str,
        client_secret: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._api, self._oapi = api_url.rstrip("/"), oapi_url.rstrip("/")
        self._id, self._secret = client_id, client_secret
        self._token = Token(self._new_token, clock=clock)

    async def look(self) -> None:
        """Whether the credentials are good; nothing changes by it."""
        await self._new_token()

    async def ready(self) -> None:
        """Have a token, so that the next call is the only one."""
        await self._token.current()

    async def open_stream(self) -> str:
        """The address of a connection that may be opened once, within 90 s."""
        body = frames.registration(self._id, self._secret)
        answer = await self._with_secret(frames.OPEN_PATH, body)
        if not answer.endpoint or not answer.ticket:
            raise Cut
        return frames.address(answer.endpoint, answer.ticket)

    async def send(self, path: str, body: Body) -> str:
        """By the robot's API; the platform's key of it."""
        answer = await self._token.asked(lambda token: self._post(path, token, body))
        why = outgoing.not_reached(msgspec.to_builtins(answer))
        if why is not None:
            # Taken, and given to nobody: there was one recipient.
            raise PlatformError(why, why, "DingTalk did not deliver it to this person")
        return answer.processQueryKey

    def takes_replies_at(self, address: str) -> bool:
        """Whether an address for replies is the platform's own: never another host."""
        try:
            asked, own = urlsplit(address), urlsplit(self._oapi)
            return bool(
                (asked.scheme, asked.hostname, asked.port) == (own.scheme, own.hostname, own.port)
                and asked.path.startswith("/robot/")
                and not asked.username
            )
        except ValueError:
            return False

    async def reply(self, address: str, body: Body) -> None:
        """By the address that came with a message."""
        content = msgspec.json.encode(body)
        async with self._response("POST", address, body=content, headers=_JSON) as response:
            await _read(response)

    async def upload(self, kind: str, content: Content) -> str:
        """Keep bytes at the platform; their id there."""
        boundary = f"botyard-{content.sha256}"
        body = _multipart(boundary, content)
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}

        async def ask(token: str) -> _Answer:
            query = {"access_token": token, "type": kind}
            url = f"{self._oapi}/media/upload"
            async with self._response(
                "POST", url, query=query, body=body, headers=headers, timeout_s=MEDIA_TIMEOUT_S
            ) as response:
                return await _read(response)

        answer = await self._token.asked(ask)
        if not answer.media_id:
            raise Cut
        return answer.media_id

    async def download(self, code: str, robot: str) -> AsyncGenerator[bytes]:
        """The bytes of something that a person sent, never more than a file may have."""
        body = {"downloadCode": code, "robotCode": robot}
        answer = await self._token.asked(lambda token: self._post(_DOWNLOAD_PATH, token, body))
        if not answer.downloadUrl:
            raise Cut
        try:
            async with platform.called(
                self._http, "GET", answer.downloadUrl, timeout_s=MEDIA_TIMEOUT_S
            ) as response:
                if response.status_code >= 500:
                    raise Cut
                if response.status_code != 200:
                    raise PlatformError(response.status_code, "media_failed", "the link is dead")
                async with aclosing(platform.chunks(response, max_bytes=MAX_FILE_BYTES)) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except Refused:
            raise PlatformError("address", "media_failed", "the link leads elsewhere") from None

    # --- the calls ---

    async def _new_token(self) -> Granted:
        body = {"appKey": self._id, "appSecret": self._secret}
        answer = await self._with_secret(_TOKEN_PATH, body)
        return Granted(answer.accessToken, answer.expireIn)

    async def _with_secret(self, path: str, body: Body) -> _Answer:
        """A call that proves itself by the secret: what blames a token blames that."""
        try:
            return await self._post(path, "", body)
        except PlatformError as error:
            # The rest of such a call is always the same.
            if error.error_class not in _BLAMES_SECRET:
                raise
            raise PlatformError(
                error.code, "secret_invalid", "DingTalk does not know this Client ID and Secret"
            ) from None

    async def _post(self, path: str, token: str, body: Body) -> _Answer:
        headers = {**_JSON, _TOKEN_HEADER: token} if token else _JSON
        async with self._response(
            "POST", f"{self._api}{path}", body=msgspec.json.encode(body), headers=headers
        ) as response:
            return await _read(response)

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> AsyncIterator[httpx2.Response]:
        """An answer that is the platform's; its body is still to come."""
        async with platform.called(
            self._http, method, url, query=query, body=body, headers=headers, timeout_s=timeout_s
        ) as response:
            if response.status_code >= 500:
                # Whatever stands before the platform gave up; the platform may have acted.
                raise Cut
            yield response


async def _read(response: httpx2.Response) -> _Answer:
    """The platform's word; raises PlatformError for a no."""
    status = response.status_code
    content = await platform.read(response)
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        if status == 200:
            raise Cut from None
        answer = _Answer()
    if status != 200:
        found = outgoing.refusal_class(status, answer.code)
        retry = _seconds(response.headers.get("retry-after"))
        name = _name(answer.code) or str(status)
        raise PlatformError(name, found, f"DingTalk answered {name}", retry_after_s=retry)
    if answer.errcode:
        detail = f"DingTalk answered {answer.errcode}"
        raise PlatformError(answer.errcode, outgoing.error_class(answer.errcode), detail)
    return answer


def _name(code: str) -> str:
    """A refusal's name, where it is no more than that."""
    plain = code.isascii() and code.replace(".", "").replace("_", "").isalnum()
    return code if plain and len(code) <= 80 else ""


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else None


def _multipart(boundary: str, content: Content) -> bytes:
    ending = content.content_type.rpartition("/")[2]
    name = f"file.{''.join(c for c in ending if c.isascii() and c.isalnum())[:10] or 'bin'}"
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="media"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + content.body + f"\r\n--{boundary}--\r\n".encode()
