"""Changing what somebody signs in with: the password, forgotten or not, and the second factor.

A changed password ends all other sign-ins and all reset tokens. A reset token is opaque, kept as
SHA-256, and works once. Those that a member's admin made are for accounts of that tenant alone:
else an admin of one tenant could enter another, or the platform.
"""

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlmodel import col, func, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit, lockout, passwords, second_factor, service, sessions
from control_plane.access.http import Call, Caller, House, scope_of
from control_plane.access.models import Credential, Identity
from control_plane.access.permissions import Actor, Role
from control_plane.access.schemas import ResetLinkOut
from control_plane.access.second_factor import Factor
from control_plane.db.session import Scope, driver, enter
from control_plane.kit.errors import Conflict, Forbidden, Gone, not_found
from control_plane.kit.ids import fingerprint, new_id, new_token

RESET_LIFE = timedelta(hours=1)
# Reset mails that one person gets in that time; whoever asks more often floods a mailbox.
MOST_RESETS = 3

_MEMBER = """
SELECT m.identity_id, m.role, i.sign_on_tenant_id
FROM members AS m JOIN identities AS i ON i.id = m.identity_id
WHERE m.id = $1 AND m.tenant_id = $2
"""
_ELSEWHERE = """
SELECT EXISTS (SELECT FROM identities WHERE id = $1 AND operator)
    OR EXISTS (SELECT FROM members WHERE identity_id = $1 AND tenant_id <> $2)
"""

log = structlog.get_logger()


async def change_password(house: House, caller: Caller, *, old: str, new: str) -> None:
    """Another password, for who knows the present one."""
    actor = caller.actor
    wrong = Forbidden("wrong_password", "The present password is wrong.")
    proof = await service.prove_password(house, email=actor.email, password=old)
    if proof is None:
        raise wrong
    password_hash = await passwords.hash_password(new)
    now = house.clock.now()
    async with house.database.session(scope_of(actor)) as session:
        identity = await service.hold_proven(session, proof)
        if identity is None:
            raise wrong
        await _set_password(session, identity, password_hash, keep=caller.family_id, now=now)
        await _note(session, actor, identity.id, "password.change", now)


async def request_reset(house: House, email: str) -> None:
    """Mail a reset link to who has that address; runs after an answer that is always the same."""
    await _mail_link(
        house,
        email,
        subject="Choose a new password · 重置密码",
        why=(
            "Open this link within an hour to choose a new password for Botyard.\n"
            "请在一小时内打开此链接，设置新的 Botyard 密码。"
        ),
    )


async def remind(house: House, email: str) -> None:
    """Tell who has that address that somebody registered with it; after the same answer too."""
    await _mail_link(
        house,
        email,
        subject="You have an account already · 您已有账户",
        why=(
            "Somebody wanted to register a company at Botyard with your address, which has an\n"
            "account. Nothing was made. If it was you, sign in; or choose a new password here,\n"
            "within an hour:\n"
            "有人用您的邮箱在 Botyard 注册，但该邮箱已有账户，因此未创建任何内容。如果是您本人，\n"
            "请直接登录；忘记密码时，请在一小时内打开此链接："
        ),
    )


async def _mail_link(house: House, email: str, *, subject: str, why: str) -> None:
    now = house.clock.now()
    async with house.database.session() as session:
        identity = await service.find_identity(session, email)
        if identity is None or await _asked_too_often(session, identity.id, now):
            return
        token = await _issue(session, identity.id, tenant_id=None, now=now)
    await house.mailer.send(
        to=identity.email,
        subject=subject,
        text=(
            f"{why}\n\n{_link(house, token)}\n\n"
            "If you did not ask for it, do nothing. 如果这不是您的操作，请忽略本邮件。\n"
        ),
    )


async def make_reset_link(call: Call, member_id: UUID) -> ResetLinkOut:
    """A reset link for a member of the caller's tenant; owners' links are made by owners."""
    tenant_id, session = call.actor.tenant, call.session
    row = await (await driver(session)).fetchrow(_MEMBER, member_id, tenant_id)
    if row is None:
        raise not_found("member")
    if row["role"] == Role.OWNER and call.actor.role != Role.OWNER:
        raise Forbidden("owner_only", "Only an owner can do this for an owner.")
    if row["sign_on_tenant_id"] is not None:
        raise Conflict("no_password", "This member signs in through the company's provider.")
    elsewhere = await _belongs_elsewhere(session, row["identity_id"], tenant_id)
    await enter(session, scope_of(call.actor))
    if elsewhere:
        raise Conflict(
            "reset_by_mail_only", "This account is not this tenant's alone; use the reset by mail."
        )
    token = await _issue(session, row["identity_id"], tenant_id=tenant_id, now=call.now)
    audit.record(
        session,
        actor=call.actor,
        tenant_id=tenant_id,
        action="member.reset_link",
        target=("member", member_id),
        now=call.now,
    )
    return ResetLinkOut(url=_link(call.house, token), expires_at=call.now + RESET_LIFE)


async def make_link_for(house: House, email: str) -> str:
    """A reset link for anybody, made by who runs the machines; raises NotFound."""
    now = house.clock.now()
    async with house.database.session() as session:
        identity = await service.find_identity(session, email)
        if identity is None:
            raise not_found("account")
        token = await _issue(session, identity.id, tenant_id=None, now=now)
        await _note_everywhere(session, identity.id, "account.reset_link", now)
    return _link(house, token)


