"""Who may do what."""

from dataclasses import replace

import pytest

from control_plane.access.http import check
from control_plane.access.permissions import (
    OPERATOR_PERMISSIONS,
    ROLE_PERMISSIONS,
    Actor,
    Permission,
    Role,
    role_permissions,
)
from control_plane.kit.errors import Forbidden
from control_plane.kit.ids import new_id
from control_plane.tenants.models import TenantState

DISCREET = {
    Permission.AUDIT_READ,
    Permission.EXPORT_READ,
    Permission.PRIVACY_READ,
    Permission.WEBHOOKS_READ,
    Permission.SIGN_ON_READ,
    Permission.PROVIDERS_READ,
    Permission.RAW_READ,
    Permission.ROLLOUTS_READ,
    Permission.QUEUES_READ,
}
READS = {each for each in Permission if each.value.endswith(".read")} - DISCREET
CONFIGURES = {
    Permission.MEMBERS_WRITE,
    Permission.INSTANCES_WRITE,
    Permission.INSTANCES_OPERATE,
    Permission.CHANNELS_WRITE,
    Permission.REVISIONS_WRITE,
    Permission.DESK_WRITE,
    Permission.ANSWERS_WRITE,
    Permission.AUDIT_READ,
    Permission.PRIVACY_READ,
    Permission.PRIVACY_WRITE,
    Permission.API_KEYS_WRITE,
    Permission.WEBHOOKS_READ,
    Permission.WEBHOOKS_WRITE,
    Permission.SIGN_ON_READ,
    Permission.PROVIDERS_READ,
    Permission.PROVIDERS_WRITE,
    Permission.RAW_READ,
    Permission.ROUTING_WRITE,
}
ADMINISTERS = {
    Permission.TENANT_INFORM,
    Permission.TENANT_WRITE,
    Permission.SUPPORT_END,
    Permission.MEMBERS_WRITE,
    Permission.ROLES_WRITE,
}
PLATFORM = {
    Permission.TENANTS_LIST,
    Permission.TENANTS_DECIDE,
    Permission.PLANS_WRITE,
    Permission.SUPPORT_GRANT,
    Permission.ROLLOUTS_READ,
    Permission.ROLLOUTS_WRITE,
    Permission.FLEET_OPERATE,
    Permission.QUEUES_READ,
}
STILL_WORKS = {
    "pending": READS | {Permission.TENANT_INFORM},
    "needs_information": READS | {Permission.TENANT_INFORM},
    "rejected": READS | {Permission.TENANT_INFORM},
    "active": ROLE_PERMISSIONS[Role.OWNER],
    "suspended": READS | {Permission.SUPPORT_END},
    "deleting": set(),
    "deleted": set(),
}
"""What an owner can still do."""


def actor(role: Role | None, *, state: str = "active", operator: bool = False) -> Actor:
    return Actor(
        identity_id=new_id(),
        email="a@example.com",
        operator=operator,
        tenant_id=new_id() if role else None,
        tenant_state=state if role else None,
        member_id=new_id() if role else None,
        member_name="A",
        role=role,
    )


class TestRoles:
    def test_each_role_has_exactly_this(self) -> None:
        viewer = READS
        member = viewer | {Permission.CONVERSATIONS_WRITE, Permission.BLACKLIST_WRITE}
        admin = member | CONFIGURES | ADMINISTERS

        table = {
            Role.VIEWER: viewer,
            Role.MEMBER: member,
            Role.ADMIN: admin,
            Role.OWNER: admin
            | {Permission.TENANT_DELETE, Permission.EXPORT_READ, Permission.SIGN_ON_WRITE},
        }

        assert table == ROLE_PERMISSIONS

    def test_no_member_runs_the_platform(self) -> None:
        assert not PLATFORM & frozenset().union(*ROLE_PERMISSIONS.values())

    def test_operators_see_nothing_that_was_said_and_configure_nothing(self) -> None:
        tenants = {
            Permission.TENANT_READ,
            Permission.TENANT_DELETE,
            Permission.INSTANCES_READ,
            Permission.SUPPORT_END,
        }

        assert tenants | PLATFORM | {Permission.AUDIT_READ} == OPERATOR_PERMISSIONS

    def test_an_operator_who_chose_a_tenant_has_the_role_there_and_no_more(self) -> None:
        assert actor(Role.VIEWER, operator=True).permissions == READS

    def test_a_custom_role_may_what_it_was_given_and_nothing_of_the_platform(self) -> None:
        names = ["answers.read", "tenants.decide", "long.forgotten"]
        someone = replace(actor(Role.CUSTOM), granted=role_permissions(names))

        assert someone.permissions == {Permission.ANSWERS_READ}

    def test_an_operator_who_is_lent_a_tenant_sees_what_a_viewer_sees_and_what_came(self) -> None:
        lent = replace(actor(None, operator=True), support_id=new_id())

        assert lent.permissions == READS | {Permission.RAW_READ}

    def test_who_is_neither_may_do_nothing(self) -> None:
        assert actor(None).permissions == frozenset()


class TestCheck:
    @pytest.mark.parametrize("state", sorted(TenantState))
    def test_what_still_works_depends_on_the_tenants_state(self, state: str) -> None:
        owner = actor(Role.OWNER, state=state)
        works = set()
        for permission in owner.permissions:
            try:
                check(owner, permission)
            except Forbidden as refused:
                assert refused.code == "tenant_not_active"  # noqa: PT017
            else:
                works.add(permission)

        assert works == STILL_WORKS[state]

    def test_what_a_role_lacks_is_forbidden_by_name(self) -> None:
        with pytest.raises(Forbidden, match=r"instances\.write") as refused:
            check(actor(Role.MEMBER), Permission.INSTANCES_WRITE)

        assert refused.value.code == "forbidden"

    def test_an_operator_works_without_a_tenant(self) -> None:
        check(actor(None, operator=True), Permission.TENANTS_DECIDE)
