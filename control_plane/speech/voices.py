"""Voices among what was said, and their transcripts; pure."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from adapters.model import Segment, Voice
from control_plane.media.refs import OURS


def unheard(segments: Sequence[Segment]) -> frozenset[UUID]:
    """The stored voices that nobody has written down; a platform's own transcript counts."""
    return frozenset(UUID(heard) for segment in segments if (heard := _waits(segment)) is not None)


def written_down(segments: Sequence[Segment], media_id: UUID, text: str) -> list[Segment]:
    """The segments with what this voice says, where nobody has said so yet."""
    return [
        msgspec.structs.replace(segment, transcript=text)
        if _waits(segment) == str(media_id)
        else segment
        for segment in segments
    ]


def _waits(segment: Segment) -> str | None:
    """The media id of a voice whose words are not known."""
    if not isinstance(segment, Voice) or segment.transcript:
        return None
    return segment.ref.id if segment.ref is not None and segment.ref.via == OURS else None
