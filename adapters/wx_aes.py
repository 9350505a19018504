"""The envelope around callbacks of WeCom, WeChat and DingTalk: SHA-1 and AES-256-CBC; pure.

Inside: 16 random bytes, the length of the message (4 bytes, big endian), the message, and the id
of the receiver, padded by PKCS#7 to a multiple of 32.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.modes import CBC

# What a platform's console gives as EncodingAESKey: 32 bytes in base64, the padding left out.
KEY_PATTERN = r"^[A-Za-z0-9+/]{43}$"
RANDOM_BYTES = 16
# Not AES's own block: a padding of 17 to 32 bytes is valid here.
_PAD_TO = 32
_HEAD = RANDOM_BYTES + 4


class EnvelopeError(ValueError):
    """Not sealed for us; `reason` is one of signature, base64, length, padding, receiveid."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the envelope is not for us: {reason}")
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A ciphertext in base64, and what proves it."""

    encrypt: str
    signature: str
    timestamp: str
    nonce: str


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What both sides of one callback address know."""

    token: str = field(repr=False)
    encoding_aes_key: str = field(repr=False)
    receive_id: str

    def open(self, *, signature: str, timestamp: str, nonce: str, encrypt: str) -> bytes:
        """The message; raises EnvelopeError."""
        expected = sign(self.token, timestamp, nonce, encrypt)
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            raise EnvelopeError("signature")
        try:
            sealed = base64.b64decode(encrypt, validate=True)
        except (binascii.Error, ValueError):
            raise EnvelopeError("base64") from None
        if len(sealed) < _PAD_TO or len(sealed) % 16:
            raise EnvelopeError("length")
        decryptor = self._cipher.decryptor()
        return self._message(_unpadded(decryptor.update(sealed) + decryptor.finalize()))

    def seal(self, message: bytes, *, timestamp: str, nonce: str, random16: bytes) -> Sealed:
        """Wrap `message`; `random16` are 16 bytes that nobody can guess."""
        plain = random16 + len(message).to_bytes(4, "big") + message + self.receive_id.encode()
        pad = _PAD_TO - len(plain) % _PAD_TO
        encryptor = self._cipher.encryptor()
        sealed = encryptor.update(plain + bytes([pad]) * pad) + encryptor.finalize()
        encrypt = base64.b64encode(sealed).decode()
        return Sealed(
            encrypt=encrypt,
            signature=sign(self.token, timestamp, nonce, encrypt),
            timestamp=timestamp,
            nonce=nonce,
        )

    def _message(self, plain: bytes) -> bytes:
        length = int.from_bytes(plain[RANDOM_BYTES:_HEAD], "big")
        if len(plain) < _HEAD or _HEAD + length > len(plain):
            raise EnvelopeError("length")
        if not hmac.compare_digest(plain[_HEAD + length :], self.receive_id.encode()):
            raise EnvelopeError("receiveid")
        return plain[_HEAD : _HEAD + length]

    @property
    def _cipher(self) -> "Cipher[CBC]":
        # Here, because a bot that keeps a connection open never needs the library: 6 MiB.
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES256
        from cryptography.hazmat.primitives.ciphers.modes import CBC

        # The last character carries bits that nobody uses, so it is read leniently.
        key = base64.b64decode(self.encoding_aes_key + "=")
        return Cipher(AES256(key), CBC(key[:16]))


def sign(token: str, timestamp: str, nonce: str, encrypt: str) -> str:
    """SHA-1 over the four in the order of their code points."""
    text = "".join(sorted((token, timestamp, nonce, encrypt)))
    # The platform's own scheme; what it protects is also encrypted.
    return hashlib.sha1(text.encode("utf-8", "replace")).hexdigest()  # noqa: S324


def _unpadded(plain: bytes) -> bytes:
    pad = plain[-1]
    if not 1 <= pad <= _PAD_TO or plain[-pad:] != bytes([pad]) * pad:
        raise EnvelopeError("padding")
    return plain[:-pad]
