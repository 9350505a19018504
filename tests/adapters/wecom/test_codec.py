import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import wx_xml
from adapters.base import Content
from adapters.model import (
    At,
    Card,
    ConversationKey,
    File,
    Image,
    Inbound,
    Link,
    Location,
    Markdown,
    Ref,
    Rejected,
    Reply,
    Sender,
    Text,
    Unsupported,
    Video,
    Voice,
)
from adapters.wecom import codec
from adapters.wecom.codec import MAX_TEXT_BYTES, MEDIA, Notice, PullTrigger, decode, split

MB = 1024 * 1024
STORED = Ref(via="media", id="m1")


def message(kind="text", **fields):
    common = {
        "ToUserName": "ww1",
        "FromUserName": "zhangsan",
        "CreateTime": "1348831860",
        "MsgType": kind,
        "MsgId": "7300000000000000001",
        "AgentID": "1000002",
    }
    kept = {name: value for name, value in (common | fields).items() if value is not None}
    return wx_xml.write(kept).encode()


def segments(kind, **fields):
    found = decode(message(kind, **fields))
    assert isinstance(found, Inbound)
    return found.segments


class TestDecode:
    def test_json_says_the_same_as_xml(self):
        said = {
            "ToUserName": "ww1",
            "FromUserName": "zhangsan",
            "CreateTime": 1348831860,
            "MsgType": "text",
            "Content": "hello",
            "MsgId": 7300000000000000001,
            "AgentID": 1000002,
        }
        assert decode(json.dumps(said).encode()) == decode(message(Content="hello"))
        assert isinstance(decode(b'{"MsgType": "text"}'), Rejected)
        assert isinstance(decode(b"{nonsense"), Rejected)

    def test_a_text_with_all_that_stands_around_it(self):
        assert decode(message(Content=" 你好\n]]>")) == Inbound(
            dedupe_key="7300000000000000001",
            message_id="7300000000000000001",
            occurred_at=1348831860.0,
            conversation=ConversationKey(type="direct", id="zhangsan"),
            sender=Sender(id="zhangsan"),
            segments=[Text(text=" 你好\n]]>")],
            app={"agent_id": "1000002"},
        )

    @pytest.mark.parametrize(
        ("kind", "fields", "segment"),
        [
            (
                "image",
                {"PicUrl": "http://pic", "MediaId": "M"},
                Image(ref=Ref(via=MEDIA, id="M", more={"url": "http://pic"})),
            ),
            (
                "voice",
                {"MediaId": "M", "Format": "amr", "Recognition": "在吗"},
                Voice(ref=Ref(via=MEDIA, id="M"), format="amr", transcript="在吗"),
            ),
            (
                "video",
                {"MediaId": "M", "ThumbMediaId": "T"},
                Video(ref=Ref(via=MEDIA, id="M"), thumb=Ref(via=MEDIA, id="T")),
            ),
            (
                "file",
                {"MediaId": "M", "FileName": "../价格.pdf"},
                File(ref=Ref(via=MEDIA, id="M"), name="../价格.pdf"),
            ),
            (
                "location",
                {"Location_X": "23.134", "Location_Y": "113.358", "Label": "广州"},
                Location(lat=23.134, lon=113.358, title="广州"),
            ),
            (
                "link",
                {"Title": "t", "Description": "d", "Url": "https://u", "PicUrl": "https://p"},
                Link(url="https://u", title="t", desc="d", image="https://p"),
            ),
            ("hologram", {}, Unsupported(platform_type="hologram")),
        ],
    )
    def test_every_kind_of_message(self, kind, fields, segment):
        assert segments(kind, **fields) == [segment]

    def test_white_space_says_nothing(self):
        assert segments("text", Content=" \n ") == []

    def test_an_event_is_a_notice_with_a_key_of_its_own(self):
        found = decode(message("event", Event="click", EventKey="MENU", MsgId=None))
        assert found == Notice(
            event="click",
            dedupe_key="zhangsan:1348831860:click",
            occurred_at=1348831860.0,
            sender_id="zhangsan",
            event_key="MENU",
        )

    def test_customer_service_asks_to_fetch(self):
        found = decode(
            message("event", Event="kf_msg_or_event", Token="T", OpenKfId="wk1", FromUserName=None)
        )
        assert found == PullTrigger(event="kf_msg_or_event", token="T", open_kfid="wk1")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"MsgType": None},
            {"MsgId": None},
            {"MsgId": " "},
            {"FromUserName": ""},
            {"CreateTime": "soon"},
            {"CreateTime": "9" * 40},
            {"CreateTime": "٣"},
            {"Content": None},
        ],
    )
    def test_what_is_no_message_is_refused(self, wrong):
        assert isinstance(decode(message(**{"Content": "hi"} | wrong)), Rejected)

    @pytest.mark.parametrize("x", ["nan", "inf", "91", "north", ""])
    def test_a_place_that_is_none_is_refused(self, x):
        place = message("location", Location_X=x, Location_Y="1")
        assert isinstance(decode(place), Rejected)

    @given(st.binary(max_size=300))
    def test_never_crashes(self, body):
        assert isinstance(decode(body), Rejected)

    @given(
        st.sampled_from([*codec._SEGMENTS, "event", "other"]),
        st.dictionaries(
            st.sampled_from(
                ["FromUserName", "CreateTime", "MsgId", "Content", "MediaId", "Location_X", "Event"]
            ),
            st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20),
        ),
    )
    def test_fields_of_any_content_never_make_it_crash(self, kind, fields):
        decode(message(kind, **fields))


