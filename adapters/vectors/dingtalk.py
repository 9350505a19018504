"""Vectors of DingTalk."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from pydantic import SecretStr

from adapters.dingtalk import callback, codec, frames, outgoing
from adapters.dingtalk.callback import Opened, unseal, verify
from adapters.dingtalk.codec import EXPIRES_AT, Own
from adapters.dingtalk.settings import API_URL, Settings
from adapters.model import RawCallback, Rejected, Segment
from adapters.vectors.holding import holds
from adapters.wx_aes import Envelope

Fields = dict[str, Any]


def _sign(given: Fields, expect: Fields) -> bool:
    signature = callback.sign(given["secret"], given["timestamp_ms"])
    return bool(
        signature == expect["sign"] and quote(signature, safe="") == expect["sign_urlencoded"]
    )


def _verify_http(given: Fields, expect: Fields) -> bool:
    settings = _settings(client_secret=given["app_secret"])
    now = given["now_ms"] / 1000
    found = verify(_request(headers=given["headers"]), settings, now=now)
    return isinstance(found, Rejected) != bool(expect["accept"])


def _callback_decrypt(given: Fields, expect: Fields) -> bool:
    settings = _settings(
        client_id=given["owner_key"],
        token=SecretStr(given["token"]),
        encoding_aes_key=SecretStr(given["aes_key"]),
    )
    request = _request(query=urlencode(given["query"]), body=given["body"].encode())
    opened = unseal(request, settings, now=int(given["query"]["timestamp"]) / 1000)
    return isinstance(opened, Opened) and opened.message == expect["plaintext"].encode()


def _callback_reply(given: Fields, expect: Fields) -> bool:
    envelope = Envelope(
        token=given["token"], encoding_aes_key=given["aes_key"], receive_id=given["owner_key"]
    )
    sealed = envelope.seal(
        given["plaintext"].encode(),
        timestamp=given["timestamp"],
        nonce=given["nonce"],
        random16=given["random16"].encode(),
    )
    return bool(callback.reply(sealed) == expect["json"])


def _stream_frame(given: Fields, expect: Fields) -> bool:
    if "client_id" in given:
        asked = frames.registration(given["client_id"], given["client_secret"])
        url = API_URL + frames.OPEN_PATH
        return ("POST", url) == (expect["method"], expect["url"]) and holds(
            asked, expect["json_contains"]
        )
    if "endpoint" in given:
        return bool(frames.address(given["endpoint"], given["ticket"]) == expect["url"])
    frame = frames.read(json.dumps(given["recv"]))
    if frame is None:
        return False
    answer = frames.answer(frame, safe=given.get("handler", "ok") == "ok")
    if expect["send"] is None:
        return answer is None and frame.is_goodbye == (expect.get("state") == "reconnect")
    if answer is None or frame.event_id != expect.get("dedupe_key", frame.event_id):
        return False
    sent = json.loads(answer)
    return holds(sent, expect["send"]) and json.loads(sent["data"]) == expect["send_data_json"]


def _inbound(given: Fields, expect: Fields) -> bool:
    frame = frames.read(json.dumps(given["frame"]))
    if frame is None or not frame.is_message:
        return False
    answer = json.loads(frames.answer(frame) or "{}")
    return holds(_normalized(codec.decode(frame.data)), expect["normalized"]) and holds(
        answer, expect["ack"]
    )


def _outbound(given: Fields, expect: Fields) -> bool:
    [part] = outgoing.split(msgspec.convert(given["segments"], list[Segment]))
    what = outgoing.message(part)
    if "session_webhook" in given:
        return expect["method"] == "POST" and holds(what.webhook, expect["json_contains"])
    if "user_ids" in given:
        [user_id] = given["user_ids"]
        path, body = outgoing.DIRECT_PATH, outgoing.direct(given["robot_code"], user_id, what)
    else:
        path = outgoing.GROUP_PATH
        body = outgoing.group(given["robot_code"], given["conversation_id"], what)
    wanted = dict(expect["json"])
    # These are JSON within JSON: what counts is what they say.
    for name in expect["json_string_fields"]:
        body[name], wanted[name] = json.loads(body[name]), json.loads(wanted[name])
    return API_URL + path == expect["url"] and body == wanted


def _settings(**changes: Any) -> Settings:
    given = {"transport": "callback", "client_id": "unused", "client_secret": "unused"}
    return Settings.model_validate(given | changes)


def _request(
    *, headers: dict[str, str] | None = None, query: str = "", body: bytes = b"{}"
) -> RawCallback:
    return RawCallback(
        method="POST", path="/", query=query, headers=headers or {}, body=body, received_at=0
    )


def _normalized(decoded: codec.Said | Own | Rejected) -> Fields:
    """As the vectors write it."""
    if isinstance(decoded, Rejected):
        return {"kind": "dropped", "reason": decoded.reason}
    if isinstance(decoded, Own):
        return {"kind": "echo"}
    message = decoded.message
    built: Fields = msgspec.to_builtins(message)
    handle = dict(message.reply_handle)
    return built | {
        "kind": "message",
        "timestamp": message.occurred_at,
        "mentions_bot": message.mentions_bot,
        "sender": built["sender"] | {"ids": decoded.ids},
        "segments": [_segment(each) for each in built["segments"]],
        # Handles are texts for us.
        "reply_handle": handle | {EXPIRES_AT: float(handle[EXPIRES_AT])},
    }


def _segment(built: Fields) -> Fields:
    """The vectors put what fetching needs beside the reference's id."""
    ref = built.get("ref")
    return built | ({"ref": ref | ref.get("more", {})} if ref else {})


RUNS = {
    "sign": _sign,
    "verify_http": _verify_http,
    "callback_decrypt": _callback_decrypt,
    "callback_reply": _callback_reply,
    "stream_frame": _stream_frame,
    "inbound": _inbound,
    "outbound": _outbound,
}
