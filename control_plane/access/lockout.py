"""Lock-out: after some failures in a row an address has to wait, twice as long each time.

A try is counted before its password is looked at and forgiven afterwards, so guesses sent at once
are not heard at once. An address without an account is counted too, or being locked out would
tell who has one: in a nameless row of `identities` (no password hash; its e-mail is a keyed hash),
by the same statement. All counts lapse after a day and only the newest are kept, whoever they
belong to, so neither the bound nor the age of a count tells the two apart.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import driver
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import TooMany
from control_plane.kit.ids import new_id

# Failures in a row that are heard without a wait: enough for slips of the hand.
FREE_FAILURES = 5
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
# Doublings after which the longest wait is reached in any case.
_MOST_DOUBLINGS = 6
# A failure this old counts no more; longer than the longest wait.
FORGET_AFTER = timedelta(days=1)
# Counts that are kept, about 20 MB; each costs whoever fills them a sign-in with its bcrypt.
MOST_COUNTS = 100_000

_PURPOSE = "unknown_address.v1"

_TAKE = """
INSERT INTO identities AS i (id, email, password_hash, created_at, failed_logins, failed_at)
SELECT $1::uuid, coalesce((SELECT email FROM identities
                           WHERE lower(email) = lower($2) AND sign_on_tenant_id IS NULL), $3), '',
       $4::timestamptz, 1, $4::timestamptz
ON CONFLICT (lower(email)) WHERE sign_on_tenant_id IS NULL DO UPDATE SET
    failed_logins = CASE WHEN i.failed_at > $5 THEN i.failed_logins + 1 ELSE 1 END,
    failed_at = $4::timestamptz,
    locked_until = CASE WHEN i.failed_at > $5 AND i.failed_logins + 1 >= $6 THEN
        $4::timestamptz + least(
            $7::interval * power(2, least(i.failed_logins + 1 - $6, $9)), $8::interval) END
WHERE i.locked_until IS NULL OR i.locked_until <= $4::timestamptz
RETURNING i.id, i.password_hash
"""
_LOCKED_UNTIL = """
SELECT max(locked_until) FROM identities WHERE lower(email) IN (lower($1), $2)
"""
_REFUND = """
UPDATE identities SET failed_logins = greatest(failed_logins - 1, 0), locked_until = NULL
WHERE id = $1
"""
_CLEAR = """
UPDATE identities SET failed_logins = 0, failed_at = NULL, locked_until = NULL WHERE id = $1
"""
_FORGET = """
WITH old AS MATERIALIZED (
    SELECT id FROM identities WHERE failed_at <= $1
    UNION
    (SELECT id FROM identities WHERE failed_at IS NOT NULL ORDER BY failed_at DESC OFFSET $2)
), gone AS (
    DELETE FROM identities AS i USING old WHERE i.id = old.id AND i.password_hash = ''
)
UPDATE identities AS i SET failed_logins = 0, failed_at = NULL, locked_until = NULL
FROM old WHERE i.id = old.id AND i.password_hash <> ''
"""


@dataclass(frozen=True, kw_only=True)
class Try:
    """A counted try; an address without an account has no hash, a locked one has a wait only."""

    identity_id: UUID | None = None
    password_hash: str | None = None
    wait: timedelta | None = None


async def take(session: AsyncSession, keys: Keyring, *, email: str, now: datetime) -> Try:
    """Count a try as failed, for now; while the address is locked nothing is counted."""
    connection = await driver(session)
    stranger = _nameless(keys, email)
    row = await connection.fetchrow(
        _TAKE,
        new_id(),
        email,
        stranger,
        now,
        now - FORGET_AFTER,
        FREE_FAILURES,
        FIRST_WAIT,
        LONGEST_WAIT,
        _MOST_DOUBLINGS,
    )
    if row is None:
        until = await connection.fetchval(_LOCKED_UNTIL, email, stranger)
        # Forgiven in between, it is None.
        return Try(wait=max(until or now, now) - now)
    return Try(identity_id=row["id"], password_hash=row["password_hash"] or None)


def locked(wait: timedelta) -> TooMany:
    """What a locked address hears, whatever it sent."""
    return TooMany(
        "sign_in_locked",
        "There were too many failures with this e-mail address; try again later.",
        retry_after_s=wait.total_seconds(),
    )


async def refund(session: AsyncSession, identity_id: UUID) -> None:
    """Take back one counted try that was no failure, and leave those before it."""
    await (await driver(session)).execute(_REFUND, identity_id)


async def clear(session: AsyncSession, identity_id: UUID) -> None:
    """Forgive all failures: the person has proved who they are."""
    await (await driver(session)).execute(_CLEAR, identity_id)


async def forget(session: AsyncSession, *, now: datetime, keep: int = MOST_COUNTS) -> None:
    """Drop what has lapsed and what is too much; part of the timed upkeep."""
    await (await driver(session)).execute(_FORGET, now - FORGET_AFTER, keep)


def _nameless(keys: Keyring, email: str) -> str:
    """Stands for an address without an account; no address looks like it."""
    digest = hmac.digest(keys.derive(_PURPOSE)[0], email.lower().encode(), hashlib.sha256)
    return f"unknown:{digest.hex()}"
