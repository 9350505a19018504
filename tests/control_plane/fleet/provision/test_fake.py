"""The fake's own tricks: faults, scripted exits, counted calls."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from control_plane.fleet.provision.base import (
    InstanceSpec,
    Invalid,
    Release,
    Transient,
    WorkloadState,
)
from control_plane.fleet.provision.fake import FakePlace, FakeProvisioner, ScriptedExit

SECOND = timedelta(seconds=1)


@pytest.fixture
def spec():
    return InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=1)


@pytest.fixture
def place(clock):
    return FakePlace(clock)


class TestFaults:
    async def test_strike_the_next_calls_in_order_and_no_others(self, place, spec):
        provisioner = FakeProvisioner(place)
        place.fail("ensure", Transient("busy"), Invalid("never"))
        with pytest.raises(Transient, match="busy"):
            await provisioner.ensure(spec)
        assert place.ids() == []
        with pytest.raises(Invalid, match="never"):
            await provisioner.ensure(spec)
        await provisioner.observe([spec.instance_id])
        assert (await provisioner.ensure(spec)).state is WorkloadState.RUNNING
        assert place.calls == {"ensure": 3, "observe": 1}


class TestReleases:
    async def test_are_remembered_and_a_spoiled_image_ends_each_time(self, place, clock, spec):
        provisioner = FakeProvisioner(place)
        bad = replace(spec, release=Release(number=1, image="bad"))
        place.spoil("bad", ScriptedExit(after=SECOND))
        for _ in range(2):
            await provisioner.ensure(bad)
            assert place.made_of(spec.instance_id) == bad.release
            clock.advance(SECOND)
            seen = (await provisioner.observe([spec.instance_id]))[spec.instance_id]
            assert seen.state is WorkloadState.EXITED
        good = replace(spec, generation=2, release=Release(number=2, image="good"))
        await provisioner.ensure(good)
        clock.advance(SECOND)
        seen = (await provisioner.observe([spec.instance_id]))[spec.instance_id]
        assert (seen.state, place.made_of(spec.instance_id)) == (
            WorkloadState.RUNNING,
            good.release,
        )


class TestScriptedExits:
    async def test_happen_when_their_time_has_come(self, place, clock, spec):
        provisioner = FakeProvisioner(place)
        place.script(spec.instance_id, ScriptedExit(after=2 * SECOND, code=7, lines=("oh",)))
        started = await provisioner.ensure(spec)
        clock.advance(SECOND)
        assert (await provisioner.observe([spec.instance_id])) == {spec.instance_id: started}
        clock.advance(5 * SECOND)
        workload = (await provisioner.observe([spec.instance_id]))[spec.instance_id]
        assert workload.state is WorkloadState.EXITED
        assert workload.exit_code == 7
        assert workload.exited_at == started.started_at + 2 * SECOND
        assert workload.last_lines == ("oh",)

    async def test_strike_one_start_each(self, place, clock, spec):
        provisioner = FakeProvisioner(place)
        place.script(spec.instance_id, *[ScriptedExit(after=SECOND)] * 2)
        states = []
        for _ in range(3):
            await provisioner.ensure(spec)
            clock.advance(SECOND)
            observed = await provisioner.observe([spec.instance_id])
            states.append(observed[spec.instance_id].state)
        assert states == [WorkloadState.EXITED, WorkloadState.EXITED, WorkloadState.RUNNING]

    async def test_hint_when_the_test_lets_time_pass(self, place, clock, spec):
        provisioner = FakeProvisioner(place)
        place.script(spec.instance_id, ScriptedExit(after=SECOND))
        changes = provisioner.changes()
        await provisioner.ensure(spec)
        assert await anext(changes) == spec.instance_id
        clock.advance(SECOND)
        place.advance()
        assert await anext(changes) == spec.instance_id

    async def test_do_not_outlive_their_start(self, place, clock, spec):
        provisioner = FakeProvisioner(place)
        place.script(spec.instance_id, ScriptedExit(after=SECOND))
        await provisioner.ensure(spec)
        await provisioner.stop(spec.instance_id, grace=SECOND)
        await provisioner.ensure(spec)
        clock.advance(SECOND)
        observed = await provisioner.observe([spec.instance_id])
        assert observed[spec.instance_id].state is WorkloadState.RUNNING
