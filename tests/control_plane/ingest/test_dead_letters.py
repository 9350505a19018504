"""Dead letters: kept with their reason, shown without secrets, replayed."""

import asyncio
import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import httpx2
import msgspec
import pytest

from adapters.standard_webhooks import id_of
from control_plane.access.permissions import Role
from control_plane.channels import callbacks
from control_plane.ingest import rejected
from control_plane.ingest.commit import GroupCommit
from control_plane.ingest.verify import Proven
from control_plane.kit.ids import new_id
from instance_agent.protocol import Event, EventBatch, EventResult
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot, Worker, dead_callback, make_bot
from tests.control_plane.delivery.stand_in import StandIn


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner())


async def post(bot: Bot, *events: Event) -> list[EventResult]:
    """As if the bot's agent had sent these."""
    proven = Proven(
        tenant_id=bot.tenant_id,
        instance_id=bot.instance_id,
        webhook_id=id_of(b"0" * 32),
        sha256=b"0" * 32,
    )
    batch = EventBatch(session_id=new_id(), events=list(events))
    return await bot.parts.commits.submit(proven, batch, bot.parts.house.clock.now())


def malformed(bot: Bot, **data: Any) -> Event:
    now = bot.parts.house.clock.now()
    return Event(id=new_id(), type="message.received", occurred_at=now, data=data)


@pytest.fixture
async def commits(parts) -> Any:
    """The group commit, running."""
    task = asyncio.create_task(parts.commits.run())
    yield parts.commits
    parts.commits.stop()
    await task


async def listed(person: Person) -> list[dict[str, Any]]:
    answer = await person.get("/dead-letters")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


