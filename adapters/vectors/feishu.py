"""Vectors of Feishu: callbacks, frames, events and sends run through its adapter's codecs."""

import base64
import json
from typing import Any

import msgspec
from pydantic import SecretStr

from adapters.base import Outgoing
from adapters.feishu import codec, endpoint, errors, frames, outgoing, sealing
from adapters.feishu.callback import verify
from adapters.feishu.codec import Pressed, Said
from adapters.feishu.frames import Assembly, Frame
from adapters.feishu.settings import Settings
from adapters.model import Challenge, ConversationKey, RawCallback, Rejected, Reply, Segment
from adapters.vectors.holding import holds

Fields = dict[str, Any]

# The application that all events of the platform's documents are for.
APP_ID = "cli_9f5343c580712544"


def _decrypt(given: Fields, expect: Fields) -> bool:
    plain = sealing.decrypt(given["encrypt_key"], given["encrypt"])
    return bool(plain == expect["plaintext"].encode())


def _key(given: Fields, expect: Fields) -> bool:
    return bool(sealing.aes_key(given["encrypt_key"]).hex() == expect["aes_key_hex"])


def _signature(given: Fields, expect: Fields) -> bool:
    body = given["body"].encode()
    found = sealing.sign(given["encrypt_key"], given["timestamp"], given["nonce"], body)
    return bool(found == expect["signature"])


def _card_signature(given: Fields, expect: Fields) -> bool:
    token, body = given["verification_token"], given["body"].encode()
    found = sealing.sign_card(token, given["timestamp"], given["nonce"], body)
    return bool(found == expect["signature"])


def _webhook(given: Fields, expect: Fields) -> bool:
    key = given["encrypt_key"]
    settings = Settings(
        transport="callback",
        app_id=APP_ID,
        app_secret=SecretStr("unused"),
        verification_token=SecretStr(given["verification_token"]),
        encrypt_key=SecretStr(key) if key else None,
    )
    headers = {name.lower(): value for name, value in given["headers"].items()}
    now = _now(given, headers)
    request = RawCallback(
        method="POST",
        path="/",
        query="",
        headers=headers,
        body=given["body"].encode(),
        received_at=now,
    )
    found = verify(request, settings, now=now)
    if isinstance(found, Rejected):
        return expect.get("accept") is False
    if expect.get("accept") is False or found.answer.status != expect["status"]:
        return False
    wanted = expect.get("json")
    is_challenge = isinstance(found, Challenge)
    return is_challenge == (wanted is not None) and (
        wanted is None or json.loads(found.answer.body) == wanted
    )


def _now(given: Fields, headers: dict[str, str]) -> float:
    """When the request says that it was made."""
    if "now" in given:
        return float(given["now"])
    if stamp := headers.get("x-lark-request-timestamp"):
        return float(stamp)
    created = json.loads(given["body"]).get("header", {}).get("create_time", "0")
    return float(created) / 1000


def _inbound(given: Fields, expect: Fields) -> bool:
    payload = json.dumps(given["payload"]).encode()
    decoded = codec.decode(payload, app_id=APP_ID, bot_open_id=given.get("bot_open_id", ""))
    return holds(_normalized(decoded), expect["normalized"])


def _normalized(decoded: codec.Decoded | Rejected) -> Fields:
    """As the vectors write it."""
    if isinstance(decoded, Rejected):
        return {"kind": "dropped", "reason": decoded.reason}
    built: Fields = msgspec.to_builtins(decoded)
    if isinstance(decoded, Said):
        message: Fields = built["message"]
        return message | {
            "kind": "message",
            "event_id": decoded.event_id,
            "timestamp": decoded.message.occurred_at,
            "sender": message["sender"] | {"ids": decoded.sender_ids},
            "mentions_bot": decoded.message.mentions_bot,
            "segments": [_segment(each) for each in message["segments"]],
            **message["reply_handle"],
        }
    if isinstance(decoded, Pressed):
        return built | {
            "kind": "notice",
            "sender": {"id": decoded.sender_id},
            "conversation": {"id": decoded.chat_id},
            "reply_deadline_s": codec.DEADLINE_S,
        }
    return built | {"kind": "notice"}


