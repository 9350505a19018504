"""What a channel costs: memory that a kind adds to an agent, and time to read one message.

Beside it the vendor's SDK does the same in its own environment (`tests/peers`). A further kind is
a function in `SAMPLES`, one in `channel_own.READ`, and its SDK's in `tests/peers/child.py`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters import standard_webhooks
from adapters.model import Inbound, RawCallback
from adapters.registry import kind, kinds
from adapters.simulators import feishu_wire
from adapters.simulators.wecom_seal import Seal
from benchmarks.channel_own import READ, Grown, Sample
from benchmarks.ground import ROOT, ROUNDS, figure
from tests.cluster.substrate.packages import UnavailableError
from tests.peers.place import Peers

# Messages of one half of a round, and how often it is tried: the best counts.
TIMES, TRIES = 2000, 3
PATIENCE_S = 60.0

_WORDS = "你好，我昨天买的茶具少了一只杯子，订单号是 20251121-0815，可以补发吗？" * 2
_TOKEN, _KEY, _CORP = "Tk9xYz", "NkFJSACJrnUk/Qq2wBZArzSACcQOpxdWZbeURqgtGtk", "ww0123456789abcdef"
_SECRET = "naOC0ocQE3shWLAfffVLB1rhYPG7x9sD"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What the SDK is called, and what it is asked: to make a client, and to read the message."""

    name: str
    client: str
    read: str
    given: dict[str, Any] = field(default_factory=dict)


def wecom(now: int) -> tuple[Sample, Peer]:
    settings = _company() | {"agent_id": 1000002}
    request, given = _wecom_call(
        now,
        f"<FromUserName><![CDATA[zhangsan]]></FromUserName><CreateTime>{now}</CreateTime>"
        f"<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{_WORDS}]]></Content>"
        "<MsgId>1234567890123456</MsgId><AgentID>1000002</AgentID>",
    )
    peer = Peer(name="wechatpy", client="wecom_client", read="wecom_callback", given=given)
    return Sample(kind="wecom", settings=settings, request=request), peer


def wecom_kf(now: int) -> tuple[Sample, Peer]:
    request, given = _wecom_call(
        now,
        f"<CreateTime>{now}</CreateTime><MsgType><![CDATA[event]]></MsgType>"
        "<Event><![CDATA[kf_msg_or_event]]></Event><Token><![CDATA[ENCApHxnGDNAVNY4]]></Token>"
        "<OpenKfId><![CDATA[wkAJ2GCAAAZSfhHCt7IFSvLKtMPxyJTw]]></OpenKfId>",
    )
    row = {
        "msgid": "4jzpG8mYq8VfTWsMwRhRZ9",
        "open_kfid": "wkAJ2GCAAAZSfhHCt7IFSvLKtMPxyJTw",
        "external_userid": "wmAJ2GCAAAme1XQRC-NI-q0_ZM9ukoAw",
        "send_time": now,
        "origin": 3,
        "msgtype": "text",
        "text": {"content": _WORDS},
    }
    settings = _company() | {"open_kfid": row["open_kfid"]}
    sample = Sample(kind="wecom_kf", settings=settings, request=request, more=json.dumps(row))
    given |= {"row": sample.more}
    return sample, Peer(
        name="wechatpy", client="wecom_client", read="wecom_kf_callback", given=given
    )


def wecom_aibot(now: int) -> tuple[Sample, Peer]:
    said = {
        "msgid": "CAIQ16HMjQYY/NGagIOAgAMgq4KM0AI=",
        "aibotid": "aib-4Kq9",
        "chatid": "wrAJ2GCAAAt6z8gU",
        "chattype": "group",
        "from": {"userid": "zhangsan"},
        "msgtype": "text",
        "text": {"content": f"@客服 {_WORDS}"},
    }
    frame = json.dumps({"cmd": "aibot_msg_callback", "headers": {"req_id": "r-1"}, "body": said})
    settings = {"bot_id": "aib-4Kq9", "secret": _SECRET}
    return (
        Sample(kind="wecom_aibot", settings=settings, request=_call(now, ""), more=frame),
        Peer(
            name="wecom-aibot-python-sdk",
            client="aibot_client",
            read="aibot_callback",
            given={"frame": frame},
        ),
    )


