"""Media as the platform gives them: AES-256-CBC behind an address that lives for five minutes.

The key is the medium's own in the long connection and the callback's otherwise; its first half is
the initial vector, and the padding goes up to 32 bytes, not to AES's own block. Pure.
"""

import base64
import binascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

_PAD_TO = 32
_BLOCK = 16


class Unreadable(ValueError):
    """Not what was sealed with this key."""


class Unsealing:
    """Piece by piece: what is given back is only complete after `end`."""

    def __init__(self, key: str) -> None:
        """`key` in base64, with or without its padding; raises Unreadable."""
        # Here, because a bot that is sent words alone never needs the library: 6 MiB.
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES256
        from cryptography.hazmat.primitives.ciphers.modes import CBC

        try:
            raw = base64.b64decode(key.rstrip("=") + "=" * (-len(key.rstrip("=")) % 4))
            self._decryptor: CipherContext = Cipher(AES256(raw), CBC(raw[:_BLOCK])).decryptor()
        except (binascii.Error, ValueError):
            raise Unreadable("the key is none") from None
        # The last bytes may be padding.
        self._held = b""
        self._size = 0

    def feed(self, piece: bytes) -> bytes:
        """What is certain to be content."""
        self._size += len(piece)
        plain = self._held + self._decryptor.update(piece)
        self._held = plain[-_PAD_TO:]
        return plain[:-_PAD_TO]

    def end(self) -> bytes:
        """The rest; raises Unreadable."""
        if not self._held or self._size % _BLOCK:
            raise Unreadable("the end is missing")
        self._decryptor.finalize()
        pad = self._held[-1]
        if not 1 <= pad <= _PAD_TO or self._held[-pad:] != bytes([pad]) * pad:
            raise Unreadable("the padding is none")
        return self._held[:-pad]
