import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.model import (
    At,
    Face,
    File,
    Image,
    Inbound,
    Ref,
    Rejected,
    Reply,
    Text,
    Unsupported,
    Video,
    Voice,
)
from adapters.qq import codec
from adapters.qq.callback import Call
from adapters.qq.codec import Ignored, Notice, decode

FIELDS = [
    *("id", "author", "content", "timestamp", "attachments", "mentions", "data", "resolved", "url"),
    *("content_type", "openid", "msg_elements", "message_type", "group_openid", "user_openid"),
    *("message_scene", "ext"),
]
FACE = base64.b64encode(json.dumps({"text": "[微笑]"}).encode()).decode()


def call(t="C2C_MESSAGE_CREATE", *, id_="E1", **changes):
    said = {
        "id": "m1",
        "author": {"id": "U1", "user_openid": "U1", "member_openid": "M1"},
        "content": "你好",
        "timestamp": "2023-11-06T13:37:18+08:00",
        "group_openid": "G1",
        "channel_id": "1001",
        "guild_id": "18700000000001",
    }
    return Call(op=0, t=t, id=id_, d=said | changes)


def segments(t="C2C_MESSAGE_CREATE", **changes):
    found = decode(call(t, **changes), self_id="9001")
    assert isinstance(found, Inbound)
    return found.segments


def attached(**attachment):
    [segment] = segments(content="", attachments=[attachment])
    return segment


class TestMessages:
    @pytest.mark.parametrize(
        ("event", "type_", "chat", "sender", "meant"),
        [
            ("C2C_MESSAGE_CREATE", "direct", "U1", "U1", True),
            ("GROUP_AT_MESSAGE_CREATE", "group", "G1", "M1", True),
            ("GROUP_MESSAGE_CREATE", "group", "G1", "M1", False),
            ("AT_MESSAGE_CREATE", "channel", "1001", "U1", True),
            ("MESSAGE_CREATE", "channel", "1001", "U1", False),
            ("DIRECT_MESSAGE_CREATE", "channel", "dms:18700000000001", "U1", True),
        ],
    )
    def test_where_it_is_said_and_by_whom(self, event, type_, chat, sender, meant):
        found = decode(call(event))
        assert isinstance(found, Inbound)
        assert (found.conversation.type, found.conversation.id) == (type_, chat)
        assert (found.sender.id, found.mentions_bot) == (sender, meant)
        assert found.reply_handle == {"msg_id": "m1"}

    def test_a_bot_is_not_heard(self):
        for author in ({"id": "9", "bot": True}, {"id": "9001"}):
            found = decode(call("AT_MESSAGE_CREATE", author=author), self_id="9001")
            assert isinstance(found, Ignored)

    def test_a_group_that_names_the_bot_means_it(self):
        mentions = [{"member_openid": "B1", "is_you": True, "username": "客服"}]
        found = decode(call("GROUP_MESSAGE_CREATE", content="<@B1> 在吗", mentions=mentions))
        assert isinstance(found, Inbound)
        assert found.mentions_bot
        assert found.segments == [At(target="B1", name="客服", is_self=True), Text(text=" 在吗")]

    def test_ids_that_come_as_numbers_keep_every_digit(self):
        found = decode(call("AT_MESSAGE_CREATE", channel_id=2**63, author={"id": 2**64 - 1}))
        assert isinstance(found, Inbound)
        assert (found.conversation.id, found.sender.id) == (str(2**63), str(2**64 - 1))

    def test_marks_inside_a_text(self):
        content = (
            '<@!9001>看 <emoji:4> <qqbot-at-user id="X1" /> <qqbot-at-everyone />'
            f'<faceType=1,faceId="14",ext="{FACE}"><@> <b>'
        )
        assert segments("AT_MESSAGE_CREATE", content=content) == [
            At(target="9001", is_self=True),
            Text(text="看 "),
            Face(id="4"),
            Text(text=" "),
            At(target="X1"),
            Text(text=" "),
            At(target="all"),
            Face(id="14", text="[微笑]"),
            Text(text="<@> <b>"),
        ]

    @pytest.mark.parametrize("ext", ["", "====", "AAAA", base64.b64encode(b"[]").decode()])
    def test_a_face_without_words(self, ext):
        assert segments(content=f'<faceType=1,faceId="14",ext="{ext}">') == [Face(id="14")]

    @pytest.mark.parametrize("content", ["", " \n", None, 7])
    def test_nothing_said_is_no_segment(self, content):
        assert segments(content=content) == []

    def test_a_zero_has_no_place_in_our_store(self):
        assert segments(content="a\0b") == [Text(text="a\ufffdb")]

    def test_ten_thousand_emoji_are_one_text(self):
        assert segments(content="😀" * 10_000) == [Text(text="😀" * 10_000)]

    def test_marks_that_never_end_are_read_in_one_pass(self):
        content = '<faceType=1,faceId="",ext="AAAA' * 30_000
        assert segments(content=content) == [Text(text=content)]

    def test_what_else_it_may_carry_is_named(self):
        assert segments(content="", ark={"template_id": 1}) == [Unsupported(platform_type="ark")]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"id": None},
            {"id": ""},
            {"id": "a\0"},
            {"id": "x" * 600},
            {"id": ["m"]},
            {"author": None},
            {"author": {}},
            {"timestamp": None},
            {"timestamp": "soon"},
            {"timestamp": "2023-11-06T13:37:18"},
            {"timestamp": "9" * 40},
            {"timestamp": -1},
            {"timestamp": True},
        ],
    )
    def test_what_is_no_message_is_refused(self, wrong):
        assert isinstance(decode(call(**wrong)), Rejected)

    @pytest.mark.parametrize("event", [None, "", "GUILD_CREATE", "READY", "RESUMED"])
    def test_other_events_say_nothing(self, event):
        assert isinstance(decode(Call(op=0, t=event)), Ignored)

    @given(
        st.sampled_from([*codec._MESSAGES, *codec._NOTICES, "INTERACTION_CREATE"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(FIELDS),
                    inner,
                    max_size=6,
                )
            ),
            max_leaves=20,
        ),
    )
    def test_never_raises(self, event, d):
        decode(Call(op=0, t=event, id="E", d=d))


