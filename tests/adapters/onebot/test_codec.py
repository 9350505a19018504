import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.model import (
    At,
    BusinessCard,
    Card,
    ConversationKey,
    Face,
    File,
    Forward,
    Image,
    Inbound,
    Link,
    Location,
    Ref,
    Rejected,
    Reply,
    Sticker,
    Text,
    Unsupported,
    Video,
    Voice,
)
from adapters.onebot import codec, cq, outgoing
from adapters.onebot.codec import FILE, MAX_BYTES, MAX_SEGMENTS, Answer, Ignored, Meta, decode, read
from adapters.onebot.outgoing import MAX_TEXT, split

EVENT = {
    "time": 1515204254,
    "self_id": 10001000,
    "post_type": "message",
    "message_type": "private",
    "sub_type": "friend",
    "message_id": -12,
    "user_id": 345678901,
    "message": "hi",
    "sender": {"nickname": "小不点"},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def event(**changes):
    return {name: value for name, value in (EVENT | changes).items() if value is not None}


def segments(*raw, **changes):
    found = decode(event(message=list(raw), **changes))
    assert isinstance(found, Inbound)
    return found.segments


def one(kind, **data):
    [found] = segments({"type": kind, "data": data})
    return found


class TestRead:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            b"[]",
            b"7",
            b'{"a": \xff}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"a": "\\ud800"}',
            b"{" + b" " * MAX_BYTES + b"}",
        ],
        ids=lambda raw: str(raw[:8]),
    )
    def test_what_is_no_object_is_rejected(self, raw):
        assert isinstance(read(raw), Rejected)

    def test_of_two_values_of_one_name_one_counts_everywhere(self):
        assert read('{"self_id": 1, "self_id": 2}') == {"self_id": 2}


class TestEvent:
    def test_a_negative_id_is_an_id(self):
        found = decode(event())
        assert (found.message_id, found.dedupe_key) == ("-12", "10001000:-12")

    @pytest.mark.parametrize(
        "changes",
        [
            {"time": None},
            {"time": "now"},
            {"time": True},
            {"time": -1},
            {"time": 1e300},
            {"message_id": None},
            {"message_id": "x"},
            {"message_id": True},
            {"message_id": 10**30},
            {"user_id": ""},
            {"self_id": 1.5},
            {"message": None},
            {"message": 7},
            {"message": [7]},
            {"message": [{"data": {}}]},
            {"message_type": "group"},
        ],
        ids=str,
    )
    def test_what_is_no_message_is_rejected(self, changes):
        assert isinstance(decode(event(**changes)), Rejected)

    @pytest.mark.parametrize(
        "changes",
        [
            {"post_type": "message_sent"},
            {"post_type": "notice"},
            {"post_type": 7},
            {"user_id": 10001000},
            {"user_id": 2854196301},
            {"user_id": 3889000001},
            {"message_type": "guild"},
            {"post_type": "meta_event", "meta_event_type": "weather"},
        ],
        ids=str,
    )
    def test_what_nobody_says_to_us_is_ignored(self, changes):
        assert isinstance(decode(event(**changes)), Ignored)

    def test_who_is_no_friend_is_answered_by_way_of_the_group(self):
        assert decode(event(sub_type="group", group_id=5)).reply_handle == {"group_id": "5"}
        sender = {"group_id": 6}
        assert decode(event(sub_type="group", sender=sender)).reply_handle == {"group_id": "6"}
        assert decode(event(sub_type="group")).reply_handle == {}

    def test_an_account_that_is_offline_says_so(self):
        beat = event(post_type="meta_event", meta_event_type="heartbeat", interval=5000)
        assert decode(beat) == Meta(event="heartbeat", interval_ms=5000, online=False)
        well = beat | {"status": {"online": True, "good": True}}
        assert decode(well).online
        assert not decode(beat | {"status": {"online": True, "good": False}}).online

    @given(JSON)
    def test_nothing_makes_it_fail(self, anything):
        for place in ("message", "sender", "time", "status", "message_id", "post_type"):
            decode(event(**{place: anything}))
        if isinstance(anything, dict):
            decode(anything)

    @given(st.lists(st.sampled_from(sorted(codec._SEGMENTS)), max_size=5), JSON)
    def test_no_segment_makes_it_fail(self, kinds, data):
        given_data = [{"type": kind, "data": data} for kind in kinds]
        assert isinstance(decode(event(message=given_data)), Inbound)


