"""Segments on their way in and out."""

import pytest
from pydantic import TypeAdapter, ValidationError

from adapters.model import Text, Unsupported
from control_plane.conversations.segments import (
    PREVIEW_LENGTH,
    SegmentList,
    decode,
    encode,
    plain_text,
    preview,
)

STICKER = Unsupported(platform_type="sticker")
SAID = Unsupported(platform_type="voice", text="喂", reason="no speech to text")


class TestPreview:
    @pytest.mark.parametrize(
        ("segments", "line"),
        [
            ([Text(text="你好"), Text(text="在吗")], "你好 在吗"),
            ([STICKER], "[sticker]"),
            ([SAID, Text(text="听到吗")], "喂 听到吗"),
            ([Text(text="长" * 200)], "长" * PREVIEW_LENGTH),
            ([], ""),
        ],
    )
    def test_is_one_short_line(self, segments: list, line: str) -> None:
        assert preview(segments) == line


class TestPlainText:
    def test_is_only_what_was_written(self) -> None:
        assert plain_text([Text(text="一"), SAID, Text(text="二")]) == "一\n二"


class TestEncode:
    def test_is_read_back_as_it_was(self) -> None:
        segments = [Text(text="你好 👋"), STICKER, SAID]

        assert decode(encode(segments)) == segments


class TestSegmentList:
    def test_refuses_what_no_segment_is_like(self) -> None:
        with pytest.raises(ValidationError, match="smoke"):
            TypeAdapter(SegmentList).validate_python([{"type": "smoke"}])
