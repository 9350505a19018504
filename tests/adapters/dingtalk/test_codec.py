import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Content
from adapters.dingtalk import codec, frames, outgoing
from adapters.dingtalk.codec import Own, Said
from adapters.model import (
    At,
    Card,
    ConversationKey,
    Face,
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

MESSAGE = {
    "conversationId": "cid1",
    "conversationType": "2",
    "msgId": "msg1",
    "createAt": 1_755_850_000_500,
    "senderId": "$:LWCP_v1:zhang",
    "senderStaffId": "zhang",
    "senderNick": "张三",
    "chatbotUserId": "$:LWCP_v1:bot",
    "robotCode": "ding1",
    "isInAtList": True,
    "sessionWebhook": "https://oapi.dingtalk.com/robot/sendBySession?session=s",
    "sessionWebhookExpiredTime": 1_755_855_400_500,
    "msgtype": "text",
    "text": {"content": " 你好 "},
}
HERE = Ref(via="media", id="m1")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def decoded(**changes) -> Inbound:
    found = codec.decode(json.dumps(MESSAGE | changes))
    assert isinstance(found, Said), found
    return found.message


def content(kind: str, **fields):
    return decoded(msgtype=kind, content=fields).segments


def ref(code: str) -> Ref:
    return Ref(via=codec.MEDIA, id=code, more={"robot_code": "ding1"})


class TestIn:
    def test_a_text_in_a_group(self):
        assert decoded() == Inbound(
            dedupe_key="msg1",
            message_id="msg1",
            occurred_at=1_755_850_000.5,
            conversation=ConversationKey(type="group", id="cid1"),
            sender=Sender(id="zhang", name="张三"),
            segments=[Text(text="你好")],
            reply_handle={
                "session_webhook": MESSAGE["sessionWebhook"],
                "expires_at": "1755855400.5",
                "staff_id": "zhang",
            },
            app={"robot_code": "ding1"},
        )

    def test_somebody_outside_the_company_has_the_other_id(self):
        message = decoded(senderStaffId=None, conversationType="1")
        assert message.sender.id == "$:LWCP_v1:zhang"
        assert "staff_id" not in message.reply_handle
        assert message.conversation.type == "direct"

    def test_in_a_group_it_matters_who_is_addressed(self):
        assert decoded(isInAtList=False).mentions_bot is False
        assert decoded(isInAtList=False, conversationType=1).mentions_bot is True

    def test_its_own_words_are_no_message(self):
        assert codec.decode(json.dumps(MESSAGE | {"senderId": MESSAGE["chatbotUserId"]})) == Own()

    def test_blank_text_gives_no_segment(self):
        assert decoded(text={"content": " \n "}).segments == []

    def test_an_answer_names_what_it_answers(self):
        replied = {"msgId": "msg0", "msgType": "text", "content": {"text": " 几点开门 "}}
        segments = decoded(
            text={"content": "这个", "isReplyMsg": True, "repliedMsg": replied}
        ).segments
        quote = Reply(message_id="msg0", quoted=[Text(text="几点开门")])
        assert segments == [quote, Text(text="这个")]

    def test_media(self):
        assert content("picture", downloadCode="c1") == [Image(ref=ref("c1"))]
        assert content("audio", downloadCode="c1", recognition="您好", duration="900") == [
            Voice(ref=ref("c1"), transcript="您好", duration_ms=900)
        ]
        assert content("audio", recognition="您好") == [Voice(transcript="您好")]
        assert content("video", downloadCode="c1", duration="5", videoType="mp4") == [
            Video(ref=ref("c1"), duration_ms=5000, format="mp4")
        ]
        assert content("file", downloadCode="c1", fileName="a.zip") == [
            File(ref=ref("c1"), name="a.zip")
        ]

    def test_rich_text_keeps_its_order(self):
        items = [
            {"text": "一"},
            {"text": "二"},
            {"type": "picture", "downloadCode": "c1"},
            {"text": "\n"},
            7,
            {"text": "三"},
        ]
        assert content("richText", richText=items) == [
            Text(text="一二"),
            Image(ref=ref("c1")),
            Text(text="\n三"),
        ]

    def test_rich_text_without_end_ends(self):
        found = content("richText", richText=[{"text": "一"}] * (codec.MAX_PIECES + 1))
        assert found == [
            Text(text="一" * codec.MAX_PIECES),
            Unsupported(platform_type="richText", reason="too long"),
        ]

    def test_what_is_unknown_is_named(self):
        assert content("interactiveCard", x=1) == [Unsupported(platform_type="interactiveCard")]
        assert content("unknownMsgType", unknownMsgType="不支持") == [
            Unsupported(platform_type="unknownMsgType", text="不支持")
        ]

    @pytest.mark.parametrize(
        "changes",
        [
            {"msgId": ""},
            {"msgId": "m\0"},
            {"msgId": 7},
            {"conversationId": None},
            {"createAt": -1},
            {"createAt": 10**20},
            {"createAt": "soon"},
            {"senderId": "", "senderStaffId": ""},
            {"senderStaffId": "x" * 501},
            {"msgtype": "picture", "content": {}},
            {"msgtype": "picture", "content": {"downloadCode": 7}},
            {"msgtype": "richText", "content": {"richText": "x"}},
            {"text": []},
        ],
    )
    def test_what_is_no_message_is_rejected(self, changes):
        assert isinstance(codec.decode(json.dumps(MESSAGE | changes)), Rejected)

    @pytest.mark.parametrize(
        "raw",
        [b"", b"{", b"[" * 200_000, b'{"msgId": "\xff"}', b'{"msgId": "\\ud800"}', b" " * 2**21],
        ids=["empty", "cut", "deep", "no UTF-8", "half a character", "large"],
    )
    def test_bytes_that_are_no_message_are_rejected(self, raw):
        assert isinstance(codec.decode(raw), Rejected)

    def test_a_rejection_does_not_repeat_what_was_said(self):
        found = codec.decode(json.dumps(MESSAGE | {"createAt": "secret words"}))
        assert found == Rejected(reason="not a DingTalk message")

    @given(st.binary())
    def test_never_crashes_on_bytes(self, raw):
        assert isinstance(codec.decode(raw), Rejected)

    @given(st.sampled_from(["text", "richText", "picture", "audio", "video", "file", "x"]), JSON)
    def test_never_crashes_on_contents(self, kind, value):
        raw = json.dumps(MESSAGE | {"msgtype": kind, "content": value, "text": value})
        assert isinstance(codec.decode(raw), Said | Rejected)

    def test_ten_thousand_emoji_are_a_text(self):
        assert decoded(text={"content": "👩‍👩‍👧" * 10_000}).segments[0].text.count("👧") == 10_000


class TestFrames:
    @given(st.text() | st.binary())
    def test_never_crashes(self, raw):
        assert frames.read(raw) is None

    @given(st.dictionaries(st.sampled_from(["type", "headers", "header", "data"]), JSON))
    def test_never_crashes_on_objects(self, value):
        found = frames.read(json.dumps(value))
        assert found is None or isinstance(frames.answer(found), str | None)

    def test_headers_may_be_spelled_in_two_ways(self):
        for name in ("headers", "header"):
            raw = {"type": "SYSTEM", name: {"topic": "ping", "messageId": "7"}, "data": "{}"}
            assert frames.read(json.dumps(raw)).message_id == "7"

    def test_a_topic_that_nobody_asked_for_is_unknown(self):
        raw = {"type": "CALLBACK", "headers": {"topic": "/x", "messageId": "7"}, "data": "{}"}
        assert json.loads(frames.answer(frames.read(json.dumps(raw))))["code"] == 404

    def test_what_is_not_safe_comes_again_where_it_can(self):
        raw = {"type": "EVENT", "headers": {"topic": "*", "messageId": "7"}, "data": "{}"}
        answer = json.loads(frames.answer(frames.read(json.dumps(raw)), safe=False))
        assert json.loads(answer["data"])["status"] == "LATER"


def body_of(*segments):
    [part] = outgoing.split(segments)
    return outgoing.message(part)


class TestOut:
    def test_a_link_is_one_and_words_without_a_title(self):
        link = Link(url="https://a.example", title="价格", desc="全部", image="https://a/p.png")
        assert body_of(link) == outgoing.Message(
            "sampleLink",
            {
                "title": "价格",
                "text": "全部",
                "picUrl": "https://a/p.png",
                "messageUrl": "https://a.example",
            },
            {"msgtype": "link", "link": body_of(link).param},
        )
        assert body_of(Link(url="https://a.example")).param == {"content": "https://a.example"}

    def test_markdown_gets_a_title_from_its_first_line(self):
        assert body_of(Markdown(text="\n## 价格\n- 玫瑰")).param["title"] == "价格"
        assert body_of(Markdown(text="---")).param["title"] == "…"

    def test_a_long_markdown_becomes_texts(self):
        parts = outgoing.split([Markdown(text="花" * 5000)])
        assert [type(part[0]) for part in parts] == [Text, Text]
        assert "".join(part[0].text for part in parts) == "花" * 5000

    def test_its_own_card_is_sent_as_it_is_and_said_otherwise(self):
        data = {"msgKey": "sampleActionCard", "msgParam": {"title": "t"}}
        own = Card(format=outgoing.CARD, data=json.dumps(data), text="看这里")
        assert body_of(own) == outgoing.Message("sampleActionCard", {"title": "t"})
        for wrong in ({"msgKey": "sampleText", "msgParam": {}}, {"msgKey": "sampleActionCard"}, []):
            other = Card(format=outgoing.CARD, data=json.dumps(wrong), text="看这里")
            assert body_of(other).param == {"content": "看这里"}
        assert body_of(Card(format="wecom.template_card", text="看这里")).key == "sampleText"

    def test_words_and_mentions_stay_together(self):
        found = body_of(At(target="042", name="李四"), Text(text=" 请看 "), At(target="all"))
        assert found.param == {"content": "@李四 请看 @all"}
        assert found.webhook["at"] == {"atUserIds": ["042"], "isAtAll": True}
        assert found.webhook["text"]["content"] == "@042  请看 @all"

    def test_what_is_not_inline_begins_a_line(self):
        found = body_of(Text(text="在"), Location(lat=1, lon=2, title="花店"), Face(id="x"))
        assert found.param == {"content": "在\n花店[face]"}

    def test_a_long_text_is_cut_and_nothing_is_lost(self):
        text = "玫瑰 " * 5000
        parts = outgoing.split([Text(text=text)])
        assert "".join(each.text for part in parts for each in part) == text
        assert all(
            sum(len(each.text.encode()) for each in part) <= outgoing.MAX_TEXT_BYTES
            for part in parts
        )

    @given(st.lists(st.builds(Text, text=st.text(max_size=40)) | st.builds(At, target=st.text())))
    def test_no_part_is_empty(self, segments):
        for part in outgoing.split(segments):
            assert outgoing.words(part).param["content"].strip()

    @pytest.mark.parametrize(
        ("segment", "content_type", "size", "kind"),
        [
            (Image(ref=HERE), "image/png", 10, "image"),
            (Image(ref=HERE), "image/tiff", 10, "file"),
            (Image(ref=HERE), "image/png", 0, None),
            (Voice(ref=HERE, duration_ms=900), "audio/amr", 10, "voice"),
            (Voice(ref=HERE), "audio/amr", 10, "file"),
            (Voice(ref=HERE, duration_ms=900), "audio/amr", 3 * 2**20, "file"),
            (Video(ref=HERE, duration_ms=900, thumb=HERE), "video/mp4", 10, "video"),
            (Video(ref=HERE, duration_ms=900), "video/mp4", 10, "file"),
            (File(ref=HERE), "x/y", 21 * 2**20, None),
        ],
    )
    def test_what_a_medium_is_uploaded_as(self, segment, content_type, size, kind):
        held = Content(body=bytes(size), name="a", content_type=content_type, sha256="0")
        assert outgoing.upload_kind(segment, held) == kind


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "name", "found"),
        [
            (401, "InvalidAuthentication", "token_invalid"),
            (401, "", "token_invalid"),
            (403, "Forbidden.AccessDenied.AccessTokenPermissionDenied", "no_permission"),
            (403, "Forbidden.AccessDenied.IpNotInWhiteList", "ip_not_allowed"),
            (429, "Throttling.Api", "rate_limited"),
            (429, "", "rate_limited"),
            (400, "invalidParameter.robotCode", "no_permission"),
            (400, "invalidSession", "reply_handle_invalid"),
            (400, "somethingElse", "content_invalid"),
        ],
    )
    def test_the_new_api(self, status, name, found):
        assert outgoing.refusal_class(status, name) == found

    @pytest.mark.parametrize(
        ("code", "found"),
        [
            (88, "token_invalid"),
            (40014, "token_invalid"),
            (42001, "token_expired"),
            (90018, "rate_limited"),
            (90002, "rate_limited"),
            (130101, "rate_limited"),
            (300001, "reply_handle_invalid"),
            (310000, "no_permission"),
            (12345, "content_invalid"),
        ],
    )
    def test_the_older_one(self, code, found):
        assert outgoing.error_class(code) == found
