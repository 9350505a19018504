"""Signing in through a company's provider: a certified one, with its pages, on loopback."""

import asyncio
from datetime import timedelta

import httpx2
import pytest

from control_plane.access.permissions import Role
from control_plane.access.tokens import SIGN_ON_LIFE
from tests.control_plane.tenants.sign_on.conftest import problem, succeeded
from tests.openid_provider import MISSING, OpenIdProvider, is_installed

PASSWORD = "correct horse battery staple"


async def login(client: httpx2.AsyncClient, email: str, **more) -> httpx2.Response:
    body = {"email": email, "password": PASSWORD} | more
    return await client.post("/api/v1/auth/login", json=body)


async def member_emails(owner) -> list[str]:
    return sorted(item["email"] for item in (await owner.get("/members")).json()["items"])


class TestMember:
    async def test_signs_on_as_who_they_are(self, provider, company, people, browser) -> None:
        house = await company(provider)
        member = await people.member(house.tenant_id, Role.MEMBER)

        answer = await browser.sign_on(house, member.email)

        assert succeeded(answer)
        me = await browser.me()
        assert me["identity"]["id"] == str(member.identity_id)
        assert (me["tenant_id"], me["member_id"]) == (str(house.tenant_id), str(member.member_id))

    async def test_gets_a_cookie_that_no_script_reads_and_none_is_left_of_the_way(
        self, provider, company, people, browser
    ) -> None:
        house = await company(provider)
        member = await people.member(house.tenant_id, Role.MEMBER)

        answer = await browser.sign_on(house, member.email)

        given = [line for line in answer.headers.get_list("set-cookie") if "refresh" in line]
        assert len(given) == 1
        assert {"HttpOnly", "SameSite=strict"} <= set(given[0].split("; "))
        assert "botyard_sign_on" not in browser.client.cookies

    async def test_is_known_by_the_subject_from_then_on(
        self, provider, company, people, browser, superuser
    ) -> None:
        house = await company(provider)
        member = await people.member(house.tenant_id, Role.MEMBER)
        await browser.sign_on(house, member.email)
        await superuser.execute(
            "UPDATE identities SET email = 'new@example.com' WHERE id = $1", member.identity_id
        )

        answer = await browser.sign_on(house, member.email)

        assert succeeded(answer)
        assert (await browser.me())["identity"]["id"] == str(member.identity_id)

    async def test_signs_on_where_the_address_is_told_at_the_user_info_endpoint_only(
        self, company, people, browser
    ) -> None:
        if not is_installed():
            pytest.skip(MISSING)
        with OpenIdProvider.running("--user-info") as provider:
            house = await company(provider)
            member = await people.member(house.tenant_id, Role.MEMBER)

            assert succeeded(await browser.sign_on(house, member.email))

    async def test_signs_on_after_the_provider_took_new_keys(
        self, provider, company, people, browser
    ) -> None:
        house = await company(provider)
        member = await people.member(house.tenant_id, Role.MEMBER)
        assert succeeded(await browser.sign_on(house, member.email))

        await provider.rotate()
        redirect_uri = (await house.owner.get("/sign-on")).json()["redirect_uri"]
        house.client_id, house.client_secret = await provider.register(redirect_uri)
        await house.set()

        assert succeeded(await browser.sign_on(house, member.email))

    async def test_signs_on_again_after_a_working_day(
        self, provider, company, people, browser, clock
    ) -> None:
        house = await company(provider)
        member = await people.member(house.tenant_id, Role.MEMBER)
        await browser.sign_on(house, member.email)
        clock.advance(SIGN_ON_LIFE - timedelta(minutes=1))
        assert await browser.is_signed_in()

        clock.advance(timedelta(minutes=2))

        assert not await browser.is_signed_in()

    async def test_who_is_removed_stops_at_the_next_request_and_stays_out(
        self, provider, company, browser
    ) -> None:
        house = await company(provider, first_sign_on="member")
        await browser.sign_on(house, "lin@example.com")
        me = await browser.me()

        assert (await house.owner.delete(f"/members/{me['member_id']}")).status_code == 204

        assert (await browser.as_person("GET", "/auth/me")).status_code == 401
        assert problem(await browser.sign_on(house, "lin@example.com")) == "sign_on_not_a_member"

    async def test_is_in_the_audit(self, provider, company, people, browser) -> None:
        house = await company(provider)
        member = await people.member(house.tenant_id, Role.MEMBER)
        await browser.sign_on(house, member.email)
        await browser.sign_on(house, "stranger@example.com")

        entries = (await house.owner.get("/audit")).json()["items"]

        found = {entry["action"]: entry for entry in entries}
        assert found["sign_on.success"]["actor_id"] == str(member.identity_id)
        assert found["sign_on.failure"]["after"] == {
            "why": "sign_on_not_a_member",
            "email": "s***@example.com",
        }


