"""What somebody hostile tries with sign-on: a tenant's owner, a stranger, a page elsewhere."""

from urllib.parse import parse_qs, urlsplit

import pytest

from control_plane.access.permissions import Role
from tests.control_plane.tenants.sign_on.conftest import BEGIN, Company, problem, succeeded
from tests.openid_provider import OpenIdProvider

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def hostile(provider: OpenIdProvider, company) -> Company:
    """A tenant whose owner also runs its provider, which says whatever it is told to."""
    return await company(provider, first_sign_on="member")


class TestAccountTakeoverByAHostileProvider:
    async def test_the_address_of_somebody_elsewhere_does_not_lead_to_them(
        self, hostile, people, browser, client
    ) -> None:
        victim = await people.owner("Victim")

        assert succeeded(await browser.sign_on(hostile, victim.email))

        me = await browser.me()
        assert me["identity"]["id"] != str(victim.identity_id)
        assert [item["tenant_id"] for item in me["memberships"]] == [str(hostile.tenant_id)]
        theirs = (await victim.get("/auth/me")).json()
        assert [item["tenant_id"] for item in theirs["memberships"]] == [str(victim.tenant_id)]
        body = {"email": victim.email, "password": PASSWORD}
        again = await client.post("/api/v1/auth/login", json=body)
        assert again.json()["tenant_id"] == str(victim.tenant_id)

    async def test_an_operators_address_makes_no_operator(
        self, hostile, people, browser, superuser
    ) -> None:
        operator = await people.operator()
        # Worse than it can be: operators join no tenant.
        await superuser.execute(
            "INSERT INTO members (id, tenant_id, identity_id, role, created_at)"
            " VALUES (gen_random_uuid(), $1, $2, 'member', now())",
            hostile.tenant_id,
            operator.identity_id,
        )

        assert succeeded(await browser.sign_on(hostile, operator.email))

        assert (await browser.me())["identity"]["operator"] is False
        assert (await browser.as_person("GET", "/tenants")).status_code == 403

    async def test_the_address_stays_free_for_who_really_has_it(
        self, hostile, browser, client
    ) -> None:
        await browser.sign_on(hostile, "victim@example.com")

        body = {"company": "Mine", "email": "victim@example.com", "password": PASSWORD}
        registered = await client.post("/api/v1/auth/register", json=body)

        assert registered.status_code == 201
        login = {"email": "victim@example.com", "password": PASSWORD}
        answer = await client.post("/api/v1/auth/login", json=login)
        assert answer.json()["tenant_id"] != str(hostile.tenant_id)

    async def test_who_came_by_the_provider_alone_gets_no_password(
        self, hostile, browser, client
    ) -> None:
        await browser.sign_on(hostile, "lin@example.com")
        member = (await browser.me())["member_id"]

        link = await hostile.owner.post(f"/members/{member}/reset-link")
        login = {"email": "lin@example.com", "password": ""}
        answer = await client.post("/api/v1/auth/login", json=login)

        assert (link.status_code, link.json()["code"]) == (409, "no_password")
        assert answer.json()["code"] == "wrong_credentials"

    async def test_an_address_given_to_another_person_does_not_lead_to_its_old_owner(
        self, provider, company, people, browsers
    ) -> None:
        house = await company(provider, first_sign_on="member")
        member = await people.member(house.tenant_id, Role.ADMIN)
        assert succeeded(await browsers().sign_on(house, member.email))

        later = await browsers().sign_on(house, f"{member.email}#2")

        assert problem(later) == "sign_on_other_person"