class TestSegments:
    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            (("face", {"id": 5}), Face(id="5")),
            (("image", {"file": "a", "emoji_id": "e", "summary": "[笑]"}), Sticker),
            (("image", {"file": "https://x/y"}), Image),
            (("mface", {"emoji_id": "e", "url": "https://x"}), Sticker),
            (("record", {"file": "a.amr"}), Voice),
            (("video", {"file": "a.mp4"}), Video),
            (("at", {"qq": "all"}), At(target="all")),
            (("contact", {"type": "qq", "id": "7"}), BusinessCard(contact_type="user", id="7")),
            (("contact", {"type": "group", "id": 7}), BusinessCard(contact_type="group", id="7")),
            (("forward", {"id": "f"}), Forward(ref=Ref(via="onebot.forward", id="f"))),
            (("xml", {"data": "<x/>"}), Card(format="onebot.xml", data="<x/>")),
            (("markdown", {"content": "# x"}), Card(format="onebot.markdown", data="# x")),
            (("dice", {"result": 3}), Unsupported(platform_type="dice")),
            (("image", {}), Unsupported(platform_type="image", reason="it names no file")),
            (("location", {"lat": "91", "lon": "0"}), Unsupported),
            (("location", {"lat": "nan", "lon": "0"}), Unsupported),
            (("at", {}), Unsupported),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_each_becomes_what_it_is(self, raw, expected):
        kind, data = raw
        found = one(kind, **data)
        assert type(found) is expected if isinstance(expected, type) else found == expected

    def test_a_card_says_what_qq_shows_for_it(self):
        data = json.dumps({"app": "com.tencent.map", "prompt": "[位置]花店"}, ensure_ascii=False)
        assert one("json", data=data) == Card(format="onebot.json", data=data, text="[位置]花店")
        assert one("json", data="no json").text is None
        assert one("json", data="x" * 100_000).data is None

    def test_an_address_is_kept_for_fetching_alone(self):
        found = one("image", file="a.jpg", url="https://x/1", file_size="20")
        assert found == Image(ref=Ref(via=FILE, id="a.jpg", more={"url": "https://x/1"}), size=20)
        assert codec.bare(found).ref == Ref(via=FILE, id="a.jpg")
        assert one("image", file="a.jpg", url="file:///etc/passwd").ref.more == {}

    def test_texts_are_joined_blanks_dropped_and_the_quote_is_first(self):
        def text(words):
            return {"type": "text", "data": {"text": words}}

        quote = {"type": "reply", "data": {"id": 9}}
        assert segments(text("a"), text("b"), quote, quote) == [
            Reply(message_id="9"),
            Text(text="ab"),
        ]
        assert segments(text(" \n"), {"type": "face", "data": {"id": 1}}) == [Face(id="1")]

    def test_one_segment_is_a_message(self):
        found = decode(event(message={"type": "text", "data": {"text": "hi"}}))
        assert found.segments == [Text(text="hi")]

    def test_a_message_of_endless_parts_ends(self):
        found = segments(*[{"type": "face", "data": {"id": 1}}] * (MAX_SEGMENTS + 1))
        assert len(found) == MAX_SEGMENTS + 1
        assert isinstance(found[-1], Unsupported)
        long = decode(event(message="x" * (codec.MAX_STRING + 1))).segments
        assert [type(each) for each in long] == [Unsupported]
        coded = decode(event(message="[CQ:face,id=1]" * 1000)).segments
        assert coded == found


class TestCodes:
    @given(st.text(alphabet="[]CQ:,=&;#91344amp x你", max_size=60))
    def test_any_string_is_read(self, text):
        for each in cq.parse(text):
            assert isinstance(each["type"], str)

    @given(st.text())
    def test_text_comes_back_as_it_was_and_never_as_a_code(self, text):
        said = [{"type": "text", "data": {"text": text}}]
        assert cq.parse(cq.build(said)) == (said if text else [])

    @given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(), max_size=4))
    def test_values_come_back_as_they_were(self, data):
        said = [{"type": "share", "data": data}]
        assert cq.parse(cq.build(said)) == said

    def test_what_is_no_code_is_text(self):
        for text in ("[CQ:", "[CQ:,a=b]", "[CQ:a b]", "]", "[x]"):
            assert cq.parse(text) == [{"type": "text", "data": {"text": text}}]
        assert cq.parse("[CQ:[CQ:face,id=1]") == [
            {"type": "text", "data": {"text": "[CQ:"}},
            {"type": "face", "data": {"id": "1"}},
        ]

    def test_a_megabyte_of_beginnings_is_read_in_one_go(self):
        assert len(cq.parse("[CQ:" * 250_000 + "]")) == 1
        assert len(cq.parse("[CQ:a]" * 150_000, most=7)) == 7


