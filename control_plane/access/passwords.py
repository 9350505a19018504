"""Passwords: bcrypt at cost 12, off the event loop."""

import asyncio
import base64
import hashlib

import bcrypt

COST = 12
MIN_LENGTH = 10
MAX_LENGTH = 200

# Compared when the e-mail is unknown, so that the answer takes as long as a wrong password.
_NOBODY = bcrypt.hashpw(b"nobody", bcrypt.gensalt(COST))


async def hash_password(password: str) -> str:
    """The bcrypt hash to keep."""
    salted = await asyncio.to_thread(bcrypt.hashpw, _fold(password), bcrypt.gensalt(COST))
    return salted.decode()


async def matches(password: str, password_hash: str | None) -> bool:
    """Whether it is the password; takes the same time when there is none to compare with."""
    expected = password_hash.encode() if password_hash else _NOBODY
    same = await asyncio.to_thread(bcrypt.checkpw, _fold(password), expected)
    return same and password_hash is not None


def outdated(password_hash: str) -> bool:
    """Whether it was made at another cost than a new one would be."""
    return not password_hash.startswith(f"$2b${COST:02}$")


def _fold(password: str) -> bytes:
    # bcrypt reads 72 bytes and stops at a zero; a digest in base64 is 44 and has none.
    return base64.b64encode(hashlib.sha256(password.encode()).digest())
