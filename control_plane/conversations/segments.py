"""Segments in requests and answers; `adapters.model` is the one source of schema and check."""

from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from adapters.model import File, Image, Segment, Text, Video, Voice, in_words
from control_plane.access import view
from control_plane.media import names, refs

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
    """Only what was written, and said where somebody wrote that down."""
    return "\n".join(filter(None, map(_words, segments)))


def _words(segment: Segment) -> str | None:
    match segment:
        case Text():
            return segment.text
        case Voice():
            return segment.transcript
    return None


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
    """Text, and bytes of our own store; names are made fit to show."""
    segments = msgspec.convert(value, list[Segment])
    built: list[dict[str, Any]] = msgspec.to_builtins([_checked(one) for one in segments])
    return built


def _checked(segment: Segment) -> Segment:
    match segment:
        case Text():
            if not segment.text.strip() or len(segment.text) > MAX_TEXT:
                raise ValueError(f"a text has 1 to {MAX_TEXT} characters")
            if "\0" in segment.text:
                raise ValueError("a text has no NUL character")
            return segment
        case Image() | Video() | File():
            _check_refs(segment)
            name = None if segment.name is None else names.display(segment.name)
            if isinstance(segment, Video):
                return Video(ref=segment.ref, thumb=segment.thumb, name=name)
            return type(segment)(ref=segment.ref, name=name)
        case Voice() if segment.ref is not None:
            _check_refs(segment)
            return Voice(ref=segment.ref)
    raise ValueError("only text, image, voice, video and file segments can be sent")


def _check_refs(segment: Segment) -> None:
    """Refs that carry more, or lead elsewhere, are not for people to write."""
    try:
        ours = refs.ours([segment])
    except refs.NotAnId:
        raise ValueError("this is no media id") from None
    given = [segment.ref, *filter(None, [getattr(segment, "thumb", None)])]  # type: ignore[union-attr]
    if any(ref is None or ref.via != refs.OURS or ref.more for ref in given) or not ours:
        raise ValueError('a ref has via "media" and the id of an upload')


# What people get back: segments with links beside our refs.
_SHOWN = {
    "allOf": [
        _SCHEMAS[0],
        {
            "type": "object",
            "properties": {
                "url": {"type": "string", "description": "Where the bytes of `ref` are, a while."},
                "thumb_url": {"type": "string", "description": "The same of `thumb`."},
                "playback": {
                    "type": "object",
                    "description": "Of a voice that no browser plays as it came: behind `url` is an"
                    " MP3 once it is `ready`; `error_class` says why there is none.",
                    "required": ["state", "error_class", "original_url"],
                    "properties": {
                        "state": {"enum": ["pending", "ready", "failed"]},
                        "error_class": {"type": ["string", "null"]},
                        "original_url": {"type": "string", "description": "Where the voice is."},
                    },
                },
            },
        },
    ]
}
ShownSegments = Annotated[
    list[dict[str, Any]],
    PlainSerializer(view.for_reader),
    WithJsonSchema({"type": "array", "items": _SHOWN}),
]
SegmentList = Annotated[
    list[dict[str, Any]],
    BeforeValidator(_convert),
    WithJsonSchema({"type": "array", "items": _SCHEMAS[0]}),
]
# What people may send: words, and bytes of our own store.
_SENT_TEXT = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {
        "type": {"const": "text"},
        "text": {"type": "string", "maxLength": MAX_TEXT, "pattern": r"\S"},
    },
}
_SENT_MEDIA = {
    "type": "object",
    "required": ["type", "ref"],
    "properties": {
        "type": {"enum": ["image", "voice", "video", "file"]},
        "name": {"type": "string", "maxLength": 500},
        "ref": {
            "type": "object",
            "required": ["via", "id"],
            "additionalProperties": False,
            "properties": {
                "via": {"const": refs.OURS},
                "id": {
                    "type": "string",
                    "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
                    "description": "Of an upload.",
                },
            },
        },
    },
}
SendableSegments = Annotated[
    SegmentList,
    AfterValidator(_sendable),
    Field(min_length=1, max_length=MAX_SEGMENTS),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_SEGMENTS,
            "items": {"oneOf": [_SENT_TEXT, _SENT_MEDIA]},
        }
    ),
]
