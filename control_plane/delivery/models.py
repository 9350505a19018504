"""Outgoing messages and the log of attempts to send them."""

from enum import StrEnum


class DeliveryState(StrEnum):
    """Derived from the attempts; only withholding and a person's decision touch it otherwise."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    EXPIRED = "expired"
    WITHHELD = "withheld"
    UNCONFIRMED = "unconfirmed"
