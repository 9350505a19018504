"""A customer's question to a model and back, through real processes and sockets only."""

from collections.abc import AsyncIterator

import pytest

from tests.model_provider import KEY, ModelProvider, providing

QUESTION = "能帮我修一下自行车吗？"


@pytest.fixture
def settings() -> dict[str, str]:
    """Models run in the house."""
    return {"BOTYARD_OUTBOUND_ALLOW": "127.0.0.0/8"}


@pytest.fixture
async def provider() -> AsyncIterator[ModelProvider]:
    async with providing() as provider:
        yield provider


async def publish(admin, provider: ModelProvider, until) -> str:
    """Let the demo's bot ask a model; the bot's id."""
    [bot] = (await admin.get("/instances")).json()["items"]
    account = {"name": "M", "kind": "openai", "base_url": provider.url, "api_key": KEY}
    made = (await admin.post("/providers", json=account)).json()
    checked = (await admin.post(f"/providers/{made['id']}/check")).json()
    assert checked["works"], checked
    document = {"llm": {"models": [{"provider": made["id"], "model": "m"}]}}
    path = f"/instances/{bot['id']}/revisions"
    written = (await admin.post(path, json={"document": document})).json()
    published = await admin.post(f"/revisions/{written['id']}/publish")
    assert published.status_code == 200, published.text

    async def applied() -> bool:
        standing = (await admin.get(path)).json()["standing"]
        return bool(standing["applied"] == written["number"])

    await until(applied, "the configuration with the model is applied")
    bot_id: str = bot["id"]
    return bot_id


class TestModel:
    async def test_answers_what_the_list_does_not_know(
        self, up, visitor, until, provider: ModelProvider
    ):
        admin = await up.sign_in()
        await publish(admin, provider, until)

        await visitor.say("1", QUESTION)
        await visitor.sees(lambda page: len(page.answers) == 1)

        assert visitor.answers == ["我们九点开门。"]
        assert provider.asked[0].body["messages"][-1] == {"role": "user", "content": QUESTION}
        [conversation] = (await admin.get("/conversations")).json()["items"]
        [turn] = (await admin.get(f"/conversations/{conversation['id']}/turns")).json()["items"]
        assert (turn["state"], turn["prompt_tokens"]) == ("answered", 21)
        assert KEY not in up.output
        for log in up.folder.rglob("*.log*"):
            assert KEY not in log.read_text()
