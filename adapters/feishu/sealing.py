"""How Feishu signs and encrypts its callbacks: SHA-256 and AES-256-CBC; pure."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field

_BLOCK = 16


class SealError(ValueError):
    """Not sealed for us."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The two secrets of a callback address; either may be empty."""

    token: str = field(repr=False)
    encrypt_key: str = field(repr=False)

    def has_token(self, given: object) -> bool:
        """Whether somebody knows our Verification Token; never true while there is none."""
        return isinstance(given, str) and bool(self.token) and _same(self.token.encode(), given)

    def has_signed(self, signature: str, *, timestamp: str, nonce: str, body: bytes) -> bool:
        """Whether this is our signature of an event; never true without an Encrypt Key."""
        if not self.encrypt_key:
            return False
        return _same(sign(self.encrypt_key, timestamp, nonce, body).encode(), signature)

    def has_signed_card(self, signature: str, *, timestamp: str, nonce: str, body: bytes) -> bool:
        """The same for the cards of old, which the token signs."""
        if not self.token:
            return False
        return _same(sign_card(self.token, timestamp, nonce, body).encode(), signature)


def sign(encrypt_key: str, timestamp: str, nonce: str, body: bytes) -> str:
    """Over the bytes as they came. It joins without a mark: take only digits for a timestamp."""
    return hashlib.sha256(_head(timestamp, nonce, encrypt_key) + body).hexdigest()


def sign_card(token: str, timestamp: str, nonce: str, body: bytes) -> str:
    """The scheme of card callbacks before events of version 2."""
    # The platform's own choice of hash.
    return hashlib.sha1(_head(timestamp, nonce, token) + body).hexdigest()  # noqa: S324


def aes_key(encrypt_key: str) -> bytes:
    return hashlib.sha256(encrypt_key.encode()).digest()


def decrypt(encrypt_key: str, sealed: str) -> bytes:
    """What is inside `encrypt`; raises SealError."""
    # Here, because who keeps a connection open, or has no key, never needs the library: 6 MiB.
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    try:
        raw = base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        raise SealError("it is not base64") from None
    # One block that begins the chain, and one at least that is all padding.
    if len(raw) < 2 * _BLOCK or len(raw) % _BLOCK:
        raise SealError("its length is wrong")
    decryptor = Cipher(AES256(aes_key(encrypt_key)), CBC(raw[:_BLOCK])).decryptor()
    plain = decryptor.update(raw[_BLOCK:]) + decryptor.finalize()
    pad = plain[-1]
    if not 1 <= pad <= _BLOCK or plain[-pad:] != bytes([pad]) * pad:
        raise SealError("it was closed with another key")
    return plain[:-pad]


def _head(*parts: str) -> bytes:
    return "".join(parts).encode("utf-8", "replace")


def _same(ours: bytes, given: str) -> bool:
    return hmac.compare_digest(ours, given.encode("utf-8", "replace"))
