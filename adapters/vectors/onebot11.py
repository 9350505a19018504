"""Vectors of OneBot v11, through its adapter's codecs."""

from typing import Any

import msgspec

from adapters.model import ConversationKey, Inbound, RawCallback, Rejected, Segment
from adapters.onebot import callback, codec, cq, outgoing
from adapters.onebot.callback import signature
from adapters.onebot.codec import Answer, Ignored, Meta
from adapters.onebot.settings import Settings

Fields = dict[str, Any]


def _http_sign(given: Fields, expect: Fields) -> bool:
    return expect == {"X-Signature": signature(given["secret"], given["body"].encode())}


def _http_verify(given: Fields, expect: Fields) -> bool:
    request = _request("POST", given["headers"], given["body"])
    settings = _settings(request, transport="http", api_url="https://c", token=given["secret"])
    found = callback.verify(request, settings, now=0)
    return _refused(found if isinstance(found, Rejected) else None, expect)


def _ws_auth(given: Fields, expect: Fields) -> bool:
    handshake = _request("GET", given["headers"], "")
    settings = _settings(handshake, transport="reverse_websocket", token=given["access_token"])
    found = callback.admit(handshake, settings)
    seen = {"role": callback.role(handshake), "self_id": handshake.headers.get("x-self-id")}
    named = {name: expect[name] for name in seen if name in expect}
    return _refused(found, expect) and named.items() <= seen.items()


def _request(method: str, headers: dict[str, str], body: str) -> RawCallback:
    return RawCallback(
        method=method,
        path="/",
        query="",
        headers={name.lower(): value for name, value in headers.items()},
        body=body.encode(),
        received_at=0,
    )


def _settings(request: RawCallback, *, token: str, transport: str, api_url: str = "") -> Settings:
    return Settings.model_validate(
        {
            "self_id": request.headers.get("x-self-id"),
            "access_token": token,
            "transport": transport,
            "api_url": api_url,
        }
    )


def _refused(found: Rejected | None, expect: Fields) -> bool:
    if found is None:
        return bool(expect["accept"])
    return not expect["accept"] and found.status == expect["status"]


def _cq_parse(given: Fields, expect: Fields) -> bool:
    return bool(cq.parse(given["text"]) == expect["array"])


def _cq_build(given: Fields, expect: Fields) -> bool:
    return bool(cq.build(given["array"]) == expect["text"])


def _decoded(given: Fields, expect: Fields) -> bool:
    raw = codec.read(msgspec.json.encode(given["payload"]))
    found = raw if isinstance(raw, Rejected) else codec.decode(raw)
    return _holds(_normalized(found), expect["normalized"])


def _normalized(found: codec.Decoded | Rejected) -> Fields:
    """As the vectors write it."""
    built: Fields = msgspec.to_builtins(found)
    match found:
        case Inbound():
            return built | {
                "kind": "message",
                "timestamp": found.occurred_at,
                "mentions_bot": found.mentions_bot,
                "segments": [_segment(each) for each in built["segments"]],
            }
        case Meta():
            return built | {"kind": "meta"}
        case Ignored():
            return built | {"kind": "ignored"}
        case _:
            return built | {"kind": "dropped"}


def _segment(built: Fields) -> Fields:
    """The vectors put an address into the reference; for us it belongs to fetching."""
    ref = built.get("ref")
    if ref is None:
        return built
    return built | {"ref": {**{name: ref[name] for name in ("via", "id")}, **ref.get("more", {})}}


def _api(given: Fields, expect: Fields) -> bool:
    if "send" in expect:
        conversation = msgspec.convert(given["conversation"], ConversationKey)
        segments = msgspec.convert(given["segments"], list[Segment])
        parts = outgoing.split(segments)
        in_group = conversation.type == "group"
        messages = [outgoing.message(part, in_group=in_group) for part in parts]
        calls = [outgoing.send(conversation, {}, message) for message in messages]
        return bool([outgoing.framed(call, given["echo"]) for call in calls] == [expect["send"]])
    answer = codec.decode(given["recv"])
    if not isinstance(answer, Answer) or answer.echo != given["awaiting"]:
        return False
    failed = codec.failure(answer)
    if failed is not None:
        return bool(failed.name == expect.get("error"))
    found = {"message_id": codec.message_id(answer.data), "status": "accepted"}
    return "error" not in expect and expect.items() <= found.items()


def _holds(found: Any, expected: Any) -> bool:
    """Whether all that is expected is there; what is not listed is free."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            name in found and _holds(found[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(_holds, found, expected))
        )
    return bool(found == expected)


RUNS = {
    "http_sign": _http_sign,
    "http_verify": _http_verify,
    "ws_auth": _ws_auth,
    "cq_parse": _cq_parse,
    "cq_build": _cq_build,
    "inbound": _decoded,
    "meta": _decoded,
    "api": _api,
}
