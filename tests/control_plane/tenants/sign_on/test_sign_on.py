"""The settings of a tenant's own provider."""

import pytest

from control_plane.access.permissions import Role
from tests.conftest import Person

SECRET = "a client secret that nobody is to see"
SETTINGS = {
    "issuer": "https://login.tea.example",
    "client_id": "botyard",
    "client_secret": SECRET,
    "domains": ["Tea.Example"],
}


async def put(owner: Person, **more) -> tuple[int, dict]:
    answer = await owner.call("PUT", "/sign-on", json=SETTINGS | more)
    return answer.status_code, answer.json()


class TestSettings:
    async def test_say_the_redirect_address_before_there_are_any(self, people) -> None:
        owner = await people.owner()

        assert (await owner.get("/sign-on")).json() == {
            "redirect_uri": f"http://botyard.test/api/v1/auth/sign-on/callback/{owner.tenant_id}",
            "settings": None,
        }

    async def test_are_kept_and_read_without_the_secret(self, people, superuser, keys) -> None:
        owner = await people.owner()

        status, made = await put(owner)

        assert (status, made["settings"]["domains"]) == (200, ["tea.example"])
        assert (await owner.get("/sign-on")).json() == made
        assert SECRET not in str(made)
        sealed = await superuser.fetchval("SELECT client_secret FROM sign_ons")
        assert keys.open(sealed).decode() == SECRET

    async def test_keep_the_secret_when_nothing_of_the_client_changes(
        self, people, superuser, keys
    ) -> None:
        owner = await people.owner()
        await put(owner)

        status, changed = await put(owner, client_secret=None, required=True)

        assert (status, changed["settings"]["required"]) == (200, True)
        sealed = await superuser.fetchval("SELECT client_secret FROM sign_ons")
        assert keys.open(sealed).decode() == SECRET

    @pytest.mark.parametrize(
        "moved", [{"issuer": "https://other.example"}, {"client_id": "another"}]
    )
    async def test_do_not_take_a_kept_secret_to_another_provider(self, people, moved) -> None:
        owner = await people.owner()
        await put(owner)

        status, said = await put(owner, client_secret=None, **moved)

        assert (status, said["code"]) == (422, "client_secret_needed")

    @pytest.mark.parametrize(
        "issuer",
        [
            "https://10.0.0.1",
            "https://169.254.169.254",
            "https://user:password@login.tea.example",
        ],
    )
    async def test_name_no_issuer_inside_our_network(self, people, issuer: str) -> None:
        owner = await people.owner()

        status, said = await put(owner, issuer=issuer)

        assert (status, said["code"]) == (422, "invalid_issuer")

    async def test_are_written_by_owners_and_read_by_admins(self, people) -> None:
        owner = await people.owner()
        await put(owner)
        admin = await people.member(owner.tenant_id, Role.ADMIN)
        member = await people.member(owner.tenant_id, Role.MEMBER)

        assert (await admin.get("/sign-on")).status_code == 200
        assert (await member.get("/sign-on")).status_code == 403
        for person in (admin, member):
            assert (await put(person))[0] == 403
            assert (await person.delete("/sign-on")).status_code == 403
            check = await person.post("/sign-on/check", {"issuer": SETTINGS["issuer"]})
            assert check.status_code == 403

    async def test_are_the_own_tenants_alone(self, people) -> None:
        owner, other = await people.owner(), await people.owner("Other")
        await put(owner)

        assert (await other.get("/sign-on")).json()["settings"] is None
        answer = await other.delete("/sign-on")
        assert (answer.status_code, answer.json()["code"]) == (404, "sign_on_not_found")
        assert (await owner.get("/sign-on")).json()["settings"] is not None

    async def test_are_in_the_audit_and_the_stream_without_the_secret(
        self, people, superuser
    ) -> None:
        owner = await people.owner()
        await put(owner)
        await put(owner, required=True)
        await owner.delete("/sign-on")

        entries = (await owner.get("/audit")).json()["items"]

        found = [entry for entry in entries if entry["action"].startswith("sign_on")]
        assert sorted(entry["action"] for entry in found) == [
            "sign_on.change",
            "sign_on.change",
            "sign_on.remove",
        ]
        assert SECRET not in str(found)
        told = await superuser.fetch("SELECT data FROM stream WHERE type = 'sign_on.changed'")
        assert len(told) == 3
        assert SECRET not in str(told)


class TestRemoving:
    async def test_ends_what_the_provider_vouched_for(
        self, provider, company, people, browser
    ) -> None:
        house = await company(provider)
        member = await people.member(house.tenant_id, Role.MEMBER)
        await browser.sign_on(house, member.email)

        assert (await house.owner.delete("/sign-on")).status_code == 204

        assert not await browser.is_signed_in()
        assert (await member.get("/auth/me")).status_code == 200

    async def test_and_so_does_another_provider(self, provider, company, people, browser) -> None:
        house = await company(provider)
        member = await people.member(house.tenant_id, Role.MEMBER)
        await browser.sign_on(house, member.email)

        await house.set(domains=["tea.example"])
        assert await browser.is_signed_in()
        await house.set(issuer="https://other.example")

        assert not await browser.is_signed_in()


class TestCheck:
    async def test_finds_a_provider_that_works(self, provider, people) -> None:
        owner = await people.owner()

        answer = await owner.post("/sign-on/check", {"issuer": provider.issuer})

        assert answer.json() == {"works": True, "detail": "The provider can be used."}

    async def test_says_in_plain_words_what_is_wrong(self, mortal, people) -> None:
        owner = await people.owner()

        async def said(issuer: str) -> str:
            answer = await owner.post("/sign-on/check", {"issuer": issuer})
            assert (answer.status_code, answer.json()["works"]) == (200, False)
            detail: str = answer.json()["detail"]
            return detail

        assert await said(f"{mortal.issuer}/") == (
            "The provider calls itself by another issuer than the one that was given."
        )
        assert await said(f"{mortal.issuer}/me") == (
            "The provider answered with status 404 (description)."
        )
        assert await said("https://10.0.0.1") == (
            "The provider cannot be called. This address is not on the internet."
        )
        mortal.kill()
        assert await said(mortal.issuer) == "There was no connection to this address."
