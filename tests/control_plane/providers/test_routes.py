"""A tenant's providers of models, over REST."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from adapters.outbound import networks
from control_plane.access.permissions import Role
from control_plane.fleet.view import compiled
from control_plane.parts import Parts, build
from control_plane.providers.service import MAX_PROVIDERS
from tests.conftest import PUBLIC_URL, People, Person
from tests.control_plane.conversations.scene import Bot, make_bot
from tests.model_provider import KEY, ModelProvider, providing

URL = "https://models.example.com/v1"


@pytest.fixture
async def parts(app_url, keys, clock, rates, storage) -> AsyncIterator[Parts]:
    """The parts of a platform that may call this machine."""
    parts = build(
        database_url=app_url,
        keys=keys,
        clock=clock,
        public_url=PUBLIC_URL,
        rates=rates,
        media=storage,
        outbound_allow=networks("127.0.0.0/8"),
    )
    yield parts
    await parts.close()


@pytest.fixture
async def owner(people) -> Person:
    made: Person = await people.owner()
    return made


@pytest.fixture
async def bot(parts, owner: Person) -> Bot:
    return await make_bot(parts, owner)


async def account(person: Person, **changes: Any) -> dict[str, Any]:
    body = {"name": "Models", "kind": "openai", "base_url": URL, "api_key": KEY} | changes
    answer = await person.post("/providers", body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def publish(bot: Bot, *providers: str) -> None:
    models = [{"provider": provider, "model": "m"} for provider in providers]
    body = {"document": {"llm": {"models": models}}}
    written = await bot.owner.post(f"/instances/{bot.instance_id}/revisions", body)
    assert written.status_code == 201, written.text
    published = await bot.owner.post(f"/revisions/{written.json()['id']}/publish")
    assert published.status_code == 200, published.text


async def told_to_agent(bot: Bot, number: int) -> list[dict[str, Any]]:
    async with bot.session() as session:
        keys = bot.parts.house.keys
        update = await compiled(session, keys, bot.instance_id, number)
    providers: list[dict[str, Any]] = update.document["llm"]["providers"]
    return providers


class TestProvider:
    async def test_is_made_shown_changed_and_removed_and_its_key_never_shown(
        self, owner: Person, superuser: asyncpg.Connection
    ) -> None:
        made = await account(owner)
        path = f"/providers/{made['id']}"

        renamed = await owner.patch(path, {"name": "Others", "api_key": "sk-new"})
        shown = await owner.get(path)
        listed = await owner.get("/providers")
        audited = await owner.get("/audit")

        assert shown.json() == renamed.json()
        assert (shown.json()["name"], shown.json()["has_key"]) == ("Others", True)
        assert listed.json()["items"] == [shown.json()]
        for answer in (renamed, shown, listed, audited):
            assert KEY not in answer.text
            assert "sk-new" not in answer.text
        sealed = await superuser.fetchval("SELECT api_key FROM providers")
        assert b"sk-new" not in sealed
        assert (await owner.delete(path)).status_code == 204
        assert (await owner.get(path)).status_code == 404

    async def test_needs_no_key_where_models_run_in_the_house(self, owner: Person) -> None:
        made = await owner.post("/providers", {"name": "L", "kind": "openai", "base_url": URL})

        assert made.json()["has_key"] is False

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("kind", "gemini", "invalid_request"),
            ("api_key", "two words", "invalid_request"),
            ("api_key", "line\nbreak", "invalid_request"),
            ("api_key", "", "invalid_request"),
            ("base_url", "ftp://models.example.com", "address_refused"),
            ("base_url", "https://user:pass@models.example.com", "address_refused"),
            ("base_url", "https://169.254.169.254/v1", "address_refused"),
            ("base_url", "https://10.1.2.3/v1", "address_refused"),
            ("base_url", f"{URL}?key=x", "address_refused"),
        ],
    )
    async def test_is_refused_when_it_cannot_work_or_must_not(
        self, owner: Person, field: str, value: str, code: str
    ) -> None:
        body = {"name": "M", "kind": "openai", "base_url": URL} | {field: value}
        answer = await owner.post("/providers", body)

        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
        if field == "api_key" and value:
            assert value not in answer.text

    async def test_may_be_where_the_plan_opens_the_way_and_so_the_agent_is_told(
        self, bot: Bot, people: People
    ) -> None:
        inside = {"name": "M", "kind": "openai", "base_url": "http://10.1.2.3/v1"}
        assert (await bot.owner.post("/providers", inside)).status_code == 422
        operator = await people.operator()
        opened = {"egress_allow": ["10.1.0.0/16", "erp.example"]}
        path = f"/tenants/{bot.owner.tenant_id}"
        assert (await operator.patch(path, {"quota_overrides": opened})).status_code == 200

        assert (await bot.owner.post("/providers", inside)).status_code == 201
        async with bot.session() as session:
            update = await compiled(session, bot.parts.house.keys, bot.instance_id, 0)
        assert update.document["network"] == opened
        wrong = {"egress_allow": ["10.1.0.1/16"]}
        refused = await operator.patch(path, {"quota_overrides": wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")

    async def test_does_not_take_its_key_to_another_address(self, owner: Person) -> None:
        path = f"/providers/{(await account(owner))['id']}"
        elsewhere = "https://thief.example.com/v1"

        refused = await owner.patch(path, {"base_url": elsewhere})
        moved = await owner.patch(path, {"base_url": elsewhere, "api_key": "sk-other"})

        assert (refused.status_code, refused.json()["code"]) == (409, "api_key_needed")
        assert moved.json()["base_url"] == elsewhere

    async def test_is_one_of_a_few(self, owner: Person) -> None:
        for _ in range(MAX_PROVIDERS):
            await account(owner)

        answer = await owner.post("/providers", {"name": "M", "kind": "dify", "base_url": URL})

        assert (answer.status_code, answer.json()["code"]) == (409, "quota_exceeded")

    async def test_is_no_business_of_members(self, owner: Person, people) -> None:
        admin = await people.member(owner.tenant_id, Role.ADMIN)
        member = await people.member(owner.tenant_id, Role.MEMBER)

        assert (await admin.get("/providers")).status_code == 200
        assert (await member.get("/providers")).status_code == 403


class TestConfiguration:
    async def test_gets_the_providers_that_the_document_names_with_their_keys(
        self, bot: Bot
    ) -> None:
        named = await account(bot.owner)
        await account(bot.owner, name="Spare")
        await publish(bot, named["id"])

        told = await told_to_agent(bot, 1)

        assert told == [
            {"id": named["id"], "kind": "openai", "base_url": URL, "api_key": KEY},
        ]
        assert await told_to_agent(bot, 0) == []

    async def test_is_given_again_to_agents_when_a_provider_changes(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        named = await account(bot.owner)
        await publish(bot, named["id"])
        before = await superuser.fetchval("SELECT version FROM work WHERE kind = 'instance'")

        await bot.owner.patch(f"/providers/{named['id']}", {"api_key": "sk-new"})

        after = await superuser.fetchval("SELECT version FROM work WHERE kind = 'instance'")
        assert after > before
        assert (await told_to_agent(bot, 1))[0]["api_key"] == "sk-new"

    async def test_keeps_a_provider_as_long_as_an_agent_may_need_it(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        named = await account(bot.owner)
        await publish(bot, named["id"])
        path = f"/providers/{named['id']}"

        used = await bot.owner.delete(path)
        await publish(bot)
        await superuser.execute("UPDATE config_states SET last_good = 1")
        fallen_back_to = await bot.owner.delete(path)
        await superuser.execute("UPDATE config_states SET last_good = 2")
        unused = await bot.owner.delete(path)

        assert (used.status_code, used.json()["code"]) == (409, "provider_in_use")
        assert fallen_back_to.status_code == 409
        assert unused.status_code == 204


class TestCheck:
    @pytest.fixture
    async def provider(self) -> AsyncIterator[ModelProvider]:
        async with providing() as provider:
            yield provider

    @pytest.mark.parametrize("kind", ["openai", "dify"])
    async def test_says_in_plain_words_how_it_went_and_asks_no_model(
        self, owner: Person, provider: ModelProvider, kind: str
    ) -> None:
        good = await account(owner, kind=kind, base_url=provider.url)
        bad = await account(owner, kind=kind, base_url=provider.url, api_key="wrong")
        lost = await account(owner, kind=kind, base_url=f"{provider.url}/lost")

        said = [
            (await owner.post(f"/providers/{one['id']}/check")).json() for one in (good, bad, lost)
        ]

        assert [(one["works"], one["detail"]) for one in said] == [
            (True, "The provider knows the key and answers."),
            (False, "The provider does not take the key."),
            (False, "There is no such provider at this address."),
        ]
        assert provider.asked == []

    async def test_goes_into_no_network_of_ours(self, owner: Person, parts: Parts) -> None:
        made = await account(owner)
        parts.house.outbound._door._resolver = lambda _host, _port: ["10.0.0.8"]

        said = (await owner.post(f"/providers/{made['id']}/check")).json()

        assert (said["works"], said["detail"]) == (False, "This address is not on the internet.")
