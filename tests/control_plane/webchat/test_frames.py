"""What a page may send, without a socket."""

import contextlib
import json
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control_plane.webchat import frames
from control_plane.webchat.frames import (
    MAX_FRAME_BYTES,
    MAX_PICTURE_BYTES,
    MAX_TEXT,
    BadFrame,
    Picture,
    Resume,
    Write,
)

ID = UUID(int=7)
SECRET = "s" * 43

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
nearly_frames = st.fixed_dictionaries(
    {"type": st.sampled_from(["resume", "message", "picture", "state"])},
    optional={
        "visitor": st.none() | st.text(max_size=140),
        "last_id": st.none() | st.uuids().map(str) | st.text(max_size=40),
        "id": st.text(max_size=70) | json_values,
        "text": st.text() | json_values,
        "picture": st.none() | st.uuids().map(str) | json_values,
        "size": st.integers() | json_values,
    },
)


class TestRead:
    @pytest.mark.parametrize(
        ("data", "frame"),
        [
            ({"type": "resume"}, Resume()),
            ({"type": "resume", "visitor": None, "last_id": None}, Resume()),
            (
                {"type": "resume", "visitor": SECRET, "last_id": str(ID)},
                Resume(visitor=SECRET, last_id=ID),
            ),
            ({"type": "message", "id": "1", "text": " 你好\n"}, Write(id="1", text=" 你好\n")),
            ({"type": "message", "id": "1", "picture": str(ID)}, Write(id="1", picture=ID)),
            ({"type": "picture", "id": "1", "size": 7}, Picture(id="1", size=7)),
            (
                {"type": "message", "id": "i" * 64, "text": "👋" * MAX_TEXT},
                Write(id="i" * 64, text="👋" * MAX_TEXT),
            ),
        ],
    )
    def test_takes_what_pages_say(self, data: dict, frame: frames.Frame) -> None:
        assert frames.read(json.dumps(data)) == frame
        assert frames.read(json.dumps(data, ensure_ascii=False).encode()) == frame

    @pytest.mark.parametrize(
        ("data", "code", "message_id"),
        [
            ("", "malformed_frame", None),
            ("nonsense", "malformed_frame", None),
            ("[]", "malformed_frame", None),
            ("{}", "malformed_frame", None),
            (b"\xff\xfe", "malformed_frame", None),
            ('{"type":"message","id":"1","text":"\\ud800"}', "malformed_frame", None),
            ("\ud800", "malformed_frame", None),
            ('{"type":"shout","id":"1","text":"x"}', "malformed_frame", None),
            ('{"type":"message","id":"1"}', "empty_message", "1"),
            ('{"type":"message","id":1,"text":"x"}', "malformed_frame", None),
            ('{"type":"resume","last_id":"yesterday"}', "malformed_frame", None),
            ("[" * 50_000, "malformed_frame", None),
            ('{"type":"message","id":"","text":"x"}', "invalid_id", None),
            ('{"type":"message","id":"%s","text":"x"}' % ("i" * 65), "invalid_id", None),
            ('{"type":"message","id":"a\\u0000b","text":"x"}', "invalid_id", None),
            ('{"type":"message","id":"1","text":""}', "empty_message", "1"),
            ('{"type":"picture","id":"1","size":0}', "picture_too_large", "1"),
            ('{"type":"picture","id":"","size":1}', "invalid_id", None),
            ('{"type":"message","id":"1","text":" \\n\\t　"}', "empty_message", "1"),
            (
                '{"type":"message","id":"1","text":"%s"}' % ("x" * (MAX_TEXT + 1)),
                "message_too_long",
                "1",
            ),
            ('{"type":"resume","visitor":"short"}', "unknown_visitor", None),
            ('{"type":"resume","visitor":"%s"}' % ("s" * 129), "unknown_visitor", None),
            (" " * (MAX_FRAME_BYTES + 1), "frame_too_large", None),
        ],
    )
    def test_says_what_is_wrong_with_the_rest(
        self, data: str | bytes, code: str, message_id: str | None
    ) -> None:
        with pytest.raises(BadFrame) as bad:
            frames.read(data)

        assert (bad.value.code, bad.value.message_id) == (code, message_id)
        assert bad.value.detail

    @given(
        st.one_of(
            st.binary(max_size=200),
            st.text(st.characters(exclude_categories=()), max_size=200),
            json_values.map(json.dumps),
            nearly_frames.map(json.dumps),
            nearly_frames.map(lambda data: json.dumps(data, ensure_ascii=False)),
        )
    )
    @example("[" * 100_000)
    @example('{"type":"message","id":"1","text":' + "[" * 60_000)
    def test_raises_nothing_but_bad_frame(self, data: str | bytes) -> None:
        with contextlib.suppress(BadFrame):
            frame = frames.read(data)
            if isinstance(frame, Write):
                assert 0 < len(frame.id) <= 64
                assert len(frame.text) <= MAX_TEXT
                assert frame.text.strip() or frame.picture
            elif isinstance(frame, Picture):
                assert 0 < frame.size <= MAX_PICTURE_BYTES
            else:
                assert frame.visitor is None or 32 <= len(frame.visitor) <= 128
