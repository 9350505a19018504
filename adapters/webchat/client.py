"""The web-chat platform's API, as a channel's secret opens it."""

from typing import NoReturn

import httpx2
import msgspec

from adapters.base import ChannelRefused, Outgoing, SendFailed, SendUnknown, Sent
from adapters.outbound import Refused

# The platform is our own control plane; a healthy one answers in milliseconds.
TIMEOUT_S = 10.0

_ERROR_CLASSES = {401: "secret_invalid", 403: "secret_invalid", 404: "recipient_invalid"}


class _Taken(msgspec.Struct):
    id: str


class Client:
    """Two calls: is the account there, and post a message."""

    def __init__(self, http: httpx2.AsyncClient, base_url: str, secret: str) -> None:
        self._http = http
        self._url = f"{base_url.rstrip('/')}/webchat-platform"
        self._headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}

    async def account(self) -> None:
        """Raises ChannelRefused for settings that are wrong, httpx2.HTTPError for a bad day."""
        try:
            response = await self._http.get(
                f"{self._url}/account", headers=self._headers, timeout=TIMEOUT_S
            )
        except httpx2.InvalidURL as error:
            raise ChannelRefused("/base_url", "this is not an address") from error
        except Refused as refused:
            raise ChannelRefused("/base_url", str(refused)) from None
        if response.status_code in (401, 403):
            raise ChannelRefused("/secret", "the chat platform does not know this secret")
        response.raise_for_status()

    async def post(self, part: Outgoing) -> Sent:
        """One attempt; raises SendFailed or SendUnknown."""
        body = {
            "to": part.conversation.id,
            "key": part.idempotency_key,
            "segments": part.segments,
            "sender": part.author,
        }
        try:
            response = await self._http.post(
                f"{self._url}/messages",
                content=msgspec.json.encode(body),
                headers=self._headers,
                timeout=TIMEOUT_S,
            )
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            # No connection, so not a byte of the message left.
            raise SendFailed("server_busy", "the chat platform cannot be reached") from error
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except httpx2.TransportError as error:
            raise SendUnknown("the connection was cut") from error
        if response.status_code != 200:
            _refuse(response)
        try:
            return Sent(platform_message_id=msgspec.json.decode(response.content, type=_Taken).id)
        except msgspec.MsgspecError as error:
            raise SendUnknown("the chat platform's answer cannot be read") from error


def _refuse(response: httpx2.Response) -> NoReturn:
    status = response.status_code
    detail = f"the chat platform answered {status}"
    if status == 429:
        wait = response.headers.get("retry-after", "")
        raise SendFailed("rate_limited", detail, float(wait) if wait.isdecimal() else None)
    if status >= 500:
        raise SendFailed("server_busy", detail)
    raise SendFailed(_ERROR_CLASSES.get(status, "content_invalid"), detail)
