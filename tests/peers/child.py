"""Runs beside the vendors' SDKs and answers in JSON lines what they make of something.

Nothing of ours can be imported here. Bytes go as base64. An SDK loads with its first question.
"""

import asyncio
import base64
import dataclasses
import gc
import importlib
import json
import os
import sys
import time
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

# Pages are what the kernel counts memory in.
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- WeCom: wechatpy -------------------------------------------------------------------------


@lru_cache
def _wecom(token: str, key: str, corp_id: str) -> Any:
    from wechatpy.work.crypto import WeChatCrypto

    return WeChatCrypto(token, key, corp_id)


def wecom_seal(address: list[str], message: str, nonce: str, timestamp: str) -> str:
    return _wecom(*address).encrypt_message(message, nonce, timestamp)


def wecom_open(address: list[str], body: str, signature: str, timestamp: str, nonce: str) -> str:
    return _wecom(*address).decrypt_message(body, signature, timestamp, nonce)


def wecom_echo(address: list[str], echo: str, signature: str, timestamp: str, nonce: str) -> str:
    return _wecom(*address).check_signature(signature, timestamp, nonce, echo)


def wecom_parse(message: str) -> dict[str, Any]:
    from wechatpy.work import parse_message

    parsed = parse_message(message)
    return {"type": parsed.type, **{name: getattr(parsed, name) for name in _said(parsed)}}


def _said(parsed: Any) -> list[str]:
    """Names of its fields; dates are there as numbers, too."""
    return [name for name in parsed._fields if name != "create_time"]


def wecom_callback(address: list[str], body: str, query: dict[str, str]) -> Any:
    from wechatpy.work import parse_message

    plain = wecom_open(address, body, query["msg_signature"], query["timestamp"], query["nonce"])
    parsed = parse_message(plain)
    # Its fields are read when they are asked for.
    return parsed.id, parsed.source, parsed.time, getattr(parsed, "content", "")


def wecom_kf_callback(address: list[str], body: str, query: dict[str, str], row: str) -> str:
    """The hint, and a row as it is pulled: the SDK has nothing for rows."""
    wecom_callback(address, body, query)
    return json.loads(row)["text"]["content"]


def aibot_open(data: str, key: str) -> str:
    """A medium of a WeCom AI bot."""
    from aibot.crypto_utils import decrypt_file

    return _text(decrypt_file(_bytes(data), key))


def aibot_client() -> Any:
    from aibot import WSClient, WSClientOptions

    return WSClient(WSClientOptions(bot_id="aib-4Kq9", secret="secret", logger=_Silence()))


class _Silence:
    """Its log writes every frame out, which others may not want either."""

    def debug(self, *_: object) -> None: ...

    info = warn = error = debug


@lru_cache
def _aibot() -> tuple[Any, list[Any]]:
    client, heard = aibot_client(), []
    client.on("message.text", heard.append)
    return client, heard


def aibot_callback(frame: str) -> str:
    """As its connection does with what comes: a dictionary is all that one hears."""
    client, heard = _aibot()
    client._ws_manager._handle_frame(json.loads(frame))
    return heard.pop()["body"]["text"]["content"]


def wecom_client() -> Any:
    from wechatpy.work import WeChatClient

    return WeChatClient("ww1", "secret")


# --- Feishu: lark-oapi -----------------------------------------------------------------------


@lru_cache
def _feishu(encrypt_key: str, token: str) -> tuple[Any, list[Any]]:
    from lark_oapi.event.dispatcher_handler import EventDispatcherHandler

    heard: list[Any] = []
    builder = EventDispatcherHandler.builder(encrypt_key, token)
    return builder.register_p2_im_message_receive_v1(heard.append).build(), heard


def feishu_callback(
    encrypt_key: str, token: str, headers: dict[str, str], body: str
) -> dict[str, Any]:
    answer, heard = _feishu_taken(encrypt_key, token, headers, body)
    said = [_feishu_said(heard.pop())] if heard else []
    return {"status": answer.status_code, "body": answer.content.decode(), "said": said}