def _segment(built: Fields) -> Fields:
    """The vectors write what fetching needs beside the id."""
    flat = {
        name: {"via": ref["via"], "id": ref["id"], **ref.get("more", {})}
        for name in ("ref", "thumb")
        if (ref := built.get(name))
    }
    return built | flat


def _frame(given: Fields, expect: Fields) -> bool:
    data = bytes.fromhex(given["hex"])
    wanted = expect["frame"]
    frame = Frame(
        seq_id=wanted["SeqID"],
        log_id=wanted["LogID"],
        service=wanted["service"],
        method=wanted["method"],
        headers=tuple((key, value) for key, value in wanted["headers"]),
        payload=base64.b64decode(wanted["payload_b64"]),
    )
    return frames.decode(data) == frame and frames.encode(frame) == data


def _reassembly(given: Fields, expect: Fields) -> bool:
    assembly = Assembly(lambda: 0.0)
    whole = [
        found
        for data in given["frames_hex"]
        if (found := assembly.add(frames.decode(bytes.fromhex(data)))) is not None
    ]
    # Whatever is whole is answered, once.
    return whole == [expect["payload"].encode()] and len(whole) == expect["acks"]


def _endpoint(given: Fields, expect: Fields) -> bool:
    found = endpoint.endpoint(given["response"]["data"])
    config = found.config
    return holds(
        {
            "device_id": found.device_id,
            "service_id": found.service_id,
            "ping_interval_s": config.ping_interval,
            "reconnect": {
                "count": config.reconnect_count,
                "interval_s": config.reconnect_interval,
                "jitter_s": config.reconnect_nonce,
            },
        },
        expect,
    )


def _endpoint_error(given: Fields, expect: Fields) -> bool:
    return bool(errors.endpoint_action(given["code"]) == expect["action"])


def _errcode(given: Fields, expect: Fields) -> bool:
    return bool(errors.error_class(given["code"], status=given["http"]) == expect["class"])


def _outbound(given: Fields, expect: Fields) -> bool:
    quote = [Reply(message_id=given["reply_to"])] if "reply_to" in given else []
    conversation = given.get("conversation", {"id": "oc_1"})
    segments = [*quote, *msgspec.convert(given["segments"], list[Segment])]
    [segments] = outgoing.split(segments)
    part = Outgoing(
        idempotency_key="",
        conversation=ConversationKey(type="group", id=conversation["id"]),
        reply_handle={},
        segments=segments,
    )
    message = outgoing.message([each for each in segments if not isinstance(each, Reply)])
    if message is None:
        return False
    call = outgoing.call(message, part.conversation, handle=outgoing.handle(part))
    query = "&".join(f"{name}={value}" for name, value in call.query.items())
    path = f"/open-apis/im/v1/{call.path}"
    content = json.loads(call.body["content"])
    if "content" in expect:
        return bool(content == expect["content"])
    wanted: Fields = dict(expect["json"])
    return (
        expect["method"] == "POST"
        and expect["path"] == (f"{path}?{query}" if query else path)
        and json.loads(wanted.pop("content")) == content
        and {name: value for name, value in call.body.items() if name != "content"} == wanted
    )


RUNS = {
    "decrypt": _decrypt,
    "key": _key,
    "signature": _signature,
    "signature_v1_card": _card_signature,
    "webhook": _webhook,
    "inbound": _inbound,
    "frame": _frame,
    "frame_reassembly": _reassembly,
    "endpoint": _endpoint,
    "endpoint_error": _endpoint_error,
    "errcode": _errcode,
    "outbound": _outbound,
}