def feishu(now: int) -> tuple[Sample, Peer]:
    header = {
        "event_id": "5e3702a84e847582be8db7fb73283c02",
        "event_type": "im.message.receive_v1",
        "create_time": f"{now}000",
        "token": _TOKEN,
        "app_id": "cli_9f5343c580712544",
        "tenant_key": "2ca1d211f64f6438",
    }
    message = {
        "message_id": "om_5ce6d572455d361153b7cb51da133945",
        "chat_id": "oc_5ce6d572455d361153b7xx51da133945",
        "chat_type": "group",
        "message_type": "text",
        "create_time": f"{now}000",
        "content": json.dumps({"text": f"@_user_1 {_WORDS}"}),
        "mentions": [{"key": "@_user_1", "id": {"open_id": "ou_bot"}, "name": "客服"}],
    }
    ids = dict.fromkeys(("open_id", "union_id"), "ou_84aad35d084aa403a838cf73ee18467")
    happened = {"sender": {"sender_id": ids, "sender_type": "user"}, "message": message}
    event = json.dumps({"schema": "2.0", "header": header, "event": happened}).encode()
    body = json.dumps({"encrypt": feishu_wire.close(_SECRET, event)})
    headers = {
        "X-Lark-Request-Timestamp": str(now),
        "X-Lark-Request-Nonce": "78902345",
        "X-Lark-Signature": feishu_wire.signature(str(now), "78902345", _SECRET, body.encode()),
    }
    settings = {
        "transport": "callback",
        "app_id": header["app_id"],
        "app_secret": _SECRET,
        "verification_token": _TOKEN,
        "encrypt_key": _SECRET,
    }
    given = {"encrypt_key": _SECRET, "token": _TOKEN, "headers": headers, "body": body}
    return (
        Sample(kind="feishu", settings=settings, request=_call(now, body, headers)),
        Peer(name="lark-oapi", client="feishu_client", read="feishu_decode", given=given),
    )


def dingtalk(now: int) -> tuple[Sample, Peer]:
    said = {
        "conversationId": "cidkVdTtzRuEUVDKnIvZrqYWQ==",
        "conversationType": "2",
        "msgId": "msgCmQtJXFh4iKlQLVCQzkzBw==",
        "msgtype": "text",
        "text": {"content": _WORDS},
        "createAt": now * 1000,
        "senderId": "$:LWCP_v1:$wVBwYnLXAXg0B6zTQzgXOA==",
        "senderStaffId": "manager4220",
        "senderNick": "张三",
        "sessionWebhook": "https://oapi.dingtalk.com/robot/sendBySession?session=8a3f",
        "sessionWebhookExpiredTime": now * 1000 + 5_400_000,
        "robotCode": "dingq7wh8yuazxvvk3rd",
        "isInAtList": True,
    }
    headers = {"topic": "/v1.0/im/bot/messages/get", "messageId": "2a4f_0_18b", "time": now * 1000}
    frame = json.dumps(
        {"specVersion": "1.0", "type": "CALLBACK", "headers": headers, "data": json.dumps(said)}
    )
    settings = {"client_id": "dingq7wh8yuazxvvk3rd", "client_secret": _SECRET}
    return (
        Sample(kind="dingtalk", settings=settings, request=_call(now, ""), more=frame),
        Peer(
            name="dingtalk-stream",
            client="dingtalk_client",
            read="dingtalk_callback",
            given={"frame": frame},
        ),
    )


def qq(now: int) -> tuple[Sample, Peer]:
    said = {
        "id": "ROBOT1.0_Fy7RmsX8XQ5Zl0TuJ8XvQg",
        "author": {"id": "C7A1", "member_openid": "E4F4AEA33253A2797FB897C50B81D7ED"},
        "content": f" {_WORDS}",
        "timestamp": "2025-11-21T13:37:18+08:00",
        "group_openid": "C9F778FE6ADF9D1D1DBE395BF744A33A",
    }
    dispatch = {"op": 0, "s": 42, "t": "GROUP_AT_MESSAGE_CREATE", "id": "E1", "d": said}
    body = json.dumps(dispatch)
    signature = Ed25519PrivateKey.from_private_bytes(_SECRET.encode()).sign(f"{now}{body}".encode())
    headers = {"X-Signature-Ed25519": signature.hex(), "X-Signature-Timestamp": str(now)}
    given = {"secret": _SECRET, "timestamp": str(now), "signature": signature.hex(), "body": body}
    return (
        Sample(
            kind="qq",
            settings={"app_id": "102000001", "secret": _SECRET},
            request=_call(now, body, headers),
        ),
        Peer(name="qq-botpy and PyNaCl", client="qq_client", read="qq_callback", given=given),
    )


def http(now: int) -> tuple[Sample, Peer]:
    secret = standard_webhooks.make_secret(_SECRET.encode())
    body = json.dumps(
        {
            "type": "message.received",
            "id": "m-1",
            "conversation": {"id": "c-1", "type": "direct"},
            "sender": {"id": "u-1", "name": "张三"},
            "at": now,
            "text": _WORDS,
        }
    )
    headers = standard_webhooks.sign(secret, message_id="m-1", timestamp=now, body=body.encode())
    settings = {"url": "https://example.com/bot", "secret": secret}
    given = {"secret": secret, "headers": headers, "body": body}
    return (
        Sample(kind="http", settings=settings, request=_call(now, body, headers)),
        Peer(name="standardwebhooks", client="http_client", read="http_callback", given=given),
    )


