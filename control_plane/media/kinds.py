"""What bytes are, told by themselves and never by whoever sent them; pure."""

import puremagic

# Bytes from the beginning that are looked at.
HEAD = 4096
UNKNOWN = "application/octet-stream"

# What we say by name, and the ending that fits; all else is UNKNOWN. Nothing here runs scripts.
_ENDINGS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/bmp": ".bmp",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "audio/mp4": ".m4a",
    "audio/amr": ".amr",
    "audio/silk": ".silk",
    "application/ogg": ".ogg",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
}
# Voices that no browser plays; a worker makes something of them that it does.
UNPLAYABLE = frozenset({"audio/amr", "audio/silk"})
PLAYABLE = "audio/mpeg"
# What a browser may show beside the page; the rest is only ever saved.
INLINE = frozenset(_ENDINGS) - {"application/pdf", "application/zip"} - UNPLAYABLE

_ALIASES = {
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/x-m4a": "audio/mp4",
    "image/x-ms-bmp": "image/bmp",
}
# Voices of chat platforms, which the library does not know by type.
_VOICES = {b"#!AMR": "audio/amr", b"\x02#!SILK_V3": "audio/silk", b"#!SILK_V3": "audio/silk"}


def kind_of(head: bytes) -> str:
    """The content type of what begins like this."""
    for start, kind in _VOICES.items():
        if head.startswith(start):
            return kind
    try:
        matches = puremagic.magic_string(head[:HEAD])
    except (puremagic.PureError, ValueError):
        return UNKNOWN
    # The most certain first; a page or a drawing is not demoted to something it also resembles.
    best = max(match.confidence for match in matches)
    named = [_ALIASES.get(match.mime_type, match.mime_type) for match in matches]
    certain = [kind for kind, match in zip(named, matches, strict=True) if match.confidence == best]
    return next((kind for kind in (*certain, *named) if kind in _ENDINGS), UNKNOWN)


def ending(content_type: str | None) -> str:
    """The ending of a file of this type."""
    return _ENDINGS.get(content_type or "", ".bin")
