"""Routes that the document leaves out: agents' events, the web-chat platform, callbacks.

Bytes of any kind, signed and unsigned, get an answer below 500 that tells nothing of our insides.
"""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import standard_webhooks
from control_plane.channels.settings import unseal
from control_plane.db.session import Scope, driver
from control_plane.kit.ids import new_id
from tests.contract.server import Served
from tests.control_plane.conversations.scene import Bot, make_bot
from tests.control_plane.ingest.conftest import Agent, Agents

FUZZ = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# What a header may carry on the wire.
HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"))
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def broken(whole: Any) -> Any:
    """Values like `whole` in which one thing, at any depth, is something else."""
    if isinstance(whole, dict):
        return st.sampled_from(sorted(whole)).flatmap(
            lambda name: (JSON | broken(whole[name])).map(lambda inner: whole | {name: inner})
        )
    if isinstance(whole, list) and whole:
        return broken(whole[0]).map(lambda inner: [inner, *whole[1:]]) | st.just(whole * 101)
    return JSON


def assert_calm(answer: Any) -> None:
    """Answered, below 500 and without a word of our insides."""
    assert answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text
    if not answer.ok:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


@pytest.fixture(scope="module")
def agent(served: Served) -> Agent:
    agents = Agents(served.parts, served.clock, served.people, served.client)
    return served.call(agents.make())


@pytest.fixture(scope="module")
def bot(served: Served) -> Bot:
    async def make() -> Bot:
        return await make_bot(served.parts, await served.people.owner())

    return served.call(make())


@pytest.fixture(scope="module")
def secret(bot: Bot, served: Served) -> str:
    """What the adapter of the bot's web chat presents."""

    async def read() -> str:
        async with bot.session() as session:
            sealed = await (await driver(session)).fetchval(
                "SELECT secrets FROM channels WHERE id = $1", bot.channel_id
            )
        return str(unseal(served.parts.house.keys, sealed)["secret"])

    return served.call(read())


class TestEvents:
    @FUZZ
    @given(body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
    def test_of_any_bytes_are_refused_calmly(
        self, body: bytes, agent: Agent, served: Served
    ) -> None:
        answer = post(served, agent, body, agent.headers(body))

        assert_calm(answer)
        assert answer.status_code == 400

    @FUZZ
    @given(data=st.data())
    def test_that_are_almost_right_get_a_result_each_or_a_problem(
        self, data: st.DataObject, agent: Agent, served: Served
    ) -> None:
        whole = msgspec.to_builtins(
            agent.batch(agent.message(str(new_id())), agent.beat(), checkpoints={"x": "y"})
        )
        body = json.dumps(data.draw(broken(whole))).encode()

        assert_calm(post(served, agent, body, agent.headers(body)))

    @FUZZ
    @given(message_id=HEADER, timestamp=HEADER, signature=HEADER)
    def test_with_any_signature_are_refused_calmly(
        self, message_id: str, timestamp: str, signature: str, agent: Agent, served: Served
    ) -> None:
        given_headers = (message_id, timestamp, "v1," + signature)
        names = (standard_webhooks.ID, standard_webhooks.TIMESTAMP, standard_webhooks.SIGNATURE)
        headers = {
            name: value.strip().encode("latin-1")
            for name, value in zip(names, given_headers, strict=True)
        }
        fresh = {names[1]: str(int(served.clock.now().timestamp()))}

        for sent in (headers, headers | fresh):
            answer = post(served, agent, b"{}", sent)
            assert_calm(answer)
            assert answer.status_code == 401

    @FUZZ
    @given(webhook_id=HEADER.map(str.strip).filter(bool))
    def test_under_any_id_are_stored_or_refused(
        self, webhook_id: str, agent: Agent, served: Served
    ) -> None:
        body = msgspec.json.encode(agent.batch(agent.beat()))
        headers = agent.headers(body, webhook_id=webhook_id)
        sent = {name: value.encode("latin-1") for name, value in headers.items()}

        assert_calm(post(served, agent, body, sent))


class TestPlatform:
    @FUZZ
    @given(data=st.data())
    def test_takes_or_refuses_any_message(
        self, data: st.DataObject, secret: str, served: Served
    ) -> None:
        whole = {
            "to": str(new_id()),
            "key": "k",
            "segments": [{"type": "text", "text": "Hi"}],
            "sender": {"kind": "bot", "name": "Bot"},
        }
        body = json.dumps(data.draw(broken(whole))).encode()

        answer = served.http.post(
            f"{served.url}/webchat-platform/messages",
            data=body,
            headers={"authorization": f"Bearer {secret}", "content-type": "application/json"},
        )

        assert_calm(answer)
        assert answer.status_code in {400, 404, 422}

    @FUZZ
    @given(proof=HEADER)
    def test_knows_nobody_by_a_guess(self, proof: str, served: Served) -> None:
        answer = served.http.get(
            f"{served.url}/webchat-platform/account",
            headers={"authorization": f"Bearer {proof}".strip().encode("latin-1")},
        )

        assert_calm(answer)
        assert answer.status_code == 401


class TestCallbacks:
    @FUZZ
    @given(
        method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        rest=st.text(max_size=20),
        query=st.text(max_size=20),
        body=st.binary(max_size=200),
    )
    def test_of_any_kind_are_refused_calmly(
        self, method: str, rest: str, query: str, body: bytes, bot: Bot, served: Served
    ) -> None:
        for token in (bot.token, "nobody"):
            answer = served.http.request(
                method,
                f"{served.url}/im/{token}/{quoted(rest)}",
                params={"q": query.encode("utf-8", "replace")},
                data=body,
            )
            assert_calm(answer)
            assert answer.status_code in {400, 403, 404}

    def test_leave_nothing_behind(self, bot: Bot, served: Served) -> None:
        async def stored() -> int:
            async with served.parts.house.database.session(
                Scope(tenants=(bot.tenant_id,))
            ) as session:
                return int(await (await driver(session)).fetchval("SELECT count(*) FROM callbacks"))

        served.http.post(f"{served.url}/im/{bot.token}", data=b"unsigned")

        assert served.call(stored()) == 0


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "replace"))


def post(served: Served, agent: Agent, body: bytes, headers: Any) -> Any:
    address = f"{served.url}/api/v1/instances/{agent.instance_id}/events"
    return served.http.post(address, data=body, headers=headers)
