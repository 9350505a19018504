"""What agents say that they run is believed, and repaired; saying it again costs nothing."""

import asyncio
import contextlib
from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from adapters import standard_webhooks
from adapters.standard_webhooks import id_of
from control_plane.ingest.commit import Pending
from control_plane.ingest.dispatch import Dispatcher
from control_plane.ingest.verify import Proven
from control_plane.kit.ids import new_id
from instance_agent.document import DocumentError
from instance_agent.protocol import ConfigOutcome, ConfigState, Event, EventBatch, Heartbeat

BEATS = 1_000


def beating(number: int | None, sha256: str | None, **more) -> Heartbeat:
    given = {"last_good": number, "rejected": None, **more}
    config = ConfigState(applied=number, applied_sha256=sha256, **given)
    return Heartbeat(config=config, channels=[], spool_depth=0, spool_bytes=0)


@pytest.fixture
def post(client, clock, writing):
    """A beat over HTTP, signed."""

    async def send(instance_id, given, beat: Heartbeat) -> int:
        event = Event(
            id=new_id(),
            type="instance.heartbeat",
            occurred_at=clock.now(),
            data=msgspec.to_builtins(beat),
        )
        body = msgspec.json.encode(EventBatch(session_id=given.session_id, events=[event]))
        headers = standard_webhooks.sign(
            given.webhook_secrets[0],
            message_id=str(new_id()),
            timestamp=int(clock.now().timestamp()),
            body=body,
        )
        answer = await client.post(
            f"/api/v1/instances/{instance_id}/events", content=body, headers=headers
        )
        return answer.status_code

    return send


class TestDrift:
    async def test_an_agent_that_runs_something_else_gets_the_desired_one_again(
        self, fleet, stand_in, post, superuser
    ) -> None:
        instance_id, given = await fleet.run()
        before = len(stand_in.updates)
        await superuser.execute("UPDATE work SET due_at = now() + interval '1 hour'")
        assert await post(instance_id, given, beating(0, "f" * 64)) == 202

        assert (await fleet.config(instance_id))["applied_sha256"] == "f" * 64
        assert await superuser.fetchval("SELECT due_at <= now() FROM work WHERE kind = 'instance'")
        await fleet.look(instance_id)
        assert [update.sha256 for _, update in stand_in.updates[before:]] == [given.newest.sha256]
        assert (await fleet.config(instance_id))["applied_sha256"] == given.newest.sha256
        assert await fleet.phase(instance_id) == "running"
        page = (await fleet.owner.get(f"/instances/{instance_id}/timeline")).json()
        assert "config.drift" in {item["type"] for item in page["items"]}

    async def test_one_that_is_ahead_of_us_is_started_again(self, fleet, stand_in, post) -> None:
        instance_id, given = await fleet.run()
        first = fleet.place.get(instance_id).ref
        await post(instance_id, given, beating(7, "f" * 64))
        stand_in.ahead = True
        await fleet.look(instance_id)
        stand_in.ahead = False
        successor = await fleet.bring_up(instance_id)

        assert fleet.place.get(instance_id).ref != first
        assert successor.newest.number == 0
        assert successor.last_good is None
        assert (await fleet.config(instance_id))["applied"] == 0

    async def test_what_is_on_trial_is_not_the_last_good_one(self, fleet, stand_in, post) -> None:
        instance_id, given = await fleet.run()
        stand_in.outcome = ConfigOutcome(outcome="applied", revision=1, on_trial=True)
        await fleet.owner.post(f"/instances/{instance_id}/rollback", {"number": 0})
        await fleet.look(instance_id)
        sha256 = stand_in.updates[-1][1].sha256
        await post(instance_id, given, beating(1, sha256, last_good=0, on_trial=True))
        between = await fleet.config(instance_id)
        await post(instance_id, given, beating(1, sha256))
        after = await fleet.config(instance_id)

        assert (between["applied"], between["last_good"]) == (1, 0)
        assert (after["applied"], after["last_good"]) == (1, 1)

    async def test_a_rejection_whose_event_was_lost_comes_with_the_beat(
        self, fleet, stand_in, post
    ) -> None:
        instance_id, given = await fleet.run()
        stand_in.outcome = ConfigOutcome(outcome="applied", revision=1, on_trial=True)
        await fleet.owner.post(f"/instances/{instance_id}/rollback", {"number": 0})
        await fleet.look(instance_id)
        pushes = len(stand_in.updates)
        wrong = DocumentError(path="/channels/0", code="did_not_connect", message="shut")
        fallen = beating(
            0,
            given.newest.sha256,
            rejected=1,
            rejected_sha256=stand_in.updates[-1][1].sha256,
            errors=[wrong],
        )
        await post(instance_id, given, fallen)
        await fleet.look(instance_id)

        state = await fleet.config(instance_id)
        assert (state["applied"], state["last_good"], state["rejected"]) == (0, 0, 1)
        assert "shut" in state["errors"]
        assert len(stand_in.updates) == pushes
        assert await fleet.phase(instance_id) == "degraded"

    async def test_who_was_replaced_says_nothing_that_counts(self, fleet, post) -> None:
        instance_id, given = await fleet.run()
        await fleet.owner.post(f"/instances/{instance_id}/restart")
        successor = await fleet.bring_up(instance_id)
        assert await post(instance_id, given, beating(0, "f" * 64)) == 410
        assert await post(instance_id, successor, beating(0, successor.newest.sha256)) == 202
        assert (await fleet.config(instance_id))["applied_sha256"] == successor.newest.sha256


class TestBeats:
    async def test_a_thousand_without_news_cost_two_statements_a_group_and_write_one_table(
        self, fleet, parts, monkeypatch
    ) -> None:
        """Heard together they are written together; nothing but when they were seen is."""
        agents = [await fleet.run(channel=False) for _ in range(10)]
        database = parts.house.database
        dispatcher = Dispatcher(database)
        await write(dispatcher, fleet, agents)
        before, asked, plain = await fleet.versions(), [], database.plain

        @contextlib.asynccontextmanager
        async def counted(scope):
            async with plain(scope) as session:
                with session.connection.query_logger(lambda query: asked.append(query.query)):
                    yield session

        monkeypatch.setattr(database, "plain", counted)
        rounds = BEATS // len(agents)
        for _ in range(rounds):
            fleet.clock.advance(timedelta(milliseconds=10))
            await write(dispatcher, fleet, agents)
        after = await fleet.versions()

        words = Counter(query.split()[0] for query in asked)
        assert words["UPDATE"] == 2 * rounds
        assert words.keys() <= {"UPDATE", "BEGIN", "COMMIT", "SELECT", "BEGIN;", "COMMIT;"}
        assert {table for table in after if after[table] != before[table]} == {"agent_sessions"}


async def write(dispatcher, fleet, agents) -> None:
    """One group with a beat of each."""
    group = []
    for instance_id, given in agents:
        beat = beating(given.newest.number, given.newest.sha256)
        event = Event(
            id=new_id(),
            type="instance.heartbeat",
            occurred_at=fleet.clock.now(),
            data=msgspec.to_builtins(beat),
        )
        proven = Proven(
            tenant_id=fleet.owner.tenant_id,
            instance_id=instance_id,
            webhook_id=id_of(b""),
            sha256=b"",
        )
        group.append(
            Pending(
                proven=proven,
                batch=EventBatch(session_id=given.session_id, events=[event]),
                received_at=fleet.clock.now(),
                done=asyncio.get_running_loop().create_future(),
            )
        )
    await dispatcher.write(group)
