"""Vectors of QQ's official bots."""

from typing import Any

import msgspec
from pydantic import SecretStr

from adapters.model import (
    Challenge,
    ConversationKey,
    Image,
    Inbound,
    RawCallback,
    Ref,
    Text,
    Verified,
)
from adapters.qq import callback, codec, gateway, outgoing, signing
from adapters.qq.gateway import Conversation, Session
from adapters.qq.kind import KIND
from adapters.qq.settings import Settings
from adapters.vectors.holding import holds

Fields = dict[str, Any]

_APP = "x-bot-appid"


def _request(given: Fields) -> tuple[RawCallback, Settings]:
    headers = {name.lower(): value for name, value in given.get("headers", {}).items()}
    settings = Settings(
        app_id=headers.get(_APP, "1"), secret=SecretStr(given.get("secret", "unused"))
    )
    request = RawCallback(
        method="POST",
        path="/",
        query="",
        headers=headers,
        body=given["body"].encode(),
        received_at=float(headers.get("x-signature-timestamp", 0)),
    )
    return request, settings


def _derive_key(given: Fields, expect: Fields) -> bool:
    found = signing.seed(given["secret"])
    wanted = expect.get("seed", "").encode() or bytes.fromhex(expect.get("seed_hex", ""))
    return bool(
        found == wanted and signing.public_key(given["secret"]).hex() == expect["public_key_hex"]
    )


def _verify(given: Fields, expect: Fields) -> bool:
    request, settings = _request(given)
    found = callback.verify(request, settings, now=request.received_at)
    return isinstance(found, Verified) == bool(expect["accept"])


def _challenge(given: Fields, expect: Fields) -> bool:
    request, settings = _request(given)
    found = callback.verify(request, settings, now=request.received_at)
    return isinstance(found, Challenge) and _answers(found.answer, expect)


def _webhook_ack(given: Fields, expect: Fields) -> bool:
    """The vector has no signature: it is about the answer, so we sign it as the platform does."""
    at = "1755850123"
    signature = signing.sign("unused", at.encode() + given["body"].encode()).hex()
    signed = {"X-Signature-Ed25519": signature, "X-Signature-Timestamp": at}
    request, settings = _request(given | {"headers": signed})
    found = callback.verify(request, settings, now=request.received_at)
    return isinstance(found, Verified | Challenge) and _answers(found.answer, expect)


def _answers(answer: Any, expect: Fields) -> bool:
    return bool(
        answer.status == expect["status"] and msgspec.json.decode(answer.body) == expect["json"]
    )


def _inbound(given: Fields, expect: Fields) -> bool:
    call = callback.read(msgspec.json.encode(given["payload"]))
    return call is not None and holds(_normalized(codec.decode(call)), expect["normalized"])


def _normalized(decoded: Any) -> Fields:
    """As the vectors write it."""
    built: Fields = msgspec.to_builtins(decoded) if not isinstance(decoded, tuple) else {}
    if isinstance(decoded, Inbound):
        window = KIND.windows[decoded.conversation.type]
        limits = {"window_s": window.within_s, "max_replies": window.most}
        return built | {
            "kind": "message",
            "timestamp": decoded.occurred_at,
            "mentions_bot": decoded.mentions_bot,
            "conversation": built["conversation"] | decoded.app,
            "reply_handle": decoded.reply_handle | limits,
            "segments": [_segment(each) for each in built["segments"]],
        }
    if not isinstance(decoded, codec.Notice):
        return built | {"kind": "ignored"}
    path = f"/interactions/{outgoing.in_path(decoded.dedupe_key)}"
    ack = {"method": "PUT", "path": path, "json": {"code": 0}}
    return built | {
        "kind": "notice",
        "timestamp": decoded.occurred_at,
        "sender": {"id": decoded.sender_id},
        "ack": ack if decoded.event == "INTERACTION_CREATE" else None,
    }


def _segment(built: Fields) -> Fields:
    """The vectors put a voice's name and size beside its reference; ours belong to fetching."""
    more = dict(built.get("ref", {}).get("more", {}))
    if "size" in more:
        more["size"] = int(more["size"])
    return built | more


def _gateway(given: Fields, expect: Fields) -> bool:
    player = _Player()
    for step in given["script"]:
        if not player.plays(step):
            return False
    talk, session = player.talk, player.talk.session
    found = {
        "state": talk.state,
        "session_id": session.id if session else None,
        "seq": session.seq if session else None,
    }
    return holds(found, expect)


class _Player:
    """Plays a script with one connection after another, as `adapters.qq.link` does."""

    def __init__(self) -> None:
        self.talk = self._connect(None)
        self.sent: Fields | None = None
        self.ended = ""

    def plays(self, step: Fields) -> bool:
        """Whether our side does what the script says."""
        if "session" in step:
            self.talk = self._connect(Session(step["session"]["id"], step["session"]["seq"]))
            self.talk.state = "ready"
        elif "recv" in step:
            return self._hears(step["recv"])
        elif "advance_s" in step:
            due = step["advance_s"] >= self.talk.interval_s > 0
            self.sent = self.talk.beat() if due else None
        elif "expect_send" in step:
            sent, self.sent = self.sent, None
            return holds(sent, step["expect_send"])
        elif step.get("expect") == "close_and_reconnect":
            ended, self.ended = self.ended, ""
            self.talk = self._connect(self.talk.session if ended == "resume" else None)
            return bool(ended)
        return True

    def _hears(self, frame: Fields) -> bool:
        call = callback.read(msgspec.json.encode(frame))
        if call is None:
            return False
        found = self.talk.take(call)
        self.sent = found.send or self.sent
        self.ended = found.ends or self.ended
        if found.heard is not None and found.heard.s is not None:
            self.talk.settle(found.heard.s)
        return True

    def _connect(self, session: Session | None) -> Conversation:
        intents = Settings(app_id="1", secret=SecretStr("unused")).intents
        return Conversation(token="ACCESS", intents=intents, session=session)


def _close_code(given: Fields, expect: Fields) -> bool:
    return bool(gateway.after_close(given["code"]) == expect["action"])


def _outbound(given: Fields, expect: Fields) -> bool:
    conversation = ConversationKey(**given["conversation"])
    to, answers = outgoing.target(conversation), outgoing.anchor(given["reply_handle"])
    if to is None or answers is None:
        return False
    [segment] = given["segments"]
    if segment["type"] == "image":
        picture = Image(ref=Ref(via=codec.URL, id=segment["url"]))
        asked = outgoing.upload_body(outgoing.type_of(picture), url=picture.ref.id)
        before = [{"method": "POST", "path": f"{to.path}/files", "json": asked}]
        body = outgoing.media_body("<file_info>")
    else:
        before = []
        [[said]] = outgoing.split([Text(text=segment["text"])])
        body = outgoing.text_body(outgoing.said([said], to))
    json = outgoing.addressed(body, to, answers, given["reply_index"])
    call = {"method": "POST", "path": f"{to.path}/messages", "json": json}
    wanted = expect.get("calls", [expect])
    return bool([*before, call] == wanted)


def _errcode(given: Fields, expect: Fields) -> bool:
    return bool(outgoing.error_class(given["http"], given["code"]) == expect["class"])


RUNS = {
    "derive_key": _derive_key,
    "verify": _verify,
    "challenge": _challenge,
    "webhook_ack": _webhook_ack,
    "inbound": _inbound,
    "gateway": _gateway,
    "close_code": _close_code,
    "outbound": _outbound,
    "errcode": _errcode,
}
