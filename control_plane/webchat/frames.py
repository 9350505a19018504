"""What a visitor's page may send; pure."""

from uuid import UUID

import msgspec
from msgspec import Struct

# Characters of one message, as the page's own limit.
MAX_TEXT = 4_000
# Bytes of one frame: the longest text in UTF-8 and escaped, with room around it.
MAX_FRAME_BYTES = 64 * 1024
MAX_CLIENT_ID = 64
# Bytes of one picture: what a phone's camera makes, and some more.
MAX_PICTURE_BYTES = 10 * 1024 * 1024
_SECRET_LENGTHS = range(32, 129)


class Resume(Struct, tag="resume", tag_field="type", frozen=True):
    """Who I am and what I have seen; both null for a new visitor."""

    visitor: str | None = None
    last_id: UUID | None = None


class Write(Struct, tag="message", tag_field="type", frozen=True):
    """I say something; `id` is the page's own, repeated until it is acknowledged.

    `picture` is the media id that a `picture` frame was answered with, its bytes stored.
    """

    id: str
    text: str = ""
    picture: UUID | None = None


class Picture(Struct, tag="picture", tag_field="type", frozen=True):
    """I have a picture of so many bytes: where do I send it? `id` is repeated likewise."""

    id: str
    size: int


Frame = Resume | Write | Picture

_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)


class BadFrame(Exception):
    """`code` and text are for the page; `message_id` is the client's, when one was refused."""

    def __init__(self, code: str, detail: str, message_id: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.message_id = message_id


def read(data: str | bytes) -> Frame:
    """Raises BadFrame."""
    if len(data) > MAX_FRAME_BYTES:
        raise BadFrame("frame_too_large", f"A frame has at most {MAX_FRAME_BYTES} bytes.")
    try:
        frame = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise BadFrame(
            "malformed_frame", "The frame is not one of resume, message, picture."
        ) from None
    if isinstance(frame, Write):
        _check_message(frame)
    elif isinstance(frame, Picture):
        _check_picture(frame)
    elif frame.visitor is not None and len(frame.visitor) not in _SECRET_LENGTHS:
        raise BadFrame("unknown_visitor", "The visitor's secret is not one that we gave out.")
    return frame


def _check_id(message_id: str) -> None:
    if not 0 < len(message_id) <= MAX_CLIENT_ID or "\0" in message_id:
        raise BadFrame(
            "invalid_id", f"An id has 1 to {MAX_CLIENT_ID} characters, none of them NUL."
        )


def _check_picture(frame: Picture) -> None:
    _check_id(frame.id)
    if not 0 < frame.size <= MAX_PICTURE_BYTES:
        raise BadFrame(
            "picture_too_large", f"A picture has 1 to {MAX_PICTURE_BYTES} bytes.", frame.id
        )


def _check_message(frame: Write) -> None:
    _check_id(frame.id)
    if not frame.text.strip() and frame.picture is None:
        raise BadFrame("empty_message", "There is nothing to say.", frame.id)
    if len(frame.text) > MAX_TEXT:
        raise BadFrame(
            "message_too_long", f"A message has at most {MAX_TEXT} characters.", frame.id
        )
