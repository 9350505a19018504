import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.model import (
    ConversationKey,
    File,
    Image,
    Inbound,
    Ref,
    Rejected,
    Reply,
    Sender,
    Text,
    Unsupported,
    Video,
    Voice,
)
from adapters.wecom_aibot import messages
from adapters.wecom_aibot.messages import MAX_BYTES, MAX_ITEMS, MEDIA, Notice, Poll, decode

NOW = 1_755_850_000.0
URL = {"url": "https://ww-aibot-img.cos.myqcloud.com/a?sign=b"}
STREAM = messages.stream_id("m1")


def message(kind="text", /, **fields):
    common = {
        "msgid": "m1",
        "aibotid": "aib1",
        "chattype": "single",
        "from": {"userid": "zhangsan"},
        "msgtype": kind,
    }
    return {name: value for name, value in (common | fields).items() if value is not None}


def said(fields, **more):
    return decode(json.dumps(fields).encode(), at=NOW, **more)


def segments(kind, **fields):
    found = said(message(kind, **fields))
    assert isinstance(found, Inbound), found
    return found.segments


class TestMessages:
    def test_a_text_with_all_that_stands_around_it(self):
        given = message(text={"content": " 你好\n"}, response_url="https://answer")
        assert said(given) == Inbound(
            dedupe_key="m1",
            message_id="m1",
            occurred_at=NOW,
            conversation=ConversationKey(type="direct", id="zhangsan"),
            sender=Sender(id="zhangsan"),
            segments=[Text(text=" 你好\n")],
            reply_handle={"stream": STREAM, "response_url": "https://answer"},
        )

    def test_the_long_connection_answers_by_the_frame(self):
        found = said(message(text={"content": "hi"}), req_id="r1")
        assert found.reply_handle == {"stream": STREAM, "req_id": "r1"}

    def test_a_group_keeps_the_name_that_was_called(self):
        found = said(message(chattype="group", chatid="wr1", text={"content": "@Bot 在吗"}))
        assert found.conversation == ConversationKey(type="group", id="wr1")
        assert (found.sender.id, found.segments) == ("zhangsan", [Text(text="@Bot 在吗")])
        assert found.mentions_bot

    @pytest.mark.parametrize(
        ("kind", "inner", "expected"),
        [
            ("image", URL, Image(ref=Ref(via=MEDIA, id=URL["url"]))),
            ("video", URL, Video(ref=Ref(via=MEDIA, id=URL["url"]))),
            (
                "file",
                URL | {"aeskey": "k"},
                File(ref=Ref(via=MEDIA, id=URL["url"], more={"aeskey": "k"})),
            ),
            ("voice", {"content": "在吗"}, Voice(transcript="在吗")),
            ("location", {"x": 1}, Unsupported(platform_type="location")),
            ("image", {"url": 7}, Unsupported(platform_type="image")),
            ("text", {"content": None}, Unsupported(platform_type="text")),
            ("voice", "odd", Unsupported(platform_type="voice")),
        ],
    )
    def test_each_kind_has_its_segment_and_what_is_odd_is_named(self, kind, inner, expected):
        assert segments(kind, **{kind: inner}) == [expected]

    def test_text_of_blanks_is_nothing(self):
        assert segments("text", text={"content": " \n"}) == []

    def test_mixed_keeps_the_order(self):
        items = [
            {"msgtype": "text", "text": {"content": "看"}},
            {"msgtype": "image", "image": URL},
            {"msgtype": "mixed", "mixed": {"msg_item": []}},
            "odd",
        ]
        assert segments("mixed", mixed={"msg_item": items}) == [
            Text(text="看"),
            Image(ref=Ref(via=MEDIA, id=URL["url"])),
            Unsupported(platform_type="mixed"),
            Unsupported(platform_type=""),
        ]

    def test_mixed_without_end_is_cut_and_says_so(self):
        items = [{"msgtype": "text", "text": {"content": "x"}}] * (MAX_ITEMS + 1)
        found = segments("mixed", mixed={"msg_item": items})
        assert len(found) == MAX_ITEMS + 1
        assert found[-1] == Unsupported(platform_type="mixed", reason="too many pieces")

    def test_a_quote_comes_first_and_names_no_message(self):
        quote = {"msgtype": "image", "image": URL}
        found = segments("text", text={"content": "这个"}, quote=quote)
        assert found == [
            Reply(quoted=[Image(ref=Ref(via=MEDIA, id=URL["url"]))]),
            Text(text="这个"),
        ]

    def test_ten_thousand_emoji_stay_what_they_are(self):
        assert segments("text", text={"content": "🌹" * 10_000}) == [Text(text="🌹" * 10_000)]


class TestOthers:
    def test_a_poll_says_nothing(self):
        found = said(message("stream", chattype="group", chatid="wr1", stream={"id": "s1"}))
        conversation = ConversationKey(type="group", id="wr1")
        assert found == Poll(stream_id="s1", conversation=conversation)

    def test_an_event_has_its_own_time_if_that_can_be(self):
        for stamp, at in ((1700000000, 1700000000.0), (10**18, NOW), (-1, NOW), ("x", NOW)):
            found = said(message("event", event={"eventtype": "enter_chat"}, create_time=stamp))
            assert found == Notice(
                event="enter_chat", dedupe_key="m1", occurred_at=at, sender_id="zhangsan"
            )

    def test_an_event_may_be_about_nobody(self):
        event = {"eventtype": "disconnected_event"}
        assert said(message("event", **{"from": None}, event=event)).sender_id == ""


class TestBadInput:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"msgid": None},
            {"msgid": " "},
            {"msgid": 7},
            {"from": None},
            {"from": {"userid": ""}},
            {"from": []},
            {"chattype": "group"},
            {"msgtype": ""},
        ],
    )
    def test_what_lacks_the_essential_is_no_message(self, wrong):
        assert isinstance(said(message(text={"content": "x"}) | wrong), Rejected)

    def test_another_bots_message_is_not_ours(self):
        given = message(text={"content": "x"})
        assert said(given, bot_id="aib2") == Rejected(reason=messages.FOREIGN)
        assert isinstance(said(given, bot_id="aib1"), Inbound)

    def test_deep_nesting_and_size_have_limits(self):
        deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
        for raw in (deep, b'{"a":"' + b"x" * MAX_BYTES + b'"}', b"\xff\xfe", b"[]", b""):
            assert isinstance(decode(raw, at=NOW), Rejected)

    def test_of_two_equal_names_one_counts_for_everybody(self):
        raw = json.dumps(message(text={"content": "x"})).replace(
            '"aib1"', '"aib2","aibotid":"aib1"'
        )
        assert isinstance(decode(raw.encode(), at=NOW, bot_id="aib1"), Inbound)
        assert isinstance(decode(raw.encode(), at=NOW, bot_id="aib2"), Rejected)

    @given(st.binary(max_size=500))
    def test_never_crashes_on_bytes(self, raw):
        assert isinstance(decode(raw, at=NOW), Rejected)

    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    )

    @given(
        st.sampled_from(["text", "mixed", "image", "voice", "file", "event", "stream", "other"]),
        json_values,
        json_values,
    )
    def test_never_crashes_on_what_may_stand_inside(self, kind, inner, quote):
        found = said(message(kind, **{kind: inner, "quote": quote}))
        assert isinstance(found, Inbound | Notice | Poll | Rejected)
