"""Segments in requests and answers; `adapters.model` is the one source of schema and check."""

from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from adapters.model import Segment, Text, in_words

# Segments of one message, and characters of one text; more than any platform takes in one piece.
MAX_SEGMENTS = 50
MAX_TEXT = 20_000
PREVIEW_LENGTH = 80

_REFERENCE = "#/components/schemas/{name}"
_SCHEMAS, COMPONENTS = msgspec.json.schema_components([Segment], ref_template=_REFERENCE)


def preview(segments: list[Segment]) -> str:
    """A line for lists."""
    text = " ".join(part for part in map(in_words, segments) if part)
    return text[:PREVIEW_LENGTH]


def plain_text(segments: list[Segment]) -> str:
    """Only what was written."""
    return "\n".join(segment.text for segment in segments if isinstance(segment, Text))


def encode(segments: list[Segment]) -> str:
    """As the database keeps them."""
    return msgspec.json.encode(segments).decode()


def decode(value: str) -> list[Segment]:
    """As the database kept them."""
    return msgspec.json.decode(value, type=list[Segment])


def _convert(value: Any) -> list[dict[str, Any]]:
    """Unknown kinds and wrong fields become a validation error with their path."""
    try:
        checked = msgspec.convert(value, list[Segment])
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    built: list[dict[str, Any]] = msgspec.to_builtins(checked)
    return built


def _sendable(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if any(item["type"] != "text" for item in value):
        raise ValueError("only text segments can be sent")
    if any(not item["text"].strip() or len(item["text"]) > MAX_TEXT for item in value):
        raise ValueError(f"a text has 1 to {MAX_TEXT} characters")
    if any("\0" in item["text"] for item in value):
        raise ValueError("a text has no NUL character")
    return value


SegmentList = Annotated[
    list[dict[str, Any]],
    BeforeValidator(_convert),
    WithJsonSchema({"type": "array", "items": _SCHEMAS[0]}),
]
SendableSegments = Annotated[
    SegmentList,
    AfterValidator(_sendable),
    Field(min_length=1, max_length=MAX_SEGMENTS),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_SEGMENTS,
            "items": {
                "type": "object",
                "required": ["type", "text"],
                "properties": {
                    "type": {"const": "text"},
                    "text": {"type": "string", "maxLength": MAX_TEXT, "pattern": r"\S"},
                },
            },
        }
    ),
]
