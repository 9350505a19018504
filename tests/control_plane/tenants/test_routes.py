"""Registration and the life of a tenant, through the whole application."""

import asyncio

import asyncpg
import httpx2
import pytest

from control_plane.access import passwords
from control_plane.access.account import MOST_RESETS
from control_plane.access.permissions import Role
from control_plane.kit.ids import new_id
from control_plane.tenants.models import TenantState
from control_plane.tenants.schemas import QuotaPatch

COMPANY = {
    "company": " 茶馆 Tea House ",
    "email": "Lin@Example.com",
    "password": "correct horse battery staple",
}
MOVES = {
    "approve": {"pending": "active", "needs_information": "active", "rejected": "active"},
    "reject": {"pending": "rejected", "needs_information": "rejected"},
    "suspend": {"active": "suspended"},
    "resume": {"suspended": "active"},
}
"""What the operator can do from which state, and where it leads; the rest is a conflict."""
BODIES = {"reject": {"reason": "no such company"}}


async def register(client: httpx2.AsyncClient, **changes) -> httpx2.Response:
    return await client.post("/api/v1/auth/register", json=COMPANY | changes)


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestRegister:
    async def test_makes_a_tenant_that_waits_and_an_owner_who_can_look(
        self, client, superuser: asyncpg.Connection
    ) -> None:
        answer = await register(client)
        assert answer.status_code == 201
        assert answer.json() == {"state": "pending"}

        body = {"email": "lin@example.com", "password": COMPANY["password"]}
        login = (await client.post("/api/v1/auth/login", json=body)).json()
        headers = {"authorization": f"Bearer {login['access_token']}"}
        me = (await client.get("/api/v1/auth/me", headers=headers)).json()
        instances = await client.post("/api/v1/instances", json={"name": "B"}, headers=headers)

        assert me["memberships"] == [
            {
                "tenant_id": login["tenant_id"],
                "tenant_name": "茶馆 Tea House",
                "tenant_state": "pending",
                "role": "owner",
            }
        ]
        assert code(instances) == (403, "tenant_not_active")
        audit = await superuser.fetchrow("SELECT actor_kind, action, after::text FROM audit")
        assert tuple(audit) == ("system", "tenant.register", '{"name": "茶馆 Tea House"}')

    async def test_twice_the_same_is_one(self, client, superuser: asyncpg.Connection) -> None:
        first, second = await register(client), await register(client)

        assert second.status_code == 201
        assert second.json() == first.json()
        assert await superuser.fetchval("SELECT count(*) FROM tenants") == 1

    async def test_twins_at_the_same_moment_are_one(
        self, client, superuser: asyncpg.Connection
    ) -> None:
        answers = await asyncio.gather(*(register(client) for _ in range(4)))

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.text for answer in answers}) == 1
        assert await superuser.fetchval("SELECT count(*) FROM tenants") == 1

    @pytest.mark.parametrize(
        "changes",
        [{"password": "another password"}, {"company": "Other"}],
        ids=["password", "company"],
    )
    async def test_an_address_that_is_taken_gets_the_same_answer_and_makes_nothing(
        self, client, superuser: asyncpg.Connection, changes: dict
    ) -> None:
        first = await register(client)
        again = await register(client, **changes)

        assert (again.status_code, again.text) == (first.status_code, first.text)
        assert again.headers.keys() == first.headers.keys()
        assert await superuser.fetchval("SELECT count(*) FROM tenants") == 1
        assert await superuser.fetchval("SELECT failed_logins FROM identities") == 0

    async def test_a_password_is_hashed_for_an_address_that_is_taken_too(
        self, client, people, monkeypatch
    ) -> None:
        operator = await people.operator()
        hashed = []
        hash_password = passwords.hash_password

        async def counted(password: str) -> str:
            hashed.append(password)
            return await hash_password(password)

        monkeypatch.setattr(passwords, "hash_password", counted)
        for email in ("new@example.com", operator.email):
            await register(client, email=email)

        assert len(hashed) == 2

    async def test_the_owner_of_a_taken_address_hears_of_it_and_not_too_often(
        self, client, mailbox
    ) -> None:
        for _ in range(6):
            await register(client)

        assert len(mailbox.mails) == MOST_RESETS
        assert {mail["to"] for mail in mailbox.mails} == {"lin@example.com"}
        assert "account already" in mailbox.mails[0]["subject"]
        new = {"token": mailbox.token(), "new": "another good password"}
        assert (await client.post("/api/v1/auth/reset", json=new)).status_code == 204

    @pytest.mark.parametrize(
        ("changes", "path"),
        [
            ({"password": "too short"}, "/body/password"),
            ({"email": "no address"}, "/body/email"),
            ({"company": "  "}, "/body/company"),
            ({"role": "operator"}, "/body/role"),
        ],
    )
    async def test_what_does_not_fit_is_refused_with_its_path(
        self, client, changes: dict, path: str
    ) -> None:
        answer = await register(client, **changes)

        assert code(answer) == (422, "invalid_request")
        assert [error["path"] for error in answer.json()["errors"]] == [path]
        assert "too short" not in answer.text


