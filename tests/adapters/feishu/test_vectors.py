"""The runner's way through this platform's codecs, on vectors made by the stand-in and by us."""

import base64
import json
from typing import Any

import pytest

from adapters.simulators import feishu_wire as wire
from adapters.simulators.feishu_wire import Packet
from adapters.vectors.feishu import APP_ID, RUNS

Vector = tuple[str, dict[str, Any], dict[str, Any]]

EVENT = {
    "schema": "2.0",
    "header": {
        "event_id": "e1",
        "event_type": "im.message.receive_v1",
        "app_id": APP_ID,
        "token": "t",
        "create_time": "1609073151345",
    },
    "event": {
        "sender": {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"},
        "message": {
            "message_id": "om_1",
            "chat_id": "oc_1",
            "chat_type": "p2p",
            "message_type": "image",
            "create_time": "1609073151345",
            "content": '{"image_key": "i"}',
        },
    },
}
FRAME = {"SeqID": 1, "LogID": 2, "service": 3, "method": 1}


def webhook(body: Any, expect: dict[str, Any], token: str = "t") -> Vector:  # noqa: S107 - of a made-up event
    given = {"encrypt_key": "", "verification_token": token, "headers": {}}
    return "webhook", given | {"body": json.dumps(body)}, expect


def frame(payload: bytes, headers: list[list[str]]) -> Vector:
    packet = Packet(seq=1, log=2, service=3, method=1, headers={"a": "b"}, payload=b"x")
    shown = FRAME | {"headers": headers, "payload_b64": base64.b64encode(payload).decode()}
    return "frame", {"hex": wire.pack(packet).hex()}, {"frame": shown}


def joined(payload: str) -> Vector:
    frames = [
        wire.pack(
            Packet(headers={"message_id": "m", "sum": "2", "seq": str(index)}, payload=part)
        ).hex()
        for index, part in enumerate((b"a", b"b"))
    ]
    return "frame_reassembly", {"frames_hex": frames}, {"payload": payload, "acks": 1}


def inbound(segment: dict[str, Any]) -> Vector:
    normalized = {"kind": "message", "event_id": "e1", "segments": [segment]}
    return "inbound", {"payload": EVENT, "bot_open_id": "ou_bot"}, {"normalized": normalized}


def outbound(expect: dict[str, Any], **given: Any) -> Vector:
    return "outbound", given | {"segments": [{"type": "text", "text": "hi"}]}, expect


def sent(path: str, **more: str) -> dict[str, Any]:
    body = {"msg_type": "text", "content": '{"text":"hi"}'} | more
    return {"method": "POST", "path": f"/open-apis/im/v1/messages{path}", "json": body}


IMAGE = {"type": "image", "ref": {"via": "feishu.resource", "id": "i", "message_id": "om_1"}}
CHECK = {"challenge": "c", "token": "t", "type": "url_verification"}
GOOD = [
    ("decrypt", {"encrypt_key": "k", "encrypt": wire.close("k", b"hi")}, {"plaintext": "hi"}),
    webhook(CHECK, {"status": 200, "json": {"challenge": "c"}}),
    webhook(CHECK, {"accept": False}, token="other"),
    webhook(EVENT, {"status": 200, "accept": True}),
    frame(b"x", [["a", "b"]]),
    joined("ab"),
    inbound(IMAGE),
    ("endpoint_error", {"code": 403}, {"action": "stop"}),
    ("errcode", {"http": 400, "code": 230002}, {"class": "bot_not_in_chat"}),
    outbound(sent("?receive_id_type=chat_id", receive_id="oc_9"), conversation={"id": "oc_9"}),
    outbound(sent("/om_9/reply"), reply_to="om_9"),
    outbound({"content": {"text": "hi"}}, conversation={"id": "oc_9"}),
]
BAD = [
    ("decrypt", {"encrypt_key": "k", "encrypt": wire.close("k", b"hi")}, {"plaintext": "ho"}),
    webhook(CHECK, {"status": 200, "json": {"challenge": "d"}}),
    webhook(CHECK, {"accept": False}),
    webhook(CHECK, {"status": 200, "accept": True}),
    webhook(EVENT, {"status": 200, "json": {"challenge": "c"}}),
    webhook(EVENT, {"status": 200, "accept": True}, token="other"),
    frame(b"y", [["a", "b"]]),
    frame(b"x", [["a", "c"]]),
    joined("ba"),
    inbound(IMAGE | {"type": "file"}),
    ("endpoint_error", {"code": 403}, {"action": "retry"}),
    ("errcode", {"http": 400, "code": 230002}, {"class": "ok"}),
    outbound(sent("?receive_id_type=chat_id", receive_id="oc_8"), conversation={"id": "oc_9"}),
    outbound(sent("/om_8/reply"), reply_to="om_9"),
]


class TestRuns:
    @pytest.mark.parametrize(("kind", "given", "expect"), GOOD, ids=range(len(GOOD)))
    def test_what_is_right_passes(self, kind, given, expect):
        assert RUNS[kind](given, expect)

    @pytest.mark.parametrize(("kind", "given", "expect"), BAD, ids=range(len(BAD)))
    def test_what_is_wrong_fails(self, kind, given, expect):
        assert not RUNS[kind](given, expect)