class TestLookedUp:
    def test_a_quote_within_a_quote_is_left_out(self):
        message = [
            {"type": "reply", "data": {"id": "1"}},
            {"type": "image", "data": {"file": "a", "url": "https://x"}},
        ]
        data = {"message": message, "sender": {"user_id": 7}}
        assert codec.quoted(data, self_id="7") == ([Image(ref=Ref(via=FILE, id="a"))], True)

    @given(JSON)
    def test_no_answer_makes_it_fail(self, data):
        codec.quoted(data, self_id="7")
        codec.forwarded(data, self_id="7")
        codec.forwarded({"messages": [data, {"data": {"content": data}}]}, self_id="7")
        codec.url_in(data)
        codec.message_id(data)
        codec.online(data)

    def test_a_long_talk_is_cut(self):
        node = {"type": "node", "data": {"nickname": "小明", "content": "x" * 1000}}
        found = codec.forwarded({"messages": [node] * 100}, self_id="7")
        lines = found.text.split("\n")
        assert (len(lines), len(lines[0]), lines[-1]) == (51, 204, "…")


class TestFailure:
    @pytest.mark.parametrize(
        ("answer", "error_class"),
        [
            (Answer(status="ok", retcode=0), None),
            (Answer(status="async", retcode=1), None),
            (Answer(status="failed", retcode=1400), "content_invalid"),
            (Answer(status="failed", retcode=1401), "secret_invalid"),
            (Answer(status="failed", retcode=1403), "secret_invalid"),
            (Answer(status="failed", retcode=1200, words="发送过于频繁"), "rate_limited"),
            (Answer(status="failed", retcode=1200, words="你已被禁言"), "no_permission"),
            (Answer(status="failed", retcode=1200, words="rich media failed"), "media_failed"),
            (Answer(status="failed", retcode=1200, words="请先加好友"), "recipient_refuses"),
            (Answer(status="failed", retcode=1200), "content_invalid"),
        ],
        ids=str,
    )
    def test_has_its_class(self, answer, error_class):
        found = codec.failure(answer)
        assert (found and found.error_class) == error_class

    def test_that_qq_did_not_answer_in_time_is_no_no(self):
        words = "Timeout: NTEvent sendMsg"
        assert codec.failure(Answer(status="failed", retcode=1200, words=words)).unsure


class TestSplit:
    def test_a_long_text_is_cut_and_the_quote_stays_with_the_first(self):
        first, second = split([Reply(message_id="9"), Text(text="字" * (MAX_TEXT + 1))])
        assert first == [Reply(message_id="9"), Text(text="字" * MAX_TEXT)]
        assert second == [Text(text="字")]

    def test_a_picture_goes_alone_with_the_quote_before_it(self):
        picture = Image(ref=Ref(via="media", id="m"))
        assert split([Reply(message_id="9"), picture, Text(text="看")]) == [
            [Reply(message_id="9"), picture],
            [Text(text="看")],
        ]

    def test_what_has_no_form_of_its_own_is_said(self):
        link, place = Link(url="https://x", title="花"), Location(lat=1, lon=2, title="店")
        assert split([Text(text="a"), link, place, Voice(transcript="喂")]) == [
            [Text(text="a\n花 https://x\n店\n喂")]
        ]

    def test_nothing_is_sent_for_nothing(self):
        assert split([Reply(message_id="9"), Text(text=" ")]) == []

    @given(st.lists(st.text(max_size=20).map(lambda text: Text(text=text)), max_size=5))
    def test_no_words_are_lost(self, texts):
        parts = split(texts)
        said = "".join(each.text for part in parts for each in part)
        whole = "".join(each.text for each in texts)
        assert said == (whole if whole.strip() else "")


class TestSend:
    def test_only_numbers_are_written_to(self):
        for who in ("", "x", "-1", "1" * 21, "１"):
            with pytest.raises(ValueError, match="number"):
                outgoing.send(ConversationKey(type="direct", id=who), {}, [])

    def test_a_file_has_its_name(self):
        file = File(ref=Ref(via="media", id="m"), name="a.pdf")
        assert outgoing.message([file], in_group=False, media="base64://") == [
            {"type": "file", "data": {"file": "base64://", "name": "a.pdf"}}
        ]
