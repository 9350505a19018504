"""Who is here, who types, who looks at what, and what a model is saying: told to whoever listens
now, and kept nowhere.

Each process remembers what members said for as long as it holds, for those who come later. A client
repeats what still holds; what nobody repeats ends by itself.
"""

from collections.abc import Callable
from uuid import UUID

import msgspec
from msgspec import Struct

# Seconds that a note holds; clients repeat presence and viewing every 20 s, typing every 3 s.
# A model may think for a while between two words.
LIFE_S = {"presence": 45.0, "viewing": 45.0, "typing": 6.0, "answering": 60.0}
# Notes of one tenant that a process remembers; past that only those who listen now hear one.
MAX_NOTES = 2_000


class Note(Struct, frozen=True, kw_only=True, tag_field="of", tag="member"):
    """What a member says about themselves; `state` "" takes back what they said before."""

    tenant_id: UUID
    kind: str
    member_id: UUID
    name: str
    state: str
    conversation_id: UUID | None = None

    def written(self) -> str:
        return msgspec.json.encode(self).decode()

    def payload(self) -> bytes:
        """The frame that listeners get."""
        data = {
            "member_id": self.member_id,
            "name": self.name,
            "state": self.state,
            "conversation_id": self.conversation_id,
            "ttl_s": LIFE_S[self.kind],
        }
        return msgspec.json.encode({"type": "note", "event": {"type": self.kind, "data": data}})


class Answering(Struct, frozen=True, kw_only=True, tag_field="of", tag="bot"):
    """What a model has said so far of its answer to the messages up to a number."""

    tenant_id: UUID
    conversation_id: UUID
    through_number: int
    text: str
    kind: str = "answering"

    def written(self) -> str:
        return msgspec.json.encode(self).decode()

    def payload(self) -> bytes:
        """The frame that listeners get."""
        data = {
            "conversation_id": self.conversation_id,
            "through_number": self.through_number,
            "text": self.text,
            "ttl_s": LIFE_S[self.kind],
        }
        return msgspec.json.encode({"type": "note", "event": {"type": self.kind, "data": data}})


_decoder = msgspec.json.Decoder(Note | Answering)


def read(text: str) -> Note | Answering | None:
    """None for what another version of us says and we do not understand."""
    try:
        note = _decoder.decode(text)
    except msgspec.DecodeError:
        return None
    return note if note.kind in LIFE_S else None


class Board:
    """What one tenant's members said and what still holds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._notes: dict[tuple[str, UUID], tuple[Note, float]] = {}

    def pin(self, note: Note) -> None:
        place = (note.kind, note.member_id)
        self._notes.pop(place, None)
        if note.state and len(self._notes) < MAX_NOTES:
            self._notes[place] = (note, self._now() + LIFE_S[note.kind])

    def held(self) -> list[Note]:
        """What holds now; the rest is forgotten."""
        now = self._now()
        self._notes = {
            place: (note, until) for place, (note, until) in self._notes.items() if until > now
        }
        return [note for note, _ in self._notes.values()]
