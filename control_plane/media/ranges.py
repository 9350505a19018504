"""The one byte range that a request may ask for (RFC 9110, section 14); pure."""

import re

_FORM = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Unsatisfiable(Exception):
    """There is no such part."""


def parse(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, end behind the last byte); None for everything: no range, or none that we know."""
    found = _FORM.fullmatch((header or "").replace(" ", ""))
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        wanted = min(int(last), size)
        if not wanted:
            raise Unsatisfiable
        return size - wanted, size
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return start, end