class TestSomebodyNew:
    @pytest.mark.parametrize("role", ["member", "viewer"])
    async def test_joins_with_the_role_of_the_settings(
        self, provider, company, browser, role: str
    ) -> None:
        house = await company(provider, first_sign_on=role)

        assert succeeded(await browser.sign_on(house, "lin@example.com"))

        me = await browser.me()
        assert [item["role"] for item in me["memberships"]] == [role]
        listed = (await house.owner.get("/members")).json()["items"]
        assert [(one["email"], one["name"]) for one in listed if one["role"] == role] == [
            ("lin@example.com", "lin")
        ]

    async def test_joins_once_however_often_they_come(self, provider, company, browsers) -> None:
        house = await company(provider, first_sign_on="member")
        both = [browsers(), browsers()]
        ways = [await browser.way_back(house, "lin@example.com") for browser in both]

        answers = await asyncio.gather(
            *(browser.client.get(way) for browser, way in zip(both, ways, strict=True))
        )

        assert [succeeded(answer) for answer in answers] == [True, True]
        assert await member_emails(house.owner) == ["lin@example.com", house.owner.email]
        assert (await both[0].me())["member_id"] == (await both[1].me())["member_id"]

    async def test_is_refused_where_only_members_may_come(self, provider, company, browser) -> None:
        house = await company(provider, first_sign_on="invited")

        assert problem(await browser.sign_on(house, "lin@example.com")) == "sign_on_not_a_member"
        assert not await browser.is_signed_in()

    async def test_is_refused_where_the_plan_has_no_room(
        self, provider, company, browser, superuser
    ) -> None:
        house = await company(provider, first_sign_on="member")
        await superuser.execute(
            "UPDATE tenants SET quota_overrides = '{\"members\": 1}' WHERE id = $1",
            house.tenant_id,
        )

        assert problem(await browser.sign_on(house, "lin@example.com")) == "sign_on_no_room"
        assert await member_emails(house.owner) == [house.owner.email]

    async def test_is_refused_with_an_address_of_another_domain(
        self, provider, company, browser
    ) -> None:
        house = await company(provider, first_sign_on="member")

        for other in ("lin@other.example", "lin@sub.example.com", "lin@example.com.other.example"):
            assert problem(await browser.sign_on(house, other)) == "sign_on_domain"
        assert await member_emails(house.owner) == [house.owner.email]

    async def test_is_refused_with_an_address_that_the_provider_did_not_verify(
        self, provider, company, people, browser
    ) -> None:
        house = await company(provider, first_sign_on="member")
        member = await people.member(house.tenant_id, Role.MEMBER)

        for email in ("lin@example.com", member.email):
            answer = await browser.sign_on(house, f"unverified:{email}")
            assert problem(answer) == "sign_on_email_unverified"
        assert not await browser.is_signed_in()


class TestProvider:
    async def test_that_is_away_is_said_at_the_beginning(self, mortal, company, browser) -> None:
        house = await company(mortal)
        mortal.kill()

        assert problem(await browser.begin(house.tenant_id)) == "sign_on_provider_away"

    async def test_that_goes_away_midway_leaves_nothing_half_done(
        self, mortal, company, browser, superuser
    ) -> None:
        house = await company(mortal, first_sign_on="member")
        way = await browser.way_back(house, "lin@example.com")
        before = await superuser.fetchval("SELECT count(*) FROM identities")
        mortal.kill()

        assert problem(await browser.client.get(way)) == "sign_on_provider_away"

        assert not await browser.is_signed_in()
        assert await superuser.fetchval("SELECT count(*) FROM identities") == before
        assert await superuser.fetchval("SELECT count(*) FROM sign_on_links") == 0
        assert await member_emails(house.owner) == [house.owner.email]

    async def test_where_somebody_does_not_agree_sends_them_back(
        self, provider, company, browser
    ) -> None:
        house = await company(provider)
        way = await browser.way_back(house, "lin@example.com", consents=False)

        answer = await browser.client.get(way)

        assert "error=access_denied" in way
        assert problem(answer) == "sign_on_refused"

    async def test_is_none_for_an_unknown_tenant_and_for_one_without_sign_on(
        self, people, browser
    ) -> None:
        owner = await people.owner()

        unknown, without = (
            await browser.begin(owner.identity_id),
            await browser.begin(owner.tenant_id),
        )

        assert problem(unknown) == "sign_on_unavailable"
        assert unknown.headers["location"] == without.headers["location"]


class TestRequired:
    async def test_closes_the_tenant_to_members_passwords_but_not_to_owners(
        self, provider, company, people, client
    ) -> None:
        house = await company(provider, required=True)
        member = await people.member(house.tenant_id, Role.ADMIN)

        refused = await login(client, member.email)

        assert (refused.status_code, refused.json()["code"]) == (401, "sign_on_required")
        assert (await login(client, house.owner.email)).status_code == 200

    async def test_ends_what_passwords_began_and_not_what_the_provider_vouched_for(
        self, provider, company, people, browser
    ) -> None:
        house = await company(provider)
        member = await people.member(house.tenant_id, Role.MEMBER)
        await browser.sign_on(house, member.email)
        assert (await member.get("/members")).status_code == 200

        await house.set(required=True)

        answer = await member.get("/members")
        assert (answer.status_code, answer.json()["code"]) == (401, "sign_on_required")
        assert (await browser.as_person("GET", "/members")).status_code == 200
        assert (await house.owner.get("/members")).status_code == 200

    async def test_leaves_a_persons_other_tenants_alone(
        self, provider, company, people, client, superuser
    ) -> None:
        house = await company(provider, required=True)
        other = await people.owner("Other")
        person = await people.member(house.tenant_id, Role.MEMBER)
        await superuser.execute(
            "INSERT INTO members (id, tenant_id, identity_id, role, created_at)"
            " VALUES (gen_random_uuid(), $1, $2, 'member', now())",
            other.tenant_id,
            person.identity_id,
        )

        signed_in = await login(client, person.email)
        wanted = await login(client, person.email, tenant_id=str(house.tenant_id))

        assert signed_in.json()["tenant_id"] == str(other.tenant_id)
        assert wanted.json()["code"] == "sign_on_required"
        switched = await client.post(
            "/api/v1/auth/switch",
            json={"tenant_id": str(house.tenant_id)},
            headers={"authorization": f"Bearer {signed_in.json()['access_token']}"},
        )
        assert (switched.status_code, switched.json()["code"]) == (403, "sign_on_required")