class TestASignInByOneTenantsProvider:
    @pytest.fixture
    async def both(self, hostile, people, superuser, browser):
        """A victim who belongs to the hostile tenant too, signed on there by its provider."""
        victim = await people.owner("Victim")
        await superuser.execute(
            "INSERT INTO members (id, tenant_id, identity_id, role, created_at)"
            " VALUES (gen_random_uuid(), $1, $2, 'member', now())",
            hostile.tenant_id,
            victim.identity_id,
        )
        assert succeeded(await browser.sign_on(hostile, victim.email))
        assert (await browser.me())["identity"]["id"] == str(victim.identity_id)
        return victim

    async def test_does_not_switch_to_another_tenant(self, both, browser) -> None:
        body = {"tenant_id": str(both.tenant_id)}

        answer = await browser.as_person("POST", "/auth/switch", body)

        assert (answer.status_code, answer.json()["code"]) == (403, "signed_on_by_company")

    async def test_does_not_list_the_persons_other_tenants(self, both, hostile, browser) -> None:
        memberships = (await browser.me())["memberships"]

        assert [item["tenant_id"] for item in memberships] == [str(hostile.tenant_id)]

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/auth/password", {"old": PASSWORD, "new": "another good password"}),
            ("POST", "/auth/totp/begin", None),
            ("POST", "/auth/totp/confirm", {"code": "123456"}),
            ("DELETE", "/auth/totp", {"password": PASSWORD, "code": "123456"}),
            ("GET", "/auth/sessions", None),
            ("DELETE", "/auth/sessions", None),
            ("DELETE", "/auth/sessions/01a1fe4f-8652-77f8-9cb3-83822b663e4d", None),
        ],
    )
    async def test_does_not_reach_the_persons_account(
        self, both, browser, method: str, path: str, body
    ) -> None:
        answer = await browser.as_person(method, path, body)

        assert (answer.status_code, answer.json()["code"]) == (403, "signed_on_by_company")
        assert (await both.get("/auth/me")).status_code == 200

    async def test_is_worth_nothing_when_its_token_names_another_tenant(
        self, both, browser, house, superuser
    ) -> None:
        await browser.token()
        await superuser.execute(
            "UPDATE credentials SET tenant_id = $1 WHERE sign_on_tenant_id IS NOT NULL"
            " AND kind = 'refresh'",
            both.tenant_id,
        )

        answer = await browser.as_person("GET", "/members")

        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


class TestMixUp:
    async def test_an_answer_in_another_providers_name_is_not_believed(
        self, provider, company, browser
    ) -> None:
        house = await company(provider, first_sign_on="member")
        way = await browser.way_back(house, "lin@example.com")
        asked = f"iss={provider.issuer.replace(':', '%3A').replace('/', '%2F')}"
        assert asked in way

        answer = await browser.client.get(way.replace(asked, "iss=https%3A%2F%2Fother.example"))

        assert problem(answer) == "sign_on_untrusted"

    async def test_an_answer_without_the_name_that_the_provider_promised_is_not_believed(
        self, provider, company, browser
    ) -> None:
        house = await company(provider, first_sign_on="member")
        way = await browser.way_back(house, "lin@example.com")

        answer = await browser.client.get(way.partition("&iss=")[0])

        assert problem(answer) == "sign_on_untrusted"

    async def test_a_code_for_one_tenant_is_not_taken_at_anothers_door(
        self, hostile, provider, company, browser
    ) -> None:
        house = await company(provider, first_sign_on="member")
        way = await browser.way_back(house, "lin@example.com")

        answer = await browser.client.get(way.replace(str(house.tenant_id), str(hostile.tenant_id)))

        assert problem(answer) == "sign_on_stale"

    async def test_each_tenant_has_an_address_of_its_own_that_the_provider_holds_it_to(
        self, hostile, provider, company, browser
    ) -> None:
        house = await company(provider)
        begun = (await browser.begin(house.tenant_id)).headers["location"]

        # The hostile tenant asks for a code of the honest client, to be sent to itself.
        swapped = begun.replace(str(house.tenant_id), str(hostile.tenant_id))

        with pytest.raises(AssertionError, match="redirect_uri did not match"):
            await provider.visit(swapped, "lin@example.com")


