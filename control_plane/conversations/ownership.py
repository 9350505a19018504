"""Who may answer: bot → waiting → human → bot | closed. Pure rules; the row lock is elsewhere."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from control_plane.conversations.models import Owner
from control_plane.kit.errors import Conflict

Action = Literal["take-over", "hand-back", "close"]


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """Who answers now, and how often that changed."""

    owner: Owner
    member_id: UUID | None
    version: int


def change(
    now: Ownership, action: Action, *, member_id: UUID, expected_version: int | None
) -> Ownership:
    """The ownership after `action` by a member; the same object when nothing changes.

    Raises Conflict `owner_changed` when the caller has seen another version, and `owned_by_other`
    when a colleague owns it and the caller did not say which version they mean.
    """
    if expected_version is not None and expected_version != now.version:
        raise Conflict(
            "owner_changed", f"The owner has changed: it is {now.owner} (version {now.version})."
        )
    target = {
        "take-over": (Owner.HUMAN, member_id),
        "hand-back": (Owner.BOT, None),
        "close": (Owner.CLOSED, None),
    }[action]
    if (now.owner, now.member_id) == target:
        return now
    if now.owner == Owner.HUMAN and now.member_id != member_id and expected_version is None:
        raise Conflict("owned_by_other", "A colleague is answering; send owner_version to insist.")
    if now.owner == Owner.CLOSED and action == "hand-back":
        raise Conflict("conversation_closed", "The conversation is closed.")
    return Ownership(owner=target[0], member_id=target[1], version=now.version + 1)
