"""Signing in, staying signed in, signing out: through the whole application."""

from datetime import timedelta
from http.cookies import SimpleCookie
from uuid import UUID

import asyncpg
import httpx2
import pytest

from control_plane.access.permissions import ROLE_PERMISSIONS, Role
from control_plane.access.tokens import ACCESS_LIFE, REFRESH_LIFE
from control_plane.kit.ids import new_id
from control_plane.tenants.models import TenantState

PASSWORD = "correct horse battery staple"
COOKIE = "botyard_refresh"


async def login(client: httpx2.AsyncClient, email: str, **more) -> httpx2.Response:
    body = {"email": email, "password": PASSWORD} | more
    return await client.post("/api/v1/auth/login", json=body)


async def refresh(client: httpx2.AsyncClient, token: str | None) -> httpx2.Response:
    client.cookies.clear()
    headers = {"cookie": f"{COOKIE}={token}"} if token else {}
    return await client.post("/api/v1/auth/refresh", headers=headers)


async def me(client: httpx2.AsyncClient, access_token: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {access_token}"}
    return await client.get("/api/v1/auth/me", headers=headers)


def cookie(answer: httpx2.Response) -> str:
    return answer.cookies[COOKIE]


def code(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


class TestLogin:
    async def test_gives_an_access_token_for_the_tenant(self, client, people) -> None:
        owner = await people.owner()

        answer = await login(client, owner.email.upper())

        assert answer.status_code == 200
        body = answer.json()
        assert (body["token_type"], body["expires_in"]) == ("bearer", 900)
        assert body["tenant_id"] == str(owner.tenant_id)
        assert (await me(client, body["access_token"])).status_code == 200

    async def test_the_refresh_token_is_in_a_cookie_that_no_script_reads(
        self, client, people
    ) -> None:
        answer = await login(client, (await people.owner()).email)

        morsel = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
        assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["max-age"]) == (
            True,
            "strict",
            "/api/v1/auth",
            str(int(REFRESH_LIFE.total_seconds())),
        )
        assert morsel.value not in answer.text

    async def test_the_token_is_not_in_the_database(
        self, client, people, superuser: asyncpg.Connection
    ) -> None:
        token = cookie(await login(client, (await people.owner()).email))

        rows = await superuser.fetch("SELECT credentials::text FROM credentials")
        assert not any(token in row[0] for row in rows)

    async def test_a_wrong_password_and_an_unknown_address_answer_alike(
        self, client, people
    ) -> None:
        owner = await people.owner()
        wrong = await login(client, owner.email, password="another password")
        unknown = await login(client, "nobody@example.com")

        assert code(wrong) == code(unknown) == (401, "wrong_credentials")
        assert wrong.json() == unknown.json()

    async def test_an_operator_has_no_tenant(self, client, people) -> None:
        operator = await people.operator()

        answer = await login(client, operator.email)

        assert answer.json()["tenant_id"] is None

    async def test_a_foreign_tenant_cannot_be_chosen(self, client, people) -> None:
        owner, other = await people.owner(), await people.owner()

        answer = await login(client, owner.email, tenant_id=str(other.tenant_id))

        assert code(answer) == (401, "not_a_member")

    @pytest.mark.parametrize(
        "body", [{}, {"email": "x", "password": "y"}, {"email": "a@example.com", "passwort": "y"}]
    )
    async def test_a_request_that_does_not_fit_is_explained_without_the_input(
        self, client, body: dict
    ) -> None:
        answer = await client.post("/api/v1/auth/login", json=body)

        assert code(answer) == (422, "invalid_request")
        assert all(set(error) == {"path", "code", "message"} for error in answer.json()["errors"])


class TestRefresh:
    async def test_trades_the_cookie_for_a_new_pair(self, client, people) -> None:
        first = cookie(await login(client, (await people.owner()).email))

        answer = await refresh(client, first)

        assert answer.status_code == 200
        assert cookie(answer) != first
        assert (await me(client, answer.json()["access_token"])).status_code == 200

    async def test_a_spent_token_ends_the_whole_sign_in(self, client, people) -> None:
        signed_in = await login(client, (await people.owner()).email)
        second = await refresh(client, cookie(signed_in))

        reused = await refresh(client, cookie(signed_in))

        assert code(reused) == (401, "refresh_token_reused")
        # That is committed although the answer is an error: the thief's and the owner's end.
        assert code(await refresh(client, cookie(second))) == (401, "invalid_refresh_token")
        for answer in (signed_in, second):
            ended = await me(client, answer.json()["access_token"])
            assert code(ended) == (401, "session_ended")

    async def test_another_sign_in_of_the_same_person_goes_on(self, client, people) -> None:
        owner = await people.owner()
        stolen, other = await login(client, owner.email), await login(client, owner.email)
        await refresh(client, cookie(stolen))
        await refresh(client, cookie(stolen))

        assert (await refresh(client, cookie(other))).status_code == 200

    async def test_an_old_token_is_refused(self, client, people, clock) -> None:
        token = cookie(await login(client, (await people.owner()).email))
        clock.advance(REFRESH_LIFE)

        assert code(await refresh(client, token)) == (401, "invalid_refresh_token")

    async def test_no_cookie_and_a_wrong_one_are_refused(self, client) -> None:
        assert code(await refresh(client, None)) == (401, "not_signed_in")
        assert code(await refresh(client, "x" * 43)) == (401, "invalid_refresh_token")


class TestLogout:
    async def test_ends_this_sign_in_on_all_its_tokens(self, client, people) -> None:
        signed_in = await login(client, (await people.owner()).email)
        headers = {"cookie": f"{COOKIE}={cookie(signed_in)}"}
        client.cookies.clear()

        answer = await client.post("/api/v1/auth/logout", headers=headers)

        assert answer.status_code == 204
        assert SimpleCookie(answer.headers["set-cookie"])[COOKIE].value == ""
        assert code(await refresh(client, cookie(signed_in))) == (401, "invalid_refresh_token")
        access = signed_in.json()["access_token"]
        assert code(await me(client, access)) == (401, "session_ended")

    async def test_who_is_not_signed_in_is_signed_out(self, client) -> None:
        assert (await client.post("/api/v1/auth/logout")).status_code == 204


class TestMe:
    @pytest.mark.parametrize("role", list(ROLE_PERMISSIONS))
    async def test_says_who_where_and_what_they_may(self, people, role: Role) -> None:
        owner = await people.owner("Noodle Bar")
        person = owner if role == Role.OWNER else await people.member(owner.tenant_id, role)

        me = (await person.get("/auth/me")).json()
        assert UUID(me.pop("member_id"))
        assert me == {
            "identity": {
                "id": str(person.identity_id),
                "email": person.email,
                "operator": False,
                "second_factor": False,
            },
            "confined": False,
            "tenant_id": str(owner.tenant_id),
            "memberships": [
                {
                    "tenant_id": str(owner.tenant_id),
                    "tenant_name": "Noodle Bar",
                    "tenant_state": "active",
                    "role": role,
                }
            ],
            "permissions": sorted(ROLE_PERMISSIONS[role]),
        }

    async def test_an_expired_token_says_so(self, people, clock) -> None:
        owner = await people.owner()
        clock.advance(ACCESS_LIFE + timedelta(seconds=1))

        assert code(await owner.get("/auth/me")) == (401, "token_expired")

    async def test_nobody_is_not_signed_in(self, client) -> None:
        assert code(await client.get("/api/v1/auth/me")) == (401, "not_signed_in")

    async def test_a_removed_member_stops_at_the_next_request(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)
        await superuser.execute("DELETE FROM members WHERE id = $1", member.member_id)

        assert code(await member.get("/auth/me")) == (401, "not_a_member")

    async def test_a_changed_role_counts_at_the_next_request(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        viewer = await people.member(owner.tenant_id, Role.VIEWER)
        await superuser.execute("UPDATE members SET role = 'admin' WHERE id = $1", viewer.member_id)

        answer = await viewer.post("/instances", {"name": "Bot"})

        assert answer.status_code == 201


class TestPermissionsOfRoutes:
    @pytest.mark.parametrize("role", list(ROLE_PERMISSIONS))
    async def test_a_role_may_what_the_table_says_and_no_more(self, people, role: Role) -> None:
        owner = await people.owner()
        person = owner if role == Role.OWNER else await people.member(owner.tenant_id, role)
        configures = role in {Role.OWNER, Role.ADMIN}

        assert (await person.get("/instances")).status_code == 200
        answer = await person.post("/instances", {"name": "Bot"})
        assert answer.status_code == (201 if configures else 403)
        assert (await person.get("/tenants")).status_code == 403
        assert (await person.post(f"/tenants/{owner.tenant_id}/approve")).status_code == 403
        deleted = await person.delete(f"/tenants/{owner.tenant_id}")
        assert deleted.status_code == (202 if role == Role.OWNER else 403)

    async def test_an_operator_configures_nobodys_bot(self, people) -> None:
        operator = await people.operator()

        assert code(await operator.post("/instances", {"name": "Bot"})) == (403, "forbidden")
        assert code(await operator.get("/conversations")) == (403, "forbidden")

    @pytest.mark.parametrize(
        "state", [TenantState.PENDING, TenantState.REJECTED, TenantState.SUSPENDED]
    )
    async def test_a_tenant_that_is_not_active_can_look_but_not_touch(
        self, people, state: TenantState
    ) -> None:
        owner = await people.owner(state=state)

        assert (await owner.get("/instances")).status_code == 200
        answer = await owner.post("/instances", {"name": "Bot"})
        assert code(answer) == (403, "tenant_not_active")

    async def test_without_a_token_nothing_is_answered(self, client) -> None:
        for path in ("/instances", f"/channels/{new_id()}", "/conversations"):
            answer = await client.get(f"/api/v1{path}")
            assert code(answer) == (401, "not_signed_in")
