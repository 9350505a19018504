"""Sign-in: check a password, start a family of tokens, rotate it, end it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit, lockout, passwords, second_factor, tokens
from control_plane.access.audit import PLATFORM, Who
from control_plane.access.http import House
from control_plane.access.models import Credential, Identity
from control_plane.access.schemas import LoginIn, MembershipOut
from control_plane.access.second_factor import Factor
from control_plane.access.tokens import Device
from control_plane.db.session import Scope, driver, enter
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Forbidden, Unauthorized, not_found
from control_plane.kit.ids import new_id

_MEMBERSHIPS = """
SELECT t.id AS tenant_id, t.name AS tenant_name, t.state AS tenant_state,
       coalesce(m.role_id::text, m.role) AS role
FROM members AS m JOIN tenants AS t ON t.id = m.tenant_id
WHERE m.identity_id = $1 AND t.state NOT IN ('deleting', 'deleted') ORDER BY m.id
"""
# Owners keep their password: a provider that breaks must lock nobody out for good.
_CLOSED = """
SELECT s.tenant_id FROM sign_ons AS s
JOIN members AS m ON m.tenant_id = s.tenant_id AND m.identity_id = $1
WHERE s.required AND m.role <> 'owner' AND s.tenant_id = ANY ($2)
"""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Somebody knows the password of this identity, as it is kept at this moment."""

    identity_id: UUID
    password_hash: str


class SignIn:
    """A started or renewed sign-in: what the browser gets."""

    def __init__(self, access: str, refresh: str, tenant_id: UUID | None) -> None:
        self.access = access
        self.refresh = refresh
        self.tenant_id = tenant_id


async def find_identity(session: AsyncSession, email: str) -> Identity | None:
    """The identity of an e-mail address, however it is capitalised."""
    # Without a hash it is nobody's: a count of failed sign-ins.
    found = await session.exec(
        select(Identity).where(
            func.lower(Identity.email) == email.lower(),
            Identity.password_hash != "",
            col(Identity.sign_on_tenant_id).is_(None),
        )
    )
    return found.one_or_none()


async def create_identity(
    session: AsyncSession,
    *,
    email: str,
    password_hash: str,
    operator: bool,
    now: datetime,
    sign_on_tenant_id: UUID | None = None,
) -> Identity:
    """A person who can sign in from now on; with `sign_on_tenant_id`, through its provider only."""
    identity = Identity(
        id=new_id(),
        email=email,
        password_hash=password_hash,
        operator=operator,
        created_at=now,
        sign_on_tenant_id=sign_on_tenant_id,
    )
    session.add(identity)
    await session.flush()
    return identity


async def prove_password(house: House, *, email: str, password: str) -> Proof | None:
    """Whether it is the password; None when not. Raises TooMany while the address is locked.

    One bcrypt computation for everything that can be wrong, also while locked and for an address
    without an account. The failure stays counted until the caller clears it.
    """
    async with house.database.session() as session:
        counted = await lockout.take(session, house.keys, email=email, now=house.clock.now())
    # bcrypt takes a quarter of a second: no connection waits for it.
    right = await passwords.matches(password, counted.password_hash)
    known = right and counted.identity_id is not None and counted.wait is None
    if not known:
        action = "sign_in.locked" if counted.wait is not None else "sign_in.failure"
        await _note_failure(house, counted.identity_id, email, action)
    if counted.wait is not None:
        raise lockout.locked(counted.wait)
    if counted.identity_id is None or counted.password_hash is None or not right:
        return None
    return Proof(identity_id=counted.identity_id, password_hash=counted.password_hash)


async def hold_proven(session: AsyncSession, proof: Proof) -> Identity | None:
    """The identity, held for this transaction; None if the password was changed since."""
    identity = await second_factor.hold_identity(session, proof.identity_id)
    return identity if identity.password_hash == proof.password_hash else None


