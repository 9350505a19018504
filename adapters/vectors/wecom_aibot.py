"""Vectors of WeCom's AI bot, which stand among WeCom's."""

import base64
import hashlib
from typing import Any, Literal

import msgspec
from pydantic import SecretStr, ValidationError

from adapters.model import Challenge, ConversationKey, Inbound, Rejected, Verified
from adapters.platform import PlatformError
from adapters.vectors.calls import now_of, request_of
from adapters.vectors.holding import holds
from adapters.wecom_aibot import codec, messages
from adapters.wecom_aibot.callback import Opened, unseal, verify
from adapters.wecom_aibot.connection import refused
from adapters.wecom_aibot.long_connection import PING_EVERY_S
from adapters.wecom_aibot.media import Unreadable, Unsealing
from adapters.wecom_aibot.messages import Notice
from adapters.wecom_aibot.settings import Settings

Fields = dict[str, Any]

# Media come in pieces of any size.
_PIECE = 48


def concerns(given: Fields) -> bool:
    """Whether an envelope is an AI bot's: nobody's id stands in it."""
    return bool(given["receiveid"] == "")


def url_verify(given: Fields, expect: Fields) -> bool:
    settings = _settings(given)
    if settings is None:
        return False
    found = verify(request_of(given), settings, now=now_of(given))
    return (
        isinstance(found, Challenge)
        and found.answer.status == expect["status"]
        and found.answer.body == expect["body"].encode()
    )


def decrypt(given: Fields, expect: Fields) -> bool:
    settings = _settings(given)
    if settings is None:
        return False
    request, now = request_of(given), now_of(given)
    verified = isinstance(verify(request, settings, now=now), Verified)
    opened = unseal(request, settings, now=now)
    return (
        verified and isinstance(opened, Opened) and opened.message == expect["plaintext"].encode()
    )


def encrypt_reply(given: Fields, expect: Fields) -> bool:
    settings = _settings(given)
    if settings is None:
        return False
    sealed = settings.envelopes[0].seal(
        given["plaintext"].encode(),
        timestamp=given["timestamp"],
        nonce=given["nonce"],
        random16=given["random16"].encode(),
    )
    return (sealed.encrypt, sealed.signature) == (expect["encrypt"], expect["msg_signature"])


def inbound(given: Fields, expect: Fields) -> bool:
    decoded = messages.decode(msgspec.json.encode(given["payload"]), at=0.0)
    return holds(_normalized(decoded), expect["normalized"])


def media_decrypt(given: Fields, expect: Fields) -> bool:
    sealed = base64.b64decode(given["ciphertext_b64"])
    try:
        unsealing = Unsealing(given["aeskey"])
        pieces = [sealed[at : at + _PIECE] for at in range(0, len(sealed), _PIECE)]
        plain = b"".join(map(unsealing.feed, pieces)) + unsealing.end()
    except Unreadable:
        return False
    return bool(
        plain == base64.b64decode(expect["plaintext_b64"])
        and hashlib.sha256(plain).hexdigest() == expect["sha256"]
    )


def ws_frame(given: Fields, expect: Fields) -> bool:
    if "recv" in given:
        return holds(_received(given), expect)
    return holds(_sent(given), expect)


def _received(given: Fields) -> Fields:
    """What a frame of the platform comes to."""
    frame = codec.frame(msgspec.json.encode(given["recv"]))
    if isinstance(frame, Rejected):
        return {"error": frame.reason}
    if not frame.cmd:
        if frame.req_id != given["awaiting"]:
            return {"error": "nobody waits for it"}
        return _refusal(refused(frame.errcode)) if frame.errcode else {"state": "ready"}
    decoded = messages.decode(bytes(frame.body), at=0.0, req_id=frame.req_id)
    if isinstance(decoded, Notice) and decoded.event == messages.KICKED_OUT:
        return {"state": "superseded", "reconnect": False}
    return {"normalized": _normalized(decoded)}


def _refusal(error: PlatformError) -> Fields:
    pushed = error.error_class in codec.PUSH_INSTEAD
    return {"error": error.error_class, "fallback": "aibot_send_msg" if pushed else None}


def _sent(given: Fields) -> Fields:
    """The frame of ours that is meant: its fields say which."""
    if "secret" in given:
        body = codec.subscribe(given["bot_id"], given["secret"])
        return {"send": codec.call("aibot_subscribe", given["req_id"], body)}
    if "stream_id" in given:
        body = messages.stream(given["stream_id"], given["content"], finish=given["finish"])
        req_id = given["reply_handle"]["req_id"]
        return {"send": codec.call("aibot_respond_msg", req_id, body)}
    if "markdown" in given:
        kind: Literal["direct", "group"] = "direct" if given["chat_type"] == 1 else "group"
        to = ConversationKey(type=kind, id=given["chatid"])
        body = codec.push(to, codec.markdown(given["markdown"]))
        return {"send": codec.call("aibot_send_msg", given["req_id"], body)}
    return {"send": codec.call("ping", given["req_id"]), "interval_s": PING_EVERY_S}


def _settings(given: Fields) -> Settings | None:
    try:
        return Settings(
            transport="callback",
            token=SecretStr(given["token"]),
            encoding_aes_key=SecretStr(given["encoding_aes_key"]),
        )
    except ValidationError:
        return None


def _normalized(decoded: messages.Decoded | Rejected) -> Fields:
    """As the vectors write it."""
    if isinstance(decoded, Rejected):
        return {"kind": "dropped", "reason": decoded.reason}
    built: Fields = msgspec.to_builtins(decoded)
    if isinstance(decoded, Inbound):
        segments = [_segment(each) for each in built["segments"]]
        return built | {
            "kind": "message",
            "mentions_bot": decoded.mentions_bot,
            "segments": segments,
        }
    if isinstance(decoded, Notice):
        more = {"timestamp": decoded.occurred_at, "sender": {"id": decoded.sender_id}}
        answerable = {"reply_deadline_s": messages.GREETING_S}
        greeted = answerable if decoded.event == messages.ENTERED else {}
        return built | {"kind": "notice"} | more | greeted
    return built | {"kind": "stream_poll", "starts_conversation": False}


def _segment(built: Fields) -> Fields:
    """The vectors put a medium's key beside its address; for us it belongs to fetching."""
    ref = built.get("ref")
    return built if ref is None else built | {"ref": ref | ref.get("more", {})}