async def reset_password(house: House, *, token: str, new: str) -> None:
    """Another password, for who holds a reset token; the token is spent."""
    async with house.database.session() as session:
        await _hold_token(session, token, house.clock.now())
    password_hash = await passwords.hash_password(new)
    now = house.clock.now()
    async with house.database.session() as session:
        identity_id = await _hold_token(session, token, now)
        identity = await second_factor.hold_identity(session, identity_id)
        await _set_password(session, identity, password_hash, keep=None, now=now)
        await _note_everywhere(session, identity_id, "password.reset", now)
    log.info("account changed", action="password.reset", identity=str(identity_id))


async def begin_totp(call: Call) -> tuple[str, str]:
    """A new secret for an authenticator, and its address."""
    return await second_factor.begin(call.session, call.keys, call.actor.identity_id)


async def confirm_totp(call: Call, *, code: str) -> list[str]:
    """Turn the second factor on; the recovery codes."""
    identity_id = call.actor.identity_id
    codes = await second_factor.confirm(
        call.session, call.keys, identity_id, code=code, now=call.now
    )
    await _note(call.session, call.actor, identity_id, "second_factor.on", call.now)
    return codes


async def end_totp(house: House, caller: Caller, *, password: str, factor: Factor) -> None:
    """Turn the second factor off, for who knows the password and has the factor."""
    actor = caller.actor
    proof = await service.prove_password(house, email=actor.email, password=password)
    wrong = Forbidden("wrong_password_or_code", "The password or the code is wrong.")
    if proof is None:
        raise wrong
    now = house.clock.now()
    async with house.database.session(scope_of(actor)) as session:
        identity = await service.hold_proven(session, proof)
        if identity is None:
            raise wrong
        if identity.totp_on:
            if not await second_factor.spend(session, house.keys, identity, factor, now=now):
                raise wrong
            await second_factor.turn_off(session, identity)
            await _note(session, actor, identity.id, "second_factor.off", now)
        await session.flush()
        await lockout.clear(session, identity.id)


async def _set_password(
    session: AsyncSession,
    identity: Identity,
    password_hash: str,
    *,
    keep: UUID | None,
    now: datetime,
) -> None:
    identity.password_hash = password_hash
    session.add(identity)
    await session.flush()
    await lockout.clear(session, identity.id)
    await sessions.end_sessions(session, identity.id, keep=keep, now=now)
    await session.exec(
        update(Credential)
        .where(
            col(Credential.identity_id) == identity.id,
            col(Credential.kind) == "reset",
            col(Credential.revoked_at).is_(None),
        )
        .values(revoked_at=now)
    )


async def _issue(
    session: AsyncSession, identity_id: UUID, *, tenant_id: UUID | None, now: datetime
) -> str:
    token = new_token()
    session.add(
        Credential(
            id=new_id(),
            kind="reset",
            sha256=fingerprint(token),
            tenant_id=tenant_id,
            identity_id=identity_id,
            created_at=now,
            expires_at=now + RESET_LIFE,
        )
    )
    await session.flush()
    return token


async def _hold_token(session: AsyncSession, token: str, now: datetime) -> UUID:
    """Whom a live reset token is for; holds it, so that twins cannot both spend it."""
    over = Gone("reset_over", "This link was used or is over; ask for a new one.")
    found = await session.exec(
        select(Credential)
        .where(Credential.kind == "reset", Credential.sha256 == fingerprint(token))
        .with_for_update()
    )
    held = found.one_or_none()
    if held is None or held.identity_id is None or held.revoked_at:
        raise over
    if (held.expires_at or now) <= now:
        raise over
    # Since an admin made it, the person may have joined another tenant.
    if held.tenant_id and await _belongs_elsewhere(session, held.identity_id, held.tenant_id):
        raise over
    return held.identity_id


async def _belongs_elsewhere(session: AsyncSession, identity_id: UUID, tenant_id: UUID) -> bool:
    """The transaction speaks for that person afterwards."""
    await enter(session, Scope(identity=identity_id))
    found: bool = await (await driver(session)).fetchval(_ELSEWHERE, identity_id, tenant_id)
    return found


async def _asked_too_often(session: AsyncSession, identity_id: UUID, now: datetime) -> bool:
    found = await session.exec(
        select(func.count())
        .select_from(Credential)
        .where(
            Credential.identity_id == identity_id,
            Credential.kind == "reset",
            col(Credential.tenant_id).is_(None),
            col(Credential.created_at) > now - RESET_LIFE,
        )
    )
    return found.one() >= MOST_RESETS


async def _note(
    session: AsyncSession, actor: Actor, identity_id: UUID, action: str, now: datetime
) -> None:
    """Write it down in the tenant that was chosen; operators have none, and leave a log line."""
    log.info("account changed", action=action, identity=str(identity_id))
    if actor.tenant_id is not None:
        audit.record(
            session,
            actor=actor,
            tenant_id=actor.tenant_id,
            action=action,
            target=("identity", identity_id),
            now=now,
        )
        await session.flush()


async def _note_everywhere(
    session: AsyncSession, identity_id: UUID, action: str, now: datetime
) -> None:
    """Write it down wherever the person belongs: nobody was signed in who chose a tenant."""
    await enter(session, Scope(identity=identity_id))
    tenants = [item.tenant_id for item in await service.memberships(session, identity_id)]
    await enter(session, Scope(tenants=tuple(tenants)))
    for tenant_id in tenants:
        audit.record(
            session,
            actor=None,
            tenant_id=tenant_id,
            action=action,
            target=("identity", identity_id),
            now=now,
        )
    await session.flush()


def _link(house: House, token: str) -> str:
    # Behind the #, which browsers send to nobody.
    return f"{house.public_url}/app/reset#{token}"