class TestAttachments:
    def test_a_picture(self):
        picture = {"content_type": "image/png", "filename": "a.png", "size": 9, "width": 3}
        assert attached(**picture, height=4, url="//h/p") == Image(
            ref=Ref(via="qq.url", id="https://h/p"), name="a.png", size=9, width=3, height=4
        )

    def test_a_film(self):
        assert attached(content_type="video/mp4", url="https://h/v") == Video(
            ref=Ref(via="qq.url", id="https://h/v"), format="mp4"
        )

    def test_a_file_keeps_the_name_that_it_was_given(self):
        assert attached(content_type="file", filename="../价格.pdf", url="https://h/f") == File(
            ref=Ref(via="qq.url", id="https://h/f"), name="../价格.pdf"
        )

    def test_a_voice_without_another_form_is_as_it_came(self):
        assert attached(content_type="voice", filename="v.SILK", url="https://h/v") == Voice(
            ref=Ref(via="qq.url", id="https://h/v", more={"name": "v.SILK"}), format="silk"
        )

    def test_a_voice_that_is_words_alone(self):
        found = attached(content_type="voice", asr_refer_text="在吗")
        assert found == Voice(transcript="在吗")

    @pytest.mark.parametrize(
        "url", [None, "", "ftp://h/x", "javascript:1", "https://" + "x" * 5000]
    )
    def test_what_has_no_address_is_named(self, url):
        assert attached(content_type="image/png", filename="a.png", url=url) == Unsupported(
            platform_type="image/png", text="a.png", reason="no address"
        )

    def test_more_than_a_person_can_attach_is_said(self):
        many = [{"content_type": "file", "url": f"https://h/{n}"} for n in range(25)]
        found = segments(content="", attachments=many)
        assert len(found) == 21
        assert isinstance(found[-1], Unsupported)


class TestQuotes:
    def test_within_guilds_by_the_messages_id(self):
        reference = {"message_id": "m0"}
        assert segments("AT_MESSAGE_CREATE", message_reference=reference)[0] == Reply(
            message_id="m0"
        )

    def test_elsewhere_with_what_it_said(self):
        scene = {"ext": ["msg_idx=2", "ref_msg_idx=REF1", 7]}
        elements = [{"content": "早上九点", "msg_elements": [{"content": "deeper"}]}]
        found = segments(message_type=103, message_scene=scene, msg_elements=elements)
        assert found == [
            Reply(message_id="REF1", quoted=[Text(text="早上九点")]),
            Text(text="你好"),
        ]

    def test_without_any_of_it(self):
        assert segments(message_type=103) == [Reply(), Text(text="你好")]


class TestNotices:
    def test_a_button(self):
        resolved = {"button_id": 21, "button_data": "d", "user_id": "U1"}
        found = decode(call("INTERACTION_CREATE", id="i1", data={"resolved": resolved}))
        assert found == Notice(
            event="INTERACTION_CREATE",
            dedupe_key="i1",
            sender_id="U1",
            button_id="21",
            button_data="d",
        )

    @pytest.mark.parametrize("event", ["FRIEND_DEL", "GROUP_DEL_ROBOT", "C2C_MSG_REJECT"])
    def test_who_left_cannot_be_answered(self, event):
        said = {"openid": "U1", "op_member_openid": "M1", "timestamp": 1}
        found = decode(Call(op=0, t=event, id="E", d=said))
        assert isinstance(found, Notice)
        assert found.reply_handle == {}

    def test_one_without_an_id_is_refused(self):
        found = decode(Call(op=0, t="FRIEND_ADD", d={"openid": "U1", "timestamp": 1}))
        assert isinstance(found, Rejected)
