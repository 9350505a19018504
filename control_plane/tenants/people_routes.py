"""/members, /invitations and /roles: who works for a tenant, and what they may do."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from control_plane.access.http import Call, HouseDep, TransactionRoute, permit, signed_in
from control_plane.access.permissions import Permission
from control_plane.access.routes import stranger
from control_plane.kit.errors import not_found
from control_plane.kit.openapi import fails
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.tenants import invitations, members, roles, service
from control_plane.tenants.models import CustomRole, Invitation, Member
from control_plane.tenants.schemas import (
    AcceptedOut,
    AcceptIn,
    InvitationIn,
    InvitationOut,
    InvitedOut,
    MemberOut,
    MemberPatch,
    RoleIn,
    RoleOut,
    RolePatch,
)

router = APIRouter(tags=["people"], route_class=TransactionRoute)
plain = APIRouter(tags=["people"])

Reader = Annotated[Call, permit(Permission.MEMBERS_READ)]
Writer = Annotated[Call, permit(Permission.MEMBERS_WRITE)]
RoleWriter = Annotated[Call, permit(Permission.ROLES_WRITE)]
WindowDep = Annotated[Window, Depends()]


@router.get("/members")
async def list_members(call: Reader, window: WindowDep) -> Page[MemberOut]:
    """The tenant's people, oldest first."""
    rows = await members.list_members(call.session, after=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(items=[_member(row) for row in page], next=cursor(last[0].id) if last else None)


@router.patch("/members/{member_id}")
async def change_member(member_id: UUID, body: MemberPatch, call: Writer) -> MemberOut:
    """Another role or name; it holds from their next request on."""
    return _member(
        await members.change(call.session, member_id, body, actor=call.actor, now=call.now)
    )


@router.delete("/members/me", status_code=204, responses=fails(409))
async def leave_tenant(call: Annotated[Call, signed_in()]) -> None:
    """Leave the tenant of the token, whatever one may do there; the last owner cannot."""
    if call.actor.member_id is None:
        raise not_found("member")
    await members.remove(call.session, call.actor.member_id, actor=call.actor, now=call.now)


@router.delete("/members/{member_id}", status_code=204)
async def remove_member(member_id: UUID, call: Writer) -> None:
    """Remove somebody, or leave oneself; the last owner cannot."""
    await members.remove(call.session, member_id, actor=call.actor, now=call.now)


@router.post("/invitations", status_code=201)
async def create_invitation(body: InvitationIn, call: Writer) -> InvitedOut:
    """Invite somebody; the link is shown this once and good for one person within a week."""
    invitation, token = await invitations.create(call.session, body, actor=call.actor, now=call.now)
    # Behind the #, so that no server on the way writes it into a log.
    url = f"{call.house.public_url}/app/invitation#{token}"
    shown = _invitation(invitation)
    return InvitedOut(**shown.model_dump(), token=token, url=url)


@router.get("/invitations")
async def list_invitations(call: Reader, window: WindowDep) -> Page[InvitationOut]:
    """Invitations that nobody has accepted yet, oldest first."""
    rows = await invitations.list_invitations(
        call.session, after=window.after_id(), limit=window.limit, now=call.now
    )
    page, last = cut(rows, window.limit)
    return Page(items=[_invitation(row) for row in page], next=cursor(last.id) if last else None)


@router.delete("/invitations/{invitation_id}", status_code=204)
async def withdraw_invitation(invitation_id: UUID, call: Writer) -> None:
    """Take an invitation back."""
    await invitations.withdraw(call.session, invitation_id, actor=call.actor, now=call.now)


@plain.post(
    "/invitations/accept",
    dependencies=[Depends(stranger)],
    responses=fails(401, 403, 409, 410),
)
async def accept_invitation(body: AcceptIn, house: HouseDep) -> AcceptedOut:
    """Join with the token of an invitation; sign in afterwards."""
    member = await invitations.accept(house, body)
    return AcceptedOut(tenant_id=member.tenant_id, member_id=member.id)


@router.get("/roles")
async def list_roles(call: Reader, window: WindowDep) -> Page[RoleOut]:
    """The tenant's own roles, oldest first."""
    rows = await roles.list_roles(call.session, after=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(items=[_role(row) for row in page], next=cursor(last.id) if last else None)


@router.post("/roles", status_code=201)
async def create_role(body: RoleIn, call: RoleWriter) -> RoleOut:
    """A role with permissions from those one has oneself."""
    await service.lock(call.session, call.actor.tenant)
    return _role(await roles.create(call.session, body, actor=call.actor, now=call.now))


@router.patch("/roles/{role_id}")
async def change_role(role_id: UUID, body: RolePatch, call: RoleWriter) -> RoleOut:
    """Another name or other permissions, for everybody who has it."""
    await service.lock(call.session, call.actor.tenant)
    return _role(await roles.change(call.session, role_id, body, actor=call.actor, now=call.now))


@router.delete("/roles/{role_id}", status_code=204)
async def remove_role(role_id: UUID, call: RoleWriter) -> None:
    """Remove a role that nobody has."""
    await service.lock(call.session, call.actor.tenant)
    await roles.remove(call.session, role_id, actor=call.actor, now=call.now)


def _member(row: tuple[Member, str]) -> MemberOut:
    member, email = row
    return MemberOut(
        id=member.id,
        name=member.name,
        email=email,
        role=members.role_name(member),
        created_at=member.created_at,
    )


def _invitation(invitation: Invitation) -> InvitationOut:
    return InvitationOut(
        id=invitation.id,
        email=invitation.email,
        role=members.role_name(invitation),
        invited_by=invitation.invited_by,
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
    )


def _role(role: CustomRole) -> RoleOut:
    return RoleOut.model_validate(role, from_attributes=True)
