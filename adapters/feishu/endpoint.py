"""Where Feishu's long connection is, and how it wants to be kept; pure."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct, field


class EndpointError(ValueError):
    """Not an address of a long connection."""


class ClientConfig(Struct, frozen=True, rename="pascal"):
    """What the platform would like of its clients, in seconds; -1 tries are as many as it takes."""

    reconnect_count: int = -1
    reconnect_interval: float = 120
    reconnect_nonce: float = 30
    ping_interval: float = 120


class Endpoint(Struct, frozen=True, kw_only=True):
    """One connection's address; it holds a ticket, so it is shown to nobody."""

    url: str
    device_id: str
    service_id: int
    config: ClientConfig


class _Data(Struct):
    url: str = field(name="URL", default="")
    client_config: ClientConfig | None = field(name="ClientConfig", default=None)


def endpoint(data: Any) -> Endpoint:
    """From the `data` of the platform's answer; raises EndpointError."""
    try:
        found = msgspec.convert(data, _Data)
        query = parse_qs(urlsplit(found.url).query)
        return Endpoint(
            url=found.url,
            device_id=query.get("device_id", [""])[0],
            service_id=int(query["service_id"][0]),
            config=found.client_config or ClientConfig(),
        )
    except (msgspec.ValidationError, KeyError, ValueError):
        raise EndpointError("there is no address in it") from None


def client_config(payload: bytes) -> ClientConfig | None:
    """The wishes that a pong may bring; None where it brings none that can be read."""
    try:
        return msgspec.json.decode(payload, type=ClientConfig)
    except (msgspec.MsgspecError, RecursionError):
        return None