def _feishu_taken(
    encrypt_key: str, token: str, headers: dict[str, str], body: str
) -> tuple[Any, list[Any]]:
    from lark_oapi.core.model import RawRequest

    handler, heard = _feishu(encrypt_key, token)
    request = RawRequest()
    request.uri, request.headers, request.body = "/", headers, body.encode()
    return handler.do(request), heard


def feishu_decode(encrypt_key: str, token: str, headers: dict[str, str], body: str) -> Any:
    """The same for those who count microseconds: what a bot needs of it, and no more."""
    from lark_oapi.channel.normalize import extract_mentions, parse_message_content

    _, heard = _feishu_taken(encrypt_key, token, headers, body)
    message = heard.pop().event.message
    mentions = extract_mentions(message.mentions, "ou_bot")
    return mentions, parse_message_content(message.message_type, message.content)


def _feishu_said(event: Any) -> dict[str, Any]:
    from lark_oapi.channel.normalize import extract_mentions

    message, sender = event.event.message, event.event.sender
    mentions = extract_mentions(message.mentions, "ou_bot")
    return {
        "message_id": message.message_id,
        "chat_id": message.chat_id,
        "chat_type": message.chat_type,
        "create_time": message.create_time,
        "sender": sender.sender_id.open_id,
        "mentions_bot": mentions.mentioned_bot,
        "mentioned": [each.open_id for each in mentions.mention_list],
        "content": feishu_content(message.message_type, message.content),
    }


def feishu_content(kind: str, content: str) -> dict[str, Any]:
    from lark_oapi.channel.normalize import parse_message_content

    parsed = dataclasses.asdict(parse_message_content(kind, content))
    return {name: value for name, value in parsed.items() if name != "raw"}


def feishu_built(name: str, **given: Any) -> dict[str, str]:
    from lark_oapi.channel import types
    from lark_oapi.channel.outbound import sender

    wrapped = {"text": "OutboundText", "post": "OutboundPost", "card": "OutboundCard"}
    build = getattr(sender, f"_build_{name}")
    if name in wrapped:
        if "mentions" in given:
            given["mentions"] = [types.Identity(**each) for each in given["mentions"]]
        return build(getattr(types, wrapped[name])(**given))
    return build(**given)


def feishu_card(markdown: str) -> dict[str, Any]:
    from lark_oapi.channel.card.builder import new_card

    return new_card().markdown(markdown).to_dict()


_FRAME = {"seq_id": "SeqID", "log_id": "LogID", "log_id_new": "LogIDNew"}
_FRAME_FIELDS = (
    *("seq_id", "log_id", "service", "method"),
    *("payload_encoding", "payload_type", "log_id_new"),
)


def feishu_frame_encode(headers: list[list[str]], payload: str, **fields: Any) -> str:
    from lark_oapi.ws.pb.pbbp2_pb2 import Frame

    frame = Frame()
    for name, value in fields.items():
        setattr(frame, _FRAME.get(name, name), value)
    for key, value in headers:
        header = frame.headers.add()
        header.key, header.value = key, value
    if payload:
        frame.payload = _bytes(payload)
    return _text(frame.SerializeToString())


def feishu_frame_decode(data: str) -> dict[str, Any]:
    from lark_oapi.ws.pb.pbbp2_pb2 import Frame

    frame = Frame()
    frame.ParseFromString(_bytes(data))
    found = {name: getattr(frame, _FRAME.get(name, name)) for name in _FRAME_FIELDS}
    headers = [[header.key, header.value] for header in frame.headers]
    return {**found, "headers": headers, "payload": _text(frame.payload)}


def feishu_ping(service: int) -> str:
    from lark_oapi.ws.client import _new_ping_frame

    return _text(_new_ping_frame(service).SerializeToString())


def feishu_frame_answer(data: str) -> str:
    """What the SDK sends back for a frame with an event."""
    client = feishu_client()
    sent: list[bytes] = []

    async def keep(frame: bytes) -> None:
        sent.append(frame)

    client._write_message = keep
    client._event_handler, heard = _feishu("", "")
    asyncio.run(client._handle_message(_bytes(data)))
    heard.clear()
    return _text(sent[0])


def feishu_client() -> Any:
    from lark_oapi.ws import Client

    return Client("cli_1", "secret")


