"""Keys and what is made with them: sealed fields, signed tokens, derived signing keys.

The key list is ordered newest first: the first seals and signs, all of them open and verify.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from itsdangerous import BadData, URLSafeTimedSerializer

# Characters of one key; 43 is what 32 random bytes take in base64.
MIN_KEY_LENGTH = 32


class CannotOpen(Exception):
    """Sealed by a key that is not on the list, or damaged."""


class Keyring:
    """All that the control plane signs or seals, from one ordered list of secrets."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or min(map(len, keys)) < MIN_KEY_LENGTH:
            raise ValueError(f"every secret key needs at least {MIN_KEY_LENGTH} characters")
        self._keys = list(keys)
        boxes = [Fernet(base64.urlsafe_b64encode(key)) for key in self.derive("seal.v1")]
        self._newest = boxes[0]
        self._box = MultiFernet(boxes)

    def __len__(self) -> int:
        return len(self._keys)

    def derive(self, purpose: str) -> list[bytes]:
        """A 32-byte key for one purpose, per key of the list, newest first."""
        return [hmac.digest(key.encode(), purpose.encode(), hashlib.sha256) for key in self._keys]

    def seal(self, value: bytes) -> bytes:
        """Encrypt for the database."""
        return self._box.encrypt(value)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt from the database; raises CannotOpen."""
        try:
            return self._box.decrypt(sealed)
        except InvalidToken:
            raise CannotOpen("the value was sealed by a key that is not on the list") from None

    def is_newest(self, sealed: bytes) -> bool:
        """Whether the newest key sealed it; what is sealed does not say by which key."""
        try:
            self._newest.decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def reseal(self, sealed: bytes) -> bytes:
        """The same value sealed by the newest key; raises CannotOpen."""
        return self.seal(self.open(sealed))

    def sign(self, salt: str, payload: Any) -> str:
        """A URL-safe signed token; its payload is readable by whoever holds it."""
        return self._serializer(salt).dumps(payload)

    def load(self, salt: str, token: str, *, max_age_s: int) -> Any | None:
        """The payload, or None when the token is wrong or too old."""
        try:
            return self._serializer(salt).loads(token, max_age=max_age_s)
        except BadData:
            return None

    def _serializer(self, salt: str) -> URLSafeTimedSerializer:
        # itsdangerous wants the oldest key first.
        return URLSafeTimedSerializer(
            self._keys[::-1],
            salt=salt,
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )
