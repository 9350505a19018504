"""Signed events through the whole application."""

import asyncio
import hashlib
from datetime import timedelta
from uuid import UUID

import asyncpg
import msgspec
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from adapters import standard_webhooks
from adapters.model import Text
from adapters.standard_webhooks import SIGNATURE, TIMESTAMP, TOLERANCE_S
from control_plane.access.limits import Rate, Rates
from control_plane.ingest import commit
from control_plane.kit.ids import new_id
from instance_agent.protocol import MAX_BATCH_BYTES, MAX_BATCH_EVENTS

pytestmark = pytest.mark.usefixtures("writing")


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def measured(status: str) -> float:
    labels = {"kind": "ingest", "status": status}
    return REGISTRY.get_sample_value("botyard_request_seconds_count", labels) or 0.0


def statuses(answer) -> list[str]:
    assert answer.status_code == 202
    return [result["status"] for result in answer.json()["results"]]


class TestStored:
    async def test_a_message_is_there_when_its_agent_hears_so(self, agent, kept) -> None:
        event = agent.message("k1", "你们几点开门？")

        answer = await agent.post(event)

        assert answer.status_code == 202
        assert answer.json() == {"results": [{"id": str(event.id), "status": "stored"}]}
        assert await kept.texts() == [(1, "你们几点开门？")]

    async def test_the_bot_and_the_workbench_are_told(
        self, agent, superuser: asyncpg.Connection
    ) -> None:
        await agent.post(agent.message("k1"))

        due = await superuser.fetchrow("SELECT key, tenant_id FROM work WHERE kind = 'turn'")
        told = await superuser.fetchval("SELECT data FROM stream WHERE type = 'message.created'")
        conversation = await superuser.fetchval("SELECT id FROM conversations")
        assert tuple(due) == (conversation, agent.tenant_id)
        assert msgspec.json.decode(told) == {
            "conversation_id": str(conversation),
            "message_id": str(await superuser.fetchval("SELECT id FROM messages")),
            "number": 1,
            "sender": {"kind": "contact", "name": "Lin"},
            "owner": "bot",
            "owner_version": 1,
        }

    async def test_a_conversation_that_a_human_has_needs_no_turn(
        self, agent, superuser: asyncpg.Connection
    ) -> None:
        await agent.post(agent.message("k1"))
        await superuser.execute("UPDATE conversations SET owner = 'human'")
        await superuser.execute("DELETE FROM work WHERE kind = 'turn'")

        assert statuses(await agent.post(agent.message("k2"))) == ["stored"]

        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'turn'") == 0

    async def test_a_closed_conversation_opens_again_with_the_bot(self, agent, superuser) -> None:
        await agent.post(agent.message("k1"), agent.message("k2"))
        await superuser.execute(
            "UPDATE conversations SET owner = 'closed', owner_version = 7, turned_number = 1"
        )
        await superuser.execute("DELETE FROM work WHERE kind = 'turn'")

        await agent.post(agent.message("k3"))

        found = await superuser.fetchrow(
            "SELECT owner, owner_version, turned_number, last_number, heard_number"
            " FROM conversations"
        )
        # What was said before it was closed is not answered now.
        assert tuple(found) == ("bot", 8, 2, 3, 3)
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'turn'") == 1

    async def test_a_newer_name_replaces_an_older_one_and_none_does_not(
        self, agent, superuser: asyncpg.Connection
    ) -> None:
        names = []
        for key, name in (("k1", "Lin"), ("k2", "Lin Mei"), ("k3", None)):
            event = agent.message(key)
            event.data["sender"]["name"] = name
            await agent.post(event)
            names.append(await superuser.fetchval("SELECT name FROM contacts"))

        assert names == ["Lin", "Lin Mei", "Lin Mei"]

    async def test_a_nul_in_a_text_becomes_a_replacement_character(self, agent, kept) -> None:
        assert statuses(await agent.post(agent.message("k\0", "a\0b"))) == ["stored"]

        assert await kept.texts() == [(1, "a\ufffdb")]