async def sign_in(house: House, asked: LoginIn, device: Device) -> SignIn:
    """Start a sign-in; one answer and one duration for everything that can be wrong."""
    wrong = Unauthorized("wrong_credentials", "The e-mail address or the password is wrong.")
    proof = await prove_password(house, email=asked.email, password=asked.password)
    if proof is None:
        raise wrong
    renewed = None
    if passwords.outdated(proof.password_hash):
        renewed = await passwords.hash_password(asked.password)
    factor = Factor(code=asked.code, recovery_code=asked.recovery_code)
    now = house.clock.now()
    async with house.database.session() as session:
        identity = await hold_proven(session, proof)
        if identity is None:
            raise wrong
        incomplete = identity.totp_on and not factor
        if incomplete:
            await lockout.refund(session, identity.id)
        else:
            if identity.totp_on:
                await _spend_factor(session, house, identity, factor)
            identity.password_hash = renewed or identity.password_hash
            session.add(identity)
            signed_in = await _start(session, house.keys, identity, asked.tenant_id, device, now)
    if incomplete:
        raise Unauthorized("second_factor_required", "Send the code of your authenticator too.")
    return signed_in


async def sign_on(
    session: AsyncSession,
    keys: Keyring,
    *,
    identity_id: UUID,
    tenant_id: UUID,
    now: datetime,
    device: Device,
) -> SignIn:
    """Start a sign-in for whom the tenant's provider vouched: good for that tenant alone."""
    # Always a new family: a token that was in the browser before gains nothing.
    family = new_id()
    renewed = await tokens.issue_refresh(
        session,
        identity_id=identity_id,
        tenant_id=tenant_id,
        family_id=family,
        now=now,
        device=device,
        sign_on_until=now + tokens.SIGN_ON_LIFE,
    )
    audit.record(
        session,
        actor=Who("person", identity_id),
        tenant_id=tenant_id,
        action="sign_on.success",
        target=("identity", identity_id),
        now=now,
        after={"sign_in": str(family)},
    )
    access = tokens.make_access(
        keys, identity_id=identity_id, tenant_id=tenant_id, family_id=family, now=now
    )
    return SignIn(access, renewed, tenant_id)


async def refresh(
    session: AsyncSession, keys: Keyring, *, token: str, now: datetime, device: Device
) -> SignIn:
    """Spend a refresh token for a new pair."""
    spent = await tokens.spend_refresh(session, token, now=now)
    identity_id, family_id = _owner(spent)
    renewed = await tokens.issue_refresh(
        session,
        identity_id=identity_id,
        tenant_id=spent.tenant_id,
        family_id=family_id,
        now=now,
        device=device,
        sign_on_until=spent.expires_at if spent.sign_on_tenant_id else None,
    )
    access = tokens.make_access(
        keys, identity_id=identity_id, tenant_id=spent.tenant_id, family_id=family_id, now=now
    )
    return SignIn(access, renewed, spent.tenant_id)


async def switch(
    session: AsyncSession,
    keys: Keyring,
    *,
    identity_id: UUID,
    family_id: UUID,
    tenant_id: UUID,
    now: datetime,
) -> SignIn:
    """The same sign-in in another of the person's tenants; its earlier refresh token ends."""
    await enter(session, Scope(identity=identity_id))
    if tenant_id not in [item.tenant_id for item in await memberships(session, identity_id)]:
        raise not_found("tenant")
    if tenant_id in await _closed_to_passwords(session, identity_id, [tenant_id]):
        raise Forbidden("sign_on_required", "This company signs in through its own provider.")
    await tokens.revoke_family(session, family_id, now=now)
    renewed = await tokens.issue_refresh(
        session, identity_id=identity_id, tenant_id=tenant_id, family_id=family_id, now=now
    )
    access = tokens.make_access(
        keys, identity_id=identity_id, tenant_id=tenant_id, family_id=family_id, now=now
    )
    return SignIn(access, renewed, tenant_id)


