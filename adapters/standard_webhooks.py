"""Standard Webhooks 1.0.0 (standardwebhooks.com): sign and verify, pure.

Agents sign their event batches with it, and our own chat platform signs its callbacks.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"

# Seconds a signature may differ from our clock; the reference libraries' tolerance.
TOLERANCE_S = 300
# Signatures read from one header; more is an attempt to make us work.
_MAX_SIGNATURES = 4
_PREFIX = "whsec_"
_ID_OF_A_BODY = re.compile("msg_[0-9a-f]{64}")


class SignatureError(ValueError):
    """The signature is missing, malformed, stale or wrong; the text is safe to show."""


def make_secret(random_bytes: bytes) -> str:
    """The `whsec_` form of at least 24 random bytes."""
    return _PREFIX + base64.b64encode(random_bytes).decode()


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that prove `body`."""
    return {
        ID: message_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: "v1," + Key(secret).signature(message_id, str(timestamp), body),
    }


class Key:
    """A secret made ready, for those who check many signatures of one sender."""

    __slots__ = ("_begun",)

    def __init__(self, secret: str) -> None:
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error as error:
            raise SignatureError("the webhook secret is not base64") from error
        self._begun = hmac.new(key, digestmod=hashlib.sha256)

    def signature(self, message_id: str, timestamp: str, body: bytes) -> str:
        """Of a body under an id at a time, in base64."""
        mac = self._begun.copy()
        mac.update(signed_content(message_id, timestamp, body))
        return base64.b64encode(mac.digest()).decode()


def id_of(sha256: bytes) -> str:
    """The webhook id of a body with this digest, for who sends a body again under the same id."""
    return f"msg_{sha256.hex()}"


def is_id_of_a_body(message_id: str) -> bool:
    """Whether an id is of the form that `id_of` makes."""
    return _ID_OF_A_BODY.fullmatch(message_id) is not None


def verify(
    secrets: Iterable[str | Key], headers: Mapping[str, str], body: bytes, *, now: float | None
) -> str:
    """Return the webhook id when one of `secrets` signed `body`.

    `now` is in Unix seconds; None skips the age check, for bytes that were checked on arrival.
    Raises SignatureError.
    """
    message_id, timestamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not message_id or not timestamp.isascii() or not timestamp.isdigit():
        raise SignatureError("the webhook headers are missing or malformed")
    if now is not None and abs(now - int(timestamp[:15])) > TOLERANCE_S:
        raise SignatureError("the webhook timestamp is too far from our clock")
    given = _signatures(headers.get(SIGNATURE, ""))
    expected = [_ready(secret).signature(message_id, timestamp, body) for secret in secrets]
    # Compare all pairs, so that the time taken tells nothing about which secret matched.
    if not any([hmac.compare_digest(g, e) for g in given for e in expected]):  # noqa: C419
        raise SignatureError("no signature matches")
    return message_id


def signed_content(message_id: str, timestamp: str, body: bytes) -> bytes:
    """The bytes that are signed."""
    return f"{message_id}.{timestamp}.".encode() + body


def _signatures(header: str) -> list[str]:
    parts = [part.partition(",") for part in header.split()[:_MAX_SIGNATURES]]
    return [value for version, _, value in parts if version == "v1" and value.isascii()]


def _ready(secret: str | Key) -> Key:
    return secret if isinstance(secret, Key) else Key(secret)