class TestSameness:
    async def test_a_redelivery_is_a_duplicate(self, agent, kept) -> None:
        first = await agent.post(agent.message("k1"))
        second = await agent.post(agent.message("k1"))

        assert (statuses(first), statuses(second)) == (["stored"], ["duplicate"])
        assert await kept.count("messages") == 1

    async def test_a_repeated_batch_is_answered_again(self, agent, kept) -> None:
        body = msgspec.json.encode(agent.batch(agent.message("k1")))
        headers = agent.headers(body)

        answers = [await agent.send(body, headers) for _ in range(2)]

        assert [statuses(answer) for answer in answers] == [["stored"], ["duplicate"]]

    async def test_twins_in_one_batch_are_one(self, agent, kept) -> None:
        answer = await agent.post(*(agent.message(key) for key in ("k1", "k2", "k1")))

        assert statuses(answer) == ["stored", "stored", "duplicate"]
        assert await kept.texts() == [(1, "hello"), (2, "hello")]

    async def test_the_same_key_with_other_words_is_a_conflict(self, agent, kept) -> None:
        answer = await agent.post(agent.message("k1", "yes"), agent.message("k1", "no"))
        again = await agent.post(agent.message("k1", "never"))

        assert (statuses(answer), statuses(again)) == (["stored", "conflict"], ["conflict"])
        assert await kept.texts() == [(1, "yes")]

    async def test_the_same_webhook_id_with_another_body_is_refused(self, agent, kept) -> None:
        await agent.post(agent.message("k1"), webhook_id="w1")

        answer = await agent.post(agent.message("k2"), webhook_id="w1")

        assert code(answer) == (409, "webhook_id_reused")
        assert await kept.count("messages") == 1

    async def test_an_id_that_is_made_of_a_body_is_refused_with_another(self, agent, kept) -> None:
        of_another = standard_webhooks.id_of(hashlib.sha256(b"another").digest())

        answer = await agent.post(agent.message("k1"), webhook_id=of_another)

        assert code(answer) == (409, "webhook_id_reused")
        assert await kept.count("messages") == 0

    async def test_only_an_id_that_may_come_with_another_body_is_remembered(
        self, agent, kept
    ) -> None:
        await agent.post(agent.message("k1"))
        await agent.post(agent.beat())
        assert await kept.count("batches") == 0

        await agent.post(agent.message("k2"), webhook_id="w1")
        assert await kept.count("batches") == 1

    async def test_webhook_ids_of_two_agents_have_nothing_to_do_with_each_other(
        self, agents, agent
    ) -> None:
        other = await agents.make()
        await agent.post(agent.message("k1"), webhook_id="w1")

        assert statuses(await other.post(other.message("k1"), webhook_id="w1")) == ["stored"]


class TestRejected:
    async def test_a_foreign_channel_is_unknown(self, agents, agent, kept) -> None:
        other = await agents.make()

        answer = await agent.post(agent.message("k1", channel_id=other.channel_id))

        assert answer.json()["results"][0]["code"] == "unknown_channel"
        assert statuses(answer) == ["rejected"]
        assert await kept.count("received") == 0

    async def test_a_channel_of_another_instance_of_the_tenant_is_unknown(
        self, agents, people, kept
    ) -> None:
        owner = await people.owner()
        one, two = await agents.make(owner=owner), await agents.make(owner=owner)

        answer = await one.post(one.message("k1", channel_id=two.channel_id))

        assert answer.json()["results"][0]["code"] == "unknown_channel"
        assert await kept.count("messages") == 0

    async def test_each_event_is_judged_alone(self, agent, kept) -> None:
        wrong_id = agent.message("k2")
        malformed = agent.message("k3")
        del malformed.data["sender"]
        answer = await agent.post(
            agent.message("k1"),
            msgspec.structs.replace(wrong_id, id=new_id()),
            malformed,
            agent.message("k4", segments=[Text(text="x")] * 51),
            agent.message("k5", visitor="v" * 501),
            agent.event("channel.status", {"channel_id": "none"}),
            agent.message("k6"),
        )

        results = [(r["status"], r.get("code")) for r in answer.json()["results"]]
        assert results == [
            ("stored", None),
            ("rejected", "wrong_event_id"),
            ("rejected", "malformed"),
            ("rejected", "too_many_segments"),
            ("rejected", "id_too_long"),
            ("rejected", "malformed"),
            ("stored", None),
        ]
        assert [number for number, _ in await kept.texts()] == [1, 2]


