"""/auth/password, /auth/reset, /auth/totp, /auth/sessions: one's own account; reset links."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Response

from control_plane.access import account, sessions
from control_plane.access.http import (
    Call,
    Caller,
    HouseDep,
    TransactionRoute,
    caller,
    permit,
    signed_in,
)
from control_plane.access.permissions import Permission
from control_plane.access.routes import stranger
from control_plane.access.schemas import (
    PasswordIn,
    RecoveryCodesOut,
    ResetIn,
    ResetLinkOut,
    ResetRequestIn,
    SessionOut,
    TotpBegunOut,
    TotpConfirmIn,
    TotpEndIn,
)
from control_plane.access.second_factor import Factor
from control_plane.kit.openapi import fails
from control_plane.kit.paging import Page

router = APIRouter(tags=["auth"], route_class=TransactionRoute)
# These keep no transaction open while they compute bcrypt or send mail.
plain = APIRouter(prefix="/auth", tags=["auth"])

Own = Annotated[Call, signed_in()]
OwnCaller = Annotated[Caller, caller()]
Linker = Annotated[Call, permit(Permission.MEMBERS_WRITE)]


@plain.post("/password", status_code=204)
async def change_password(body: PasswordIn, caller: OwnCaller, house: HouseDep) -> None:
    """Change one's password; all other sign-ins end."""
    await account.change_password(house, caller, old=body.old, new=body.new)


@plain.post(
    "/reset/request",
    status_code=202,
    response_class=Response,
    dependencies=[Depends(stranger)],
)
async def request_reset(body: ResetRequestIn, house: HouseDep, later: BackgroundTasks) -> None:
    """Ask for a mail with a reset link; the answer does not tell whether there is an account."""
    later.add_task(account.request_reset, house, body.email)


@plain.post("/reset", status_code=204, dependencies=[Depends(stranger)], responses=fails(410))
async def reset_password(body: ResetIn, house: HouseDep) -> None:
    """Choose a new password with a reset token; all sign-ins end."""
    await account.reset_password(house, token=body.token, new=body.new)


@router.post("/members/{member_id}/reset-link", status_code=201)
async def make_reset_link(member_id: UUID, call: Linker) -> ResetLinkOut:
    """Make a reset link for a member who forgot the password."""
    return await account.make_reset_link(call, member_id)


@router.post("/auth/totp/begin", responses=fails(409))
async def begin_totp(call: Own) -> TotpBegunOut:
    """Begin to turn the second factor on: a secret for an authenticator."""
    secret, otpauth_url = await account.begin_totp(call)
    return TotpBegunOut(secret=secret, otpauth_url=otpauth_url)


@router.post("/auth/totp/confirm", responses=fails(409))
async def confirm_totp(body: TotpConfirmIn, call: Own) -> RecoveryCodesOut:
    """Turn the second factor on by showing a code of it."""
    return RecoveryCodesOut(recovery_codes=await account.confirm_totp(call, code=body.code))


@plain.delete("/totp", status_code=204)
async def end_totp(body: TotpEndIn, caller: OwnCaller, house: HouseDep) -> None:
    """Turn the second factor off."""
    factor = Factor(code=body.code, recovery_code=body.recovery_code)
    await account.end_totp(house, caller, password=body.password, factor=factor)


@router.get("/auth/sessions")
async def list_sessions(call: Own) -> Page[SessionOut]:
    """One's sign-ins, the last used first."""
    items = await sessions.list_sessions(
        call.session, call.actor.identity_id, current=call.family_id, now=call.now
    )
    return Page(items=items)


@router.delete("/auth/sessions/{session_id}", status_code=204)
async def end_session(session_id: UUID, call: Own) -> None:
    """End one sign-in."""
    await sessions.end_session(call.session, call.actor.identity_id, session_id, now=call.now)


@router.delete("/auth/sessions", status_code=204)
async def end_other_sessions(call: Own) -> None:
    """End all sign-ins but this one."""
    await sessions.end_sessions(
        call.session, call.actor.identity_id, keep=call.family_id, now=call.now
    )
