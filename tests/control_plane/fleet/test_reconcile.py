"""The reconciler: agents in memory, everything else real."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db import leases
from control_plane.db.leases import LeaseLost
from control_plane.db.session import Database, Scope, Transaction
from control_plane.fleet.plan import CRASH_LOOP, SILENT_AFTER, START_WITHIN, STEADY_AFTER
from control_plane.fleet.provision.base import Transient, Workload, WorkloadState
from control_plane.fleet.provision.fake import FakePlace, FakeProvisioner
from control_plane.fleet.status import RESYNC, UNDER_WAY
from control_plane.instances.sessions import DEAD_AFTER
from control_plane.kit.crypto import CannotOpen, Keyring
from control_plane.kit.ids import new_id
from tests.conftest import People
from tests.control_plane.conversations.scene import until_blocked
from tests.control_plane.fleet.test_pushes import rename

PATIENCE_S = 20.0
"""Longest wait for something that must happen."""

SECOND = timedelta(seconds=1)


Transactions = AbstractAsyncContextManager[Transaction]


def watched(fleet, monkeypatch: pytest.MonkeyPatch) -> tuple[list, list]:
    """The transactions from now on, with their statements, and the secrets that are opened."""
    begun: list[tuple[str, list[str]]] = []
    opened: list[bytes] = []
    database, opening = fleet.parts.house.database, Keyring.open

    class Watched:
        def __init__(self, transaction: Transaction, said: list[str]) -> None:
            self._of, self._said = transaction.connection, said

        def __getattr__(self, name: str) -> object:
            self._said.append(name)
            return getattr(self._of, name)

    @asynccontextmanager
    async def listened(kind: str, of: Transactions) -> AsyncIterator[Transaction]:
        said: list[str] = []
        begun.append((kind, said))
        async with of as transaction:
            yield replace(transaction, connection=Watched(transaction, said))

    def plain(scope: Scope) -> Transactions:
        return listened("plain", Database.plain(database, scope))

    def lone(*, durable: bool = False) -> Transactions:
        return listened("lone", Database.lone(database, durable=durable))

    def session(scope: Scope) -> AbstractAsyncContextManager[AsyncSession]:
        begun.append(("session", []))
        return Database.session(database, scope)

    def seen(keys: Keyring, sealed: bytes) -> bytes:
        opened.append(sealed)
        return opening(keys, sealed)

    monkeypatch.setattr(database, "plain", plain)
    monkeypatch.setattr(database, "lone", lone)
    monkeypatch.setattr(database, "session", session)
    monkeypatch.setattr(Keyring, "open", seen)
    return begun, opened


class TestStart:
    async def test_an_instance_comes_up_step_by_step(self, fleet) -> None:
        instance_id = await fleet.create()
        steps = [await fleet.phase(instance_id)]
        await fleet.look(instance_id)
        steps.append(await fleet.phase(instance_id))
        given = await fleet.bootstrap(instance_id)
        await fleet.look(instance_id)
        steps.append(await fleet.phase(instance_id))
        await fleet.beat(instance_id, given)
        again = await fleet.look(instance_id)
        steps.append(await fleet.phase(instance_id))

        assert steps == ["pending", "starting", "connecting", "running"]
        assert again == DEAD_AFTER + SECOND
        assert (await fleet.get(instance_id))["observed_generation"] == 1
        assert await fleet.sessions(instance_id) == [("active", 1)]
        assert fleet.place.calls["ensure"] == 1

    async def test_every_step_is_told_to_the_timeline_and_the_stream(
        self, fleet, superuser: asyncpg.Connection
    ) -> None:
        instance_id, _ = await fleet.run()

        page = (await fleet.owner.get(f"/instances/{instance_id}/timeline")).json()
        told = await superuser.fetch(
            "SELECT data->>'phase' FROM stream WHERE type = 'instance.phase' ORDER BY seq"
        )
        messages = [item["message"] for item in reversed(page["items"])]
        assert [m for m in messages if "→" in m or "epoch" in m] == [
            "pending → starting",
            "agent active, epoch 1",
            "starting → configuring",
            "configuring → connecting",
            "connecting → running",
        ]
        assert [row[0] for row in told] == ["starting", "configuring", "connecting", "running"]

    async def test_a_condition_that_changes_within_a_phase_is_told_once(
        self, fleet, superuser: asyncpg.Connection
    ) -> None:
        instance_id = await fleet.create()
        for _ in range(4):
            await fleet.look(instance_id)

        told = await superuser.fetch(
            "SELECT type, data FROM stream WHERE type LIKE 'instance.%' ORDER BY seq"
        )
        assert await fleet.phase(instance_id) == "starting"
        assert (await fleet.condition(instance_id, "WorkloadRunning"))["status"]
        assert [row["type"] for row in told][-2:] == ["instance.phase", "instance.conditions"]
        assert json.loads(told[-1]["data"]) == {"instance_id": str(instance_id)}

    async def test_an_agent_that_opens_no_session_is_replaced(self, fleet) -> None:
        instance_id = await fleet.create()
        await fleet.look(instance_id)
        first = fleet.place.get(instance_id).ref

        fleet.clock.advance(START_WITHIN + SECOND)
        await fleet.look(instance_id)

        workload = fleet.place.get(instance_id)
        assert workload.state == WorkloadState.RUNNING
        assert workload.ref != first

    async def test_what_the_provisioner_cannot_do_now_is_tried_again(self, fleet) -> None:
        instance_id = await fleet.create()
        fleet.place.fail("ensure", Transient("no room"))
        with pytest.raises(Transient):
            await fleet.look(instance_id)

        await fleet.look(instance_id)

        assert fleet.place.get(instance_id).state == WorkloadState.RUNNING


class TestPlan:
    async def test_that_changed_changes_what_a_running_agent_may_use(
        self, fleet, people: People, superuser: asyncpg.Connection
    ) -> None:
        instance_id, _ = await fleet.run()
        before = fleet.place.get(instance_id)
        operator = await people.operator()
        exceptions = {"pod_cpu": 1500, "pod_memory": 2**29}
        path = f"/tenants/{fleet.owner.tenant_id}"
        answer = await operator.patch(path, {"quota_overrides": exceptions})
        assert answer.status_code == 200, answer.text

        due = "SELECT due_at <= now() FROM work WHERE kind = 'instance' AND key = $1"
        assert await superuser.fetchval(due, instance_id)
        await fleet.look(instance_id)

        more = replace(before.allowance, cpu=1500, memory=2**29)
        assert fleet.place.get(instance_id) == replace(before, allowance=more)
        assert await fleet.phase(instance_id) == "running"


class TestConverged:
    async def test_ten_looks_write_nothing_and_ask_only_what_runs(self, fleet) -> None:
        instance_id, _ = await fleet.run()
        before, calls = await fleet.versions(), dict(fleet.place.calls)

        for _ in range(10):
            fleet.clock.advance(SECOND)
            await fleet.look(instance_id)

        assert await fleet.versions() == before
        assert dict(fleet.place.calls) == calls | {"observe": calls["observe"] + 10}

    async def test_a_look_is_one_statement_that_opens_no_secret(
        self, fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        instance_id, _ = await fleet.run()
        lease = await fleet.lease(instance_id)
        begun, opened = watched(fleet, monkeypatch)

        await fleet.reconciler.look(lease)

        assert begun == [("lone", ["fetch"])]
        assert opened == []

    async def test_looks_of_one_moment_are_one_statement_for_all_their_tenants(
        self, fleet, people: People, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine, _ = await fleet.run()
        fleet.owner = await people.owner("Other House")
        theirs, _ = await fleet.run()
        held = [await fleet.lease(each) for each in (mine, theirs)]
        before = await fleet.versions()
        begun, _ = watched(fleet, monkeypatch)

        again = await asyncio.gather(*(fleet.reconciler.look(lease) for lease in held))

        assert begun == [("lone", ["fetch"])]
        assert again == [DEAD_AFTER + SECOND] * 2
        assert await fleet.versions() == before

    async def test_one_that_cannot_be_read_hurts_no_other_look_of_its_moment(
        self, fleet, superuser: asyncpg.Connection
    ) -> None:
        sound, broken = (await fleet.run())[0], (await fleet.run())[0]
        held = [await fleet.lease(each) for each in (sound, broken)]
        await superuser.execute("UPDATE channels SET secrets = 'x' WHERE instance_id = $1", broken)

        again, error = await asyncio.gather(
            *(fleet.reconciler.look(lease) for lease in held), return_exceptions=True
        )

        assert again == DEAD_AFTER + SECOND
        assert isinstance(error, CannotOpen)

    async def test_a_running_one_is_looked_at_when_it_could_be_silent(self, fleet) -> None:
        instance_id, given = await fleet.run()
        fleet.clock.advance(timedelta(seconds=20))
        assert await fleet.look(instance_id) == timedelta(seconds=11)

        await fleet.beat(instance_id, given)

        assert await fleet.look(instance_id) == DEAD_AFTER + SECOND

    async def test_a_stopped_one_is_looked_at_now_and_then(self, fleet) -> None:
        instance_id, _ = await fleet.run()
        await fleet.owner.post(f"/instances/{instance_id}/stop")

        assert await fleet.look(instance_id) == RESYNC


class TestEndedByItself:
    async def test_an_agent_that_dies_is_started_again_at_once(self, fleet) -> None:
        instance_id, _ = await fleet.run()
        first = fleet.place.get(instance_id).ref

        fleet.place.exit(instance_id)
        await fleet.bring_up(instance_id)

        assert fleet.place.get(instance_id).ref != first
        assert await fleet.phase(instance_id) == "running"
        assert await fleet.sessions(instance_id) == [("ended", 1), ("active", 2)]

    async def test_its_channels_are_not_taken_for_connected_meanwhile(
        self, fleet, superuser: asyncpg.Connection
    ) -> None:
        instance_id, _ = await fleet.run()
        fleet.place.exit(instance_id)

        await fleet.look(instance_id)

        assert await superuser.fetchval("SELECT state FROM channels") == "connecting"

    async def test_one_that_keeps_dying_is_a_crash_loop_with_its_last_words(self, fleet) -> None:
        instance_id = await fleet.create()
        waits = []
        for n in range(CRASH_LOOP):
            await fleet.look(instance_id)
            fleet.place.exit(instance_id, code=1, lines=[f"start {n}", "no such model"])
            waits.append(await fleet.look(instance_id))
            fleet.clock.advance(waits[-1])

        condition = await fleet.condition(instance_id, "WorkloadRunning")
        assert waits == [UNDER_WAY, SECOND, 2 * SECOND]
        assert await fleet.phase(instance_id) == "crash_loop"
        assert condition["reason"] == "crash_loop"
        assert condition["message"].startswith("ended 3 times in a row\n")
        assert condition["message"].endswith("start 2\nno such model")

        await fleet.look(instance_id)
        assert fleet.place.get(instance_id).state == WorkloadState.RUNNING

    async def test_a_crash_loop_ends_when_an_agent_has_run_steadily(self, fleet) -> None:
        instance_id = await fleet.create()
        for _ in range(CRASH_LOOP):
            await fleet.look(instance_id)
            fleet.place.exit(instance_id, code=1)
            fleet.clock.advance(await fleet.look(instance_id))
        given = await fleet.bring_up(instance_id)
        watched = await fleet.condition(instance_id, "WorkloadRunning")

        fleet.clock.advance(STEADY_AFTER)
        await fleet.beat(instance_id, given)
        await fleet.look(instance_id)

        assert (watched["status"], watched["reason"]) == (True, "crash_loop")
        assert (await fleet.condition(instance_id, "WorkloadRunning"))["reason"] == "running"

    async def test_a_silent_agent_is_shown_then_replaced(self, fleet) -> None:
        instance_id, _ = await fleet.run()
        first = fleet.place.get(instance_id).ref

        fleet.clock.advance(DEAD_AFTER + SECOND)
        await fleet.look(instance_id)
        silent = await fleet.condition(instance_id, "AgentConnected")
        fleet.clock.advance(SILENT_AFTER - DEAD_AFTER)
        await fleet.look(instance_id)

        assert (silent["status"], silent["reason"]) == (False, "silent")
        assert fleet.place.get(instance_id).ref != first
        assert await fleet.sessions(instance_id) == [("ended", 1)]


class TestWishes:
    async def test_stopping_ends_the_agent_and_its_session(self, fleet) -> None:
        instance_id, _ = await fleet.run()

        await fleet.owner.post(f"/instances/{instance_id}/stop")
        await fleet.look(instance_id)

        assert fleet.place.get(instance_id).state == WorkloadState.EXITED
        assert await fleet.phase(instance_id) == "stopped"
        assert await fleet.sessions(instance_id) == [("ended", 1)]

    async def test_a_stopped_one_starts_again_with_a_new_epoch(self, fleet) -> None:
        instance_id, _ = await fleet.run()
        await fleet.owner.post(f"/instances/{instance_id}/stop")
        await fleet.look(instance_id)

        await fleet.owner.post(f"/instances/{instance_id}/start")
        await fleet.bring_up(instance_id)

        assert await fleet.phase(instance_id) == "running"
        assert await fleet.sessions(instance_id) == [("ended", 1), ("active", 2)]

    async def test_a_restart_replaces_the_agent(self, fleet) -> None:
        instance_id, _ = await fleet.run()
        first = fleet.place.get(instance_id)

        await fleet.owner.post(f"/instances/{instance_id}/restart")
        await fleet.bring_up(instance_id)

        second = fleet.place.get(instance_id)
        assert second.ref != first.ref
        assert (first.generation, second.generation) == (1, 2)
        assert await fleet.phase(instance_id) == "running"

    async def test_deleting_leaves_nothing_and_ends_the_looks(
        self, fleet, superuser: asyncpg.Connection
    ) -> None:
        instance_id, _ = await fleet.run()

        await fleet.owner.delete(f"/instances/{instance_id}")
        again = await fleet.look(instance_id)

        assert again is None
        assert fleet.place.ids() == []
        assert await fleet.sessions(instance_id) == [("ended", 1)]
        assert await superuser.fetchval("SELECT phase FROM instances") == "deleted"
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'instance'") == 0
        assert (await fleet.owner.get(f"/instances/{instance_id}")).status_code == 404

    async def test_deleting_goes_on_until_the_place_says_that_nothing_is_left(
        self, fleet, superuser: asyncpg.Connection
    ) -> None:
        class Slow(FakeProvisioner):
            """The agent is gone at once, its namespace is not."""

            left = 2

            async def destroy(self, instance_id: UUID) -> Workload:
                removed = await super().destroy(instance_id)
                Slow.left -= 1
                waits = "waits for namespace x: some finalizer"
                gone = Workload(state=WorkloadState.STOPPING, waits_for=waits)
                return gone if Slow.left >= 0 else removed

        instance_id, _ = await fleet.run()
        fleet.reconciler = fleet.reconciler_over(Slow(fleet.place))
        await fleet.owner.delete(f"/instances/{instance_id}")
        again = await fleet.look(instance_id)
        shown = await fleet.condition(instance_id, "WorkloadRunning")
        phase = await fleet.phase(instance_id)
        since = await superuser.fetchval("SELECT phase_at FROM instances")
        before = await fleet.versions()
        Slow.left = 2
        await fleet.look(instance_id)
        after = await fleet.versions()
        Slow.left = 0
        await fleet.look(instance_id)

        # Waiting costs no write.
        assert before == after
        assert (again, phase) == (UNDER_WAY, "deleting")
        assert (shown["status"], shown["message"]) == (
            False,
            "waits for namespace x: some finalizer",
        )
        assert since == fleet.clock.now()
        assert await superuser.fetchval("SELECT phase FROM instances") == "deleted"

    async def test_deleting_waits_for_a_place_that_fails(self, fleet) -> None:
        instance_id, _ = await fleet.run()
        await fleet.owner.delete(f"/instances/{instance_id}")
        fleet.place.fail("destroy", Transient("busy"))

        with pytest.raises(Transient):
            await fleet.look(instance_id)
        assert await fleet.phase(instance_id) == "deleting"
        assert await fleet.look(instance_id) is None

    async def test_deleting_goes_on_until_nothing_is_left_around_an_absent_agent(
        self, fleet
    ) -> None:
        instance_id, _ = await fleet.run()
        await fleet.owner.delete(f"/instances/{instance_id}")
        lingering = Lingering(fleet.place)
        fleet.reconciler = fleet.reconciler_over(lingering)

        for _ in range(2):
            assert await fleet.look(instance_id) is not None
            assert await fleet.phase(instance_id) == "deleting"
        lingering.left = False
        assert await fleet.look(instance_id) is None


class Lingering(FakeProvisioner):
    """The agent is gone at once, what lies around it later."""

    def __init__(self, place: FakePlace) -> None:
        super().__init__(place)
        self.left = True

    async def destroy(self, instance_id: UUID) -> Workload:
        gone = await super().destroy(instance_id)
        lingers = Workload(state=WorkloadState.STOPPING, waits_for="waits for namespace n")
        return lingers if self.left else gone


class TestActivation:
    async def test_and_a_callback_that_is_kept_never_lock_both_up(
        self, fleet, database: Database, superuser: asyncpg.Connection
    ) -> None:
        instance_id = await fleet.create()
        await fleet.look(instance_id)
        await fleet.bootstrap(instance_id)
        channel = (new_id(), fleet.owner.tenant_id)
        async with asyncio.timeout(PATIENCE_S):
            async with database.plain() as keeping:
                await leases.call(keeping, "callback", [channel])
            async with database.plain() as keeping:
                await leases.call(keeping, "callback", [channel])
                looking = asyncio.create_task(fleet.look(instance_id))
                await until_blocked(superuser)
                await leases.call(keeping, "instance", [(instance_id, fleet.owner.tenant_id)])
            await looking

        assert await fleet.sessions(instance_id) == [("active", 1)]


class TestTenant:
    async def test_a_suspended_tenants_bots_stop_and_come_back(self, fleet, people) -> None:
        instance_id, _ = await fleet.run()
        operator = await people.operator()
        tenant = f"/tenants/{fleet.owner.tenant_id}"

        await operator.post(f"{tenant}/suspend")
        await fleet.look(instance_id)
        # People of a suspended tenant cannot look, their operator can.
        suspended = (await operator.get(f"/instances/{instance_id}")).json()
        await operator.post(f"{tenant}/resume")
        await fleet.bring_up(instance_id)

        assert (suspended["phase"], suspended["desired"]) == ("stopped", "running")
        assert await fleet.phase(instance_id) == "running"

    async def test_a_deleted_tenant_is_gone_with_its_last_instance(self, fleet, people) -> None:
        first, _ = await fleet.run()
        second, _ = await fleet.run()
        operator = await people.operator()
        tenant = f"/tenants/{fleet.owner.tenant_id}"
        states = []

        await operator.delete(tenant)
        for instance_id in (first, second):
            await fleet.look(instance_id)
            states.append((await operator.get(tenant)).json()["state"])

        assert states == ["deleting", "deleted"]
        assert fleet.place.ids() == []


class Interrupted(FakeProvisioner):
    """Another worker takes the lease while this one asks what runs."""

    def __init__(self, place: FakePlace, take_over) -> None:
        super().__init__(place)
        self._take_over = take_over

    async def observe(self, ids: Collection[UUID]) -> Mapping[UUID, Workload]:
        await self._take_over()
        return await super().observe(ids)


class TestLeaseLost:
    @pytest.mark.parametrize("wish", ["stop", "restart"])
    async def test_a_look_that_was_overtaken_changes_nothing(self, fleet, wish: str) -> None:
        instance_id, _ = await fleet.run()
        await fleet.owner.post(f"/instances/{instance_id}/{wish}")
        running, before = fleet.place.get(instance_id), await fleet.versions()
        fleet.reconciler = fleet.reconciler_over(Interrupted(fleet.place, fleet.take_over))

        with pytest.raises(LeaseLost):
            await fleet.look(instance_id)

        assert await fleet.versions() == before
        assert fleet.place.get(instance_id) == running

    async def test_a_new_session_is_not_activated(self, fleet) -> None:
        instance_id = await fleet.create()
        await fleet.look(instance_id)
        await fleet.bootstrap(instance_id)
        fleet.reconciler = fleet.reconciler_over(Interrupted(fleet.place, fleet.take_over))

        with pytest.raises(LeaseLost):
            await fleet.look(instance_id)

        assert await fleet.sessions(instance_id) == [("standby", None)]

    async def test_an_agents_answer_to_an_overtaken_push_is_thrown_away(
        self, fleet, stand_in
    ) -> None:
        instance_id, given = await fleet.run()
        await rename(fleet, instance_id)
        stand_in.meanwhile = fleet.take_over

        with pytest.raises(LeaseLost):
            await fleet.look(instance_id)

        assert (await fleet.config(instance_id))["applied_sha256"] == given.newest.sha256


class TestWatch:
    async def test_a_hint_of_the_place_makes_the_instance_due(
        self, fleet, superuser: asyncpg.Connection
    ) -> None:
        instance_id, _ = await fleet.run()
        hinted = asyncio.Event()
        fleet.parts.house.database.on_hints = lambda _topics: hinted.set()
        watching = asyncio.create_task(fleet.reconciler.watch())
        # The first step of the task is enough to listen.
        await asyncio.wait([watching], timeout=0)

        fleet.place.exit(instance_id)
        async with asyncio.timeout(PATIENCE_S):
            await hinted.wait()

        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert await superuser.fetchval(
            "SELECT due_at <= now() FROM work WHERE kind = 'instance' AND key = $1", instance_id
        )