class TestSignature:
    @pytest.mark.parametrize(
        "change",
        [
            {SIGNATURE: "v1," + "A" * 43 + "="},
            {SIGNATURE: ""},
            {TIMESTAMP: "yesterday"},
            {},
        ],
        ids=["another signature", "no signature", "no timestamp", "no header at all"],
    )
    async def test_whoever_cannot_prove_it_is_not_heard(self, agent, kept, change: dict) -> None:
        body = msgspec.json.encode(agent.batch(agent.message("k1")))
        headers = agent.headers(body) | change if change else {}

        answer = await agent.send(body, headers)

        assert code(answer) == (401, "invalid_signature")
        assert await kept.count("messages") == 0

    @pytest.mark.parametrize("off", [-TOLERANCE_S - 1, TOLERANCE_S + 1])
    async def test_a_signature_of_another_time_is_stale(self, agent, kept, off: int) -> None:
        body = msgspec.json.encode(agent.batch(agent.message("k1")))
        at = int(agent.clock.now().timestamp()) + off
        headers = standard_webhooks.sign(agent.secret, message_id="w", timestamp=at, body=body)

        assert code(await agent.send(body, headers)) == (401, "invalid_signature")
        assert await kept.count("messages") == 0

    async def test_other_bytes_than_the_signed_ones_are_not_heard(self, agent) -> None:
        body = msgspec.json.encode(agent.batch(agent.message("k1")))

        answer = await agent.send(body + b" ", agent.headers(body))

        assert code(answer) == (401, "invalid_signature")

    async def test_an_agent_cannot_speak_for_another(self, agents, agent, kept) -> None:
        other = await agents.make()
        body = msgspec.json.encode(other.batch(other.message("k1")))

        assert code(await other.send(body, agent.headers(body))) == (401, "invalid_signature")
        assert await kept.count("messages") == 0

    async def test_an_instance_that_is_not_there_answers_alike(self, agent, client) -> None:
        body = b"{}"
        headers = agent.headers(body)

        missing = await client.post(
            f"/api/v1/instances/{new_id()}/events", content=body, headers=headers
        )
        wrong = await agent.send(body, headers | {SIGNATURE: "v1,AAAA"})

        assert code(missing) == (401, "invalid_signature")
        assert missing.json() == wrong.json()

    async def test_two_secrets_are_good_while_one_replaces_the_other(
        self, agent, keys, clock, superuser: asyncpg.Connection
    ) -> None:
        newer = standard_webhooks.make_secret(b"n" * 32)
        await superuser.execute(
            "INSERT INTO credentials (id, kind, sealed, tenant_id, instance_id, created_at)"
            " VALUES ($1, 'webhook', $2, $3, $4, $5)",
            new_id(),
            keys.seal(newer.encode()),
            agent.tenant_id,
            agent.instance_id,
            clock.now(),
        )
        body = msgspec.json.encode(agent.batch(agent.message("k1")))
        at = int(clock.now().timestamp())
        headers = standard_webhooks.sign(newer, message_id="w", timestamp=at, body=body)

        assert statuses(await agent.send(body, headers)) == ["stored"]
        assert statuses(await agent.post(agent.message("k2"))) == ["stored"]

    async def test_a_revoked_secret_is_noticed_within_half_a_minute(
        self, agent, clock, superuser: asyncpg.Connection
    ) -> None:
        await agent.post(agent.message("k1"))
        await superuser.execute("UPDATE credentials SET revoked_at = now() WHERE kind = 'webhook'")

        clock.advance(timedelta(seconds=30))

        assert code(await agent.post(agent.message("k2"))) == (401, "invalid_signature")


class TestWay:
    """What goes well is only counted; a refusal is treated like every other answer."""

    async def test_what_is_stored_is_measured_and_not_written_down(self, agent) -> None:
        before = measured("2xx")
        with capture_logs() as lines:
            await agent.post(agent.message("k1"))

        assert measured("2xx") == before + 1
        assert [line for line in lines if line["event"] == "request answered"] == []

    async def test_a_refusal_is_measured_dressed_and_written_down(self, agent) -> None:
        before = measured("4xx")
        with capture_logs([merge_contextvars]) as lines:
            answer = await agent.send(b"{}", {"x-request-id": "request-1"})

        assert code(answer) == (401, "invalid_signature")
        assert answer.headers["x-request-id"] == "request-1"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert measured("4xx") == before + 1
        (line,) = [line for line in lines if line["event"] == "request answered"]
        assert (line["request_id"], line["route"], line["status"]) == (
            "request-1",
            "/api/v1/instances/{instance_id}/events",
            401,
        )

    async def test_a_collector_sees_it_in_the_trace_that_the_agent_names(
        self, agent, spans: InMemorySpanExporter
    ) -> None:
        body = msgspec.json.encode(agent.batch(agent.message("k1")))
        trace = f"00-{'ab' * 16}-{'cd' * 8}-01"

        await agent.send(body, agent.headers(body) | {"traceparent": trace})

        (span,) = [span for span in spans.get_finished_spans() if span.name == "request"]
        assert f"{span.context.trace_id:032x}" == "ab" * 16
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == "cd" * 8