class TestEvents:
    async def test_that_are_rejected_are_kept_as_they_came(
        self, bot: Bot, commits: GroupCommit
    ) -> None:
        event = malformed(bot, text="你好")
        for _ in range(2):
            [result] = await post(bot, event)
            assert result.status == "rejected"

        [letter] = await listed(bot.owner)
        assert (letter["source"], letter["type"]) == ("event", "message.received")
        assert letter["reason"] == "malformed"
        whole = (await bot.owner.get(f"/dead-letters/{letter['id']}")).json()
        body = base64.b64decode(whole["raw"]["body"])
        assert msgspec.json.decode(body, type=Event) == event
        assert letter["size"] == len(body)

    async def test_are_bounded_by_count_and_size(
        self, bot: Bot, commits: GroupCommit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rejected, "MAX_KEPT", 2)
        large = malformed(bot, text="x" * rejected.MAX_BYTES)
        events = [malformed(bot, n=n) for n in range(3)]
        await post(bot, large, *events)
        await post(bot, malformed(bot, n=3))

        bodies = []
        for letter in await listed(bot.owner):
            whole = (await bot.owner.get(f"/dead-letters/{letter['id']}")).json()
            bodies.append(msgspec.json.decode(base64.b64decode(whole["raw"]["body"]), type=Event))
        assert len(bodies) == 2
        assert bodies[0].data == {"n": 3}

    async def test_that_can_be_stored_now_are_stored_once(
        self, bot: Bot, commits: GroupCommit, superuser: asyncpg.Connection
    ) -> None:
        event = bot._event("你好", "lin")
        await superuser.execute("UPDATE channels SET deleted_at = now()")
        await post(bot, event)
        [letter] = await listed(bot.owner)
        assert letter["reason"] == "unknown_channel"
        path = f"/dead-letters/{letter['id']}/replay"
        assert (await bot.owner.post(path)).json() == {
            "became": "rejected",
            "reason": "unknown_channel",
        }
        await superuser.execute("UPDATE channels SET deleted_at = NULL")

        assert (await bot.owner.post(path)).json()["became"] == "stored"
        assert await listed(bot.owner) == []
        [result] = await post(bot, event)
        assert result.status == "duplicate"

    async def test_go_with_the_contact_that_is_erased(
        self, bot: Bot, commits: GroupCommit, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好", key="lin")
        await post(bot, malformed(bot, sender="lin"), malformed(bot, sender="linda"))
        await dead_callback(superuser, bot, body=b'{"from": "lin"}')
        contact = (await bot.owner.get(f"/conversations/{conversation}")).json()["contact"]["id"]

        assert (await bot.owner.post(f"/contacts/{contact}/erase")).status_code == 200

        [left] = await listed(bot.owner)
        whole = (await bot.owner.get(f"/dead-letters/{left['id']}")).json()
        assert b"linda" in base64.b64decode(whole["raw"]["body"])


class TestCallbacks:
    async def test_are_shown_without_what_proves_anything(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        letter_id = await dead_callback(superuser, bot)

        whole = (await bot.owner.get(f"/dead-letters/{letter_id}")).json()

        assert whole["reason"] == "too old"
        assert whole["raw"]["headers"] == {"cookie": "***", "x-kind": "k"}
        assert whole["raw"]["query"] == "msg_signature=%2A%2A%2A&n=1"

    async def test_are_passed_on_again_however_old_they_are(
        self, bot: Bot, parts, superuser: asyncpg.Connection
    ) -> None:
        agent = StandIn()
        letter_id = await dead_callback(superuser, bot, body=b"again")
        scopes = {"name": "k", "scopes": ["channels.write", "conversations.read"]}
        key = (await bot.owner.post("/api-keys", scopes)).json()["key"]
        program = replace(bot.owner, token=key)
        worker = Worker(parts.house.database, callbacks.WORK, parts.callbacks.pass_on)
        parts.house.clock.advance(callbacks.MAX_AGE + timedelta(hours=1))

        answer = await program.post(f"/dead-letters/{letter_id}/replay")
        assert answer.json() == {"became": "waiting", "reason": None}
        # Nobody is there yet: it waits like one that has just come.
        assert await worker.once() == timedelta(seconds=1)
        async with agent.running():
            await bot.attach(agent.url, agent.journal_id)
            await worker.again(bot.channel_id)

        assert agent.callbacks == [b"again"]
        assert await listed(program) == []

    async def test_are_for_those_who_may_change_channels_to_replay(
        self, bot: Bot, people, superuser: asyncpg.Connection
    ) -> None:
        path = f"/dead-letters/{await dead_callback(superuser, bot)}"
        member = await people.member(bot.tenant_id, Role.MEMBER)
        stranger = await people.owner()

        assert (await member.get(path)).status_code == 200
        assert (await member.post(f"{path}/replay")).status_code == 403
        for asked in (stranger.get(path), stranger.post(f"{path}/replay")):
            answer: httpx2.Response = await asked
            assert answer.status_code == 404


class TestMany:
    async def test_are_replayed_by_what_is_asked_for_with_a_result_for_each(
        self, bot: Bot, commits: GroupCommit, superuser: asyncpg.Connection
    ) -> None:
        [result] = await post(bot, malformed(bot, text="x"))
        assert result.status == "rejected"
        first = await dead_callback(superuser, bot)
        second = await dead_callback(superuser, bot)
        await superuser.execute(
            "UPDATE callbacks SET dead_reason = 'another' WHERE id = $1", second
        )

        async def replay(**chosen: Any) -> dict[str, Any]:
            answer = await bot.owner.post("/dead-letters/replay", chosen)
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        assert await replay(source="callback", reason="too old") == {
            "items": [{"id": str(first), "became": "waiting", "reason": None}],
            "next": None,
        }
        [event] = (await replay(source="event", instance_id=str(bot.instance_id)))["items"]
        assert (event["became"], event["reason"]) == ("rejected", "malformed")
        unknown = {"channel_id": str(bot.instance_id)}
        assert (await bot.owner.post("/dead-letters/replay", unknown)).status_code == 404
        late = await replay(since="2100-01-01T00:00:00Z")
        assert late["items"] == (await replay(until="2000-01-01T00:00:00Z"))["items"] == []
        # What was replayed is passed by.
        assert (await replay(reason="too old"))["items"] == []
        assert [row["reason"] for row in await listed(bot.owner)] == ["another", "malformed"]
        audited = await superuser.fetch(
            "SELECT target_id FROM audit WHERE action = 'dead_letter.replay' ORDER BY seq"
        )
        assert [str(row["target_id"]) for row in audited] == [str(first), event["id"]]

    async def test_go_on_where_the_last_call_ended(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        letters = [str(await dead_callback(superuser, bot)) for _ in range(3)]
        body: dict[str, Any] = {"limit": 2}
        done = (await bot.owner.post("/dead-letters/replay", body)).json()
        assert [one["id"] for one in done["items"]] == letters[:2]
        body["cursor"] = done["next"]
        done = (await bot.owner.post("/dead-letters/replay", body)).json()
        assert ([one["id"] for one in done["items"]], done["next"]) == (letters[2:], None)

    async def test_one_whose_channel_is_gone_holds_up_no_other(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        letter_id = await dead_callback(superuser, bot)
        await superuser.execute("UPDATE channels SET deleted_at = now()")
        done = (await bot.owner.post("/dead-letters/replay", {})).json()
        assert done["items"] == [
            {"id": str(letter_id), "became": "refused", "reason": "channel_deleted"}
        ]

    async def test_are_a_tenants_own_and_for_those_who_may_change_channels(
        self, bot: Bot, people, superuser: asyncpg.Connection
    ) -> None:
        await dead_callback(superuser, bot)
        member = await people.member(bot.tenant_id, Role.MEMBER)
        stranger = await people.owner()
        assert (await member.post("/dead-letters/replay", {})).status_code == 403
        assert (await stranger.post("/dead-letters/replay", {})).json()["items"] == []
        assert (await bot.owner.post("/dead-letters/replay", {"limit": 101})).status_code == 422
