"""What every provisioner promises, whatever it runs agents on."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from control_plane.fleet.provision.base import (
    ABSENT,
    SMALLEST,
    Allowance,
    InstanceSpec,
    Ownership,
    Provisioner,
    Stale,
    Workload,
    WorkloadState,
)

GRACE = timedelta(seconds=20)
LIVING = {WorkloadState.STARTING, WorkloadState.RUNNING}
PATIENCE_S = 30


@pytest.fixture
def spec() -> InstanceSpec:
    some = replace(SMALLEST, bots=5)
    return InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=3, allowance=some)


async def observed(provisioner: Provisioner, instance_id: UUID) -> Workload:
    return (await provisioner.observe([instance_id]))[instance_id]


async def up(bench, provisioner: Provisioner, spec: InstanceSpec) -> Workload:
    """Ensure it, and what it is once it runs."""
    assert (await provisioner.ensure(spec)).state in LIVING
    return await bench.settled(provisioner, spec.instance_id)


async def down(bench, provisioner: Provisioner, instance_id: UUID) -> Workload:
    """Stop it, and what it is then."""
    await provisioner.stop(instance_id, grace=GRACE)
    return await bench.settled(provisioner, instance_id)


async def gone(provisioner: Provisioner, instance_id: UUID) -> Workload:
    """Destroy it, again and again until nothing is left."""
    async with asyncio.timeout(PATIENCE_S):
        while (workload := await provisioner.destroy(instance_id)) != ABSENT:
            assert workload.waits_for
            await asyncio.sleep(0.2)
    return workload


async def hinted(changes, provisioner: Provisioner, instance_id: UUID, as_expected) -> None:
    """Hints come until this shows; others may come before."""
    async with asyncio.timeout(PATIENCE_S):
        async for hint in changes:
            assert hint == instance_id
            if as_expected(await observed(provisioner, instance_id)):
                return


def ended(workload: Workload) -> bool:
    """By itself, whoever starts it again."""
    return workload.exited_at is not None


async def inventory(provisioner: Provisioner) -> list[Ownership]:
    return sorted(
        [owned async for owned in provisioner.inventory()], key=lambda owned: owned.instance_id
    )


async def log(provisioner: Provisioner, instance_id: UUID, tail: int = 100) -> list[str]:
    return [line async for line in provisioner.logs(instance_id, tail=tail, follow=False)]


class TestEnsure:
    async def test_starts_an_agent(self, bench, clock, spec):
        assert (await bench.caller().ensure(spec)).state in LIVING
        workload = await bench.settled(bench.caller(), spec.instance_id)
        assert workload.state in LIVING
        assert workload.generation == 3
        assert workload.ref
        assert bench.is_now(workload.started_at)
        assert workload.exit_code is None
        assert workload.exited_at is None

    async def test_twice_is_a_no_op(self, bench, spec):
        provisioner = bench.caller()
        assert await up(bench, provisioner, spec) == await up(bench, provisioner, spec)

    async def test_at_once_from_many_callers_starts_one(self, bench, spec):
        callers = [bench.caller() for _ in range(4)]
        workloads = await asyncio.gather(*(up(bench, caller, spec) for caller in callers))
        assert len({workload.ref for workload in workloads}) == 1

    async def test_changes_what_it_may_use(self, bench, spec):
        provisioner = bench.caller()
        first = await up(bench, provisioner, spec)
        more = replace(spec, allowance=Allowance(cpu=500, memory=2**28))
        fitted = await up(bench, provisioner, more)
        assert (fitted.generation, fitted.allowance) == (3, more.allowance)
        assert (fitted.ref == first.ref) is bench.refits_in_place
        assert await observed(bench.caller(), spec.instance_id) == fitted

    async def test_repairs_a_death_from_outside(self, bench, clock, spec):
        provisioner = bench.caller()
        first = await up(bench, provisioner, spec)
        await bench.kill(spec.instance_id)
        dead = await observed(provisioner, spec.instance_id)
        assert (dead.state, dead.ref) == (bench.after_a_death, first.ref)
        assert bench.is_now(dead.exited_at)
        second = await up(bench, provisioner, spec)
        assert second.ref != first.ref

    async def test_replaces_an_older_generation(self, bench, spec):
        provisioner = bench.caller()
        older = await up(bench, provisioner, spec)
        newer = await up(bench, provisioner, replace(spec, generation=4))
        assert newer.generation == 4
        assert newer.ref != older.ref
        assert await observed(provisioner, spec.instance_id) == newer

    async def test_refuses_a_stale_caller(self, bench, spec):
        newer = await up(bench, bench.caller(), replace(spec, generation=4))
        late = bench.caller()
        with pytest.raises(Stale):
            await late.ensure(spec)
        assert await observed(late, spec.instance_id) == newer

    async def test_refuses_a_stale_caller_also_after_the_newer_one_was_stopped(self, bench, spec):
        provisioner = bench.caller()
        await up(bench, provisioner, replace(spec, generation=4))
        await down(bench, provisioner, spec.instance_id)
        with pytest.raises(Stale):
            await provisioner.ensure(spec)


class TestObserve:
    async def test_unknown_ids_are_absent(self, bench, spec):
        provisioner = bench.caller()
        known, unknown = await up(bench, provisioner, spec), uuid4()
        assert await provisioner.observe([spec.instance_id, unknown]) == {
            spec.instance_id: known,
            unknown: ABSENT,
        }

    async def test_shows_how_an_agent_ended(self, bench, spec):
        provisioner = bench.caller()
        await up(bench, provisioner, spec)
        await bench.settled(provisioner, spec.instance_id)
        await bench.say(spec.instance_id, "about to fail")
        await bench.kill(spec.instance_id)
        workload = await observed(provisioner, spec.instance_id)
        assert workload.exit_code == -9
        if bench.has_logs:
            assert workload.last_lines == ("about to fail",)


class TestStop:
    async def test_keeps_what_there_was_and_ensure_starts_again(self, bench, spec):
        provisioner = bench.caller()
        first = await up(bench, provisioner, spec)
        await bench.say(spec.instance_id, "before")
        stopped = await down(bench, provisioner, spec.instance_id)
        assert (stopped.state, stopped.exit_code) == (WorkloadState.EXITED, 0)
        assert await observed(provisioner, spec.instance_id) == stopped
        assert await inventory(provisioner) == [
            Ownership(instance_id=spec.instance_id, ref=first.ref)
        ]
        second = await up(bench, provisioner, spec)
        assert second.state in LIVING
        assert second.ref != first.ref
        if bench.has_logs:
            assert await log(provisioner, spec.instance_id) == ["before"]

    async def test_twice_is_a_no_op(self, bench, spec):
        provisioner = bench.caller()
        await up(bench, provisioner, spec)
        stopped = await down(bench, provisioner, spec.instance_id)
        assert await down(bench, provisioner, spec.instance_id) == stopped

    async def test_of_an_unknown_instance_leaves_nothing(self, bench):
        provisioner = bench.caller()
        assert await down(bench, provisioner, uuid4()) == ABSENT
        assert await inventory(provisioner) == []


class TestDestroy:
    async def test_ends_it_and_leaves_nothing(self, bench, spec):
        provisioner = bench.caller()
        await up(bench, provisioner, spec)
        assert await gone(provisioner, spec.instance_id) == ABSENT
        assert await observed(provisioner, spec.instance_id) == ABSENT
        assert await inventory(provisioner) == []
        assert await log(provisioner, spec.instance_id) == []

    async def test_may_be_repeated(self, bench, spec):
        provisioner = bench.caller()
        await up(bench, provisioner, spec)
        assert await gone(provisioner, spec.instance_id) == ABSENT
        assert await gone(provisioner, spec.instance_id) == ABSENT

    async def test_forgets_the_generation(self, bench, spec):
        provisioner = bench.caller()
        await up(bench, provisioner, spec)
        await gone(provisioner, spec.instance_id)
        workload = await up(bench, provisioner, replace(spec, generation=1))
        assert workload.generation == 1


class TestInventory:
    async def test_lists_exactly_what_exists(self, bench, spec):
        provisioner = bench.caller()
        others = [replace(spec, instance_id=uuid4()) for _ in range(3)]
        workloads = {
            each.instance_id: await up(bench, provisioner, each) for each in [spec, *others]
        }
        await gone(provisioner, spec.instance_id)
        await down(bench, provisioner, others[0].instance_id)
        assert await inventory(bench.caller()) == sorted(
            [
                Ownership(instance_id=each.instance_id, ref=workloads[each.instance_id].ref)
                for each in others
            ],
            key=lambda owned: owned.instance_id,
        )


class TestANewCallerBetweenAnyTwoCalls:
    """Every call comes from a new caller; none before it was closed, as if each had been killed."""

    async def test_converges_to_one_running_agent(self, bench, spec):
        first = await up(bench, bench.caller(), spec)
        assert await up(bench, bench.caller(), spec) == first
        assert await observed(bench.caller(), spec.instance_id) == first
        await bench.kill(spec.instance_id)
        assert (await up(bench, bench.caller(), spec)).ref != first.ref
        newer = await up(bench, bench.caller(), replace(spec, generation=4))
        assert await observed(bench.caller(), spec.instance_id) == newer
        assert (await down(bench, bench.caller(), spec.instance_id)).generation == 4
        again = await up(bench, bench.caller(), replace(spec, generation=4))
        assert again.state in LIVING
        assert await gone(bench.caller(), spec.instance_id) == ABSENT
        assert await inventory(bench.caller()) == []

    async def test_closing_a_caller_leaves_agents_running(self, bench, spec):
        provisioner = bench.caller()
        running = await up(bench, provisioner, spec)
        await provisioner.close()
        assert await observed(bench.caller(), spec.instance_id) == running


class TestChanges:
    async def test_hints_at_starts_and_ends(self, bench, spec):
        provisioner = bench.caller()
        changes = provisioner.changes()
        await up(bench, provisioner, spec)
        await hinted(changes, provisioner, spec.instance_id, lambda seen: seen.state in LIVING)
        await bench.kill(spec.instance_id)
        await hinted(changes, provisioner, spec.instance_id, ended)

    async def test_hints_at_ends_of_what_an_earlier_caller_started(self, bench, spec):
        await up(bench, bench.caller(), spec)
        provisioner = bench.caller()
        changes = provisioner.changes()
        await bench.kill(spec.instance_id)
        await hinted(changes, provisioner, spec.instance_id, ended)

    async def test_ends_when_the_caller_closes(self, bench):
        provisioner = bench.caller()
        changes = provisioner.changes()
        await provisioner.close()
        async with asyncio.timeout(PATIENCE_S):
            assert [hint async for hint in changes] == []


class TestLogs:
    async def test_gives_the_last_lines_in_order(self, telling, spec):
        provisioner = telling.caller()
        await provisioner.ensure(spec)
        for number in range(5):
            await telling.say(spec.instance_id, f"line {number}")
        assert await log(provisioner, spec.instance_id, tail=2) == ["line 3", "line 4"]
        assert await log(provisioner, spec.instance_id, tail=0) == []
        assert len(await log(provisioner, spec.instance_id, tail=100)) == 5

    async def test_follows_until_the_instance_is_destroyed(self, telling, spec):
        provisioner = telling.caller()
        await provisioner.ensure(spec)
        await telling.say(spec.instance_id, "one")
        lines = provisioner.logs(spec.instance_id, tail=10, follow=True)
        async with asyncio.timeout(PATIENCE_S):
            assert await anext(lines) == "one"
            await telling.say(spec.instance_id, "two")
            assert await anext(lines) == "two"
            await provisioner.destroy(spec.instance_id)
            assert [line async for line in lines] == []

    async def test_of_an_unknown_instance_are_empty(self, telling):
        provisioner = telling.caller()
        async with asyncio.timeout(PATIENCE_S):
            lines = provisioner.logs(uuid4(), tail=10, follow=True)
            assert [line async for line in lines] == []