class TestBounds:
    async def test_too_many_bytes(self, agent) -> None:
        assert code(await agent.send(b" " * (MAX_BATCH_BYTES + 1))) == (413, "batch_too_large")

    async def test_too_many_events(self, agent, kept) -> None:
        events = [agent.message(f"k{n}") for n in range(MAX_BATCH_EVENTS + 1)]

        assert code(await agent.post(*events)) == (400, "too_many_events")
        assert await kept.count("messages") == 0

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b'{"session_id": "x", "events": []}', b"\xff\xfe", b'{"events": [1]}'],
    )
    async def test_what_is_no_batch_is_refused_once_its_sender_is_known(
        self, agent, body: bytes
    ) -> None:
        assert code(await agent.send(body)) == (400, "malformed_batch")
        assert code(await agent.send(body, {})) == (401, "invalid_signature")

    @pytest.mark.parametrize("checkpoints", [{"no channel": "x"}, {str(UUID(int=1)): "cur\0sor"}])
    async def test_a_checkpoint_that_cannot_be_kept_is_refused_for_good(
        self, agent, kept, checkpoints: dict
    ) -> None:
        answer = await agent.post(agent.message("k1"), checkpoints=checkpoints)

        assert code(answer) == (400, "malformed_batch")
        assert await kept.count("messages") == 0

    async def test_an_address_that_names_no_instance_is_not_there(self, agent, client) -> None:
        answer = await client.post(f"/api/v1/instances/{'-' * 36}/events", content=b"{}")

        assert code(answer) == (404, "instance_not_found")

    async def test_a_full_waiting_room_says_when_to_come_back(
        self, agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(commit, "MAX_WAITING", 0)

        answer = await agent.post(agent.message("k1"))

        assert code(answer) == (429, "ingest_busy")
        assert 1 <= int(answer.headers["retry-after"]) <= 5

    @pytest.mark.parametrize("rates", [Rates(events=Rate(1, 3600))])
    async def test_a_tenants_flood_is_told_when_to_come_back(self, agents) -> None:
        agent, other = await agents.make(), await agents.make()
        assert (await agent.post(agent.message("k1"))).status_code == 202

        answer = await agent.post(agent.message("k2"))

        assert code(answer) == (429, "too_many_events_of_tenant")
        assert 3600 <= int(answer.headers["retry-after"]) <= 7200
        assert (await other.post(other.message("k1"))).status_code == 202


class TestOrder:
    async def test_numbers_have_no_gap_however_many_post_at_once(
        self, agent, kept, superuser: asyncpg.Connection
    ) -> None:
        answers = await asyncio.gather(
            *(
                agent.post(*(agent.message(f"{n}-{i}", f"{n}-{i}") for i in range(5)))
                for n in range(20)
            )
        )

        texts = await kept.texts()
        assert [statuses(answer) for answer in answers] == [["stored"] * 5] * 20
        assert [number for number, _ in texts] == list(range(1, 101))
        # Within a batch the order is the agent's.
        for n in range(20):
            assert [t for _, t in texts if t.startswith(f"{n}-")] == [f"{n}-{i}" for i in range(5)]
        positions = await superuser.fetch(
            "SELECT seq FROM stream WHERE tenant_id = $1 ORDER BY seq", agent.tenant_id
        )
        assert [row[0] for row in positions] == list(range(1, len(positions) + 1))

    async def test_two_agents_at_once_do_not_mix(self, agents, agent, kept) -> None:
        other = await agents.make()
        await asyncio.gather(
            *(
                one.post(one.message(str(n), name, visitor=name))
                for n in range(10)
                for one, name in ((agent, "a"), (other, "b"))
            )
        )

        expected = [(n, name) for name in "ab" for n in range(1, 11)]
        assert await kept.texts() == expected


class TestDrain:
    async def test_an_agent_that_was_replaced_hears_so_when_it_has_nothing_left(
        self, agents, agent, kept
    ) -> None:
        await agents.succeed(agent)

        waits = await agent.post(agent.beat(spool_depth=3))
        tells = await agent.post(agent.message("k1"), agent.beat())
        empty = await agent.post(agent.beat())

        assert (statuses(waits), statuses(tells)) == (["stored"], ["stored"] * 2)
        assert code(empty) == (410, "session_ended")
        assert await kept.count("messages") == 1

    async def test_the_active_agent_is_seen(self, agents, agent, clock, kept) -> None:
        clock.advance(timedelta(minutes=1))

        assert statuses(await agent.post(agent.beat())) == ["stored"]

        session = await kept.session_of(agent)
        assert session["seen_at"] == clock.now()
        assert msgspec.json.decode(session["health"])["config"]["applied"] == 0
