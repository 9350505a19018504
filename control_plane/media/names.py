"""Names that people gave to files: made fit to show, never to become a path; pure."""

import re
import unicodedata
from urllib.parse import quote

# Characters that are kept of a name.
MAX_NAME = 120
# Longest ending that survives when a name is cut.
_MAX_ENDING = 12
UNNAMED = "file"

# Names that are devices on some systems where the file may be saved.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")
_UNSAFE = re.compile(r'[<>:"|?*%;]')
# Control, format (bidi overrides are), surrogate, private use, unassigned; line ends.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def display(given: str) -> str:
    """The last part of what was given, without anything that is not seen; never empty."""
    seen = "".join(
        character
        for character in unicodedata.normalize("NFC", given)
        if unicodedata.category(character) not in _UNSEEN
    )
    last = re.split(r"[/\\]", seen)[-1]
    name = _UNSAFE.sub("_", last).strip(" .") or UNNAMED
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    return _shortened(name)


def disposition(name: str, *, inline: bool) -> str:
    """The Content-Disposition header: plain ASCII for old clients, RFC 8187 for the rest."""
    plain = re.sub(r"[^A-Za-z0-9 ._()-]", "_", name)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _shortened(name: str) -> str:
    if len(name) <= MAX_NAME:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > _MAX_ENDING:
        return name[:MAX_NAME]
    return f"{stem[: MAX_NAME - len(ending) - 1]}.{ending}"
