"""The second factor: six digits from an authenticator (TOTP), or a recovery code.

A code of the clock's step or a neighbour's is taken, each step once. Recovery codes are kept as
SHA-256 and work once. Callers hold the identity's row, so twins cannot both spend a code.
"""

import base64
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import pyotp
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access.models import Credential, Identity
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import BadRequest, Conflict, Forbidden
from control_plane.kit.ids import fingerprint, new_id

RECOVERY_CODES = 10
# 80 random bits: nobody guesses one, however long they try.
_RECOVERY_BYTES = 10
# Seconds of a step, and how many steps a clock may be off: what authenticators expect.
_STEP_S = 30
_OFF_BY = 1
_ISSUER = "Botyard"


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What somebody sent as their second factor."""

    code: str | None = None
    recovery_code: str | None = None

    def __bool__(self) -> bool:
        return self.code is not None or self.recovery_code is not None


async def hold_identity(session: AsyncSession, identity_id: UUID) -> Identity:
    """The identity as it is now, for this transaction alone."""
    found = await session.exec(
        select(Identity)
        .where(Identity.id == identity_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return found.one()


async def is_on(session: AsyncSession, identity_id: UUID) -> bool:
    """Whether a code is asked for beside the password."""
    found = await session.exec(select(Identity.totp_on).where(Identity.id == identity_id))
    return found.one()


async def begin(session: AsyncSession, keys: Keyring, identity_id: UUID) -> tuple[str, str]:
    """A new secret and its otpauth address; it counts once `confirm` has seen a code of it."""
    identity = await hold_identity(session, identity_id)
    if identity.totp_on:
        raise Conflict("totp_on", "The second factor is on already; turn it off first.")
    secret = pyotp.random_base32()
    identity.totp_secret = keys.seal(secret.encode())
    session.add(identity)
    await session.flush()
    uri = pyotp.TOTP(secret).provisioning_uri(name=identity.email, issuer_name=_ISSUER)
    return secret, uri


async def confirm(
    session: AsyncSession, keys: Keyring, identity_id: UUID, *, code: str, now: datetime
) -> list[str]:
    """Ask for the second factor from now on; the recovery codes, which nobody can read again."""
    identity = await hold_identity(session, identity_id)
    if identity.totp_on:
        raise Conflict("totp_on", "The second factor is on already; turn it off first.")
    if identity.totp_secret is None:
        raise BadRequest("totp_not_begun", "Begin first, and scan the secret.")
    if not _spend_code(keys, identity, code, now):
        raise Forbidden("wrong_code", "The code is wrong; is the clock of the device right?")
    identity.totp_on = True
    session.add(identity)
    codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
    session.add_all(
        Credential(
            id=new_id(),
            kind="recovery",
            sha256=_recovery_print(identity_id, code),
            identity_id=identity_id,
            created_at=now,
        )
        for code in codes
    )
    await session.flush()
    return codes


async def spend(
    session: AsyncSession, keys: Keyring, identity: Identity, factor: Factor, *, now: datetime
) -> bool:
    """Whether the factor is right; then it cannot be used again."""
    if factor.code is not None:
        right = _spend_code(keys, identity, factor.code, now)
        session.add(identity)
        return right
    if factor.recovery_code is None:
        return False
    spent = await session.exec(
        update(Credential)
        .where(
            col(Credential.kind) == "recovery",
            col(Credential.sha256) == _recovery_print(identity.id, factor.recovery_code),
            col(Credential.used_at).is_(None),
        )
        .values(used_at=now)
    )
    return spent.rowcount == 1


async def turn_off(session: AsyncSession, identity: Identity) -> None:
    """Ask for no second factor any more, and forget its secrets."""
    identity.totp_on, identity.totp_secret = False, None
    session.add(identity)
    await session.exec(
        delete(Credential).where(
            col(Credential.kind) == "recovery", col(Credential.identity_id) == identity.id
        )
    )


def _spend_code(keys: Keyring, identity: Identity, code: str, now: datetime) -> bool:
    if identity.totp_secret is None:
        return False
    totp = pyotp.TOTP(keys.open(identity.totp_secret).decode())
    current = int(now.timestamp()) // _STEP_S
    # The last step used, and all before it, are over: a code that was seen is worth nothing.
    for step in range(max(current - _OFF_BY, identity.totp_step + 1), current + _OFF_BY + 1):
        if hmac.compare_digest(totp.generate_otp(step), code):
            identity.totp_step = step
            return True
    return False


def _new_recovery_code() -> str:
    text = base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def _recovery_print(identity_id: UUID, code: str) -> bytes:
    return fingerprint(f"{identity_id}:{code.replace('-', '').replace(' ', '').lower()}")
