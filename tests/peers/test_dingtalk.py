"""DingTalk's frames and messages, with dingtalk-stream on the other side."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.dingtalk import codec, frames, outgoing
from adapters.dingtalk.codec import Said
from adapters.dingtalk.frames import BOT_TOPIC
from adapters.model import At, Image, Text
from tests.peers.place import PeerError, Peers

IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789$:=+/", min_size=1, max_size=40)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=100)
FEW = settings(max_examples=25, deadline=None)


def content(kind: str) -> st.SearchStrategy[dict[str, object]]:
    picture = st.fixed_dictionaries({"downloadCode": IDS})
    words = st.fixed_dictionaries({"text": WORDS})
    match kind:
        case "text":
            return st.fixed_dictionaries({"text": st.fixed_dictionaries({"content": WORDS})})
        case "picture":
            return st.fixed_dictionaries({"content": picture})
        case _:
            rich = st.lists(words | picture, max_size=5)
            return st.fixed_dictionaries({"content": st.fixed_dictionaries({"richText": rich})})


MESSAGES = st.sampled_from(["text", "picture", "richText"]).flatmap(
    lambda kind: st.tuples(
        st.fixed_dictionaries(
            {
                "conversationId": IDS,
                "conversationType": st.sampled_from(["1", "2"]),
                "msgId": IDS,
                "msgtype": st.just(kind),
                "createAt": st.integers(0, 2**43),
                "senderId": IDS,
                "senderNick": IDS,
                "sessionWebhook": IDS,
                "sessionWebhookExpiredTime": st.integers(0, 2**43),
                "robotCode": IDS,
                "isInAtList": st.booleans(),
            },
            optional={"senderStaffId": IDS},
        ),
        content(kind),
    ).map(lambda both: both[0] | both[1])
)


def frame(kind: str, topic: str, data: object, message_id: str = "m1") -> str:
    headers = {"topic": topic, "messageId": message_id, "contentType": "application/json"}
    told = {"specVersion": "1.0", "type": kind, "headers": headers, "data": json.dumps(data)}
    return json.dumps(told)


def answered(raw: str, *, safe: bool = True) -> dict[str, object]:
    read = frames.read(raw)
    assert read is not None
    answer = frames.answer(read, safe=safe)
    assert answer is not None
    return json.loads(answer)


class TestAMessage:
    @settings(max_examples=60, deadline=None)
    @given(message=MESSAGES)
    def test_says_the_same_to_both(self, peers: Peers, message):
        theirs = peers.ask("dingtalk_parse", data=json.dumps(message))
        found = codec.decode(json.dumps(message))
        assert isinstance(found, Said)
        ours = found.message
        assert ours.message_id == theirs["message_id"]
        assert ours.conversation.id == theirs["conversation_id"]
        assert ours.conversation.type == {"1": "direct", "2": "group"}[theirs["conversation_type"]]
        assert ours.sender.id == (theirs["sender_staff_id"] or theirs["sender_id"])
        assert ours.sender.name == theirs["sender_nick"]
        assert round(ours.occurred_at * 1000) == theirs["create_at"]
        assert ours.app == {"robot_code": theirs["robot_code"]}
        assert ours.mentions_bot == (theirs["conversation_type"] == "1" or theirs["is_in_at_list"])
        assert ours.reply_handle.get("staff_id") == theirs["sender_staff_id"]
        if theirs["expires"]:
            assert ours.reply_handle["session_webhook"] == theirs["session_webhook"]
            assert float(ours.reply_handle["expires_at"]) * 1000 == pytest.approx(theirs["expires"])
        images = [each.ref.id for each in ours.segments if isinstance(each, Image) and each.ref]
        assert images == (theirs["images"] or [])
        # We leave out what is only white space, and join what stands beside each other.
        texts = "".join(each.text for each in ours.segments if isinstance(each, Text))
        assert "".join(texts.split()) == "".join("".join(theirs["texts"] or []).split())

    @settings(max_examples=25, deadline=None)
    @given(message=MESSAGES)
    def test_that_it_writes_is_read_here_as_before(self, peers: Peers, message):
        again = peers.ask("dingtalk_parse", data=json.dumps(message))["again"]
        assert codec.decode(json.dumps(again)) == codec.decode(json.dumps(message))


class TestAFrame:
    @FEW
    @given(message=MESSAGES, message_id=IDS)
    def test_with_a_message_is_acknowledged_alike(self, peers: Peers, message, message_id):
        raw = frame("CALLBACK", BOT_TOPIC, message, message_id)
        assert shape(answered(raw)) == shape(peers.ask("dingtalk_route", frame=raw))

    def test_with_an_event_is_acknowledged_alike(self, peers: Peers):
        raw = frame("EVENT", "*", {"eventId": "e1"})
        assert shape(answered(raw)) == shape(peers.ask("dingtalk_route", frame=raw))

    def test_that_asks_whether_we_live_is_answered_alike(self, peers: Peers):
        raw = frame("SYSTEM", "ping", {"opaque": "0e4a"})
        ours, theirs = answered(raw), peers.ask("dingtalk_route", frame=raw)
        assert shape(ours) == shape(theirs)
        assert json.loads(str(ours["data"])) == json.loads(theirs["data"]) == {"opaque": "0e4a"}

    def test_that_says_goodbye_is_answered_there_alone(self, peers: Peers):
        raw = frame("SYSTEM", "disconnect", {})
        read = frames.read(raw)
        assert read is not None
        assert frames.answer(read) is None
        assert peers.ask("dingtalk_route", frame=raw)["code"] == 200

    def test_of_a_topic_that_nobody_asked_for_is_refused_here_and_left_there(self, peers: Peers):
        raw = frame("CALLBACK", "/v1.0/im/bot/messages/other", {})
        assert answered(raw)["code"] == 404
        assert peers.ask("dingtalk_route", frame=raw) is None

    def test_that_is_broken_is_no_frame_to_either(self, peers: Peers):
        assert frames.read('{"type": ') is None
        with pytest.raises(PeerError):
            peers.ask("dingtalk_route", frame='{"type": ')


def shape(answer: dict[str, object]) -> dict[str, object]:
    """What the platform reads: neither the words for people nor our own answer inside."""
    assert isinstance(answer["message"], str)
    assert isinstance(json.loads(str(answer["data"])), dict)
    return {"code": answer["code"], "headers": answer["headers"], "names": sorted(answer)}


class TestAConnection:
    def test_is_asked_for_with_the_same_words(self, peers: Peers):
        theirs = peers.ask("dingtalk_registration")
        ours = frames.registration("ding1", "secret")
        assert sorted(ours) == sorted(theirs)
        for name in ("clientId", "clientSecret"):
            assert ours[name] == theirs[name]
        assert by_topic(ours) == by_topic(theirs)


def by_topic(registration: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {each["topic"]: each["type"] for each in registration["subscriptions"]}


class TestAReply:
    @FEW
    @given(text=WORDS.filter(str.strip), to=IDS)
    def test_of_words_has_the_same_form(self, peers: Peers, text, to):
        theirs = peers.ask("dingtalk_reply", name="reply_text", said=[text], to=to)
        ours = outgoing.words([Text(text=text), At(target=to)]).webhook
        assert ours is not None
        assert ours["msgtype"] == theirs["msgtype"] == "text"
        assert ours["text"]["content"] == f"{theirs['text']['content']}@{to} "
        assert ours["at"] == theirs["at"] | {"isAtAll": False}

    @FEW
    @given(title=WORDS.filter(bool), text=WORDS)
    def test_with_markdown_has_the_same_form(self, peers: Peers, title, text):
        theirs = peers.ask("dingtalk_reply", name="reply_markdown", said=[title, text], to="u")
        ours = outgoing.markdown(text, title).webhook
        assert ours == {name: theirs[name] for name in ("msgtype", "markdown")}