# --- DingTalk: dingtalk-stream ---------------------------------------------------------------


class _Socket:
    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, text: str) -> None:
        self.sent.append(text)


def dingtalk_client() -> Any:
    import dingtalk_stream

    class Handler(dingtalk_stream.ChatbotHandler):
        async def process(self, callback: Any) -> tuple[int, str]:
            self.heard = dingtalk_stream.ChatbotMessage.from_dict(callback.data)
            return dingtalk_stream.AckMessage.STATUS_OK, "OK"

    class Events(dingtalk_stream.EventHandler):
        async def process(self, event: Any) -> tuple[int, str]:
            return dingtalk_stream.AckMessage.STATUS_OK, "OK"

    client = dingtalk_stream.DingTalkStreamClient(dingtalk_stream.Credential("ding1", "secret"))
    client.register_all_event_handler(Events())
    client.register_callback_handler(dingtalk_stream.ChatbotMessage.TOPIC, Handler())
    client.websocket = _Socket()
    return client


_dingtalk = lru_cache(dingtalk_client)


def dingtalk_route(frame: str) -> dict[str, Any] | None:
    """What the SDK answers a frame with."""
    client = _dingtalk()
    asyncio.run(client.route_message(json.loads(frame)))
    return json.loads(client.websocket.sent.pop()) if client.websocket.sent else None


def dingtalk_callback(frame: str) -> str:
    """The same without a loop of its own, for those who count microseconds."""
    client = _dingtalk()
    routed = client.route_message(json.loads(frame))
    try:
        routed.send(None)
    except StopIteration:
        return client.websocket.sent.pop()
    raise AssertionError("it waits for something")


def dingtalk_parse(data: str) -> dict[str, Any]:
    import dingtalk_stream

    message = dingtalk_stream.ChatbotMessage.from_dict(json.loads(data))
    names = ("message_id", "conversation_id", "conversation_type", "sender_id", "sender_staff_id")
    more = ("sender_nick", "create_at", "session_webhook", "robot_code", "is_in_at_list")
    found = {name: getattr(message, name) for name in (*names, *more)}
    return {
        **found,
        "texts": message.get_text_list(),
        "images": message.get_image_list(),
        "expires": message.session_webhook_expired_time,
        "again": message.to_dict(),
    }


def dingtalk_registration() -> dict[str, Any]:
    """What the SDK asks a connection with."""
    client = _dingtalk()
    client.pre_start()
    with _posts("dingtalk_stream.stream") as posts:
        client.open_connection()
    return json.loads(posts[0]["data"])


def dingtalk_reply(name: str, said: list[str], to: str) -> dict[str, Any]:
    """What the SDK posts to the address for replies."""
    import dingtalk_stream

    incoming = SimpleNamespace(session_webhook="https://unused.invalid", sender_staff_id=to)
    with _posts("dingtalk_stream.chatbot") as posts:
        getattr(dingtalk_stream.ChatbotHandler(), name)(*said, incoming)
    return json.loads(posts[0]["data"])


class _posts:  # noqa: N801 - used as a function
    """Nothing leaves this process: what would be posted is kept."""

    def __init__(self, module: str) -> None:
        self._module = importlib.import_module(module)
        self._requests = self._module.requests

    def __enter__(self) -> list[dict[str, Any]]:
        kept: list[dict[str, Any]] = []

        def post(url: str, **given: Any) -> Any:
            kept.append(given)
            return SimpleNamespace(text="", raise_for_status=lambda: None, json=dict)

        self._module.requests = SimpleNamespace(post=post)
        return kept

    def __exit__(self, *_: object) -> None:
        self._module.requests = self._requests


# --- QQ: PyNaCl and botpy --------------------------------------------------------------------


@lru_cache
def _qq(secret: str) -> Any:
    from nacl.signing import SigningKey

    seed = secret.encode()
    while len(seed) < 32:
        seed += seed
    return SigningKey(seed[:32])


def qq_public_key(secret: str) -> str:
    return _text(bytes(_qq(secret).verify_key))


def qq_sign(secret: str, message: str) -> str:
    return _qq(secret).sign(_bytes(message)).signature.hex()


