"""WeCom's side of the callback encryption, written from the published scheme for the stand-in."""

import base64
import hashlib
import os
import re
import struct

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_ELEMENT = re.compile(rb"<(\w+)>(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))</\1>", re.DOTALL)
# The scheme pads to 32 bytes; the library counts in bits.
_PAD_BITS = 32 * 8


class Seal:
    """Token, AES key and company id of one callback address."""

    def __init__(self, token: str, encoding_aes_key: str, corp_id: str) -> None:
        self._token = token
        self._key = base64.b64decode(encoding_aes_key + "=")
        self._corp_id = corp_id.encode()

    def close(self, message: bytes) -> str:
        """The ciphertext in base64."""
        plain = os.urandom(16) + struct.pack(">I", len(message)) + message + self._corp_id
        padder = padding.PKCS7(_PAD_BITS).padder()
        encryptor = self._cipher.encryptor()
        padded = padder.update(plain) + padder.finalize()
        return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()

    def open(self, encrypted: str) -> bytes:
        """The message; raises ValueError."""
        decryptor = self._cipher.decryptor()
        padded = decryptor.update(base64.b64decode(encrypted)) + decryptor.finalize()
        unpadder = padding.PKCS7(_PAD_BITS).unpadder()
        plain = unpadder.update(padded) + unpadder.finalize()
        (length,) = struct.unpack(">I", plain[16:20])
        if plain[20 + length :] != self._corp_id:
            raise ValueError("sealed for another company")
        return plain[20 : 20 + length]

    def signature(self, timestamp: str, nonce: str, encrypted: str) -> str:
        parts = sorted([self._token, timestamp, nonce, encrypted])
        return hashlib.sha1("".join(parts).encode()).hexdigest()  # noqa: S324 - their scheme

    @property
    def _cipher(self) -> Cipher[modes.CBC]:
        return Cipher(algorithms.AES(self._key), modes.CBC(self._key[:16]))


def elements(xml: bytes) -> dict[str, str]:
    """The texts of a flat document, as the platform reads an answer."""
    return {
        name.decode(): (quoted or plain).decode() for name, quoted, plain in _ELEMENT.findall(xml)
    }
