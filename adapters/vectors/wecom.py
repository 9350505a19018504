"""Vectors of WeCom: each runs through the codecs of the adapter that it concerns."""

from typing import Any

import msgspec
from pydantic import SecretStr, ValidationError

from adapters import wx_aes
from adapters.model import Challenge, Inbound, Rejected, Verified
from adapters.vectors import wecom_aibot, wecom_kf
from adapters.vectors.calls import now_of, request_of
from adapters.vectors.holding import holds
from adapters.wecom import codec
from adapters.wecom.callback import Opened, unseal, verify
from adapters.wecom.codec import Notice
from adapters.wecom.settings import Settings

Fields = dict[str, Any]

# What follows from a class, in the vectors' words.
_ACTIONS = {
    "ok": "none",
    "token_invalid": "refresh_token_once",
    "token_expired": "refresh_token_once",
    "rate_limited": "backoff",
    "ip_not_allowed": "stop_and_report",
    "recipient_invalid": "drop",
}


def _settings(given: Fields) -> Settings | None:
    """None where an application could not have them: AI bots have no company id, for one."""
    try:
        return Settings(
            corp_id=given["receiveid"],
            agent_id=1,
            secret=SecretStr("unused"),
            token=given["token"],
            encoding_aes_key=given["encoding_aes_key"],
        )
    except ValidationError:
        return None


def _url_verify(given: Fields, expect: Fields) -> bool:
    if wecom_aibot.concerns(given):
        return wecom_aibot.url_verify(given, expect)
    settings = _settings(given)
    if settings is None:
        return False
    found = verify(request_of(given), settings, now=now_of(given))
    return (
        isinstance(found, Challenge)
        and found.answer.status == expect["status"]
        and found.answer.body == expect["body"].encode()
    )


def _decrypt(given: Fields, expect: Fields) -> bool:
    if wecom_aibot.concerns(given):
        return wecom_aibot.decrypt(given, expect)
    settings = _settings(given)
    if settings is None:
        return False
    request, now = request_of(given), now_of(given)
    verified = isinstance(verify(request, settings, now=now), Verified)
    opened = unseal(request, settings, now=now)
    return (
        verified and isinstance(opened, Opened) and opened.message == expect["plaintext"].encode()
    )


def _reject(given: Fields, expect: Fields) -> bool:
    settings = _settings(given)
    if settings is None:
        return False
    rejected = isinstance(verify(request_of(given), settings, now=now_of(given)), Rejected)
    return rejected != bool(expect["accept"])


def _encrypt_reply(given: Fields, expect: Fields) -> bool:
    if wecom_aibot.concerns(given):
        return wecom_aibot.encrypt_reply(given, expect)
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


def _signature(given: Fields, expect: Fields) -> bool:
    signature = wx_aes.sign(given["token"], given["timestamp"], given["nonce"], given["encrypt"])
    return bool(signature == expect["msg_signature"])


def _inbound(given: Fields, expect: Fields) -> bool:
    if given["transport"] == "aibot_callback_json":
        return wecom_aibot.inbound(given, expect)
    if given["transport"] != "app_callback_xml":
        return False
    decoded = codec.decode(given["payload"].encode())
    return holds(_normalized(decoded), expect["normalized"])


def _kf_sync_item(given: Fields, expect: Fields) -> bool:
    return holds(wecom_kf.normalized(given), expect["normalized"])


def _errcode(given: Fields, expect: Fields) -> bool:
    found = codec.error_class(given["errcode"])
    return bool(found == expect["class"] and _ACTIONS[found] == expect["action"])


def _normalized(decoded: codec.Decoded | Rejected) -> Fields:
    """As the vectors write it."""
    if isinstance(decoded, Rejected):
        return {"kind": "dropped", "reason": decoded.reason}
    built: Fields = msgspec.to_builtins(decoded)
    if isinstance(decoded, Inbound):
        segments = [_segment(each) for each in built["segments"]]
        return built | {
            "kind": "message",
            "timestamp": decoded.occurred_at,
            "mentions_bot": decoded.mentions_bot,
            "app": decoded.app,
            "segments": segments,
        }
    if isinstance(decoded, Notice):
        more = {"timestamp": decoded.occurred_at, "sender": {"id": decoded.sender_id}}
        return built | {"kind": "notice"} | more
    return built | {"kind": "pull_trigger"}


def _segment(built: Fields) -> Fields:
    """The vectors put a picture's address beside its reference; for us it belongs to fetching."""
    more = built.get("ref", {}).get("more", {})
    return built | ({"url": more["url"]} if "url" in more else {})


RUNS = {
    "url_verify": _url_verify,
    "decrypt_xml": _decrypt,
    "decrypt_json": _decrypt,
    "encrypt_reply_xml": _encrypt_reply,
    "encrypt_reply_json": _encrypt_reply,
    "signature": _signature,
    "reject": _reject,
    "inbound": _inbound,
    "kf_sync_item": _kf_sync_item,
    "errcode": _errcode,
    "media_decrypt": wecom_aibot.media_decrypt,
    "ws_frame": wecom_aibot.ws_frame,
}