class TestLife:
    @pytest.mark.parametrize("action", list(MOVES))
    @pytest.mark.parametrize("state", list(TenantState))
    async def test_each_move_goes_where_the_table_says(
        self, people, action: str, state: TenantState
    ) -> None:
        owner, operator = await people.owner(state=state), await people.operator()

        answer = await operator.post(f"/tenants/{owner.tenant_id}/{action}", BODIES.get(action))

        reached = set(MOVES[action].values())
        if state in MOVES[action] or state in reached:
            assert answer.status_code == 200
            assert answer.json()["state"] == MOVES[action].get(state, state)
        else:
            assert code(answer) == (409, "wrong_tenant_state")
        after = await operator.get(f"/tenants/{owner.tenant_id}")
        assert after.json()["state"] == MOVES[action].get(state, state)

    @pytest.mark.parametrize("state", list(TenantState))
    async def test_deleting_ends_all_states_but_the_end(self, people, state: TenantState) -> None:
        owner, operator = await people.owner(state=state), await people.operator()

        answer = await operator.delete(f"/tenants/{owner.tenant_id}")

        if state == TenantState.DELETED:
            assert code(answer) == (409, "wrong_tenant_state")
        else:
            # Without bots there is nothing to wait for.
            reached = "deleting" if state == TenantState.DELETING else "deleted"
            assert (answer.status_code, answer.json()["state"]) == (202, reached)

    async def test_what_has_bots_waits_for_their_end_and_keeps_its_name(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner("Noodle Bar")
        await owner.post("/instances", {"name": "Bot"})

        answer = await owner.delete(f"/tenants/{owner.tenant_id}")

        assert (answer.status_code, answer.json()["state"]) == (202, "deleting")
        assert answer.json()["name"] == "Noodle Bar"
        assert await superuser.fetchval("SELECT count(*) FROM audit WHERE action = 'tenant.delete'")
        after = await owner.get(f"/tenants/{owner.tenant_id}")
        assert code(after) == (403, "tenant_not_active")

    async def test_each_move_is_audited_once_with_who_and_why(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner, operator = await people.owner(), await people.operator()
        for _ in range(2):
            await operator.post(f"/tenants/{owner.tenant_id}/suspend", {"reason": "unpaid"})

        rows = await superuser.fetch(
            "SELECT actor_kind, actor_id, before->>'state', after->>'state', after->>'reason'"
            " FROM audit WHERE action = 'tenant.suspend'"
        )
        assert [tuple(row) for row in rows] == [
            ("operator", operator.identity_id, "active", "suspended", "unpaid")
        ]
        shown = await owner.get(f"/tenants/{owner.tenant_id}")
        assert shown.json()["reason"] == "unpaid"

    async def test_a_move_makes_the_tenants_instances_due(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner, operator = await people.owner(), await people.operator()
        await owner.post("/instances", {"name": "Bot"})
        await superuser.execute("UPDATE work SET due_at = 'infinity'")

        await operator.post(f"/tenants/{owner.tenant_id}/suspend")

        assert await superuser.fetchval("SELECT due_at <= now() FROM work WHERE kind = 'instance'")

    async def test_nobody_is_turned_down_without_a_reason(self, people) -> None:
        owner, operator = await people.owner(state=TenantState.PENDING), await people.operator()

        for body in (None, {}, {"reason": " "}):
            answer = await operator.post(f"/tenants/{owner.tenant_id}/reject", body)
            assert code(answer) == (422, "invalid_request")

    async def test_only_an_operator_decides(self, people) -> None:
        owner = await people.owner(state=TenantState.PENDING)

        answer = await owner.post(f"/tenants/{owner.tenant_id}/approve")

        assert code(answer) == (403, "forbidden")

    async def test_an_owner_may_leave(self, people) -> None:
        owner = await people.owner()

        answer = await owner.delete(f"/tenants/{owner.tenant_id}")

        assert (answer.status_code, answer.json()["state"]) == (202, "deleted")


class TestLook:
    async def test_a_tenant_that_is_foreign_or_missing_is_not_there(self, people) -> None:
        owner, other = await people.owner(), await people.owner()

        for tenant_id in (other.tenant_id, new_id()):
            answer = await owner.get(f"/tenants/{tenant_id}")
            assert code(answer) == (404, "tenant_not_found")
            assert code(await owner.delete(f"/tenants/{tenant_id}")) == (404, "tenant_not_found")

    async def test_a_member_sees_the_own_one(self, people) -> None:
        owner = await people.owner("Noodle Bar")
        viewer = await people.member(owner.tenant_id, Role.VIEWER)

        answer = await viewer.get(f"/tenants/{owner.tenant_id}")

        assert answer.json() == {
            "id": str(owner.tenant_id),
            "name": "Noodle Bar",
            "state": "active",
            "reason": None,
            "information": None,
            "plan": "business",
            "quota_overrides": dict.fromkeys(QuotaPatch.model_fields),
            "mask_numbers": False,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
        }

    async def test_an_operator_pages_through_all_newest_first(self, people) -> None:
        made = [str((await people.owner()).tenant_id) for _ in range(5)]
        operator = await people.operator()
        seen, next_page = [], None
        for _ in range(3):
            more = {"cursor": next_page} if next_page else {}
            page = (await operator.get("/tenants", params={"limit": 2} | more)).json()
            seen += [item["id"] for item in page["items"]]
            next_page = page["next"]

        assert seen == made[::-1]
        assert next_page is None

    async def test_an_operator_picks_out_a_state(self, people) -> None:
        await people.owner()
        waiting = await people.owner(state=TenantState.PENDING)
        operator = await people.operator()

        page = await operator.get("/tenants", params={"state": "pending"})

        assert [item["id"] for item in page.json()["items"]] == [str(waiting.tenant_id)]

    async def test_a_wrong_cursor_is_refused(self, people) -> None:
        answer = await (await people.operator()).get("/tenants", params={"cursor": "x"})

        assert code(answer) == (400, "invalid_cursor")
