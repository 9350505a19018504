"""A member's socket over a real port: resume, renewal, ends with a reason, and walls."""

import asyncio
import random
import re
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import pytest

from control_plane.access.permissions import Role
from control_plane.realtime import connections
from tests.control_plane.conversations.scene import until
from tests.control_plane.realtime.conftest import FEW, Replica

KILLS = 20
EVENTS = 1_000


@pytest.fixture
async def owner(people):
    return await people.owner()


class TestEntering:
    async def test_begins_at_the_streams_end(self, replica: Replica, owner, append) -> None:
        await append(owner.tenant_id, 1, 2)
        async with replica.desk(owner) as desk:
            assert desk.ready["member_id"] == str(owner.member_id)
            begins = (desk.ready["epoch"], desk.ready["seq"])
            await append(owner.tenant_id, 3)

            event = await desk.next("event")

        assert (event["epoch"], event["seq"] - 1) == begins
        assert event["event"] == {"type": "message.created", "data": {"n": 3}}

    @pytest.mark.parametrize(
        ("frame", "said"),
        [
            ("{", (4400, "malformed_frame")),
            ({"type": "auth", "token": "nonsense"}, (4401, "invalid_token")),
            ({"type": "auth", "token": ""}, (4401, "invalid_token")),
            ({"type": "typing", "id": "1"}, (4401, "not_signed_in")),
            ({"type": "auth", "resume": {"epoch": -1, "seq": 0}}, (4400, "malformed_frame")),
            ({"type": "auth", "resume": {"epoch": 2**70, "seq": 0}}, (4400, "malformed_frame")),
        ],
    )
    async def test_needs_proof_first(self, replica: Replica, frame, said) -> None:
        async with replica.open() as desk:
            await desk.send(frame)

            assert await desk.end() == said

    async def test_is_not_waited_for_longer_than_the_deadline(
        self, replica: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("control_plane.realtime.routes.AUTH_WITHIN_S", 0.05)
        async with replica.open() as desk:
            assert await desk.end() == (4401, "auth_timeout")

    async def test_an_operator_has_no_stream(self, replica: Replica, people) -> None:
        operator = await people.operator()
        async with replica.open() as desk:
            await desk.send({"type": "auth", "token": operator.token})

            assert await desk.end() == (4403, "not_a_member")

    async def test_places_are_counted_by_person_and_tenant(
        self, replica: Replica, people, owner
    ) -> None:
        async def refused(person) -> tuple[int | None, str | None]:
            async with replica.open() as desk:
                await desk.send({"type": "auth", "token": person.token})
                return await desk.end()

        crowd = [await people.member(owner.tenant_id, Role.VIEWER) for _ in range(3)]
        async with AsyncExitStack() as stack:
            for person in (owner, *crowd[:2]):
                for _ in range(FEW.per_member):
                    if len(replica.parts.realtime._open) < FEW.per_tenant:
                        await stack.enter_async_context(replica.desk(person))

            assert await refused(owner) == (4429, "too_many_of_member")
            assert await refused(crowd[2]) == (4429, "too_many_of_tenant")
        await until(replica.empty, "a place that is free again")
        async with replica.desk(crowd[2]):
            pass


class TestResume:
    async def test_tells_the_gap_and_goes_on(self, replica: Replica, owner, append) -> None:
        async with replica.desk(owner) as desk:
            await append(owner.tenant_id, 1)
            seen = await desk.next("event")
        await append(owner.tenant_id, 2, 3)
        resume = {"epoch": seen["epoch"], "seq": seen["seq"]}

        async with replica.desk(owner, resume) as desk:
            assert desk.ready["seq"] == seen["seq"]
            assert await desk.hears(2) == [2, 3]
            await append(owner.tenant_id, 4)
            assert await desk.hears(1) == [4]

    @pytest.mark.parametrize("resume", [{"epoch": 7, "seq": 0}, {"epoch": 1, "seq": 10**6}])
    async def test_what_never_was_is_a_reset(self, replica: Replica, owner, append, resume) -> None:
        await append(owner.tenant_id, 1)
        async with replica.desk(owner, resume) as desk:
            reset = await desk.next()
            await append(owner.tenant_id, 2)
            event = await desk.next()

        assert reset["type"] == "reset"
        assert (event["epoch"], event["seq"]) == (reset["epoch"], reset["seq"] + 1)

    async def test_what_was_removed_is_a_reset(
        self, replica: Replica, owner, append, superuser
    ) -> None:
        async with replica.desk(owner) as desk:
            begins = {"epoch": desk.ready["epoch"], "seq": desk.ready["seq"]}
        await append(owner.tenant_id, 1, 2, 3)
        await superuser.execute("DELETE FROM stream WHERE seq <= $1", begins["seq"] + 2)

        async with replica.desk(owner, begins) as desk:
            assert (await desk.next())["type"] == "reset"

    async def test_a_new_epoch_reaches_those_who_listen(
        self, replica: Replica, owner, superuser
    ) -> None:
        async with replica.desk(owner) as desk:
            await superuser.execute("UPDATE stream_heads SET epoch = 9, seq = 4")

            assert await desk.next() == {"type": "reset", "epoch": 9, "seq": 4}

    async def test_two_processes_without_hints_and_a_socket_that_is_killed_lose_nothing(
        self, replica: Replica, deaf_replica: Replica, owner, append
    ) -> None:
        dice = random.Random(7)
        heard: list[int] = []
        at: dict[str, int] | None = None

        async def write() -> None:
            for n in range(0, EVENTS, 10):
                await append(owner.tenant_id, *range(n, n + 10))

        async with replica.desk(owner) as desk:
            at = {"epoch": desk.ready["epoch"], "seq": desk.ready["seq"]}
        writing = asyncio.create_task(write())
        for kill in range(KILLS + 1):
            where = dice.choice([replica, deaf_replica])
            wanted = EVENTS if kill == KILLS else len(heard) + dice.randrange(1, 60)
            async with where.desk(owner, at) as desk:
                while len(heard) < min(wanted, EVENTS):
                    frame = await desk.next()
                    assert frame["type"] == "event"
                    heard.append(frame["event"]["data"]["n"])
                    at = {"epoch": frame["epoch"], "seq": frame["seq"]}
                # What is on its way dies with it.
                desk.socket.transport.abort()
        await writing

        assert heard == list(range(EVENTS))


class TestPower:
    async def test_another_tenants_events_never_come(
        self, replica: Replica, people, owner, append
    ) -> None:
        stranger = await people.owner("Other House")
        async with replica.desk(owner) as mine, replica.desk(stranger) as theirs:
            await append(stranger.tenant_id, 1)
            await append(owner.tenant_id, 2)

            assert (await theirs.hears(1), await mine.hears(1)) == ([1], [2])

    async def test_only_what_one_may_read_comes(
        self, replica: Replica, people, owner, append
    ) -> None:
        role = {"name": "Answers only", "permissions": ["answers.read"]}
        made = await owner.post("/roles", role)
        assert made.status_code == 201, made.text
        someone = await people.member(owner.tenant_id, Role.VIEWER)
        path = f"/members/{someone.member_id}"
        async with replica.desk(someone) as desk:
            await append(owner.tenant_id, 1)
            await append(owner.tenant_id, 2, kind="never.heard.of")
            await append(owner.tenant_id, 3)
            assert await desk.hears(2) == [1, 3]

            assert (await owner.patch(path, {"role": made.json()["id"]})).status_code == 200
            await until(partial(replica.sees, someone, "answers.read"), "the new role")
            await append(owner.tenant_id, 4)
            assert (await owner.patch(path, {"role": "viewer"})).status_code == 200
            await until(partial(replica.sees, someone, "members.read"), "the old role")
            await append(owner.tenant_id, 5)
            changed, last = await desk.next(), await desk.next()

        # The first change was still seen, 4 and the second change were not.
        assert changed["event"]["type"] == "member.changed"
        assert last["event"]["data"] == {"n": 5}

    async def test_a_suspended_tenant_is_cut_off(
        self, replica: Replica, deaf_replica: Replica, people, owner
    ) -> None:
        operator = await people.operator()
        async with replica.desk(owner) as near, deaf_replica.desk(owner) as far:
            answer = await operator.post(
                f"/tenants/{owner.tenant_id}/suspend", {"reason": "unpaid"}
            )
            assert answer.status_code == 200, answer.text

            assert await near.end() == (4403, "tenant_not_active")
            assert await far.end() == (4403, "tenant_not_active")

    async def test_a_removed_member_is_cut_off(self, replica: Replica, people, owner) -> None:
        someone = await people.member(owner.tenant_id, Role.MEMBER)
        async with replica.desk(someone) as desk, replica.desk(owner) as stays:
            assert (await owner.delete(f"/members/{someone.member_id}")).status_code == 204

            assert await desk.end() == (4401, "session_ended")
            assert (await stays.asks("presence", state="online"))["type"] == "ack"

    async def test_signing_out_elsewhere_ends_the_socket(self, replica: Replica, owner) -> None:
        async with replica.desk(owner) as desk:
            assert (await owner.delete(f"/auth/sessions/{owner.family_id}")).status_code == 204

            assert await desk.end() == (4401, "session_ended")

    async def test_without_any_hint_the_round_finds_who_left(
        self, deaf_replica: Replica, superuser, owner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "CHECK_S", 0.0)
        async with deaf_replica.desk(owner) as desk:
            await superuser.execute("UPDATE credentials SET revoked_at = now()")

            assert await desk.end() == (4401, "session_ended")

    async def test_a_token_that_is_not_renewed_ends_the_socket(
        self, replica: Replica, owner, clock, fresh_token
    ) -> None:
        async with replica.desk(owner) as renews, replica.desk(owner) as forgets:
            clock.advance(timedelta(minutes=14))
            await renews.send({"type": "auth", "token": fresh_token(owner)})
            renewed = await renews.next("renewed")
            clock.advance(timedelta(minutes=2))

            assert await forgets.end() == (4401, "token_expired")
            assert renewed["expires_at"] > clock.now().timestamp()
            assert (await renews.asks("presence", state="online"))["type"] == "ack"

    async def test_somebody_elses_token_does_not_renew(
        self, replica: Replica, people, owner
    ) -> None:
        other = await people.member(owner.tenant_id, Role.MEMBER)
        async with replica.desk(owner) as desk:
            await desk.send({"type": "auth", "token": other.token})

            assert await desk.end() == (4401, "other_person")


class TestSlow:
    async def test_who_does_not_read_is_closed_and_the_others_go_on(
        self, replica: Replica, people, owner, append
    ) -> None:
        other = await people.member(owner.tenant_id, Role.VIEWER)
        async with replica.desk(other) as reads, replica.desk(owner, narrow=True) as sleeps:
            for n in range(100):
                await append(owner.tenant_id, *[n] * 50, filler="x" * 16_000)
                assert await reads.hears(50) == [n] * 50
                if len(replica.parts.realtime._open) == 1:
                    break

            assert await sleeps.end() == (4408, "slow")
            assert (await reads.asks("presence", state="online"))["type"] == "ack"


class TestStopping:
    async def test_asks_everybody_to_come_back(self, replica: Replica, owner) -> None:
        async with replica.desk(owner) as desk:
            replica.parts.realtime.stop()

            code, reason = await desk.end()
            assert code == 1012
            assert re.fullmatch(r"restarting, again in [0-5]\.\d s", reason)

        async with replica.open() as late:
            assert await late.end() == (1013, "restarting")