class TestSplit:
    def test_words_run_on_and_what_stands_alone_is_sent_alone(self):
        parts = split(
            [
                Reply(message_id="1"),
                At(target="lisi", name="李四"),
                Text(text=" 看这里"),
                Location(lat=1, lon=2, title="店"),
                Image(ref=STORED),
                Text(text="再见"),
            ]
        )
        assert parts == [[Text(text="@李四 看这里\n店")], [Image(ref=STORED)], [Text(text="再见")]]

    @given(st.lists(st.text(max_size=3000), max_size=4))
    def test_no_word_is_lost_and_each_part_fits(self, texts):
        parts = split([Text(text=text) for text in texts])
        assert all(len(part) == 1 for part in parts)
        said = [part[0].text for part in parts]
        assert all(0 < len(text.encode()) <= MAX_TEXT_BYTES for text in said)
        assert "".join("".join(said).split()) == "".join("".join(texts).split())

    def test_a_chinese_text_is_cut_by_bytes(self):
        parts = split([Text(text="好" * 1000)])
        assert [len(part[0].text) for part in parts] == [682, 318]

    def test_markdown_that_does_not_fit_goes_out_as_text(self):
        short, long = Markdown(text="**a**"), Markdown(text="好" * 683)
        assert split([short]) == [[short]]
        assert [type(part[0]) for part in split([long])] == [Text, Text]

    def test_a_voice_without_sound_is_its_transcript(self):
        assert split([Voice(transcript="在吗")]) == [[Text(text="在吗")]]

    def test_nothing_to_say_makes_no_part(self):
        assert split([]) == []
        assert split([Text(text=" \n"), Reply(message_id="1"), Markdown(text=" ")]) == []

    def test_a_link_without_a_title_is_said(self):
        assert split([Link(url="https://a")]) == [[Text(text="https://a")]]
        script = Link(url="javascript:alert(1)", title="t")
        assert split([script]) == [[Text(text="t javascript:alert(1)")]]


class TestBody:
    def test_a_link_is_a_card_within_the_limits(self):
        link = Link(url="https://a", title="题" * 100, desc="文" * 300)
        card = codec.body(link)["textcard"]
        assert (len(card["title"]), len(card["description"])) == (42, 170)
        assert codec.body(Link(url="https://a", title="t"))["textcard"]["description"]

    def test_a_card_of_the_platforms_own_form_goes_out_as_it_is(self):
        data = {"card_type": "text_notice"}
        card = Card(format=codec.TEMPLATE_CARD, data=json.dumps(data), text="words")
        assert codec.body(card) == {"msgtype": "template_card", "template_card": data}
        assert split([card]) == [[card]]

    @pytest.mark.parametrize(
        "card",
        [
            Card(format="feishu.card", data="{}", text="words"),
            Card(format=codec.TEMPLATE_CARD, data="[]", text="words"),
            Card(format=codec.TEMPLATE_CARD, data="{", text="words"),
            Card(format=codec.TEMPLATE_CARD, data="[" * 100_000, text="words"),
            Card(format=codec.TEMPLATE_CARD, text="words"),
        ],
    )
    def test_any_other_card_is_said(self, card):
        assert split([card]) == [[Text(text="words")]]


class TestUploadKind:
    @pytest.mark.parametrize(
        ("segment", "content_type", "size", "kind"),
        [
            (Image(ref=STORED), "image/png", 10 * MB, "image"),
            (Image(ref=STORED), "image/png", 10 * MB + 1, "file"),
            (Image(ref=STORED), "image/webp", 100, "file"),
            (Voice(ref=STORED), "audio/amr", 2 * MB, "voice"),
            (Voice(ref=STORED), "audio/mpeg", 100, "file"),
            (Video(ref=STORED), "video/mp4", 10 * MB, "video"),
            (Video(ref=STORED), "video/mp4", 11 * MB, "file"),
            (File(ref=STORED), "image/png", 100, "file"),
            (File(ref=STORED), "application/pdf", 20 * MB + 1, None),
            (File(ref=STORED), "text/plain", 5, None),
        ],
    )
    def test_falls_back_in_the_written_order(self, segment, content_type, size, kind):
        content = Content(body=bytes(size), name="n", content_type=content_type, sha256="0")
        assert codec.upload_kind(segment, content) == kind


class TestErrorClass:
    def test_a_code_that_nobody_knows_is_the_contents_fault(self):
        assert codec.error_class(99_999) == "content_invalid"
