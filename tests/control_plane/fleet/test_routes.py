"""The end of an agent's log, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from control_plane.fleet.provision.fake import FakePlace, FakeProvisioner
from control_plane.fleet.routes import MAX_TAIL

PATIENCE_S = 20.0
"""Longest wait for something that must happen."""


class Telling(FakeProvisioner):
    """Tells the test which lines it has handed out."""

    def __init__(self, place: FakePlace) -> None:
        super().__init__(place)
        self._told: asyncio.Queue[str] = asyncio.Queue()

    async def logs(self, instance_id: UUID, *, tail: int, follow: bool) -> AsyncIterator[str]:
        async for line in super().logs(instance_id, tail=tail, follow=follow):
            self._told.put_nowait(line)
            yield line

    async def told(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            return await self._told.get()


@pytest.fixture
def provisioner(fleet, app) -> Telling:
    app.app.state.provisioner = Telling(fleet.place)
    return app.app.state.provisioner


@pytest.fixture
async def instance_id(fleet) -> UUID:
    instance_id = await fleet.create()
    await fleet.look(instance_id)
    for line in ("one", "two", "三"):
        fleet.place.say(instance_id, line)
    return instance_id


class TestLogs:
    async def test_has_the_last_lines(self, fleet, provisioner, instance_id: UUID) -> None:
        path = f"/instances/{instance_id}/logs"

        whole = await fleet.owner.get(path)
        tail = await fleet.owner.get(path, params={"tail": 2})

        assert whole.json() == {"lines": ["one", "two", "三"]}
        assert tail.json() == {"lines": ["two", "三"]}

    async def test_follows_until_the_agent_is_gone(
        self, fleet, provisioner, instance_id: UUID
    ) -> None:
        answer = asyncio.create_task(
            fleet.owner.get(f"/instances/{instance_id}/logs", params={"tail": 1, "follow": True})
        )
        assert await provisioner.told() == "三"
        fleet.place.say(instance_id, 'a "quoted" line')
        await provisioner.told()
        fleet.place.remove(instance_id)

        async with asyncio.timeout(PATIENCE_S):
            lines = (await answer).text.splitlines()
        assert [json.loads(line) for line in lines if line] == ["三", 'a "quoted" line']

    async def test_one_that_never_started_has_none(self, fleet, provisioner) -> None:
        answer = await fleet.owner.get(f"/instances/{await fleet.create()}/logs")

        assert answer.json() == {"lines": []}

    async def test_somebody_elses_log_is_not_there(
        self, people, provisioner, instance_id: UUID
    ) -> None:
        answer = await (await people.owner()).get(f"/instances/{instance_id}/logs")

        assert (answer.status_code, answer.json()["code"]) == (404, "instance_not_found")

    @pytest.mark.parametrize("tail", [0, MAX_TAIL + 1, "all"])
    async def test_a_tail_has_bounds(self, fleet, provisioner, instance_id: UUID, tail) -> None:
        answer = await fleet.owner.get(f"/instances/{instance_id}/logs", params={"tail": tail})

        assert answer.status_code == 422

    async def test_a_process_without_bots_says_so(self, fleet, instance_id: UUID) -> None:
        answer = await fleet.owner.get(f"/instances/{instance_id}/logs")

        assert (answer.status_code, answer.json()["code"]) == (503, "logs_elsewhere")
