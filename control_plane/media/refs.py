"""Which stored objects a message speaks of; pure, but for the query's text."""

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from adapters.model import Ref, Segment, Text

OURS = "media"

# The media ids in a column of segments, wherever they are in it.
IN_SEGMENTS = """
    jsonb_path_query({column}, '$.** ? (@.via == "media").id') #>> '{{}}'
"""


class NotAnId(ValueError):
    """A ref says that we keep the bytes, under an id that we never gave."""


def ours(segments: Sequence[Segment]) -> set[UUID]:
    """The ids of the objects that segments refer to; raises NotAnId."""
    return {_id(ref) for ref in _refs(segments) if ref.via == OURS}


def _refs(segments: Iterable[Segment]) -> Iterator[Ref]:
    for segment in segments:
        # Most are, and have nothing to look for.
        if isinstance(segment, Text):
            continue
        for name in ("ref", "thumb"):
            ref = getattr(segment, name, None)
            if ref is not None:
                yield ref
        yield from _refs(getattr(segment, "quoted", ()))


def _id(ref: Ref) -> UUID:
    try:
        media_id = UUID(ref.id)
    except ValueError:
        raise NotAnId(ref.id[:40]) from None
    # One spelling only, or it could not be found again in what was said.
    if str(media_id) != ref.id:
        raise NotAnId(ref.id[:40])
    return media_id
