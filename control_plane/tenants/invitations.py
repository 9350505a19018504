"""Invitations: a secret link, shown once, that makes one person a member within a week.

Whoever holds the link proves nothing but that: an identity that exists already must show its
password to join, a new one sets it. What the link gives is what its maker may still give.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit, lockout, passwords
from control_plane.access import service as access
from control_plane.access.http import House
from control_plane.access.models import Credential, Identity
from control_plane.access.permissions import Actor
from control_plane.db.session import Scope, enter
from control_plane.kit.errors import Conflict, Forbidden, Gone, Invalid, Unauthorized, not_found
from control_plane.kit.ids import fingerprint, new_id, new_token
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import members, quota, roles
from control_plane.tenants.models import Invitation, Member, TenantState
from control_plane.tenants.schemas import AcceptIn, InvitationIn

# Long enough for a holiday week, short enough for a mailbox that others may read later.
LIFE = timedelta(days=7)
KIND = "invitation"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An invitation that can be accepted, and the identity of its address if there is one."""

    email: str
    identity: Identity | None


async def create(
    session: AsyncSession, body: InvitationIn, *, actor: Actor, now: datetime
) -> tuple[Invitation, str]:
    """A new invitation and its token, which nobody can read again."""
    standing = await quota.standing(session, actor.tenant, now=now, lock=True)
    given = await roles.resolve(session, body.role)
    roles.within(actor, given.permissions)
    if actor.member_id is None:
        raise not_found("member")
    await _not_there_yet(session, body.email, now=now)
    standing.room_for("members")
    token = new_token()
    invitation = Invitation(
        id=new_id(),
        tenant_id=actor.tenant,
        email=body.email,
        role=given.role,
        role_id=given.role_id,
        invited_by=actor.member_id,
        created_at=now,
        expires_at=now + LIFE,
    )
    credential = Credential(
        id=invitation.id,
        kind=KIND,
        sha256=fingerprint(token),
        tenant_id=actor.tenant,
        created_at=now,
        expires_at=invitation.expires_at,
    )
    session.add_all([invitation, credential])
    await session.flush()
    entries = await quota.crossed(session, standing, now=now)
    await _changed(session, invitation, "create", actor=actor, now=now, entries=entries)
    return invitation, token


async def list_invitations(
    session: AsyncSession, *, after: UUID | None, limit: int, now: datetime
) -> Sequence[Invitation]:
    """Open invitations, oldest first; one more than `limit` when there are more."""
    query = select(Invitation).where(
        col(Invitation.accepted_at).is_(None), col(Invitation.expires_at) > now
    )
    if after is not None:
        query = query.where(col(Invitation.id) > after)
    return (await session.exec(query.order_by(col(Invitation.id)).limit(limit + 1))).all()


async def withdraw(
    session: AsyncSession, invitation_id: UUID, *, actor: Actor, now: datetime
) -> None:
    """Take an open invitation back: its link is worth nothing from now on."""
    standing = await quota.standing(session, actor.tenant, now=now, lock=True)
    found = await session.exec(
        select(Invitation).where(
            Invitation.id == invitation_id, col(Invitation.accepted_at).is_(None)
        )
    )
    invitation = found.one_or_none()
    if invitation is None:
        raise not_found("invitation")
    roles.within(actor, await roles.of(session, invitation))
    credential = await session.get(Credential, invitation_id, with_for_update=True)
    if credential is not None:
        credential.revoked_at = now
        session.add(credential)
    await session.delete(invitation)
    await session.flush()
    entries = await quota.crossed(session, standing, now=now)
    await _changed(session, invitation, "withdraw", actor=actor, now=now, entries=entries)


async def accept(house: House, body: AcceptIn) -> Member:
    """Join; a person who has an account shows its password, a new one sets it."""
    async with house.database.session() as session:
        opened = await _open(session, body.token, now=house.clock.now())
    # bcrypt takes a quarter of a second: no connection waits for it.
    password_hash, proof = None, None
    if opened.identity is None:
        password_hash = await passwords.hash_password(_new_password(body.password))
    else:
        # Counted like a sign-in: a link must not be a place to guess a password.
        proof = await access.prove_password(house, email=opened.email, password=body.password or "")
        if proof is None:
            raise Unauthorized("wrong_credentials", "Show the password of your account to join.")
    try:
        async with house.database.session() as session:
            if proof is not None:
                await lockout.clear(session, proof.identity_id)
            return await _join(session, body, password_hash, now=house.clock.now())
    except IntegrityError:
        raise Conflict("already_member", "This person has joined in the meantime.") from None


