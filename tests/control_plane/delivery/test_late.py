"""What a platform took and says later that nobody got: told by an agent, seen over REST."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from starlette.responses import Response

from adapters.model import ConversationKey
from adapters.standard_webhooks import id_of
from control_plane.delivery.late import TOLD_WITHIN
from control_plane.ingest.commit import Pending
from control_plane.ingest.dispatch import Dispatcher
from control_plane.ingest.verify import Proven
from control_plane.kit.ids import new_id
from instance_agent.protocol import (
    Event,
    EventBatch,
    MessageFailed,
    PartOutcome,
    SendRequest,
    event_id,
)
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot, Worker, make_bot
from tests.control_plane.delivery.stand_in import StandIn

CHANGES = "SELECT data FROM stream WHERE type = 'delivery.changed' ORDER BY seq"


@pytest.fixture
async def sent(bot: Bot, agent: StandIn, worker: Worker) -> dict[str, Any]:
    """A message of two parts that the platform took."""

    async def taken(request: SendRequest) -> Response:
        ids = ("p1", "p2")
        parts = [PartOutcome(outcome="sent", platform_message_id=each) for each in ids]
        return agent._record(request, *parts)

    conversation = await bot.hears("你好")
    await bot.says(conversation, "一")
    agent.then(taken)
    await worker.all()
    [found] = (await bot.owner.get("/deliveries")).json()["items"]
    assert found["state"] == "sent"
    return dict(found)


async def told(bot: Bot, *, notice: str = "n1", by: Bot | None = None, **changes: Any) -> str:
    """The agent brings a notice; what becomes of it."""
    given: dict[str, Any] = {
        "channel_id": bot.channel_id,
        "conversation": ConversationKey(type="direct", id="lin"),
        "platform_message_id": "p2",
        "error_class": "recipient_refuses",
        "detail": "the customer refuses messages",
    }
    failure = MessageFailed(**given | changes)
    speaker, now = by or bot, bot.parts.house.clock.now()
    event = Event(
        id=event_id(failure.channel_id, notice),
        type="message.failed",
        occurred_at=now,
        data=msgspec.to_builtins(failure),
    )
    proven = Proven(
        tenant_id=speaker.tenant_id,
        instance_id=speaker.instance_id,
        webhook_id=id_of(b""),
        sha256=b"",
    )
    pending = Pending(
        proven=proven,
        batch=EventBatch(session_id=new_id(), events=[event]),
        received_at=now,
        done=asyncio.get_running_loop().create_future(),
    )
    [[result]] = (await Dispatcher(bot.database).write([pending]))()
    return result.status


async def shown(bot: Bot, delivery: dict[str, Any]) -> dict[str, Any]:
    answer = await bot.owner.get(f"/deliveries/{delivery['id']}")
    return dict(answer.json())


class TestFailed:
    async def test_is_seen_with_the_platforms_reason(
        self, bot: Bot, sent: dict[str, Any], superuser: asyncpg.Connection
    ) -> None:
        assert await told(bot) == "stored"

        found = await shown(bot, sent)
        assert (found["state"], found["error_class"]) == ("failed", "recipient_refuses")
        assert found["reason"] == "The recipient does not take messages from the bot."
        [attempt] = found["log"]
        assert attempt["outcome"] == "failed"
        first, second = attempt["parts"]
        assert (first["outcome"], first["platform_message_id"]) == ("sent", "p1")
        assert (second["outcome"], second["detail"]) == ("failed", "the customer refuses messages")
        changes = [msgspec.json.decode(row["data"]) for row in await superuser.fetch(CHANGES)]
        assert (changes[-1]["state"], changes[-1]["message_id"]) == ("failed", sent["message_id"])

    async def test_counts_once_however_often_it_is_told(
        self, bot: Bot, sent: dict[str, Any], agent: StandIn, worker: Worker
    ) -> None:
        await told(bot)
        assert (await bot.owner.post(f"/deliveries/{sent['id']}/resend")).status_code == 200
        await worker.all()
        assert (await shown(bot, sent))["state"] == "sent"

        assert await told(bot) == "stored"
        assert await told(bot, notice="n2") == "stored"

        # The second is a notice of its own, of an id that the repeat does not have.
        assert (await shown(bot, sent))["state"] == "sent"
        assert agent.calls[-1].insist

    @pytest.mark.parametrize(
        "changes",
        [
            {"platform_message_id": "p3"},
            {"conversation": ConversationKey(type="direct", id="another")},
            {"conversation": ConversationKey(type="group", id="lin")},
            {"channel_id": UUID(int=1)},
        ],
    )
    async def test_what_is_not_known_changes_nothing(
        self, bot: Bot, sent: dict[str, Any], changes: dict[str, Any]
    ) -> None:
        assert await told(bot, **changes) == "stored"
        assert (await shown(bot, sent))["state"] == "sent"

    async def test_a_strangers_agent_and_anothers_of_the_tenant_change_nothing(
        self, bot: Bot, sent: dict[str, Any], parts: Any, people: Any
    ) -> None:
        stranger: Person = await people.owner()
        for owner in (stranger, bot.owner):
            other = await make_bot(parts, owner)
            assert await told(bot, by=other) == "stored"
        assert (await shown(bot, sent))["state"] == "sent"

    async def test_one_that_names_nothing_is_rejected(self, bot: Bot, sent: dict[str, Any]) -> None:
        assert await told(bot, platform_message_id="") == "rejected"

    async def test_one_that_comes_very_late_is_let_be(
        self, bot: Bot, sent: dict[str, Any], program: Person, clock: Any
    ) -> None:
        clock.advance(TOLD_WITHIN + timedelta(seconds=1))
        assert await told(bot) == "stored"
        assert (await shown(replace(bot, owner=program), sent))["state"] == "sent"
