"""Ids and random secrets. Ids are UUIDv7: they sort by the millisecond they were made in."""

import base64
import hashlib
import secrets
from uuid import UUID

import uuid_utils
import uuid_utils.compat


def new_id() -> UUID:
    """A new UUIDv7."""
    return uuid_utils.compat.uuid7()


def new_name() -> str:
    """A new UUIDv7 as text, for what never needs it as a number."""
    return str(uuid_utils.uuid7())


def new_token() -> str:
    """A new opaque secret: 32 random bytes, URL-safe, 43 characters."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def fingerprint(secret: str) -> bytes:
    """What we keep of an opaque secret: its SHA-256."""
    return hashlib.sha256(secret.encode()).digest()
