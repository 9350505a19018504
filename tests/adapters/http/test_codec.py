import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Content, Outgoing
from adapters.http import codec
from adapters.model import (
    At,
    Author,
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

MESSAGE = {
    "type": "message.received",
    "id": "m1",
    "conversation": {"type": "group", "id": "g1", "name": "售后"},
    "sender": {"id": "u1", "name": "小王"},
    "at": 1_755_850_000.5,
    "text": "你们几点开门？",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def decoded(**changes):
    return codec.decode(json.dumps(MESSAGE | changes).encode(), received_at=7.0)


def segments(*given):
    found = decoded(text="", segments=list(given))
    assert isinstance(found, Inbound), found
    return found.segments


class TestIn:
    def test_a_message(self):
        assert decoded() == Inbound(
            dedupe_key="m1",
            message_id="m1",
            occurred_at=1_755_850_000.5,
            conversation=ConversationKey(type="group", id="g1"),
            sender=Sender(id="u1", name="小王"),
            segments=[Text(text="你们几点开门？")],
            reply_handle={"message_id": "m1"},
        )

    def test_the_least_that_is_needed(self):
        least = {
            "type": "message.received",
            "id": "m1",
            "conversation": {"id": "u1"},
            "sender": {"id": "u1"},
        }
        found = codec.decode(json.dumps(least).encode(), received_at=7.0)
        assert isinstance(found, Inbound)
        assert (found.occurred_at, found.conversation.type, found.segments) == (7.0, "direct", [])

    def test_all_kinds_of_segments(self):
        url = "https://files.example/a?key=s"
        found = segments(
            {"type": "text", "text": "a"},
            {"type": "image", "url": url, "name": "a.png"},
            {"type": "voice", "url": url, "transcript": "您好", "duration_ms": 900},
            {"type": "video", "url": url},
            {"type": "file", "url": url, "name": "a.pdf"},
            {"type": "location", "lat": 1, "lon": 2.5, "title": "花店"},
            {"type": "link", "url": "https://a.example", "title": "价格"},
            {"type": "at", "target": "bot", "is_self": True},
            {"type": "reply", "message_id": "m0"},
            {"type": "hologram", "x": 1},
        )
        ref = found[2].ref
        assert found == [
            Reply(message_id="m0"),
            Text(text="a"),
            Image(ref=ref, name="a.png"),
            Voice(ref=ref, transcript="您好", duration_ms=900),
            Video(ref=ref),
            File(ref=ref, name="a.pdf"),
            Location(lat=1, lon=2.5, title="花店"),
            Link(url="https://a.example", title="价格"),
            At(target="bot", is_self=True),
            Unsupported(platform_type="hologram"),
        ]
        assert ref.more == {"url": url}
        assert "files.example" not in ref.id

    @pytest.mark.parametrize(
        "changes",
        [
            # Our own words, sent back.
            {"type": "message.send"},
            {"id": ""},
            {"id": "m" * 201},
            {"id": "m\0"},
            {"conversation": {"type": "direct", "id": ""}},
            {"conversation": {"type": "channel", "id": "c"}},
            {"sender": {"id": "u", "name": "\0"}},
            {"at": -1},
            {"at": 1e300},
            {"text": "x" * 100_001},
            {"segments": [{"type": "image", "url": "ftp://x"}]},
            {"segments": [{"type": "image", "url": "javascript:x"}]},
            {"segments": [{"type": "location", "lat": 91, "lon": 0}]},
            {"segments": [{"text": "x"}]},
            {"segments": [{"type": "at"}]},
            {"segments": [{"type": "text", "text": ""}] * 101},
        ],
    )
    def test_what_was_not_agreed_is_rejected(self, changes):
        assert isinstance(decoded(**changes), Rejected)

    def test_the_reason_says_where_and_not_what(self):
        found = decoded(sender={"id": 7, "name": "secret"})
        assert found == Rejected(
            reason="not a message: Expected `str`, got `int` - at `$.sender.id`"
        )

    @pytest.mark.parametrize(
        "raw", [b"", b"[" * 200_000, b'{"id": "\xff"}', b'{"type":' * 50_000], ids=repr
    )
    def test_bytes_that_are_no_message_are_rejected(self, raw):
        assert isinstance(codec.decode(raw, received_at=0), Rejected)

    @given(st.binary())
    def test_never_crashes_on_bytes(self, raw):
        assert isinstance(codec.decode(raw, received_at=0), Rejected)

    @given(
        st.lists(
            st.dictionaries(
                st.sampled_from(["type", "url", "text", "lat", "lon", "target", "message_id"]),
                JSON | st.sampled_from(["text", "image", "location", "at", "reply", "x"]),
            ),
            max_size=4,
        )
    )
    def test_never_crashes_on_segments(self, given):
        assert isinstance(decoded(segments=given), Inbound | Rejected)


def part(*segments, **changes):
    given = {
        "idempotency_key": "key:0",
        "conversation": ConversationKey(type="direct", id="u1"),
        "reply_handle": {"message_id": "m1"},
        "segments": list(segments),
        "author": Author(kind="human", name="小李"),
    }
    return Outgoing(**given | changes)


def encoded(*segments, contents=None):
    return json.loads(codec.encode(part(*segments), contents or {}))


class TestOut:
    def test_a_message(self):
        assert encoded(Text(text="九点"), At(target="u1", name="小王")) == {
            "type": "message.send",
            "id": "key:0",
            "conversation": {"type": "direct", "id": "u1"},
            "author": {"kind": "human", "name": "小李"},
            "in_reply_to": "m1",
            "text": "九点\n@小王",
            "segments": [
                {"type": "text", "text": "九点"},
                {"type": "at", "target": "u1", "name": "小王"},
            ],
        }

    def test_media_go_with_their_bytes(self):
        held = Content(body=PNG, name="a.png", content_type="image/png", sha256="0")
        ref = Ref(via="media", id="1")
        assert encoded(Image(ref=ref, width=7), contents={"1": held})["segments"] == [
            {
                "type": "image",
                "width": 7,
                "name": "a.png",
                "content_type": "image/png",
                "content": base64.b64encode(PNG).decode(),
            }
        ]

    def test_media_that_are_gone_or_too_large_are_said(self, monkeypatch):
        monkeypatch.setattr(codec, "MAX_INLINE_BYTES", len(PNG) + 1)
        held = Content(body=PNG, name="a.png", content_type="image/png", sha256="0")
        refs = [Ref(via="media", id=name) for name in ("gone", "1", "1")]
        found = encoded(*(File(ref=ref, name="a.png") for ref in refs), contents={"1": held})
        assert [each.get("text") for each in found["segments"]] == [
            "[file a.png]",
            None,
            "[file a.png]",
        ]

    def test_all_in_one_and_nothing_of_nothing(self):
        said = [Markdown(text="**a**"), Card(format="x", text="看"), Text(text=" \n")]
        assert codec.split(said) == [said[:2]]
        assert codec.split([Text(text=" ")]) == []


PNG = b"\x89PNG" + bytes(100)
