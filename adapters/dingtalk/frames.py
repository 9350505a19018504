"""The frames of DingTalk's stream, and how a connection is asked for; pure."""

from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import Struct

OPEN_PATH = "/v1.0/gateway/connections/open"
BOT_TOPIC = "/v1.0/im/bot/messages/get"
# Messages of the robot, and the company's events. Cards' buttons are somebody else's to hear.
_SUBSCRIPTIONS = [{"topic": "*", "type": "EVENT"}, {"topic": BOT_TOPIC, "type": "CALLBACK"}]
_AGENT = "botyard-sdk-python/1"


class _Headers(Struct):
    topic: str = ""
    messageId: str = ""  # noqa: N815 - the platform's name
    eventId: str = ""  # noqa: N815


class _Frame(Struct):
    type: str
    headers: _Headers | None = None
    # As one sample of the platform's has it.
    header: _Headers | None = None
    data: str = ""


class Frame(NamedTuple):
    """One frame that came; `data` is JSON in a text."""

    type: str
    topic: str
    message_id: str
    event_id: str
    data: str

    @property
    def is_message(self) -> bool:
        return self.type == "CALLBACK" and self.topic == BOT_TOPIC

    @property
    def is_goodbye(self) -> bool:
        """The platform closes this connection in ten seconds; another is to be opened."""
        return self.type == "SYSTEM" and self.topic == "disconnect"


def registration(client_id: str, client_secret: str) -> dict[str, Any]:
    """What asks for an address and a ticket for it."""
    return {
        "clientId": client_id,
        "clientSecret": client_secret,
        "subscriptions": _SUBSCRIPTIONS,
        "ua": _AGENT,
        "localIp": "",
    }


def address(endpoint: str, ticket: str) -> str:
    """Where to connect; a ticket is good for one connection within 90 s."""
    return f"{endpoint}?ticket={quote(ticket, safe='')}"


def read(raw: str | bytes) -> Frame | None:
    """None for what is no frame; never raises."""
    try:
        found = msgspec.json.decode(raw, type=_Frame)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    headers = found.headers or found.header or _Headers()
    return Frame(found.type, headers.topic, headers.messageId, headers.eventId, found.data)


def answer(frame: Frame, *, safe: bool = True) -> str | None:
    """What the platform hears; None where it must hear nothing. `safe`: whether we have it."""
    if frame.is_goodbye:
        return None
    if frame.type == "SYSTEM":
        if frame.topic == "ping":
            return _answer(frame, 200, frame.data)
        return _answer(frame, 404, "{}")
    if frame.type == "EVENT":
        status: Literal["SUCCESS", "LATER"] = "SUCCESS" if safe else "LATER"
        return _answer(frame, 200, _json({"status": status, "message": status.lower()}))
    if frame.is_message:
        return _answer(frame, 200 if safe else 500, '{"response": null}')
    return _answer(frame, 404, '{"response": null}')


def _answer(frame: Frame, code: int, data: str) -> str:
    return _json(
        {
            "code": code,
            "headers": {"contentType": "application/json", "messageId": frame.message_id},
            "message": "OK" if code == 200 else "not taken",
            "data": data,
        }
    )


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
