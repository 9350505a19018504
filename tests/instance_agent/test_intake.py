import asyncio

import pytest

from adapters.base import NotAccepted
from instance_agent import intake as module
from instance_agent.positions import MAX_VALUE, Position
from tests.instance_agent.intake_world import CHANNEL, World, inbound


@pytest.fixture
async def world():
    made = World("repeating")
    await made.start()
    yield made
    await made.close()


async def take(world, rule, *numbers, position=None):
    await world.intake.take(
        CHANNEL, rule, [inbound(number) for number in numbers], position=position
    )


def named(world):
    return world.checkpoints.get(str(CHANNEL))


class TestStored:
    async def test_is_safe_when_the_control_plane_has_it_and_never_before(self, world):
        await take(world, "stored", 1)
        assert world.stored == [1]
        world.mode = "away"
        with pytest.raises(NotAccepted):
            await take(world, "stored", 2)
        assert await world.waiting() == set()

    async def test_the_position_goes_up_with_the_messages(self, world):
        await take(world, "stored", 1, 2, position="cursor-2")
        assert named(world) == Position(1, "cursor-2").checkpoint
        assert world.intake.resume(CHANNEL) == "cursor-2"
        assert world.intake.checkpoints() == {}

    async def test_a_page_longer_than_a_batch_names_it_with_its_last_piece(
        self, world, monkeypatch
    ):
        monkeypatch.setattr(module, "MAX_BATCH_EVENTS", 2)
        seen = []
        report = world.reporter.report_now

        async def report_now(events, *, keys, checkpoints):
            seen.append((len(events), dict(checkpoints)))
            await report(events, keys=keys, checkpoints=checkpoints)

        monkeypatch.setattr(world.reporter, "report_now", report_now)
        await take(world, "stored", 1, 2, 3, position="x")
        assert seen == [(2, {}), (1, {str(CHANNEL): Position(1, "x").checkpoint})]

    async def test_a_page_without_messages_moves_it_too_and_a_heartbeat_names_it(self, world):
        await take(world, "stored", position="cursor-1")
        assert world.intake.resume(CHANNEL) == "cursor-1"
        due = world.intake.checkpoints()
        assert due == {str(CHANNEL): Position(1, "cursor-1").checkpoint}
        world.intake.told(due)
        assert world.intake.checkpoints() == {}

    async def test_the_same_position_again_is_no_news(self, world):
        await take(world, "stored", 1, position="x")
        await take(world, "stored", position="x")
        assert world.intake.checkpoints() == {}


class TestKept:
    async def test_goes_to_the_disk_when_the_control_plane_is_away(self, world):
        world.mode = "away"
        await take(world, "kept", 1, position="1")
        assert (world.stored, await world.waiting()) == ([], {1})
        assert world.intake.resume(CHANNEL) == "1"

    async def test_overtakes_nothing_that_waits_on_the_disk(self, world):
        world.mode = "away"
        await take(world, "kept", 1)
        world.mode = "up"
        await take(world, "kept", 3)
        assert (world.stored, await world.waiting()) == ([], {1, 3})
        await world.post_spool()
        await take(world, "kept", 5)
        assert world.stored == [1, 3, 5]

    async def test_the_position_is_named_above_only_once_the_spool_is_there(self, world):
        world.mode = "away"
        await take(world, "kept", 1, position="1")
        assert world.intake.checkpoints() == {}
        world.mode = "up"
        await world.post_spool()
        assert world.intake.checkpoints() == {str(CHANNEL): Position(1, "1").checkpoint}


class TestSpooled:
    async def test_is_on_the_disk_before_anything_else(self, world):
        await take(world, "spooled", 1)
        assert (world.stored, await world.waiting()) == ([], {1})

    async def test_a_full_spool_accepts_no_more(self, world):
        world.spool.max_bytes = 10
        with pytest.raises(NotAccepted, match="full"):
            await take(world, "spooled", 1, position="1")
        assert world.intake.resume(CHANNEL) is None


class TestLine:
    async def test_what_comes_together_goes_up_together_and_in_order(self, world):
        await asyncio.gather(*(take(world, "stored", n, position=str(n)) for n in range(1, 6)))
        assert world.stored == [1, 2, 3, 4, 5]
        assert named(world) == Position(1, "5").checkpoint

    async def test_what_is_refused_takes_all_behind_it_along_until_we_resume(self, world):
        world.mode = "away"
        results = await asyncio.gather(
            *(take(world, "stored", n, position=str(n)) for n in (1, 2)), return_exceptions=True
        )
        assert [type(result) for result in results] == [NotAccepted, NotAccepted]
        world.mode = "up"
        with pytest.raises(NotAccepted, match="what came before"):
            await take(world, "stored", 3, position="3")
        assert world.intake.resume(CHANNEL) is None
        await take(world, "stored", 1, position="1")
        assert world.intake.resume(CHANNEL) == "1"

    @pytest.mark.parametrize("value", ["\0", "x" * (MAX_VALUE + 1)])
    async def test_a_position_that_cannot_be_kept_is_refused(self, world, value):
        with pytest.raises(NotAccepted, match="no position"):
            await take(world, "stored", 1, position=value)
        assert world.stored == []

    async def test_is_bounded(self, world, monkeypatch):
        monkeypatch.setattr(module, "MAX_WAITING", 0)
        with pytest.raises(NotAccepted, match="too many"):
            await take(world, "kept", 1)

    async def test_closing_waits_for_what_is_on_its_way(self, world):
        taking = asyncio.create_task(take(world, "kept", 1))
        await asyncio.sleep(0)
        await world.intake.close()
        await taking
        assert world.stored == [1]

    async def test_a_disk_that_fails_does_not_undo_what_is_stored(self, world, monkeypatch):
        def keep(disk, channel_id, position):
            disk.execute("INSERT INTO nowhere VALUES (1)")

        monkeypatch.setattr(module.positions, "keep", keep)
        await take(world, "stored", 1, position="1")
        assert (world.stored, world.intake.resume(CHANNEL)) == ([1], "1")


class TestSuccessor:
    async def test_goes_on_where_the_disk_says(self, world):
        world.mode = "away"
        await take(world, "kept", 1, position="1")
        await world.restart(lose_disk=False)
        assert world.intake.resume(CHANNEL) == "1"

    async def test_on_a_new_disk_goes_on_where_the_control_plane_says(self, world):
        await take(world, "kept", 1, position="1")
        world.mode = "away"
        await take(world, "kept", 3, position="3")
        await world.restart(lose_disk=True)
        assert world.intake.resume(CHANNEL) == "1"
