"""What the metrics say of what waits, over all tenants."""

import asyncio

import asyncpg
import pytest
from prometheus_client import REGISTRY

from control_plane.bus.queues import Queues
from control_plane.db.session import Database
from tests.control_plane.conversations.scene import Bot, dead_callback, make_bot

PATIENCE_S = 20.0


def figure(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(f"botyard_{name}", labels)
    assert value is not None
    return value


class TestQueues:
    @pytest.fixture
    async def bots(self, parts, people) -> list[Bot]:
        return [await make_bot(parts, await people.owner()) for _ in range(2)]

    async def test_are_measured_by_depth_and_age(
        self, bots: list[Bot], database: Database, superuser: asyncpg.Connection
    ) -> None:
        for bot in bots:
            conversation = await bot.hears("你好")
            await bot.says(conversation, "一", "二")
            await dead_callback(superuser, bot)
        await superuser.execute(
            "UPDATE deliveries SET created_at = now() - interval '1 hour', state ="
            " CASE number WHEN 2 THEN 'unconfirmed' ELSE state END"
        )
        await superuser.execute(
            "UPDATE work SET due_at = now() - interval '1 minute' WHERE kind = 'lane'"
        )
        queues = Queues(database)

        await queues.measure()

        assert figure("queue_depth", queue="deliveries") == 2
        assert figure("queue_depth", queue="unconfirmed") == 2
        assert figure("queue_depth", queue="dead_callbacks") == 2
        assert figure("queue_depth", queue="callbacks") == 0
        assert figure("queue_oldest_age_seconds", queue="callbacks") == 0
        assert 3600 <= figure("queue_oldest_age_seconds", queue="deliveries") < 3700
        assert figure("work_due", kind="lane") == 2
        assert 60 <= figure("work_oldest_age_seconds", kind="lane") < 160

        await superuser.execute("DELETE FROM work")
        await queues.measure()

        assert figure("work_due", kind="lane") == 0
        assert figure("work_oldest_age_seconds", kind="lane") == 0

    async def test_are_looked_at_until_told_to_stop_whatever_the_database_does(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queues = Queues(database, every_s=0.001)
        looks = 0
        enough = asyncio.Event()

        async def measure() -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                enough.set()
            raise OSError("away")

        monkeypatch.setattr(queues, "measure", measure)
        running = asyncio.create_task(queues.run())
        async with asyncio.timeout(PATIENCE_S):
            await enough.wait()
            queues.stop()
            await running