def qq_holds(secret: str, message: str, signature: str) -> bool:
    from nacl.exceptions import BadSignatureError

    try:
        _qq(secret).verify_key.verify(_bytes(message), bytes.fromhex(signature))
    except BadSignatureError:
        return False
    return True


def qq_client() -> Any:
    import botpy
    import nacl.signing  # noqa: F401 - signatures are no part of the SDK

    return botpy.Client(intents=botpy.Intents.default(), bot_log=False)


@lru_cache
def _qq_state() -> tuple[Any, list[Any]]:
    from botpy.connection import ConnectionState

    heard: list[Any] = []
    return ConnectionState(lambda _, *said: heard.extend(said), None), heard


def qq_parse(dispatch: str) -> dict[str, Any]:
    message = _qq_message(dispatch)
    author = vars(message.author)
    return {
        "id": message.id,
        "event_id": message.event_id,
        "content": message.content,
        "timestamp": message.timestamp,
        "author": {name: value for name, value in author.items() if isinstance(value, str)},
        "place": getattr(message, "group_openid", None) or getattr(message, "channel_id", None),
        "quotes": message.message_reference.message_id,
        "attachments": [vars(each) for each in message.attachments],
    }


def _qq_message(dispatch: str) -> Any:
    state, heard = _qq_state()
    call = json.loads(dispatch)
    state.parsers[call["t"].lower()](call)
    return heard.pop()


def qq_callback(secret: str, timestamp: str, signature: str, body: str) -> str:
    """The signature by PyNaCl, the rest by the SDK, which knows no webhooks."""
    message = timestamp.encode() + body.encode()
    _qq(secret).verify_key.verify(message, bytes.fromhex(signature))
    return _qq_message(body).id


# --- OneBot: NoneBot's adapter ----------------------------------------------------------------


def onebot_parse(message: Any) -> list[dict[str, Any]]:
    """A message, of segments or as one string, in its segments."""
    from nonebot.adapters.onebot.v11 import Message
    from pydantic import TypeAdapter

    parsed = TypeAdapter(Message).validate_python(message)
    return [{"type": each.type, "data": each.data} for each in parsed]


def onebot_write(segments: list[dict[str, Any]]) -> str:
    """The same as one string."""
    from nonebot.adapters.onebot.v11 import Message, MessageSegment

    return str(Message(MessageSegment(**each) for each in segments))


def onebot_event(event: dict[str, Any]) -> dict[str, Any]:
    from nonebot.adapters.onebot.v11 import Adapter

    heard = Adapter.json_to_event(event)
    return {
        "class": type(heard).__name__,
        "user": heard.get_user_id(),
        "group": getattr(heard, "group_id", None),
        "id": heard.message_id,
        "time": heard.time,
        "text": heard.get_plaintext(),
        "names": [heard.sender.card, heard.sender.nickname],
    }


# --- a tenant's own system: standardwebhooks -------------------------------------------------


@lru_cache
def _http(secret: str) -> Any:
    from standardwebhooks import Webhook

    return Webhook(secret)


def http_client() -> Any:
    return _http("whsec_" + "A" * 32)


def http_callback(secret: str, headers: dict[str, str], body: str) -> str:
    return _http(secret).verify(body, headers)["id"]


# --- measuring -------------------------------------------------------------------------------


def timed(name: str, times: int, given: dict[str, Any]) -> float:
    """Microseconds a call, over so many."""
    call = partial(globals()[name], **given)
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times * 1e6


def grown(client: str, first: str, given: dict[str, Any], modules: list[str]) -> float:
    """MiB that an SDK, its client and a first message add to a process with these modules."""
    for name in modules:
        importlib.import_module(name)
    before = _resident()
    kept = globals()[client]()
    globals()[first](**given)
    after = _resident()
    del kept
    return (after - before) / 2**20


def _resident() -> int:
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - loads nothing
        return int(file.read().split()[1]) * _PAGE


def _answer(line: str) -> dict[str, Any]:
    question = json.loads(line)
    try:
        return {"made": globals()[question["do"]](**question["given"])}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    # The SDKs log to where we answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    for asked in sys.stdin:
        answers.write(json.dumps(_answer(asked)) + "\n")
        answers.flush()
