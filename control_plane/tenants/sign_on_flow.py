"""Signing in through a company's provider: begin, come back, and who that is here.

A provider speaks for its own tenant and for nobody else. Whom it means is kept per (tenant,
issuer, subject); an e-mail address leads only to a member of the same tenant, and somebody new
gets an identity that is that tenant's alone, whoever else has the address.
"""

import hmac
from collections.abc import Awaitable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import msgspec
import structlog
from pydantic import TypeAdapter, ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.outbound import OutboundError
from control_plane.access import audit, openid
from control_plane.access import service as access
from control_plane.access.http import House
from control_plane.access.models import Identity, SignOn
from control_plane.access.openid import Party, Pending, Untrusted, Vouched
from control_plane.access.permissions import Role
from control_plane.access.schemas import Email
from control_plane.access.service import SignIn
from control_plane.access.tokens import Device
from control_plane.db.session import Scope, driver
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import BotyardError
from control_plane.kit.ids import fingerprint, new_id
from control_plane.tenants import members, quota, sign_on
from control_plane.tenants.models import Member, TenantState

# Time to sign in at the provider, second factor included.
PENDING_LIFE = timedelta(minutes=10)
# Characters of a name that are kept, as people may give themselves.
MAX_NAME = 80

_PURPOSE = "sign_on.v1"
_EMAIL: TypeAdapter[str] = TypeAdapter(Email)
_GONE = (TenantState.DELETING, TenantState.DELETED)

_FORGET = """
DELETE FROM credentials WHERE kind = 'sign_on' AND sign_on_tenant_id = $1 AND expires_at <= $2
"""
_SPEND = """
INSERT INTO credentials (id, kind, sha256, sign_on_tenant_id, created_at, expires_at)
VALUES ($1, 'sign_on', $2, $3, $4, $5) ON CONFLICT (sha256) DO NOTHING RETURNING id
"""
_LINKED = """
SELECT l.identity_id, m.id AS member_id FROM sign_on_links AS l
LEFT JOIN members AS m ON m.tenant_id = l.tenant_id AND m.identity_id = l.identity_id
WHERE l.tenant_id = $1 AND l.issuer = $2 AND l.subject = $3
"""
_BY_EMAIL = """
SELECT m.identity_id, EXISTS (
    SELECT FROM sign_on_links AS l
    WHERE l.tenant_id = m.tenant_id AND l.issuer = $3 AND l.identity_id = m.identity_id
) AS linked
FROM members AS m JOIN identities AS i ON i.id = m.identity_id
WHERE m.tenant_id = $1 AND lower(i.email) = $2 ORDER BY m.id LIMIT 1
"""
_LINK = """
INSERT INTO sign_on_links (tenant_id, issuer, subject, identity_id, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, issuer, subject) DO UPDATE SET identity_id = excluded.identity_id
"""

T = TypeVar("T")

log = structlog.get_logger()


class Why(StrEnum):
    """Why a sign-on ended; the stable codes that the sign-in page gets."""

    UNAVAILABLE = "sign_on_unavailable"
    PROVIDER_AWAY = "sign_on_provider_away"
    STALE = "sign_on_stale"
    REFUSED = "sign_on_refused"
    UNTRUSTED = "sign_on_untrusted"
    UNVERIFIED = "sign_on_email_unverified"
    DOMAIN = "sign_on_domain"
    NOT_A_MEMBER = "sign_on_not_a_member"
    OTHER_PERSON = "sign_on_other_person"
    NO_ROOM = "sign_on_no_room"


