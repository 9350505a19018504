"""Every method of every path, called by everybody: allowed exactly when their role has it."""

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access.api_keys import NOT_FOR_KEYS
from control_plane.access.permissions import (
    OPERATOR_PERMISSIONS,
    ROLE_PERMISSIONS,
    WORKS_IN_STATE,
    Permission,
    Role,
)
from tests.control_plane.walls.furnish import CALLERS
from tests.control_plane.walls.operations import (
    BODIES,
    GUARDED,
    OPERATIONS,
    Operation,
)

together = pytest.mark.asyncio(loop_scope="module")

OWNER = ROLE_PERMISSIONS[Role.OWNER]
OWN = [operation for operation in OPERATIONS if operation.own_account]
MAY: dict[str, frozenset[Permission]] = {
    "owner": OWNER,
    "admin": ROLE_PERMISSIONS[Role.ADMIN],
    "member": ROLE_PERMISSIONS[Role.MEMBER],
    "viewer": ROLE_PERMISSIONS[Role.VIEWER],
    "custom without permissions": frozenset(),
    "key with every scope": OWNER - NOT_FOR_KEYS,
    "key without scopes": frozenset(),
    "support access": ROLE_PERMISSIONS[Role.VIEWER] | {Permission.RAW_READ},
    "suspended owner": OWNER & WORKS_IN_STATE["suspended"],
    "operator": OPERATOR_PERMISSIONS,
    "nobody": frozenset(),
}
BATCHED = {"/api/v1/contacts/{contact_id}/erase"}
"""Works until nothing is left, a transaction at a time: what is undone would never end."""

REFUSALS = {"forbidden", "tenant_not_active", "not_signed_in"}
"""What somebody hears who may not; another 403 has looked at what was asked."""

CHAT = "/api/v1/conversations/{conversation_id}"
NOT_NOW = {
    "/api/v1/instances/{instance_id}/logs": {"logs_elsewhere"},
    "/api/v1/tenants/{tenant_id}/information": {"wrong_tenant_state"},
    "/api/v1/tenants/{tenant_id}/ask": {"wrong_tenant_state"},
    "/api/v1/tenants/{tenant_id}/reject": {"wrong_tenant_state"},
    # The owner has it; a key is nobody who could.
    f"{CHAT}/messages": {"not_owner"},
    f"{CHAT}/take-over": {"owned_by_other", "conversation_not_found"},
    f"{CHAT}/hand-back": {"owned_by_other", "conversation_closed", "conversation_not_found"},
    f"{CHAT}/close": {"owned_by_other", "conversation_closed", "conversation_not_found"},
    f"{CHAT}/transfer": {
        "owned_by_other",
        "has_it_already",
        "not_a_member",
        "conversation_closed",
        "conversation_not_found",
    },
    f"{CHAT}/summary": {"no_model"},
    f"{CHAT}/suggestions": {"no_model"},
    "/api/v1/routing/me": {"not_a_member"},
    # A viewer is given nothing.
    "/api/v1/routing/members/{member_id}": {"member_cannot_answer"},
    # An erasure before it is kept: it runs in transactions of its own.
    "/api/v1/blacklist": {"contact_not_found"},
    "/api/v1/messages/{raw_message_id}/raw": {"raw_message_not_found"},
    "/api/v1/deliveries/{delivery_id}/resend": {"not_owner", "contact_erased"},
    "/api/v1/deliveries/{delivery_id}/settle": {"not_owner", "not_unconfirmed"},
    # A key has neither marks nor notes; an erasure before it is kept, and removes them.
    f"{CHAT}/seen": {"not_a_person", "note_not_found"},
    f"{CHAT}/notes": {"not_a_person", "contact_erased"},
    "/api/v1/contacts/{contact_id}": {"contact_erased"},
    "/api/v1/contacts/{contact_id}/notes": {"not_a_person", "contact_erased"},
    "/api/v1/contacts/{contact_id}/tags/{tag_id}": {"contact_erased"},
    "/api/v1/notes/{note_id}": {"note_not_found", "not_author"},
    # What is the owner's own is nobody else's.
    "/api/v1/canned-replies/own": {"not_a_person"},
    "/api/v1/canned-replies/own/{own_reply_id}": {"not_a_person", "canned_reply_not_found"},
    # A key is no member, and an invitation holds only while its inviter is one.
    "/api/v1/invitations": {"member_not_found"},
    # One at a time, and one goes on.
    "/api/v1/rollouts": {"rollout_under_way"},
    # An operator is in no tenant.
    "/api/v1/quota": {"tenant_not_found"},
}
"""What somebody hears who may, because of the state that things are in here."""


class TestTheList:
    def test_has_a_body_for_every_operation_that_takes_one(self) -> None:
        missing = [
            str(operation)
            for operation in OPERATIONS
            if operation.takes_body and (operation.method, operation.path) not in BODIES
        ]

        assert missing == []

    def test_knows_an_id_for_every_parameter(self, furnished) -> None:
        _, world = furnished
        named = {name for operation in OPERATIONS for name in operation.parameters}

        assert named - world.mine.ids.keys() == set()
        assert named - world.theirs.ids.keys() == set()

    def test_has_every_caller(self) -> None:
        assert MAY.keys() == set(CALLERS)


@together
class TestEveryOperation:
    @pytest.mark.parametrize("operation", GUARDED, ids=str)
    @pytest.mark.parametrize("caller", CALLERS)
    async def test_is_for_those_whose_role_has_it(
        self, stage, monkeypatch: pytest.MonkeyPatch, caller: str, operation: Operation
    ) -> None:
        if operation.permission in MAY[caller]:
            if operation.path not in BATCHED:
                monkeypatch.setattr(AsyncSession, "commit", undone)
            answer = await stage.ask(caller, operation)
            assert answer.is_success or answer.json()["code"] in NOT_NOW[operation.path]
            return

        before = await stage.fingerprint.take()
        answer = await stage.ask(caller, operation)
        assert answer.status_code == (401 if caller == "nobody" else 403), answer.text
        assert answer.json()["code"] in REFUSALS
        assert await stage.fingerprint.take() == before


@together
class TestOnesOwnAccount:
    @pytest.mark.parametrize("operation", OWN, ids=str)
    @pytest.mark.parametrize("caller", CALLERS)
    async def test_is_for_everybody_who_signed_in(
        self, stage, monkeypatch: pytest.MonkeyPatch, caller: str, operation: Operation
    ) -> None:
        if caller == "nobody" or caller.startswith("key"):
            before = await stage.fingerprint.take()
            answer = await stage.ask(caller, operation)
            assert answer.json()["code"] == (
                "not_signed_in" if caller == "nobody" else "not_a_person"
            )
            assert await stage.fingerprint.take() == before
            return

        monkeypatch.setattr(AsyncSession, "commit", undone)
        answer = await stage.ask(caller, operation)
        assert answer.is_success or answer.json()["code"] in {
            # None was begun.
            "wrong_code",
            "totp_not_begun",
            # The one sign-in, or tenant, that the path or body names is the owner's.
            "session_not_found",
            "tenant_not_found",
        }


async def undone(session: AsyncSession) -> None:
    """In the place of a commit: all of it happens, and none of it stays."""
    await session.flush()
    # What was read stays readable, as after a commit.
    session.expunge_all()
    await session.rollback()