async def sign_out(session: AsyncSession, *, token: str, now: datetime) -> None:
    """End the sign-in that a refresh token belongs to; an unknown token is none of our business."""
    try:
        spent = await tokens.spend_refresh(session, token, now=now)
    except Unauthorized:
        return
    await tokens.revoke_family(session, spent.family_id, now=now)
    audit.record(
        session,
        actor=Who("person", spent.identity_id) if spent.identity_id else None,
        tenant_id=spent.tenant_id or PLATFORM,
        action="sign_out",
        target=("identity", spent.identity_id),
        now=now,
        after={"sign_in": str(spent.family_id)},
    )


async def memberships(session: AsyncSession, identity_id: UUID) -> list[MembershipOut]:
    """Where a person belongs; the session must speak for them."""
    rows = await (await driver(session)).fetch(_MEMBERSHIPS, identity_id)
    return [MembershipOut(**dict(row)) for row in rows]


async def _start(
    session: AsyncSession,
    keys: Keyring,
    identity: Identity,
    wanted: UUID | None,
    device: Device,
    now: datetime,
) -> SignIn:
    await session.flush()
    await lockout.clear(session, identity.id)
    chosen = await _choose_tenant(session, identity, wanted)
    # Always a new family: a token that was in the browser before gains nothing.
    family = new_id()
    refresh = await tokens.issue_refresh(
        session,
        identity_id=identity.id,
        tenant_id=chosen,
        family_id=family,
        now=now,
        device=device,
    )
    audit.record(
        session,
        actor=_who(identity),
        tenant_id=chosen or PLATFORM,
        action="sign_in.success",
        target=("identity", identity.id),
        now=now,
        after={"sign_in": str(family)},
    )
    access = tokens.make_access(
        keys, identity_id=identity.id, tenant_id=chosen, family_id=family, now=now
    )
    return SignIn(access, refresh, chosen)


async def _spend_factor(
    session: AsyncSession, house: House, identity: Identity, factor: Factor
) -> None:
    now = house.clock.now()
    if not await second_factor.spend(session, house.keys, identity, factor, now=now):
        raise Unauthorized("wrong_code", "The code is wrong, or was used before.")


async def _choose_tenant(
    session: AsyncSession, identity: Identity, wanted: UUID | None
) -> UUID | None:
    await enter(session, Scope(identity=identity.id))
    mine = [item.tenant_id for item in await memberships(session, identity.id)]
    if wanted is not None and wanted not in mine:
        raise Unauthorized("not_a_member", "This account is not a member of that tenant.")
    closed = await _closed_to_passwords(session, identity.id, mine)
    left = [tenant_id for tenant_id in mine if tenant_id not in closed]
    if wanted in closed or (mine and not left):
        raise Unauthorized("sign_on_required", "This company signs in through its own provider.")
    return wanted or (left[0] if left else None)


async def _closed_to_passwords(
    session: AsyncSession, identity_id: UUID, tenants: Sequence[UUID]
) -> set[UUID]:
    """Those of a person's tenants that they must enter through the company's provider."""
    await enter(session, Scope(tenants=tuple(tenants), identity=identity_id))
    rows = await (await driver(session)).fetch(_CLOSED, identity_id, list(tenants))
    await enter(session, Scope(identity=identity_id))
    return {row["tenant_id"] for row in rows}


async def _note_failure(house: House, known: UUID | None, email: str, action: str) -> None:
    """Write the failure down; the same steps for an e-mail address that nobody has."""
    async with house.database.session(Scope(identity=known or new_id())) as session:
        mine = await memberships(session, known or new_id())
        audit.record(
            session,
            actor=None,
            tenant_id=mine[0].tenant_id if mine else PLATFORM,
            action=action,
            target=("identity", known),
            now=house.clock.now(),
            after={"email": f"{email[:1]}***@{email.rpartition('@')[2]}"},
        )


def _who(identity: Identity) -> Who:
    return Who("operator" if identity.operator else "person", identity.id)


def _owner(credential: Credential) -> tuple[UUID, UUID]:
    if credential.identity_id is None or credential.family_id is None:
        raise Unauthorized("invalid_refresh_token", "Please sign in again.")
    return credential.identity_id, credential.family_id