class SignOnRefused(Exception):
    """This sign-on leads nowhere, and nothing was changed by it."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


def redirect_uri(house: House, tenant_id: UUID) -> str:
    """Where the provider sends the browser back to.

    Each tenant has its own: a provider takes no other than the one that is registered with it, so
    that a tenant's provider cannot have another one's codes sent to itself.
    """
    return f"{house.public_url}/api/v1/auth/sign-on/callback/{tenant_id}"


def wrap(keys: Keyring, pending: Pending) -> str:
    """The cookie of the browser that began."""
    return keys.sign(_PURPOSE, msgspec.to_builtins(pending))


async def begin(house: House, tenant_id: UUID) -> tuple[str, str]:
    """Where to send the browser, and the cookie that it has to bring back."""
    try:
        party, _settings = await _party(house, tenant_id)
        metadata = await _answered(house.providers.discover(tenant_id, party.issuer))
    except SignOnRefused as refused:
        log.info("sign-on did not begin", tenant=str(tenant_id), why=refused.why)
        raise
    pending = openid.begin(party)
    return openid.authorization_url(metadata, party, pending), wrap(house.keys, pending)


async def finish(
    house: House,
    tenant_id: UUID,
    query: Mapping[str, str],
    cookie: str | None,
    device: Device,
) -> SignIn:
    """A sign-in for whom the provider vouches. Raises SignOnRefused."""
    pending = _unwrap(house.keys, cookie)
    state = query.get("state", "")
    if (
        pending is None
        or pending.tenant_id != tenant_id
        or not hmac.compare_digest(pending.state.encode(), state.encode())
    ):
        # Nothing shows that a browser of ours began this: not worth a line in anybody's audit.
        raise SignOnRefused(Why.STALE)
    vouched = None
    try:
        party = await _spend(house, pending)
        if "error" in query or "code" not in query:
            raise SignOnRefused(Why.REFUSED)
        vouched = await _answered(
            house.providers.redeem(party, pending, code=query["code"], iss=query.get("iss"))
        )
        return await _enter(house, pending, vouched, device)
    except SignOnRefused as refused:
        await _note(house, tenant_id, refused.why, vouched)
        raise


async def _party(house: House, tenant_id: UUID) -> tuple[Party, SignOn]:
    async with house.database.session(Scope(tenants=(tenant_id,))) as session:
        return await _read_party(session, house, tenant_id)


async def _read_party(session: AsyncSession, house: House, tenant_id: UUID) -> tuple[Party, SignOn]:
    """One answer for a tenant without sign-on and for no tenant."""
    settings = await sign_on.find(session)
    if settings is None:
        raise SignOnRefused(Why.UNAVAILABLE)
    return Party(
        tenant_id=tenant_id,
        issuer=settings.issuer,
        client_id=settings.client_id,
        client_secret=house.keys.open(settings.client_secret).decode(),
        redirect_uri=redirect_uri(house, tenant_id),
    ), settings


async def _spend(house: House, pending: Pending) -> Party:
    """Use the state, once and for all, before anybody is asked about the code."""
    now = house.clock.now()
    tenant_id = pending.tenant_id
    async with house.database.session(Scope(tenants=(tenant_id,))) as session:
        connection = await driver(session)
        await connection.execute(_FORGET, tenant_id, now)
        spent = await connection.fetchval(
            _SPEND, new_id(), fingerprint(pending.state), tenant_id, now, now + 2 * PENDING_LIFE
        )
        if spent is None:
            raise SignOnRefused(Why.STALE)
        party, _settings = await _read_party(session, house, tenant_id)
    if (party.issuer, party.client_id) != (pending.issuer, pending.client_id):
        raise SignOnRefused(Why.STALE)
    return party


async def _answered(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except OutboundError:
        raise SignOnRefused(Why.PROVIDER_AWAY) from None
    except Untrusted:
        raise SignOnRefused(Why.UNTRUSTED) from None


async def _enter(house: House, pending: Pending, vouched: Vouched, device: Device) -> SignIn:
    now, tenant_id = house.clock.now(), pending.tenant_id
    async with house.database.session(Scope(tenants=(tenant_id,))) as session:
        # One sign-on of a tenant at a time, so that twins do not both join.
        standing = await quota.standing(session, tenant_id, now=now, lock=True)
        if standing.state in _GONE:
            raise SignOnRefused(Why.UNAVAILABLE)
        _party, settings = await _read_party(session, house, tenant_id)
        if (settings.issuer, settings.client_id) != (pending.issuer, pending.client_id):
            raise SignOnRefused(Why.STALE)
        email = _email(settings, vouched)
        identity_id = await _known(session, settings, vouched.subject, email, now=now)
        if identity_id is None:
            identity_id = await _join(session, settings, vouched, email, standing, now=now)
        return await access.sign_on(
            session,
            house.keys,
            identity_id=identity_id,
            tenant_id=tenant_id,
            now=now,
            device=device,
        )


def _email(settings: SignOn, vouched: Vouched) -> str:
    """The address, which the provider has verified and the tenant lets in."""
    try:
        email = _EMAIL.validate_python(vouched.email)
    except ValidationError:
        raise SignOnRefused(Why.UNVERIFIED) from None
    if not vouched.email_verified:
        raise SignOnRefused(Why.UNVERIFIED)
    if email.rpartition("@")[2] not in settings.domains:
        raise SignOnRefused(Why.DOMAIN)
    return email


async def _known(
    session: AsyncSession, settings: SignOn, subject: str, email: str, *, now: datetime
) -> UUID | None:
    """The member whom the provider means; None for somebody new."""
    connection = await driver(session)
    tenant_id, issuer = settings.tenant_id, settings.issuer
    link = await connection.fetchrow(_LINKED, tenant_id, issuer, subject)
    if link is not None and link["member_id"] is not None:
        identity_id: UUID = link["identity_id"]
        return identity_id
    member = await connection.fetchrow(_BY_EMAIL, tenant_id, email, issuer)
    if member is None:
        if link is not None:
            # Removed here: they come back by an invitation, not by themselves.
            raise SignOnRefused(Why.NOT_A_MEMBER)
        return None
    if member["linked"]:
        # The provider gave somebody's old address to another person.
        raise SignOnRefused(Why.OTHER_PERSON)
    identity_id = member["identity_id"]
    await connection.execute(_LINK, tenant_id, issuer, subject, identity_id, now)
    return identity_id


async def _join(
    session: AsyncSession,
    settings: SignOn,
    vouched: Vouched,
    email: str,
    standing: quota.Standing,
    *,
    now: datetime,
) -> UUID:
    if settings.first_sign_on == "invited":
        raise SignOnRefused(Why.NOT_A_MEMBER)
    try:
        standing.room_for("members")
    except BotyardError:
        raise SignOnRefused(Why.NO_ROOM) from None
    identity = await _new_identity(session, settings.tenant_id, email, now=now)
    member = Member(
        id=new_id(),
        tenant_id=settings.tenant_id,
        identity_id=identity.id,
        role=Role(settings.first_sign_on),
        name=_name(vouched.name),
        created_at=now,
    )
    session.add(member)
    await session.flush()
    await (await driver(session)).execute(
        _LINK, settings.tenant_id, settings.issuer, vouched.subject, identity.id, now
    )
    entries = await quota.crossed(session, standing, now=now)
    await members.changed(session, member, "join", actor=None, now=now, entries=entries)
    return identity.id


async def _new_identity(
    session: AsyncSession, tenant_id: UUID, email: str, *, now: datetime
) -> Identity:
    # Without a password: neither sign-in nor reset ever finds it.
    return await access.create_identity(
        session,
        email=email,
        password_hash="",
        operator=False,
        now=now,
        sign_on_tenant_id=tenant_id,
    )


def _name(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()[:MAX_NAME]


def _unwrap(keys: Keyring, cookie: str | None) -> Pending | None:
    if cookie is None:
        return None
    payload = keys.load(_PURPOSE, cookie, max_age_s=int(PENDING_LIFE.total_seconds()))
    try:
        return msgspec.convert(payload, Pending)
    except msgspec.ValidationError:
        return None


async def _note(house: House, tenant_id: UUID, why: Why, vouched: Vouched | None) -> None:
    email = vouched.email if vouched else ""
    log.info("sign-on refused", tenant=str(tenant_id), why=why)
    async with house.database.session(Scope(tenants=(tenant_id,))) as session:
        audit.record(
            session,
            actor=None,
            tenant_id=tenant_id,
            action="sign_on.failure",
            target=("tenant", tenant_id),
            now=house.clock.now(),
            after={"why": why, "email": f"{email[:1]}***@{email.rpartition('@')[2]}"[:260]}
            if email
            else {"why": why},
        )
