"""Who may do what."""

import pytest

from control_plane.access.http import check
from control_plane.access.permissions import (
    OPERATOR_PERMISSIONS,
    ROLE_PERMISSIONS,
    Actor,
    Permission,
    Role,
)
from control_plane.kit.errors import Forbidden
from control_plane.kit.ids import new_id
from control_plane.tenants.models import TenantState

READS = {permission for permission in Permission if permission.value.endswith(".read")}
CONFIGURES = {
    Permission.INSTANCES_WRITE,
    Permission.INSTANCES_OPERATE,
    Permission.CHANNELS_WRITE,
    Permission.REVISIONS_WRITE,
    Permission.ANSWERS_WRITE,
    Permission.API_KEYS_WRITE,
}
PLATFORM = {Permission.TENANTS_LIST, Permission.TENANTS_DECIDE}


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
        member = viewer | {Permission.CONVERSATIONS_WRITE}
        admin = member | CONFIGURES

        table = {
            Role.VIEWER: viewer,
            Role.MEMBER: member,
            Role.ADMIN: admin,
            Role.OWNER: admin | {Permission.TENANT_DELETE},
        }

        assert table == ROLE_PERMISSIONS

    def test_no_member_runs_the_platform(self) -> None:
        assert not PLATFORM & frozenset().union(*ROLE_PERMISSIONS.values())

    def test_operators_see_nothing_that_was_said_and_configure_nothing(self) -> None:
        tenants = {Permission.TENANT_READ, Permission.TENANT_DELETE, Permission.INSTANCES_READ}

        assert tenants | PLATFORM == OPERATOR_PERMISSIONS

    def test_an_operator_who_chose_a_tenant_has_the_role_there_and_no_more(self) -> None:
        assert actor(Role.VIEWER, operator=True).permissions == READS

    def test_who_is_neither_may_do_nothing(self) -> None:
        assert actor(None).permissions == frozenset()


class TestCheck:
    @pytest.mark.parametrize("state", sorted(set(TenantState) - {TenantState.ACTIVE}))
    def test_a_tenant_that_is_not_active_can_only_be_looked_at(self, state: str) -> None:
        owner = actor(Role.OWNER, state=state)
        check(owner, Permission.INSTANCES_READ)

        with pytest.raises(Forbidden) as refused:
            check(owner, Permission.INSTANCES_WRITE)

        assert refused.value.code == "tenant_not_active"

    def test_what_a_role_lacks_is_forbidden_by_name(self) -> None:
        with pytest.raises(Forbidden, match=r"instances\.write") as refused:
            check(actor(Role.MEMBER), Permission.INSTANCES_WRITE)

        assert refused.value.code == "forbidden"

    def test_an_operator_works_without_a_tenant(self) -> None:
        check(actor(None, operator=True), Permission.TENANTS_DECIDE)
