"""Sign-in: check a password, start a family of tokens, rotate it, end it."""

from datetime import datetime
from uuid import UUID

from sqlmodel import func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit, passwords, tokens
from control_plane.access.audit import PLATFORM, Who
from control_plane.access.models import Credential, Identity
from control_plane.access.schemas import MembershipOut
from control_plane.db.session import Database, Scope, driver, enter
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Unauthorized
from control_plane.kit.ids import new_id

_MEMBERSHIPS = """
SELECT t.id AS tenant_id, t.name AS tenant_name, t.state AS tenant_state, m.role
FROM members AS m JOIN tenants AS t ON t.id = m.tenant_id
WHERE m.identity_id = $1 AND t.state NOT IN ('deleting', 'deleted') ORDER BY m.id
"""


class SignIn:
    """A started or renewed sign-in: what the browser gets."""

    def __init__(self, access: str, refresh: str, tenant_id: UUID | None) -> None:
        self.access = access
        self.refresh = refresh
        self.tenant_id = tenant_id


async def find_identity(session: AsyncSession, email: str) -> Identity | None:
    """The identity of an e-mail address, however it is capitalised."""
    found = await session.exec(select(Identity).where(func.lower(Identity.email) == email.lower()))
    return found.one_or_none()


async def create_identity(
    session: AsyncSession, *, email: str, password_hash: str, operator: bool, now: datetime
) -> Identity:
    """A person who can sign in from now on."""
    identity = Identity(
        id=new_id(), email=email, password_hash=password_hash, operator=operator, created_at=now
    )
    session.add(identity)
    await session.flush()
    return identity


async def sign_in(
    database: Database,
    keys: Keyring,
    clock: Clock,
    *,
    email: str,
    password: str,
    tenant_id: UUID | None,
) -> SignIn:
    """Start a sign-in; one answer and one duration for everything that can be wrong."""
    async with database.session() as session:
        identity = await find_identity(session, email)
    # bcrypt takes a quarter of a second: no connection waits for it.
    right = await passwords.matches(password, identity.password_hash if identity else None)
    if identity is None or not right:
        await _note_failure(database, identity, email, now=clock.now())
        raise Unauthorized("wrong_credentials", "The e-mail address or the password is wrong.")
    now = clock.now()
    async with database.session() as session:
        chosen = await _choose_tenant(session, identity, tenant_id)
        family = new_id()
        refresh = await tokens.issue_refresh(
            session, identity_id=identity.id, tenant_id=chosen, family_id=family, now=now
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


async def refresh(session: AsyncSession, keys: Keyring, *, token: str, now: datetime) -> SignIn:
    """Spend a refresh token for a new pair."""
    spent = await tokens.spend_refresh(session, token, now=now)
    identity_id, family_id = _owner(spent)
    renewed = await tokens.issue_refresh(
        session, identity_id=identity_id, tenant_id=spent.tenant_id, family_id=family_id, now=now
    )
    access = tokens.make_access(
        keys, identity_id=identity_id, tenant_id=spent.tenant_id, family_id=family_id, now=now
    )
    return SignIn(access, renewed, spent.tenant_id)


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


async def _choose_tenant(
    session: AsyncSession, identity: Identity, wanted: UUID | None
) -> UUID | None:
    await enter(session, Scope(identity=identity.id))
    mine = [item.tenant_id for item in await memberships(session, identity.id)]
    if wanted is not None and wanted not in mine:
        raise Unauthorized("not_a_member", "This account is not a member of that tenant.")
    return wanted or (mine[0] if mine else None)


async def _note_failure(
    database: Database, identity: Identity | None, email: str, *, now: datetime
) -> None:
    """Write the failure down; the same steps for an e-mail address that nobody has."""
    known = identity.id if identity else None
    async with database.session(Scope(identity=known or new_id())) as session:
        mine = await memberships(session, known or new_id())
        audit.record(
            session,
            actor=None,
            tenant_id=mine[0].tenant_id if mine else PLATFORM,
            action="sign_in.failure",
            target=("identity", known),
            now=now,
            after={"email": f"{email[:1]}***@{email.rpartition('@')[2]}"},
        )


def _who(identity: Identity) -> Who:
    return Who("operator" if identity.operator else "person", identity.id)


def _owner(credential: Credential) -> tuple[UUID, UUID]:
    if credential.identity_id is None or credential.family_id is None:
        raise Unauthorized("invalid_refresh_token", "Please sign in again.")
    return credential.identity_id, credential.family_id
