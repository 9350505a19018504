"""What a tenant has left: swept where none of its agents has anything, and an orphan until then."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from control_plane.fleet.orphans import QUARANTINE_AFTER, REMOVE_AFTER, Row, judge
from control_plane.fleet.provision.base import (
    ABSENT,
    SMALLEST,
    InstanceSpec,
    Ownership,
    Provisioner,
    WorkloadState,
)
from control_plane.fleet.provision.kubernetes_manifests import Wish, documents
from control_plane.kit.ids import new_id

PATIENCE_S = 60
GRACE = timedelta(seconds=20)


@pytest.fixture
def spec() -> InstanceSpec:
    some = replace(SMALLEST, bots=5)
    return InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=1, allowance=some)


async def inventory(provisioner: Provisioner) -> list[Ownership]:
    return [owned async for owned in provisioner.inventory()]


async def until_empty(provisioner: Provisioner) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while left := await inventory(provisioner):
            assert len(left) == 1
            await asyncio.sleep(0.2)


class TestSweep:
    async def test_leaves_alone_what_belongs_to_an_agent(self, bench, spec) -> None:
        provisioner = bench.caller()
        await provisioner.ensure(spec)
        before = await bench.settled(provisioner, spec.instance_id)
        for tenant_id in (spec.tenant_id, uuid4()):
            await provisioner.sweep(tenant_id)

        assert await bench.settled(provisioner, spec.instance_id) == before

    async def test_removes_a_namespace_where_nobody_lives(self, pods, spec) -> None:
        provisioner = pods.caller()
        await provisioner._cluster.apply(documents(Wish.of(spec), pods.placement)[0])
        [left] = await inventory(provisioner)
        await provisioner.sweep(spec.tenant_id)
        await until_empty(provisioner)

        assert (left.instance_id, left.tenant_id) == (None, spec.tenant_id)


class TestAnOrphan:
    """The calls that its rounds make, wherever it runs."""

    async def test_is_stopped_and_then_removed_with_all_it_has(self, bench, spec, clock) -> None:
        provisioner = bench.caller()
        await provisioner.ensure(spec)
        await bench.settled(provisioner, spec.instance_id)
        found = await inventory(provisioner)
        others = [Ownership(instance_id=uuid4(), ref="r") for _ in range(9)]
        known = {owned.instance_id: uuid4() for owned in others if owned.instance_id}
        now = clock.now()
        row = Row(
            id=new_id(),
            instance_id=spec.instance_id,
            tenant_id=spec.tenant_id,
            state="reported",
            first_seen_at=now,
            quarantined_at=None,
        )

        def acts(at: timedelta, row: Row) -> tuple[list[UUID | None], list[UUID | None]]:
            verdict = judge([*found, *others], known, [row], now + at)
            return (
                [each.thing for each in verdict.quarantine],
                [each.thing for each in verdict.remove],
            )

        assert acts(QUARANTINE_AFTER, row) == ([spec.instance_id], [])
        await provisioner.stop(spec.instance_id, grace=GRACE)
        stopped = await bench.settled(provisioner, spec.instance_id)
        assert stopped.state == WorkloadState.EXITED
        rested = replace(row, state="quarantined", quarantined_at=now)
        assert acts(REMOVE_AFTER, rested) == ([], [spec.instance_id])
        async with asyncio.timeout(PATIENCE_S):
            while (left := await provisioner.destroy(spec.instance_id)) != ABSENT:
                assert left.waits_for
                await asyncio.sleep(0.2)
        await until_empty(provisioner)


class TestDeletedByTheLoop:
    async def test_leaves_no_account_and_no_namespace(self, fleet, pods) -> None:
        provisioner = pods.caller()
        fleet.reconciler = fleet.reconciler_over(provisioner)
        instance_id = await fleet.create(channel=False)
        await fleet.look(instance_id)
        await pods.settled(provisioner, instance_id)
        await fleet.owner.delete(f"/instances/{instance_id}")
        said = set()
        async with asyncio.timeout(PATIENCE_S):
            while await fleet.look(instance_id) is not None:
                held = await fleet.condition(instance_id, "WorkloadRunning")
                said.add(held["message"].split(" ")[2])
                await asyncio.sleep(0.2)

        # Gone means that nothing is left, and until then it says what it waits for.
        assert await inventory(provisioner) == []
        assert said >= {"pod", "namespace"}
