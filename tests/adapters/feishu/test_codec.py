import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.feishu import codec, errors
from adapters.feishu.codec import Notice, Pressed, Said, decode, forwarded
from adapters.model import (
    At,
    BusinessCard,
    Card,
    Face,
    Link,
    Location,
    Rejected,
    Segment,
    Text,
    Unsupported,
    Video,
)

BOT = "ou_bot"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MENTIONS = [
    {"key": "@_user_1", "id": {"open_id": BOT}, "name": "客服"},
    {"key": "@_user_11", "id": {"open_id": "ou_11"}, "name": "Tom"},
]


def event(kind: str = "text", content: Any = None, **changes: Any) -> dict[str, Any]:
    message = {
        "message_id": "om_1",
        "chat_id": "oc_1",
        "chat_type": "group",
        "message_type": kind,
        "create_time": "1609073151345",
        "content": content if isinstance(content, str) else json.dumps(content or {}),
    }
    sender = {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"}
    return {"sender": sender, "message": message | changes}


def read(happened: Any, kind: str = codec.MESSAGE_EVENT, app_id: str = "cli_1") -> Any:
    header = {"event_id": "e1", "event_type": kind, "app_id": app_id}
    payload = json.dumps({"schema": "2.0", "header": header, "event": happened}).encode()
    return decode(payload, app_id="cli_1", bot_open_id=BOT)


def segments(kind: str, content: Any, **changes: Any) -> list[Segment]:
    said = read(event(kind, content, **changes))
    assert isinstance(said, Said), said
    return said.message.segments


class TestMessage:
    def test_a_key_that_begins_another_is_not_taken_for_it(self):
        text = "@_user_11 @_user_1 @_user_2 @_all @_user_12"
        found = segments("text", {"text": text}, mentions=MENTIONS)
        assert found == [
            At(target="ou_11", name="Tom"),
            At(target=BOT, name="客服", is_self=True),
            Text(text=" @_user_2 "),
            At(target="all"),
            At(target=BOT, name="客服", is_self=True),
            Text(text="2"),
        ]

    @pytest.mark.parametrize("text", ["", "  ", "\n"])
    def test_nothing_but_space_says_nothing(self, text):
        assert segments("text", {"text": text}) == []
        assert segments("post", {"title": text, "content": [[{"tag": "text", "text": text}]]}) == []

    def test_words_are_kept_as_they_are(self):
        text = " a\r\n\u200d b "
        assert segments("text", {"text": text}) == [Text(text=text)]

    def test_no_database_gets_a_nul(self):
        assert segments("text", {"text": "a\0b"}) == [Text(text="a\ufffdb")]
        [[file]] = [segments("file", {"file_key": "k", "file_name": "a\0.pdf"})]
        assert file.name == "a\ufffd.pdf"

    def test_a_post_in_a_language_is_read_like_a_flat_one(self):
        inner = {"title": "", "content": [[{"tag": "md", "text": "**a**"}], [{"tag": "new"}]]}
        assert segments("post", {"zh_cn": inner}) == [Text(text="**a**\n")]

    def test_everybody_can_be_addressed_in_a_post(self):
        content = [[{"tag": "at", "user_id": "@_all"}, {"tag": "at", "user_id": "ou_9"}]]
        expected = [At(target="all"), At(target="ou_9")]
        assert segments("post", {"content": content}) == expected

    def test_elements_of_a_post_are_what_they_are(self):
        line = [
            {"tag": "a", "href": "https://a", "text": "t"},
            {"tag": "emotion", "emoji_type": "SMILE"},
            {"tag": "media", "file_key": "f", "image_key": "i"},
            {"tag": "code_block", "text": "x\n"},
        ]
        link, face, film, code = segments("post", {"content": [line]})
        assert (link, face) == (Link(url="https://a", title="t"), Face(id="SMILE"))
        assert isinstance(film, Video)
        assert film.thumb is not None
        assert code == Text(text="```\nx\n```")

    @pytest.mark.parametrize(
        ("kind", "content"),
        [
            ("text", {}),
            ("text", {"text": 7}),
            ("post", {}),
            ("post", {"content": "x"}),
            ("post", {"content": [[7]]}),
            ("image", {"image_key": ""}),
            ("image", {"image_key": "a b"}),
            ("location", {"latitude": "91", "longitude": "0"}),
            ("location", {"latitude": "nan", "longitude": "0"}),
            ("location", {"latitude": None, "longitude": "0"}),
            ("share_user", {"user_id": None}),
        ],
    )
    def test_a_content_that_says_too_little_is_unsupported(self, kind, content):
        [found] = segments(kind, content)
        assert isinstance(found, Unsupported)
        assert (found.platform_type, found.reason) == (kind, "its content is incomplete")

    @pytest.mark.parametrize("content", ["{", "[]", '{"text":' + "[" * 9999, '"\\ud800"'])
    def test_a_content_that_is_no_object_is_unsupported(self, content):
        assert segments("text", content) == [
            Unsupported(platform_type="text", reason="its content cannot be read")
        ]

    @pytest.mark.parametrize(
        ("kind", "content", "text"),
        [
            ("hongbao", {"text": "恭喜"}, "恭喜"),
            ("todo", {"summary": {"title": "买花"}}, "买花"),
            ("vote", {"topic": "哪天"}, "哪天"),
            ("system", {}, None),
            ("hologram", {"x": 1}, None),
        ],
    )
    def test_what_we_do_not_carry_is_named(self, kind, content, text):
        assert segments(kind, content) == [Unsupported(platform_type=kind, text=text)]

    def test_places_cards_and_business_cards(self):
        place = {"name": "北京", "longitude": "116.4", "latitude": "39.9"}
        assert segments("location", place) == [Location(lat=39.9, lon=116.4, title="北京")]
        assert segments("share_chat", {"chat_id": "oc_2"}) == [
            BusinessCard(contact_type="group", id="oc_2")
        ]
        card = {
            "header": {"title": {"tag": "plain_text", "content": "标题"}},
            "body": {"elements": [{"tag": "markdown", "content": "**内容**"}]},
        }
        assert segments("interactive", card) == [Card(format="feishu", text="标题\n**内容**")]

    def test_a_quote_in_a_thread_is_kept_for_the_answer(self):
        said = read(event("text", {"text": "a"}, parent_id="om_p", root_id="om_r", thread_id="t"))
        handle = {"message_id": "om_1", "thread_id": "t", "root_id": "om_r"}
        assert said.message.reply_handle == handle

    def test_only_who_is_named_is_addressed(self):
        for mentions, addressed in ((MENTIONS, True), (MENTIONS[1:], False), (None, False)):
            said = read(event("text", {"text": "a"}, mentions=mentions))
            assert said.message.mentions_bot is addressed
        assert read(event("text", {"text": "a"}, chat_type="p2p")).message.mentions_bot


class TestEvent:
    def test_applications_and_we_ourselves_are_not_answered(self):
        app = event() | {"sender": {"sender_id": {"open_id": "ou_9"}, "sender_type": "app"}}
        own = event() | {"sender": {"sender_id": {"open_id": BOT}, "sender_type": "user"}}
        for happened in (app, own):
            assert isinstance(read(happened), Notice)

    def test_other_events_say_nothing(self):
        assert read({"x": 1}, "im.chat.disbanded_v1") == Notice(
            event="im.chat.disbanded_v1", dedupe_key="e1"
        )
        assert isinstance(decode(b"{}", app_id="cli_1", bot_open_id=BOT), Notice)

    def test_a_pressed_button_is_told(self):
        pressed = {
            "operator": {"open_id": "ou_1", "user_id": None},
            "action": {"value": {"k": "v"}},
            "context": {"open_chat_id": "oc_1"},
        }
        found = read(pressed, codec.CARD_EVENT)
        assert isinstance(found, Pressed)
        assert (found.sender_id, found.chat_id) == ("ou_1", "oc_1")

    def test_another_application_is_refused(self):
        assert isinstance(read(event(), app_id="cli_2"), Rejected)

    @pytest.mark.parametrize(
        "changes",
        [
            {"message_id": ""},
            {"message_id": "a\n"},
            {"message_id": "x" * 300},
            {"chat_id": "é"},
            {"create_time": "soon"},
            {"create_time": "-1"},
            {"create_time": "9" * 20},
            {"create_time": "٣"},
            {"create_time": 7},
            {"parent_id": "a b"},
            {"mentions": {}},
        ],
    )
    def test_what_cannot_be_kept_is_refused(self, changes):
        assert isinstance(read(event("text", {"text": "a"}, **changes)), Rejected)

    def test_nobody_cannot_be_answered(self):
        nobody = event() | {"sender": {"sender_id": None, "sender_type": "user"}}
        assert isinstance(read(nobody), Rejected)

    @given(st.binary(max_size=300))
    def test_any_bytes_are_answered(self, payload):
        assert decode(payload, app_id="cli_1", bot_open_id=BOT) is not None

    @given(st.sampled_from([*codec._KINDS, "x"]), JSON, JSON)
    def test_any_content_is_answered(self, kind, content, extra):
        wrapped = {"content": content, "text": extra, "title": extra, "elements": content}
        for each in (content, wrapped, {"zh_cn": wrapped}):
            happened = event(kind, json.dumps(each, allow_nan=True))
            found = read(happened)
            assert isinstance(found, Said)
            assert all(
                "\0" not in getattr(one, "text", "")
                for one in found.message.segments
                if isinstance(one, Text)
            )

    @given(JSON)
    def test_any_event_is_answered(self, happened):
        for kind in (codec.MESSAGE_EVENT, codec.CARD_EVENT):
            assert isinstance(read(happened, kind), Said | Pressed | Rejected | Notice)


class TestForwarded:
    def test_each_line_says_who_and_what(self):
        items = [
            {"message_id": "om_1", "msg_type": "merge_forward"},
            {
                "message_id": "om_2",
                "msg_type": "text",
                "body": {"content": '{"text": "@_user_1 好"}'},
                "sender": {"id": "ou_1"},
                "mentions": [{"key": "@_user_1", "id": "ou_2", "name": "Tom"}],
            },
            {"message_id": "om_3", "msg_type": "image", "body": {"content": '{"image_key":"i"}'}},
        ]
        found = forwarded(json.dumps({"items": items}).encode(), "om_1")
        assert found == "ou_1: @Tom 好\n?: [image]"

    def test_it_is_never_endless(self):
        item = {"msg_type": "text", "body": {"content": json.dumps({"text": "x" * 9999})}}
        assert len(forwarded(json.dumps({"items": [item] * 500}).encode(), "om_1")) == 20_000

    @pytest.mark.parametrize("payload", [b"", b"[]", b'{"items": 7}', b"[" * 9999])
    def test_what_is_no_list_is_refused(self, payload):
        with pytest.raises(ValueError, match="not a list"):
            forwarded(payload, "om_1")


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "status", "expected"),
        [
            (0, 429, "rate_limited"),
            (234_011, 400, "media_failed"),
            (99991661, 400, "token_missing"),
            (10014, 200, "secret_invalid"),
            (1, 400, "content_invalid"),
        ],
    )
    def test_every_code_has_a_class(self, code, status, expected):
        assert errors.error_class(code, status=status) == expected

    def test_a_connection_that_may_come_later_is_asked_for_again(self):
        assert errors.endpoint_action(errors.BUSY) == "retry"
        assert errors.endpoint_action(errors.TOO_MANY_CONNECTIONS) == "stop"
        assert "1" in errors.endpoint_words(errors.BUSY)
        assert "App Secret" in errors.endpoint_words(errors.AUTH_FAILED)
