"""Orphans: what runs and no row wants is found, left alone for a while, and goes in the end."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from msgspec import structs
from structlog.testing import capture_logs

from control_plane.db import leases
from control_plane.db.leases import Lease, LeaseLost
from control_plane.db.session import Scope
from control_plane.fleet import orphans
from control_plane.fleet.orphans import (
    ACTS,
    BELIEVED,
    QUARANTINE_AFTER,
    REMOVE_AFTER,
    Orphans,
    Row,
    Verdict,
    judge,
)
from control_plane.fleet.provision.base import (
    SMALLEST,
    InstanceSpec,
    Ownership,
    Provisioner,
    Transient,
    WorkloadState,
)
from control_plane.fleet.provision.fake import FakeProvisioner
from control_plane.fleet.upkeep import WORK as LEADER
from control_plane.kit.ids import new_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=1)
HOUR = timedelta(hours=1)
TENANT = UUID(int=1000)


def things(count: int, start: int = 0) -> list[Ownership]:
    return [Ownership(instance_id=UUID(int=n + 1), ref="r") for n in range(start, start + count)]


def knows(found: list[Ownership]) -> dict[UUID, UUID]:
    return {owned.instance_id: TENANT for owned in found if owned.instance_id is not None}


def row(owned: Ownership, *, age: timedelta, rested: timedelta | None = None) -> Row:
    return Row(
        id=new_id(),
        instance_id=owned.instance_id,
        tenant_id=owned.tenant_id,
        state="quarantined" if rested is not None else "reported",
        first_seen_at=NOW - age,
        quarantined_at=NOW - rested if rested is not None else None,
    )


class TestJudge:
    FOUND = things(20)
    KNOWN = knows(FOUND[1:])
    STRANGE = FOUND[0]

    def test_what_is_known_is_none(self) -> None:
        assert judge(self.FOUND, knows(self.FOUND), [], NOW) == Verdict()

    def test_the_first_sight_is_only_a_report(self) -> None:
        verdict = judge(self.FOUND, self.KNOWN, [], NOW)

        assert verdict == Verdict(new=(self.STRANGE,))

    @pytest.mark.parametrize(
        ("age", "rested", "acts"),
        [
            (QUARANTINE_AFTER - TICK, None, ""),
            (QUARANTINE_AFTER, None, "quarantine"),
            (REMOVE_AFTER * 2, REMOVE_AFTER - TICK, ""),
            (REMOVE_AFTER * 2, REMOVE_AFTER, "remove"),
        ],
    )
    def test_time_goes_by_before_anything_happens(
        self, age: timedelta, rested: timedelta | None, acts: str
    ) -> None:
        known = row(self.STRANGE, age=age, rested=rested)
        verdict = judge(self.FOUND, self.KNOWN, [known], NOW)

        assert (verdict.seen, verdict.new) == ((known,), ())
        assert (verdict.quarantine, verdict.remove) == (
            (known,) if acts == "quarantine" else (),
            (known,) if acts == "remove" else (),
        )

    def test_what_is_not_there_any_more_is_forgotten(self) -> None:
        known = row(self.STRANGE, age=REMOVE_AFTER * 9)
        verdict = judge(self.FOUND[1:], self.KNOWN, [known], NOW)

        assert verdict == Verdict(gone=(known,))

    def test_what_a_tenant_left_is_one_while_it_has_no_agent_here(self) -> None:
        left = Ownership(instance_id=None, ref=None, tenant_id=UUID(int=7))
        found = [*self.FOUND, left]
        known = knows(self.FOUND)

        assert judge(found, known, [], NOW).new == (left,)
        assert judge(found, known | {UUID(int=99): UUID(int=7)}, [], NOW) == Verdict()

    @pytest.mark.parametrize("total", [1, 2, 10, 100, 1000])
    def test_a_database_that_knows_nothing_wipes_nothing(self, total: int) -> None:
        found = things(total)
        rows = [row(owned, age=REMOVE_AFTER * 9, rested=REMOVE_AFTER * 9) for owned in found]
        verdict = judge(found, {}, rows, NOW)

        assert verdict.doubted
        assert (verdict.quarantine, verdict.remove) == ((), ())
        assert len(verdict.seen) == total

    def test_one_that_was_restored_from_long_ago_wipes_nothing(self) -> None:
        found = things(100)
        more = int(100 * BELIEVED) + 1
        rows = [row(owned, age=REMOVE_AFTER) for owned in found[:more]]

        assert judge(found, knows(found[more:]), rows, NOW).doubted
        assert not judge(found, knows(found[more - 1 :]), rows[:-1], NOW).doubted

    def test_a_round_ends_only_a_share(self) -> None:
        found = things(100)
        rows = [row(owned, age=QUARANTINE_AFTER) for owned in found[:15]]
        rows[0] = row(found[0], age=REMOVE_AFTER * 2, rested=REMOVE_AFTER)
        verdict = judge(found, knows(found[15:]), rows, NOW)

        assert verdict.remove == (rows[0],)
        assert len(verdict.quarantine) + len(verdict.remove) == 100 * ACTS


class Rounds:
    """The rounds of one cell, whenever the test says."""

    def __init__(self, fleet, provisioner: Provisioner, *, cell: str = "") -> None:
        self.fleet = fleet
        self.cell = cell
        self.database = fleet.parts.house.database
        self.orphans = Orphans(self.database, fleet.clock, provisioner=provisioner, cell=cell)

    async def lease(self) -> Lease:
        """The leader has the cells look, this one takes its own."""
        async with self.database.session() as session:
            await leases.call_key(session, LEADER, UUID(int=1))
            [leader] = await leases.claim(session, LEADER, owner="t", limit=1, lease=HOUR)
        await self.orphans.call(leader)
        async with self.database.session() as session:
            await leases.finish(session, leader, again_after=timedelta(0))
            [mine] = await leases.claim(
                session, orphans.WORK, owner="t", limit=9, lease=HOUR, cell=self.cell
            )
        return mine

    async def round(self, *, later: timedelta = timedelta(0)) -> list[tuple]:
        """(what, state) of all orphans after one round."""
        self.fleet.clock.advance(later)
        lease = await self.lease()
        assert await self.orphans.look(lease) is None
        async with self.database.session() as session:
            await leases.finish(session, lease, again_after=None)
        async with self.database.session(Scope(operator=True)) as session:
            rows = await orphans.listed(session)
        return [(row["instance_id"] or row["tenant_id"], row["state"]) for row in rows]


@pytest.fixture
def rounds(fleet) -> Rounds:
    return Rounds(fleet, FakeProvisioner(fleet.place))


async def stray(fleet, provisioner: Provisioner, *, beside: int = 4) -> UUID:
    """An agent that no row wants, among others that are wanted."""
    for _ in range(beside):
        instance_id = await fleet.create(channel=False)
        await fleet.look(instance_id)
    spec = InstanceSpec(
        instance_id=new_id(), tenant_id=fleet.owner.tenant_id, generation=1, allowance=SMALLEST
    )
    await provisioner.ensure(spec)
    return spec.instance_id


class TestRounds:
    async def test_an_orphan_is_reported_put_to_rest_and_removed(
        self, fleet, rounds, superuser: asyncpg.Connection
    ) -> None:
        lost = await stray(fleet, FakeProvisioner(fleet.place))
        before = fleet.place.ids()
        states, running = [], []
        for later in (timedelta(0), QUARANTINE_AFTER, HOUR, REMOVE_AFTER, HOUR):
            states.append(await rounds.round(later=later))
            running.append(fleet.place.get(lost).state)

        assert states == [
            [(lost, "reported")],
            [(lost, "quarantined")],
            [(lost, "quarantined")],
            [(lost, "removed")],
            [],
        ]
        up, down, away = WorkloadState.RUNNING, WorkloadState.EXITED, WorkloadState.ABSENT
        assert running == [up, down, down, away, away]
        # Those that are wanted were never touched.
        assert fleet.place.ids() == [each for each in before if each != lost]
        assert {fleet.place.get(each).state for each in fleet.place.ids()} == {up}
        told = await superuser.fetch(
            "SELECT action, target_id FROM audit WHERE action LIKE 'orphan.%' ORDER BY seq"
        )
        assert [tuple(row) for row in told] == [
            ("orphan.quarantine", lost),
            ("orphan.remove", lost),
        ]

    async def test_one_whose_row_is_deleted_loses_its_session(
        self, fleet, rounds, superuser: asyncpg.Connection
    ) -> None:
        await stray(fleet, FakeProvisioner(fleet.place))
        instance_id, _ = await fleet.run()
        await superuser.execute("UPDATE instances SET phase = 'deleted' WHERE id = $1", instance_id)
        # Both are strange among six: more than is believed.
        for _ in range(4):
            await fleet.look(await fleet.create(channel=False))
        await rounds.round()
        await rounds.round(later=QUARANTINE_AFTER)
        await rounds.round()

        assert await fleet.sessions(instance_id) == [("ended", 1)]

    async def test_one_that_lives_in_another_cell_keeps_its_session(
        self, fleet, rounds, superuser: asyncpg.Connection
    ) -> None:
        await stray(fleet, FakeProvisioner(fleet.place), beside=8)
        instance_id, _ = await fleet.run()
        await superuser.execute("UPDATE instances SET cell = 'eu' WHERE id = $1", instance_id)
        await rounds.round()
        await rounds.round(later=QUARANTINE_AFTER)
        await rounds.round()

        assert fleet.place.get(instance_id).state == WorkloadState.EXITED
        assert await fleet.sessions(instance_id) == [("active", 1)]

    async def test_what_a_tenant_left_is_swept(self, fleet, rounds) -> None:
        await stray(fleet, FakeProvisioner(fleet.place), beside=8)
        left = new_id()
        fleet.place.leave(left)
        fleet.place.leave(fleet.owner.tenant_id)
        await rounds.round()
        await rounds.round(later=QUARANTINE_AFTER)
        await rounds.round()
        await rounds.round(later=REMOVE_AFTER)
        await rounds.round()

        # The other tenant has agents here: nothing of it is an orphan.
        assert fleet.place.leftovers() == [fleet.owner.tenant_id]

    async def test_a_database_that_is_not_ours_wipes_nothing_and_says_so_loudly(
        self, fleet, rounds, superuser: asyncpg.Connection
    ) -> None:
        for _ in range(3):
            await fleet.run(channel=False)
        running = {each: fleet.place.get(each) for each in fleet.place.ids()}
        await superuser.execute("UPDATE instances SET phase = 'deleted'")
        with capture_logs() as lines:
            for later in (timedelta(0), QUARANTINE_AFTER, REMOVE_AFTER):
                found = await rounds.round(later=later)

        assert [state for _, state in found] == ["reported"] * 3
        assert {each: fleet.place.get(each) for each in fleet.place.ids()} == running
        loud = [line for line in lines if line["log_level"] == "error"]
        assert [(line["exists"], line["unknown"]) for line in loud] == [(3, 3)] * 3

    async def test_what_cannot_be_ended_now_is_tried_again(self, fleet, rounds) -> None:
        lost = await stray(fleet, FakeProvisioner(fleet.place))
        await rounds.round()
        fleet.place.fail("stop", Transient("busy"))

        assert await rounds.round(later=QUARANTINE_AFTER) == [(lost, "reported")]
        assert await rounds.round() == [(lost, "quarantined")]

    async def test_one_that_was_overtaken_writes_nothing(
        self, fleet, rounds, superuser: asyncpg.Connection
    ) -> None:
        await stray(fleet, FakeProvisioner(fleet.place))
        lease = await rounds.lease()

        with pytest.raises(LeaseLost):
            await rounds.orphans.look(structs.replace(lease, token=new_id()))

        assert await superuser.fetchval("SELECT count(*) FROM orphans") == 0

    async def test_every_cell_looks_at_its_own(self, fleet, superuser: asyncpg.Connection) -> None:
        instance_id = await fleet.create(channel=False)
        await superuser.execute("UPDATE instances SET cell = 'eu' WHERE id = $1", instance_id)
        await Rounds(fleet, FakeProvisioner(fleet.place)).lease()

        called = await superuser.fetch("SELECT cell FROM work WHERE kind = 'orphans' ORDER BY cell")
        assert [row["cell"] for row in called] == ["", "eu"]

    async def test_a_tenant_sees_none_of_it(self, fleet, rounds) -> None:
        await stray(fleet, FakeProvisioner(fleet.place))
        await rounds.round()
        async with fleet.parts.house.database.session(
            Scope(tenants=(fleet.owner.tenant_id,))
        ) as session:
            assert await orphans.listed(session) == []
