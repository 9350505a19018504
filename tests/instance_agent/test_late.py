"""What a platform took and says later that nobody got."""

import dataclasses

import msgspec
import pytest

from adapters import registry
from adapters.base import NotAccepted, SendFailed, Undelivered
from adapters.model import ConversationKey
from instance_agent.late import Late
from instance_agent.protocol import Event, MessageFailed, PartOutcome, event_id
from instance_agent.spool import Spool
from instance_agent.store import Store
from tests.instance_agent.test_sender import CHANNEL, Bench

WHO = ConversationKey(type="direct", id="v1")
WHY = {"error_class": "recipient_refuses", "detail": "the customer refuses messages"}


@pytest.fixture
async def store(tmp_path):
    store = Store(tmp_path / "agent.db")
    yield store
    await store.close()


@pytest.fixture
def bench(store, monkeypatch):
    kind = dataclasses.replace(registry.kind("webchat"), name="hour", resend_safe_s=0)
    monkeypatch.setitem(registry._KINDS, "hour", kind)
    return Bench(store)


@pytest.fixture
async def spool(store):
    spool = Spool(store)
    await spool.load()
    return spool


@pytest.fixture
def late(spool):
    return Late(spool, clock=lambda: 1000.0)


def notice(platform_id: str) -> Undelivered:
    return Undelivered(dedupe_key="n1", conversation=WHO, platform_message_id=platform_id, **WHY)


class TestTell:
    async def test_is_spooled_under_the_platforms_own_id(self, late, spool):
        for _ in range(2):
            await late.tell(CHANNEL, notice("p1"))
        [batch] = await spool.head(10)
        [event, again] = msgspec.json.decode(b"[" + batch.events + b"]", type=list[Event])
        assert (event.id, event.type) == (event_id(CHANNEL, "n1"), "message.failed")
        assert again.id == event.id
        data = msgspec.convert(event.data, MessageFailed, strict=False)
        assert (data.channel_id, data.conversation, data.platform_message_id) == (
            CHANNEL,
            WHO,
            "p1",
        )
        assert (data.error_class, data.detail) == tuple(WHY.values())

    async def test_a_disk_that_takes_nothing_is_told_to_the_platform(self, late, spool):
        spool.max_bytes = 10
        with pytest.raises(NotAccepted, match="full"):
            await late.tell(CHANNEL, notice("p1"))


class TestJournal:
    async def test_only_the_part_that_was_not_shown_is_sent_again_and_as_another(self, late, bench):
        request = bench.request("一", "二")
        await bench.outcomes(request)
        first, second = bench.platform.keys
        await late.tell(CHANNEL, notice(f"p-{second}"))

        # The attempt that was answered before is answered as it is known now.
        answer = await bench.sender.send(request)
        failed = PartOutcome(outcome="failed", platform_message_id=f"p-{second}", **WHY)
        assert (answer.parts[0].outcome, answer.parts[1]) == ("sent", failed)
        again = msgspec.structs.replace(request, insist=True)
        assert await bench.outcomes(again, attempt=2) == ["sent", "sent"]

        assert bench.platform.keys == [first, second, f"{second}:2"]
        await late.tell(CHANNEL, notice(f"p-{second}"))
        assert (await bench.journal.entries(request.message_id))[1].state == "sent"

    async def test_a_refusal_of_the_usual_kind_keeps_its_key(self, bench):
        request = bench.request("一")
        bench.platform.does = [SendFailed("server_busy", "busy")]
        await bench.outcomes(request)
        await bench.outcomes(request, attempt=2)
        assert len(set(bench.platform.keys)) == 1

    async def test_what_it_does_not_know_changes_nothing(self, late, bench):
        request = bench.request("一")
        await bench.outcomes(request)
        await late.tell(CHANNEL, notice("another"))
        assert (await bench.journal.entries(request.message_id))[0].state == "sent"
