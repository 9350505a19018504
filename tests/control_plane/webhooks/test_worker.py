"""Webhooks against a real receiver: order, retries, crashes, and what is never lost."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from standardwebhooks import Webhook, WebhookVerificationError

from control_plane.db import leases
from control_plane.db.leases import LeaseLost
from control_plane.db.session import Scope
from control_plane.kit import tracing
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.webhooks import worker as module
from control_plane.webhooks.schedule import FAILING_FOR, MAX_ATTEMPTS, MAX_REST, WAITS
from control_plane.webhooks.worker import IDLE, WORK
from tests.control_plane.conversations.scene import PATIENCE_S, make_bot
from tests.control_plane.webhooks.conftest import CHANGED, cancelled, taken_over

OK = (200, {})
BROKEN = (500, {})
LONG = timedelta(hours=30)


def told(receiver) -> list[int]:
    """The numbers that arrived, in the order in which they did."""
    return [json.loads(request.body)["data"]["used"] for request in receiver.requests]


def ids(receiver) -> list[str]:
    return [request.headers["webhook-id"] for request in receiver.requests]


def is_ours(request, secret: str) -> bool:
    try:
        Webhook(secret).verify(request.body, request.headers)
    except WebhookVerificationError:
        return False
    return True


class TestTelling:
    async def test_a_receiver_with_the_reference_library_believes_it(
        self, hook, teller, receiver
    ) -> None:
        await hook.happens(7)
        await teller.all()

        [request] = receiver.requests
        body = Webhook(hook.secret).verify(request.body, request.headers)
        assert (body["type"], body["data"]["used"]) == (CHANGED, 7)
        assert datetime.fromisoformat(body["timestamp"]).tzinfo == UTC
        assert body["sequence"]["epoch"] == 1
        assert request.method == "POST"
        assert request.headers["content-type"] == "application/json"
        [message] = await hook.messages()
        assert (message["state"], message["last_status"], message["attempts"]) == ("sent", 204, 1)
        assert message["id"] == request.headers["webhook-id"]

    async def test_what_happened_before_is_not_told(
        self, hook, make_hook, teller, receiver
    ) -> None:
        await hook.happens(1)
        await teller.all()
        later = await make_hook(owner=hook.owner)
        await hook.happens(2)
        await teller.all()

        assert sorted(told(receiver)) == [1, 2, 2]
        assert [json.loads(m["body"])["data"]["used"] for m in await later.messages()] == [2]

    async def test_only_what_was_subscribed_to_is_told_in_the_order_of_the_stream(
        self, hook, teller, monkeypatch: pytest.MonkeyPatch, receiver
    ) -> None:
        monkeypatch.setattr(module, "IN_FLIGHT", 1)
        monkeypatch.setattr(module, "ENTRIES", 3)
        for number in range(10):
            await hook.happens(number, number + 100)
            await hook.happens(number, kind="member.changed")
        await teller.all()

        expected = [number + more for number in range(10) for more in (0, 100)]
        assert told(receiver) == expected
        places = [json.loads(request.body)["sequence"]["seq"] for request in receiver.requests]
        assert places == sorted(places)

    async def test_never_more_than_its_share_is_in_flight(self, hook, teller, receiver) -> None:
        receiver.may_answer.clear()
        await hook.happens(*range(10))
        working = asyncio.create_task(teller.all())
        while len(receiver.requests) < module.IN_FLIGHT:
            receiver.arrived.clear()
            async with asyncio.timeout(PATIENCE_S):
                await receiver.arrived.wait()
        waiting = set(told(receiver))
        receiver.may_answer.set()
        await working

        assert waiting == set(range(module.IN_FLIGHT))
        assert sorted(told(receiver)) == list(range(10))

    async def test_another_tenants_events_never_arrive(
        self, hook, make_hook, teller, receiver
    ) -> None:
        other = await make_hook()
        await hook.happens(1)
        await other.happens(2)
        await teller.all()

        assert [is_ours(request, hook.secret) for request in receiver.requests].count(True) == 1
        for mine, number in ((hook, 1), (other, 2)):
            [message] = await mine.messages()
            assert json.loads(message["body"])["data"]["used"] == number

    async def test_an_append_calls_the_webhooks_of_its_tenant_only(
        self, hook, make_hook, teller, superuser: asyncpg.Connection
    ) -> None:
        other = await make_hook()
        await teller.all()
        assert await teller.claim() is None
        hints: list[set[str]] = []
        hook.parts.house.database.on_hints = hints.append
        await hook.happens(1)

        lease = await teller.claim()
        assert lease is not None
        assert lease.key == hook.id
        assert leases.topic(WORK) in hints[0]
        assert await teller.claim() is None
        assert other.tenant_id != hook.tenant_id

    async def test_appends_of_many_do_not_lock_each_other_up(
        self, hook, make_hook, teller, database
    ) -> None:
        """Ingest writes for several tenants at once, while workers hold and renew their rows."""
        hooks = [hook, await make_hook()]
        hooks += [await make_hook(owner=one.owner) for one in hooks for _ in range(2)]
        tenants = tuple(sorted({one.tenant_id for one in hooks}))

        async def group(number: int) -> None:
            async with database.session(Scope(tenants=tenants)) as session:
                for tenant in tenants:
                    entry = Entry(type=CHANGED, data={"used": number})
                    await stream.append(session, tenant, [entry])

        async def change(one, number: int) -> None:
            body = {"enabled": bool(number % 2), "description": str(number)}
            answer = await one.owner.call("PATCH", f"/webhooks/{one.id}", json=body)
            assert answer.status_code == 200

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(
                *(group(number) for number in range(10)),
                *(one.happens(number + 10) for one in hooks[:2] for number in range(10)),
                *(change(one, number) for one in hooks[2:] for number in range(2)),
                teller.all(),
            )
            await teller.all()

        for one in hooks[:2]:
            numbers = [json.loads(m["body"])["data"]["used"] for m in await one.messages()]
            assert sorted(numbers) == list(range(20))


class TestRetries:
    async def test_follow_the_schedule_under_one_id_until_it_is_dead(
        self, hook, teller, receiver, clock
    ) -> None:
        receiver.default = BROKEN
        await hook.happens(1)
        await teller.all()
        waits = []
        for _ in range(MAX_ATTEMPTS - 1):
            [message] = await hook.messages()
            due = datetime.fromisoformat(message["due_at"])
            waits.append(due - clock.now())
            calls = len(receiver.requests)
            # A moment early is too early.
            await teller.after(hook, due - clock.now() - timedelta(seconds=1))
            assert len(receiver.requests) == calls
            await teller.after(hook, timedelta(seconds=1))

        [message] = await hook.messages()
        assert (message["state"], message["attempts"]) == ("dead", MAX_ATTEMPTS)
        assert message["last_error"] == "The receiver answered 500."
        assert all(low <= wait <= low * 1.2 for low, wait in zip(WAITS, waits, strict=True))
        assert len(receiver.requests) == MAX_ATTEMPTS
        assert len(set(ids(receiver))) == 1
        assert len({request.body for request in receiver.requests}) == 1

    async def test_one_that_fails_holds_up_no_other(
        self, hook, teller, receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "IN_FLIGHT", 1)
        receiver.answers.append(BROKEN)
        await hook.happens(1, 2, 3)
        await teller.all()
        assert told(receiver) == [1, 2, 3]

        await teller.after(hook, WAITS[0] * 2)

        assert told(receiver) == [1, 2, 3, 1]
        assert {message["state"] for message in await hook.messages()} == {"sent"}

    async def test_says_when_it_is_due_again(self, hook, teller, receiver) -> None:
        receiver.answers.append(BROKEN)
        await hook.happens(1)

        again = await teller.once()

        assert again is not None
        assert WAITS[0] <= again <= WAITS[0] * 1.2
        assert await teller.after(hook, again) == IDLE

    @pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 429, 503])
    async def test_everything_but_success_is_a_failure(
        self, hook, teller, receiver, status: int
    ) -> None:
        receiver.answers.append((status, {"location": "http://127.0.0.1:1/"}))
        await hook.happens(1)
        await teller.all()

        [message] = await hook.messages()
        assert (message["state"], message["last_status"]) == ("pending", status)
        assert len(receiver.requests) == 1

    async def test_a_receiver_that_asks_for_rest_gets_it(
        self, hook, teller, receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "IN_FLIGHT", 1)
        receiver.answers.append((429, {"retry-after": "600"}))
        await hook.happens(1, 2, 3)
        await teller.all()
        assert told(receiver) == [1]
        assert (await hook.shown())["rest_until"] is not None

        await teller.after(hook, timedelta(seconds=599))
        assert told(receiver) == [1]
        await teller.after(hook, timedelta(seconds=1))

        assert sorted(told(receiver)) == [1, 1, 2, 3]

    async def test_no_receiver_rests_for_ever(self, hook, teller, receiver) -> None:
        receiver.answers.append((503, {"retry-after": "99999999"}))
        await hook.happens(1)
        await teller.all()
        await teller.after(hook, MAX_REST)

        assert [message["state"] for message in await hook.messages()] == ["sent"]

    async def test_a_backlog_waits_in_the_stream(
        self, hook, teller, receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "AHEAD", 3)
        receiver.default = BROKEN
        await hook.happens(*range(10))
        await teller.all()
        assert len(await hook.messages()) == 3

        receiver.default = OK
        receiver.requests.clear()
        await teller.after(hook, WAITS[0] * 2)
        await teller.all()

        assert sorted(told(receiver)) == list(range(10))
        assert {message["state"] for message in await hook.messages()} == {"sent"}


class TestCrash:
    async def test_between_call_and_outcome_sends_again_under_the_same_id(
        self, hook, teller, receiver
    ) -> None:
        receiver.may_answer.clear()
        await hook.happens(1)
        killed = asyncio.create_task(teller.once())
        async with asyncio.timeout(PATIENCE_S):
            await receiver.arrived.wait()
        await cancelled(killed)
        receiver.may_answer.set()
        await taken_over(hook.parts, hook.id)
        await teller.all()

        assert len(set(ids(receiver))) == 1
        assert told(receiver) == [1, 1]
        assert [message["state"] for message in await hook.messages()] == ["sent"]

    async def test_a_worker_that_was_overtaken_writes_nothing(self, hook, teller, receiver) -> None:
        receiver.may_answer.clear()
        receiver.answers.extend([BROKEN, OK])
        await hook.happens(1)
        lease = await teller.claim()
        slow = asyncio.create_task(teller.handle(lease))
        async with asyncio.timeout(PATIENCE_S):
            await receiver.arrived.wait()
        await taken_over(hook.parts, hook.id)
        newer = await teller.claim()
        receiver.may_answer.set()

        with pytest.raises(LeaseLost):
            await slow
        [message] = await hook.messages()
        assert (message["state"], message["attempts"]) == ("pending", 0)
        await teller.handle(newer)
        [message] = await hook.messages()
        assert (message["state"], message["attempts"]) == ("sent", 1)

    async def test_while_moving_on_neither_loses_nor_doubles(
        self, hook, teller, receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await hook.happens(1, 2)

        async def die(*_arguments) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(module, "_due", die)
            with pytest.raises(ZeroDivisionError):
                await teller.once()
        assert await hook.messages() == []
        await taken_over(hook.parts, hook.id)
        await teller.all()

        assert sorted(told(receiver)) == [1, 2]

    async def test_an_append_during_the_work_is_another_round(self, hook, teller, receiver) -> None:
        receiver.may_answer.clear()
        await hook.happens(1)
        working = asyncio.create_task(teller.once())
        async with asyncio.timeout(PATIENCE_S):
            await receiver.arrived.wait()
        await hook.happens(2)
        receiver.may_answer.set()
        await working
        await teller.all()

        assert told(receiver) == [1, 2]

    async def test_a_later_epoch_is_followed(
        self, hook, teller, receiver, superuser: asyncpg.Connection
    ) -> None:
        await hook.happens(1)
        await superuser.execute("UPDATE stream_heads SET epoch = 2, seq = 0")
        await hook.happens(2)
        await teller.all()

        assert sorted(told(receiver)) == [1, 2]


class TestSecrets:
    async def test_both_sign_for_a_day(self, hook, teller, receiver, clock) -> None:
        answer = await hook.owner.post(f"/webhooks/{hook.id}/secret")
        fresh = answer.json()["secret"]
        await hook.happens(1)
        await teller.all()
        [request] = receiver.requests
        assert is_ours(request, hook.secret)
        assert is_ours(request, fresh)
        assert not is_ours(request, "whsec_" + "A" * 32)

        clock.advance(timedelta(hours=24))
        await hook.happens(2)
        await teller.all()

        assert is_ours(receiver.requests[1], fresh)
        assert not is_ours(receiver.requests[1], hook.secret)


class TestGivingUp:
    async def audited(self, hook) -> dict:
        items = (await hook.owner.get("/audit?limit=200")).json()["items"]
        return next(item for item in items if item["action"] == "webhook.disable")

    async def test_a_receiver_that_is_gone_is_switched_off_and_others_hear_of_it(
        self, hook, make_hook, teller, receiver
    ) -> None:
        other = await make_hook("webhook.disabled", owner=hook.owner)
        receiver.answers.append((410, {}))
        await hook.happens(1)
        await teller.all()

        shown = await hook.shown()
        assert (shown["state"], shown["reason"]) == ("disabled", "gone")
        assert [message["state"] for message in await hook.messages()] == ["dead"]
        body = Webhook(other.secret).verify(
            receiver.requests[-1].body, receiver.requests[-1].headers
        )
        assert body["data"] == {"webhook_id": str(hook.id), "reason": "gone"}
        assert (await self.audited(hook))["actor_kind"] == "system"

        await hook.happens(2)
        await teller.all()
        assert len(receiver.requests) == 2

    async def test_all_answers_of_a_receiver_that_is_gone_are_one_end(
        self, hook, teller, receiver, superuser: asyncpg.Connection
    ) -> None:
        receiver.default = (410, {})
        await hook.happens(*range(module.IN_FLIGHT))
        await teller.all()

        count = "SELECT count(*) FROM audit WHERE action = 'webhook.disable'"
        assert await superuser.fetchval(count) == 1
        assert {message["state"] for message in await hook.messages()} == {"dead"}

    async def test_one_that_fails_for_days_is_switched_off_and_goes_on_when_enabled(
        self, hook, teller, receiver
    ) -> None:
        receiver.default = BROKEN
        await hook.happens(1)
        await teller.all()
        assert (await hook.shown())["failing_since"] is not None
        await teller.after(hook, FAILING_FOR)

        shown = await hook.shown()
        assert (shown["state"], shown["reason"]) == ("disabled", "failing")
        receiver.requests.clear()
        receiver.default = OK
        await hook.happens(2)
        await teller.all()
        assert receiver.requests == []

        teller.clock.advance(LONG)
        answer = await hook.owner.patch(f"/webhooks/{hook.id}", {"enabled": True})
        assert (answer.json()["state"], answer.json()["failing_since"]) == ("enabled", None)
        await teller.all()
        assert sorted(told(receiver)) == [1, 2]

    async def test_success_ends_the_failing(self, hook, teller, receiver) -> None:
        receiver.answers.append(BROKEN)
        await hook.happens(1)
        await teller.all()
        await teller.after(hook, WAITS[0] * 2)

        assert (await hook.shown())["failing_since"] is None


class TestSuspendedTenant:
    async def test_hears_nothing_and_loses_nothing(self, hook, people, teller, receiver) -> None:
        operator = await people.operator()
        await operator.post(f"/tenants/{hook.tenant_id}/suspend", {"reason": "unpaid"})
        await hook.happens(1)
        await teller.all()
        assert receiver.requests == []

        await operator.post(f"/tenants/{hook.tenant_id}/resume")
        await teller.all()

        assert told(receiver) == [1]


class TestTrace:
    async def test_a_call_is_a_span_in_the_trace_of_the_message_that_it_tells_of(
        self, parts, people, make_hook, teller, superuser: asyncpg.Connection
    ) -> None:
        bot = await make_bot(parts, await people.owner())
        await make_hook("message.received", CHANGED, owner=bot.owner)
        conversation_id = await bot.hears("你好")
        place = b"t" * 16 + b"s" * 8
        await superuser.execute(
            "UPDATE conversations SET trace = $2 WHERE id = $1", conversation_id, place
        )
        spans = InMemorySpanExporter()
        tracing.collect("test", SimpleSpanProcessor(spans))
        try:
            await teller.all()
        finally:
            tracing.collect("test", None)

        [span] = [each for each in spans.get_finished_spans() if each.name == "webhook"]
        assert span.context.trace_id == int.from_bytes(place[:16], "big")
        assert span.parent.span_id == int.from_bytes(place[16:], "big")
        assert dict(span.attributes) == {"type": "message.received", "attempt": 1}
