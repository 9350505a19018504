import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.model import (
    ConversationKey,
    Image,
    Inbound,
    Ref,
    Rejected,
    Sender,
    Text,
    Unsupported,
)
from adapters.webchat import codec

MEDIA = "0190f0a0-0000-7000-8000-000000000007"
FRAME = {
    "type": "message",
    "visitor": {"id": "v1", "name": "小王"},
    "id": "m1",
    "text": "你们几点开门？",
    "at": 1_700_000_000.5,
}


def encoded(**changes):
    return json.dumps({**FRAME, **changes}).encode()


class TestDecode:
    def test_a_visitors_message(self):
        assert codec.decode(encoded(), ours=True) == Inbound(
            dedupe_key="v1:m1",
            message_id="m1",
            occurred_at=1_700_000_000.5,
            conversation=ConversationKey(type="direct", id="v1"),
            sender=Sender(id="v1", name="小王"),
            segments=[Text(text="你们几点开门？")],
        )

    def test_a_visitor_needs_no_name(self):
        message = codec.decode(encoded(visitor={"id": "v1"}), ours=True)
        assert isinstance(message, Inbound)
        assert message.sender == Sender(id="v1")

    def test_a_picture_of_ours_is_in_the_store_already(self):
        message = codec.decode(encoded(picture=MEDIA), ours=True)
        assert isinstance(message, Inbound)
        assert message.segments == [
            Image(ref=Ref(via="media", id=MEDIA)),
            Text(text="你们几点开门？"),
        ]

    def test_a_picture_needs_no_words(self):
        message = codec.decode(encoded(picture=MEDIA, text=""), ours=True)
        assert isinstance(message, Inbound)
        assert message.segments == [Image(ref=Ref(via="media", id=MEDIA))]

    def test_a_picture_of_another_control_plane_is_not_ours_to_show(self):
        message = codec.decode(encoded(picture=MEDIA, text=""), ours=False)
        assert isinstance(message, Inbound)
        assert [segment.platform_type for segment in message.segments] == ["picture"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"type": "typing"},
            {"picture": "mine"},
            {"visitor": {}},
            {"visitor": {"id": ""}},
            {"visitor": {"id": "v" * 201}},
            {"id": ""},
            {"id": 7},
            {"text": ""},
            {"text": "x" * 20_001},
            {"text": "a\0b"},
            {"visitor": {"id": "v\0"}},
            {"at": -1},
            {"at": 1e12},
            {"at": None},
        ],
    )
    def test_anything_else_is_rejected(self, changes):
        assert isinstance(codec.decode(encoded(**changes), ours=True), Rejected)

    @given(st.binary() | st.text().map(str.encode))
    def test_arbitrary_bytes_are_rejected_and_never_raise(self, body):
        assert isinstance(codec.decode(body, ours=True), Rejected)

    @given(
        text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
    )
    def test_text_arrives_verbatim(self, text):
        message = codec.decode(encoded(text=text), ours=True)
        assert isinstance(message, Inbound)
        assert message.segments == [Text(text=text)]


class TestSplit:
    def test_a_short_message_is_one_part(self):
        segments = [Text(text="您好"), Text(text="再见")]
        assert codec.split(segments, ours=True) == [segments]

    def test_our_pictures_stay_and_stand_alone(self):
        picture = Image(ref=Ref(via="media", id=MEDIA))
        told = [Text(text="看"), picture, Text(text="好")]
        assert codec.split(told, ours=True) == [[told[0]], [picture], [told[2]]]

    def test_pictures_of_another_control_plane_are_named(self):
        picture = Image(ref=Ref(via="media", id=MEDIA), name="花.png")
        assert codec.split([picture], ours=False) == [[Text(text="[image 花.png]")]]

    def test_nothing_is_no_part(self):
        assert codec.split([], ours=True) == []

    def test_what_we_cannot_carry_becomes_its_text(self):
        parts = codec.split(
            [
                Unsupported(platform_type="card", text="名片"),
                Unsupported(platform_type="poll", reason="unknown"),
            ],
            ours=True,
        )
        assert parts == [[Text(text="名片"), Text(text="[poll]")]]

    @given(
        st.lists(
            st.builds(
                lambda unit, times: Text(text=unit * times),
                st.sampled_from(["长", "ab ", "一行\n", "👨‍👩‍👧", "🇨🇳", "👍🏽", "e\u0301"]),
                st.integers(1, 5000),
            ),
            max_size=4,
        )
    )
    def test_parts_fit_and_lose_nothing(self, segments):
        parts = codec.split(segments, ours=True)
        lengths = [sum(len(segment.text) for segment in part) for part in parts]
        assert all(0 < length <= codec.MAX_TEXT for length in lengths)
        assert "".join(s.text for part in parts for s in part) == "".join(s.text for s in segments)

    @pytest.mark.parametrize("unit", ["👨‍👩‍👧", "🇨🇳", "👍🏽", "e\u0301", "नि"])
    @pytest.mark.parametrize("shift", range(6))
    def test_a_cut_never_goes_through_a_character(self, unit, shift):
        text = "a" * shift + unit * 3000
        pieces = [part[0].text for part in codec.split([Text(text=text)], ours=True)]
        assert len(pieces) > 1
        assert all(piece.lstrip("a").startswith(unit) for piece in pieces)
        assert all(unicodedata.category(piece[0]) != "Mn" for piece in pieces)

    def test_a_cut_prefers_the_end_of_a_line(self):
        text = "a" * 3900 + "\n" + "b" * 300
        assert [part[0].text for part in codec.split([Text(text=text)], ours=True)] == [
            "a" * 3900 + "\n",
            "b" * 300,
        ]