async def _open(session: AsyncSession, token: str, *, now: datetime) -> Opened:
    invitation = await _lock(session, token, now=now)
    identity = await access.find_identity(session, invitation.email)
    return Opened(email=invitation.email, identity=identity)


async def _lock(session: AsyncSession, token: str, *, now: datetime) -> Invitation:
    """The invitation of a token, good for one use; the session speaks for its tenant then."""
    gone = Gone("invitation_gone", "This invitation was used, withdrawn, or has expired.")
    found = await session.exec(
        select(Credential).where(
            Credential.kind == KIND,
            Credential.sha256 == fingerprint(token),
            col(Credential.used_at).is_(None),
            col(Credential.revoked_at).is_(None),
            col(Credential.expires_at) > now,
        )
    )
    credential = found.one_or_none()
    if credential is None or credential.tenant_id is None:
        raise gone
    await enter(session, Scope(tenants=(credential.tenant_id,)))
    # The tenant before anything of its people, as everywhere.
    standing = await quota.standing(session, credential.tenant_id, now=now, lock=True)
    invitation = await session.get(Invitation, credential.id, with_for_update=True)
    if invitation is None or invitation.accepted_at or standing.state != TenantState.ACTIVE:
        raise gone
    inviter, _email = await members.get(session, invitation.invited_by)
    promised = await roles.of(session, invitation)
    if not promised <= await roles.of(session, inviter):
        raise gone
    return invitation


async def _join(
    session: AsyncSession, body: AcceptIn, password_hash: str | None, *, now: datetime
) -> Member:
    invitation = await _lock(session, body.token, now=now)
    identity = await access.find_identity(session, invitation.email)
    if identity is None:
        if password_hash is None:
            raise Conflict("identity_gone", "The account has changed meanwhile; try again.")
        identity = await access.create_identity(
            session, email=invitation.email, password_hash=password_hash, operator=False, now=now
        )
    elif password_hash is not None:
        raise Conflict("identity_made", "The account was made meanwhile; show its password.")
    elif identity.operator:
        # Their sign-in would speak for the tenant from then on, and no more for the platform.
        raise Forbidden("operator_account", "Operators join no tenant; use another address.")
    member = Member(
        id=new_id(),
        tenant_id=invitation.tenant_id,
        identity_id=identity.id,
        role=invitation.role,
        role_id=invitation.role_id,
        name=body.name or "",
        created_at=now,
    )
    invitation.accepted_at = now
    credential = await session.get(Credential, invitation.id)
    if credential is not None:
        credential.used_at = now
        session.add(credential)
    session.add_all([invitation, member])
    await session.flush()
    await members.changed(session, member, "join", actor=None, now=now)
    return member


async def _not_there_yet(session: AsyncSession, email: str, *, now: datetime) -> None:
    """Only the own members and invitations are looked at: who else has an account is not told."""
    member = await session.exec(
        select(func.count())
        .select_from(Member)
        .join(Identity, col(Identity.id) == col(Member.identity_id))
        .where(func.lower(Identity.email) == email)
    )
    if member.one():
        raise Conflict("already_member", f"{email} is a member already.")
    invited = await session.exec(
        select(func.count())
        .select_from(Invitation)
        .where(
            Invitation.email == email,
            col(Invitation.accepted_at).is_(None),
            col(Invitation.expires_at) > now,
        )
    )
    if invited.one():
        raise Conflict("already_invited", f"{email} is invited already; withdraw that first.")


def _new_password(password: str | None) -> str:
    if password is None or len(password) < passwords.MIN_LENGTH:
        raise Invalid(
            "password_needed", f"Choose a password of at least {passwords.MIN_LENGTH} characters."
        )
    return password


async def _changed(
    session: AsyncSession,
    invitation: Invitation,
    action: str,
    *,
    actor: Actor,
    now: datetime,
    entries: Sequence[Entry],
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=invitation.tenant_id,
        action=f"invitation.{action}",
        target=("invitation", invitation.id),
        now=now,
        after={"email": invitation.email, "role": members.role_name(invitation)},
    )
    await session.flush()
    data = {"invitation_id": str(invitation.id), "action": f"invitation.{action}"}
    told = Entry(type="invitation.changed", data=data)
    await stream.append(session, invitation.tenant_id, [told, *entries])
