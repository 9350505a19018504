"""Access tokens (JWT, 15 minutes) and rotating refresh tokens (opaque, one family per sign-in)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.models import Credential
from control_plane.db.session import hint
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Unauthorized
from control_plane.kit.ids import fingerprint, new_id, new_token

ACCESS_LIFE = timedelta(minutes=15)
# A browser that is not opened for this long signs in again.
REFRESH_LIFE = timedelta(days=30)
# A sign-in through a company's provider ends after a working day, however much it is used: whoever
# left the company is then not vouched for again.
SIGN_ON_LIFE = timedelta(hours=12)

# What to listen to for sign-ins that end before their time.
ENDED = "sign_ins.ended"

_PURPOSE = "jwt.access.v1"
_ISSUER = "botyard"


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a sign-in is used with, so that its owner recognises it."""

    label: str | None = None
    address: str | None = None


NO_DEVICE = Device()


class RefreshReused(Unauthorized):
    """A spent refresh token came back: the whole family ends, and that must be committed."""

    keeps_changes = True


def make_access(
    keys: Keyring, *, identity_id: UUID, tenant_id: UUID | None, family_id: UUID, now: datetime
) -> str:
    """A signed access token for one identity, in one tenant if any."""
    claims = {
        "iss": _ISSUER,
        "sub": str(identity_id),
        "tid": str(tenant_id) if tenant_id else None,
        "sid": str(family_id),
        "iat": int(now.timestamp()),
        "exp": int((now + ACCESS_LIFE).timestamp()),
    }
    return jwt.encode(claims, keys.derive(_PURPOSE)[0], algorithm="HS256")


def read_access(keys: Keyring, token: str, *, now: datetime) -> dict[str, Any]:
    """The claims of a valid access token; raises Unauthorized."""
    for key in keys.derive(_PURPOSE):
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["HS256"],
                issuer=_ISSUER,
                options={"require": ["exp", "iat", "sub", "sid"], "verify_exp": False},
            )
        except jwt.InvalidTokenError:
            continue
        if claims["exp"] <= now.timestamp():
            raise Unauthorized("token_expired", "The access token has expired; refresh it.")
        return claims
    raise Unauthorized("invalid_token", "The access token is not valid.")


async def issue_refresh(
    session: AsyncSession,
    *,
    identity_id: UUID,
    tenant_id: UUID | None,
    family_id: UUID,
    now: datetime,
    device: Device = NO_DEVICE,
    sign_on_until: datetime | None = None,
) -> str:
    """A new refresh token of a family; shown once.

    With `sign_on_until`, the tenant's provider vouched: it is good for that tenant until then.
    """
    token = new_token()
    session.add(
        Credential(
            id=new_id(),
            kind="refresh",
            sha256=fingerprint(token),
            identity_id=identity_id,
            tenant_id=tenant_id,
            family_id=family_id,
            created_at=now,
            expires_at=sign_on_until or now + REFRESH_LIFE,
            label=device.label,
            address=device.address,
            sign_on_tenant_id=tenant_id if sign_on_until else None,
        )
    )
    await session.flush()
    return token


async def spend_refresh(session: AsyncSession, token: str, *, now: datetime) -> Credential:
    """Take a refresh token out of use and return it; a second use ends the family."""
    found = await session.exec(
        select(Credential)
        .where(Credential.kind == "refresh", Credential.sha256 == fingerprint(token))
        .with_for_update()
    )
    credential = found.one_or_none()
    if credential is None or credential.revoked_at or (credential.expires_at or now) <= now:
        raise Unauthorized("invalid_refresh_token", "Please sign in again.")
    if credential.used_at is not None:
        await revoke_family(session, credential.family_id, now=now)
        audit.record(
            session,
            actor=None,
            tenant_id=credential.tenant_id or audit.PLATFORM,
            action="sign_in.reused",
            target=("identity", credential.identity_id),
            now=now,
            after={"sign_in": str(credential.family_id)},
        )
        raise RefreshReused("refresh_token_reused", "This sign-in was ended for safety.")
    credential.used_at = now
    session.add(credential)
    return credential


async def revoke_family(session: AsyncSession, family_id: UUID | None, *, now: datetime) -> None:
    """End a sign-in on all its tokens."""
    await session.exec(
        update(Credential)
        .where(col(Credential.family_id) == family_id, col(Credential.revoked_at).is_(None))
        .values(revoked_at=now)
    )
    hint(session, ENDED)