class TestCodeInjection:
    async def test_a_stolen_code_is_worth_nothing_in_another_browser(
        self, provider, company, browsers
    ) -> None:
        house = await company(provider, first_sign_on="member")
        victim, thief = browsers(), browsers()
        stolen = parse_qs(urlsplit(await victim.way_back(house, "lin@example.com")).query)["code"]
        own = await thief.way_back(house, "thief@example.com")
        code = parse_qs(urlsplit(own).query)["code"]

        answer = await thief.client.get(own.replace(code[0], stolen[0]))

        assert problem(answer) == "sign_on_untrusted"
        assert not await thief.is_signed_in()

    async def test_a_swapped_state_is_not_taken(self, provider, company, browsers) -> None:
        house = await company(provider, first_sign_on="member")
        one, other = browsers(), browsers()
        mine = await one.way_back(house, "lin@example.com")
        state = parse_qs(urlsplit(mine).query)["state"][0]
        theirs = await other.way_back(house, "chen@example.com")
        their_state = parse_qs(urlsplit(theirs).query)["state"][0]

        assert problem(await one.client.get(theirs)) == "sign_on_stale"
        swapped = await other.client.get(theirs.replace(their_state, state))
        assert problem(swapped) == "sign_on_stale"

    async def test_a_forged_cookie_is_not_taken(self, provider, company, browser) -> None:
        house = await company(provider, first_sign_on="member")
        way = await browser.way_back(house, "lin@example.com")
        cookie = browser.client.cookies["botyard_sign_on"]
        browser.client.cookies.clear()

        headers = {"cookie": f"botyard_sign_on=x{cookie}"}

        assert problem(await browser.client.get(way, headers=headers)) == "sign_on_stale"


class TestReplayedCallback:
    async def test_a_way_back_is_walked_once(self, provider, company, browsers) -> None:
        house = await company(provider, first_sign_on="member")
        browser, thief = browsers(), browsers()
        way = await browser.way_back(house, "lin@example.com")
        cookie = {"cookie": f"botyard_sign_on={browser.client.cookies['botyard_sign_on']}"}
        assert succeeded(await browser.client.get(way))

        answer = await thief.client.get(way, headers=cookie)

        assert problem(answer) == "sign_on_stale"
        assert not await thief.is_signed_in()

    async def test_not_even_one_that_failed(self, mortal, company, browser) -> None:
        house = await company(mortal, first_sign_on="member")
        way = await browser.way_back(house, "lin@example.com")
        cookie = {"cookie": f"botyard_sign_on={browser.client.cookies['botyard_sign_on']}"}
        mortal.kill()
        assert problem(await browser.client.get(way)) == "sign_on_provider_away"

        assert problem(await browser.client.get(way, headers=cookie)) == "sign_on_stale"


class TestLoginCsrf:
    async def test_another_site_begins_nothing(self, hostile, browser) -> None:
        for site in ("cross-site", "same-site"):
            answer = await browser.begin(hostile.tenant_id, site=site)

            assert answer.headers["location"] == f"/app/sign-in?tenant={hostile.tenant_id}"
            assert "set-cookie" not in answer.headers

    async def test_a_browser_that_did_not_begin_is_not_signed_in(self, hostile, browsers) -> None:
        attacker, victim = browsers(), browsers()
        way = await attacker.way_back(hostile, "attacker@example.com")

        assert problem(await victim.client.get(way)) == "sign_on_stale"
        assert not await victim.is_signed_in()


class TestOpenRedirect:
    async def test_no_parameter_says_where_to_go(self, provider, company, browser) -> None:
        house = await company(provider, first_sign_on="member")
        params = {
            "tenant": str(house.tenant_id),
            "next": "https://other.example",
            "redirect_uri": "https://other.example",
        }
        begun = await browser.client.get(BEGIN, params=params)
        asked = parse_qs(urlsplit(begun.headers["location"]).query)
        assert asked["redirect_uri"] == [
            f"http://botyard.test/api/v1/auth/sign-on/callback/{house.tenant_id}"
        ]
        way = await provider.visit(begun.headers["location"], "lin@example.com")

        answer = await browser.client.get(f"{way}&next=https://other.example&location=//x.example")

        assert succeeded(answer)

    async def test_what_somebody_typed_is_in_no_address(self, browser) -> None:
        answer = await browser.begin("//other.example")

        assert problem(answer) == "sign_on_unavailable"

    async def test_nothing_that_a_provider_says_is_in_an_address(
        self, provider, company, browser
    ) -> None:
        house = await company(provider)
        begun = await browser.begin(house.tenant_id)
        state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]

        answer = await browser.client.get(
            f"{BEGIN}/callback/{house.tenant_id}",
            params={"state": state, "error": "said-by-them", "error_description": "said-by-them"},
        )

        assert answer.headers["location"] == "/app/sign-in?problem=sign_on_refused"
        assert "said-by-them" not in f"{answer.headers}{answer.text}"