SAMPLES: dict[str, Callable[[int], tuple[Sample, Peer]]] = {
    sample.__name__: sample
    for sample in (wecom, wecom_kf, wecom_aibot, feishu, dingtalk, qq, http)
    if sample.__name__ in kinds()
}
MEMORY, DECODE = "channel_memory_", "channel_decode_"
# Nobody's SDK: what signs a tenant's own messages is one small file, and no client.
WITH_SDK = tuple(name for name in SAMPLES if name != "http")
NAMES = (*(f"{MEMORY}{name}" for name in WITH_SDK), *(f"{DECODE}{name}" for name in SAMPLES))


async def figures() -> dict[str, dict[str, object]]:
    """All kinds beside their SDKs."""
    now = int(time.time())
    samples = {name: sample(now) for name, sample in SAMPLES.items()}
    try:
        memory = {f"{MEMORY}{name}": _memory(*samples[name]) for name in WITH_SDK}
        with Peers() as peers:
            decode = {f"{DECODE}{name}": _decode(peers, *pair) for name, pair in samples.items()}
    except UnavailableError as error:
        print(f"No vendors' SDKs, so no channel is measured beside them: {error}")
        return {}
    return memory | decode


# --- memory ----------------------------------------------------------------------------------


def _memory(sample: Sample, peer: Peer) -> dict[str, object]:
    ours, beside = [], []
    for _ in range(ROUNDS):
        grown = _grown(sample)
        ours.append(grown.mib)
        beside.append(_peer_grown(peer, grown.modules))
    return figure(ours, beside, unit="MiB", peer=peer.name, goal=_goal(MEMORY, sample))


def _grown(sample: Sample) -> Grown:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.channel_own"],
        input=msgspec.json.encode(sample),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        check=True,
        timeout=PATIENCE_S,
    )
    return msgspec.json.decode(done.stdout, type=Grown)


def _peer_grown(peer: Peer, modules: list[str]) -> float:
    """In a process that has as much of Python's own as an agent: an SDK may use it for nothing."""
    with Peers() as peers:
        grown: float = peers.ask(
            "grown", client=peer.client, first=peer.read, given=peer.given, modules=modules
        )
    return grown


# --- decoding --------------------------------------------------------------------------------


def _decode(peers: Peers, sample: Sample, peer: Peer) -> dict[str, object]:
    settings = kind(sample.kind).settings().model_validate(sample.settings)
    read = partial(READ[sample.kind], settings, sample)
    assert isinstance(read(), Inbound)
    peers.ask("timed", name=peer.read, times=TIMES // 10, given=peer.given)
    ours, beside = [], []
    for _ in range(ROUNDS):
        ours.append(min(_microseconds(read) for _ in range(TRIES)))
        asked = partial(peers.ask, "timed", name=peer.read, times=TIMES, given=peer.given)
        beside.append(min(asked() for _ in range(TRIES)))
    unit = "µs a message"
    return figure(ours, beside, unit=unit, peer=peer.name, goal=_goal(DECODE, sample))


def _microseconds(read: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(TIMES):
        read()
    return (time.perf_counter() - began) / TIMES * 1e6


def _goal(what: str, sample: Sample) -> str:
    return "<=1.0" if f"{what}{sample.kind}" in _GOALS else ""


# Where we were clearly below the SDK, we mean to stay there.
_GOALS = {
    *(f"{MEMORY}{name}" for name in ("wecom", "wecom_kf", "feishu", "dingtalk", "qq")),
    *(f"{DECODE}{name}" for name in ("feishu", "dingtalk")),
}


# --- what the platforms send -----------------------------------------------------------------


def _call(
    now: int, body: str, headers: dict[str, str] | None = None, query: dict[str, str] | None = None
) -> RawCallback:
    return RawCallback(
        method="POST",
        path="/",
        query=urlencode(query or {}),
        headers={name.lower(): value for name, value in (headers or {}).items()},
        body=body.encode(),
        received_at=now,
    )


def _company() -> dict[str, Any]:
    return {"corp_id": _CORP, "secret": _SECRET, "token": _TOKEN, "encoding_aes_key": _KEY}


def _wecom_call(now: int, fields: str) -> tuple[RawCallback, dict[str, Any]]:
    """A callback with these, and the same for the SDK."""
    seal = Seal(_TOKEN, _KEY, _CORP)
    encrypt = seal.close(f"<xml><ToUserName>{_CORP}</ToUserName>{fields}</xml>".encode())
    query = {
        "msg_signature": seal.signature(str(now), "1372623149", encrypt),
        "timestamp": str(now),
        "nonce": "1372623149",
    }
    body = (
        f"<xml><ToUserName><![CDATA[{_CORP}]]></ToUserName><AgentID>1000002</AgentID>"
        f"<Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"
    )
    given = {"address": [_TOKEN, _KEY, _CORP], "body": body, "query": query}
    return _call(now, body, query=query), given
