import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Content
from adapters.model import (
    At,
    Card,
    ConversationKey,
    File,
    Image,
    Link,
    Markdown,
    Ref,
    Rejected,
    Reply,
    Text,
    Unsupported,
    Video,
    Voice,
)
from adapters.wecom_aibot import codec
from adapters.wecom_aibot.client import file_name
from adapters.wecom_aibot.codec import MAX_CONTENT_BYTES, split, split_answer
from adapters.wecom_aibot.upload import ascii_name

MB = 1024 * 1024
STORED = Ref(via="media", id="m1")
CARD = Card(format=codec.TEMPLATE_CARD, data='{"card_type": "text_notice"}', text="订单")


def content(body: bytes, content_type: str) -> Content:
    digest = hashlib.sha256(body).hexdigest()
    return Content(body=body, name="a", content_type=content_type, sha256=digest)


class TestFrame:
    def test_an_answer_has_no_command(self):
        found = codec.frame('{"headers":{"req_id":"r"},"errcode":846605,"errmsg":"invalid req_id"}')
        assert (found.cmd, found.req_id, found.errcode) == ("", "r", 846605)

    def test_a_body_stays_as_it_came(self):
        found = codec.frame('{"cmd":"x","headers":{"req_id":"r"},"body":{"a": 1}}')
        assert bytes(found.body) == b'{"a": 1}'

    @pytest.mark.parametrize(
        "raw", ["", "[]", "{", '{"cmd": 7}', '{"headers": null}', b"\xff", '{"errcode": "x"}']
    )
    def test_what_is_none_is_rejected(self, raw):
        assert isinstance(codec.frame(raw), Rejected)

    @given(st.text() | st.binary())
    def test_never_crashes(self, raw):
        codec.frame(raw)

    def test_a_push_names_the_kind_of_talk(self):
        for kind, number in (("direct", 1), ("group", 2)):
            to = ConversationKey(type=kind, id="c")
            assert codec.push(to, codec.markdown("x")) == {
                "chatid": "c",
                "chat_type": number,
                "msgtype": "markdown",
                "markdown": {"content": "x"},
            }


class TestSplit:
    def test_words_stay_together_and_media_stand_alone(self):
        given = [Text(text="看"), Image(ref=STORED), At(target="u", name="小明"), Text(text="好")]
        assert split(given) == [[Text(text="看")], [Image(ref=STORED)], [Text(text="@小明好")]]

    def test_what_has_no_form_of_its_own_is_said(self):
        link = Link(url="https://a", title="t")
        given = [Markdown(text="**a**"), link, Unsupported(platform_type="x"), Reply()]
        assert split(given) == [[Text(text="**a**\nt https://a\n[x]")]]
        odd = Card(format="other", data="{}", text="words")
        assert split([odd, CARD]) == [[Text(text="words")], [CARD]]
        broken = Card(format=codec.TEMPLATE_CARD, data="{", text="words")
        assert split([broken]) == [[Text(text="words")]]

    def test_a_voice_without_sound_is_its_words(self):
        assert split([Voice(transcript="在吗")]) == [[Text(text="在吗")]]
        assert split([Voice(ref=STORED)]) == [[Voice(ref=STORED)]]

    @pytest.mark.parametrize("cut", [split, split_answer])
    def test_a_long_text_is_cut_where_the_platform_cuts(self, cut):
        text = "花" * MAX_CONTENT_BYTES
        parts = cut([Text(text=text)])
        assert "".join(each.text for [each] in parts) == text
        assert all(len(each.text.encode()) <= MAX_CONTENT_BYTES for [each] in parts)
        assert len(parts) == 4

    @pytest.mark.parametrize("cut", [split, split_answer])
    def test_nothing_is_no_message(self, cut):
        assert cut([Text(text=" "), Reply()]) == []

    def test_an_answer_takes_words_and_pictures_at_once(self):
        image, file = Image(ref=STORED), File(ref=STORED, name="a.pdf")
        given = [image, Text(text="看"), file, Video(ref=STORED)]
        assert split_answer(given) == [[Text(text="看\n[file a.pdf]\n[video]"), image]]
        assert split_answer([image]) == [[image]]
        assert split_answer([image] * 11)[0][1:] == [image] * 10

    @given(st.lists(st.text(max_size=50)))
    def test_words_are_never_lost(self, texts):
        for cut in (split, split_answer):
            parts = cut([Text(text=each) for each in texts])
            assert "".join(part[0].text for part in parts).strip() == "".join(texts).strip()


class TestMedia:
    @pytest.mark.parametrize(
        ("segment", "size", "content_type", "kind"),
        [
            (Image(ref=STORED), 10 * MB, "image/png", "image"),
            (Image(ref=STORED), 10 * MB + 1, "image/png", "file"),
            (Image(ref=STORED), 9, "image/webp", "file"),
            (Voice(ref=STORED), 2 * MB, "audio/amr", "voice"),
            (Voice(ref=STORED), 9, "audio/mpeg", "file"),
            (Video(ref=STORED), 9, "video/mp4", "video"),
            (File(ref=STORED), 20 * MB, "x/y", "file"),
            (File(ref=STORED), 20 * MB + 1, "x/y", None),
            (File(ref=STORED), 5, "x/y", None),
        ],
    )
    def test_goes_as_what_the_platform_takes(self, segment, size, content_type, kind):
        assert codec.upload_kind(segment, content(bytes(size), content_type)) == kind

    def test_a_picture_inside_an_answer(self):
        body = b"\x89PNG" + bytes(9)
        found = codec.picture(content(body, "image/png"))
        assert base64.b64decode(found["image"]["base64"]) == body
        assert found["image"]["md5"] == hashlib.md5(body).hexdigest()  # noqa: S324
        assert codec.picture(content(body, "image/gif")) is None
        assert codec.picture(content(body, "image/png"), room=len(body) - 1) is None

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("价格.pdf", "file.pdf"), ("", "file"), ("a b.c.d", "a_b_c.d"), ("x" * 99, "x" * 80)],
    )
    def test_names_go_out_in_ascii(self, name, expected):
        assert ascii_name(name) == expected

    @pytest.mark.parametrize(
        ("header", "name"),
        [
            ("attachment; filename*=UTF-8''%E4%BB%B7%E6%A0%BC.pdf", "价格.pdf"),
            ('attachment; filename="a.pdf"', "a.pdf"),
            ("attachment", ""),
            ("", ""),
            ("attachment; filename*=nonsense''%FF", "ÿ"),
            ('attachment; filename="a\r\nb"', "ab"),
        ],
    )
    def test_names_come_in_every_spelling(self, header, name):
        assert file_name(header) == name

    @given(st.text())
    def test_a_header_never_crashes_it(self, header):
        assert len(file_name(f"attachment; filename={header}")) <= 200


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "error_class"),
        [
            (846605, "reply_handle_invalid"),
            (846608, "window_expired"),
            (93001, "recipient_refuses"),
            (93006, "recipient_invalid"),
            (93008, "bot_not_in_chat"),
            (45009, "rate_limited"),
            (-1, "server_busy"),
            (12345, "content_invalid"),
        ],
    )
    def test_a_code_has_its_class(self, code, error_class):
        assert codec.error_class(code) == error_class

    def test_an_address_that_is_used_up_has_codes_that_nobody_wrote_down(self):
        assert codec.answer_class(40001) == "reply_handle_invalid"
        assert codec.answer_class(45009) == "rate_limited"

    def test_frames_are_json(self):
        assert json.loads(json.dumps(codec.call("ping", "r"))) == {
            "cmd": "ping",
            "headers": {"req_id": "r"},
        }
