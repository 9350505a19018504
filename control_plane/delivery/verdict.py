"""What the outcome of an attempt means for a delivery; pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from control_plane.delivery.models import DeliveryState
from control_plane.kit.backoff import full_jitter
from instance_agent.protocol import PartOutcome

# Attempts before a delivery fails for good; with the back-off below that is about half an hour.
MAX_ATTEMPTS = 10
# Characters of a chat's id, as of those that messages come from.
MAX_KEY = 500
_RETRY_BASE = timedelta(seconds=1)
# The longest pause before a further attempt.
RETRY_CAP = timedelta(minutes=10)
# The platform may take it later. A token was renewed by the agent and refused once more.
_RETRIED = frozenset(
    {"rate_limited", "server_busy", "token_expired", "token_invalid", "token_missing"}
)
# It came too late, or there was too much of it; after the contact's next word it may be sent again.
_EXPIRED = frozenset({"window_expired", "window_count_exceeded", "reply_handle_invalid"})
# Every other class is final: the platform would say no again.


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The delivery's next state; `again_after` when it is to be tried once more."""

    state: DeliveryState
    error_class: str | None = None
    again_after: timedelta | None = None


def judge(
    parts: Sequence[PartOutcome],
    *,
    attempt: int,
    age: timedelta,
    resend_safe: timedelta,
    doubt: bool = False,
    rng: random.Random | None = None,
) -> Verdict:
    """Decide after attempt number `attempt` (from 1) of a delivery whose first was `age` ago.

    `resend_safe` is how long the platform recognises a repeated send; an unknown outcome is
    resent only within it, otherwise a person decides. `doubt`: an earlier attempt's outcome is
    unknown, and a refusal of this one does not settle it.
    """
    # The agent stops at the first part that was not sent: what follows it was not tried.
    stopped_at = next((part for part in parts if part.outcome != "sent"), None)
    if stopped_at is None:
        return Verdict(state=DeliveryState.SENT)
    if stopped_at.outcome == "failed" and not doubt:
        return _after_failure(stopped_at, attempt, rng)
    if age < resend_safe and attempt < MAX_ATTEMPTS:
        return _again(attempt, stopped_at, "unknown_outcome", rng)
    return Verdict(state=DeliveryState.UNCONFIRMED, error_class="unknown_outcome")


def moved_to(part: PartOutcome) -> str | None:
    """Where the chat is now, if that is why it was refused and the platform said so usably."""
    if part.outcome != "failed" or part.error_class != "chat_moved":
        return None
    place = part.moved_to or ""
    return place if 0 < len(place) <= MAX_KEY and "\0" not in place else None


def _after_failure(part: PartOutcome, attempt: int, rng: random.Random | None) -> Verdict:
    if part.error_class in _EXPIRED:
        return Verdict(state=DeliveryState.EXPIRED, error_class=part.error_class)
    # Where a chat has moved, the next attempt goes there.
    again = part.error_class in _RETRIED or moved_to(part) is not None
    if not again or attempt >= MAX_ATTEMPTS:
        return Verdict(state=DeliveryState.FAILED, error_class=part.error_class)
    return _again(attempt, part, part.error_class, rng)


def _again(
    attempt: int, part: PartOutcome, error_class: str | None, rng: random.Random | None
) -> Verdict:
    pause = full_jitter(attempt - 1, base=_RETRY_BASE, cap=RETRY_CAP, rng=rng)
    if part.retry_after_s is not None:
        pause = max(pause, min(timedelta(seconds=part.retry_after_s), RETRY_CAP))
    return Verdict(state=DeliveryState.QUEUED, error_class=error_class, again_after=pause)
