"""A configuration on its way to a running agent."""

import json
from uuid import UUID

import pytest

from control_plane.instances.client import AgentRefused
from instance_agent.document import DocumentError
from instance_agent.protocol import ConfigOutcome


async def rename(fleet, instance_id: UUID) -> None:
    """Something that the agent has to learn: the digest changes."""
    channels = (await fleet.owner.get(f"/instances/{instance_id}/channels")).json()["items"]
    await fleet.owner.patch(f"/channels/{channels[0]['id']}", {"name": "Shop"})


class TestConfiguration:
    async def test_a_change_is_pushed_once(self, fleet, stand_in) -> None:
        instance_id, given = await fleet.run()
        stand_in.updates.clear()

        await rename(fleet, instance_id)
        await fleet.look(instance_id)
        await fleet.look(instance_id)

        [(bearer, update)] = stand_in.updates
        state = await fleet.config(instance_id)
        assert bearer == f"Bearer {given.api_token}"
        assert update.document["channels"][0]["name"] == "Shop"
        assert update.sha256 != given.newest.sha256
        assert {state[name] for name in ("delivered_sha256", "applied_sha256")} == {update.sha256}
        assert await fleet.phase(instance_id) == "running"

    async def test_one_that_needs_a_restart_gets_it(self, fleet, stand_in) -> None:
        instance_id, _ = await fleet.run()
        first = fleet.place.get(instance_id).ref
        stand_in.outcome = ConfigOutcome(outcome="needs_restart", revision=0)

        await rename(fleet, instance_id)
        await fleet.look(instance_id)

        state = await fleet.config(instance_id)
        assert fleet.place.get(instance_id).ref != first
        assert state["pending_restart"] is False
        # Nobody but the tenant asked for it: it is no failure.
        assert (await fleet.condition(instance_id, "WorkloadRunning"))["reason"] == "running"

    async def test_one_that_is_refused_says_where_and_is_not_pushed_again(
        self, fleet, stand_in
    ) -> None:
        instance_id, given = await fleet.run()
        wrong = DocumentError(path="/channels/0", code="bad", message="not so")
        stand_in.outcome = ConfigOutcome(outcome="rejected", revision=0, errors=[wrong])
        stand_in.updates.clear()

        await rename(fleet, instance_id)
        await fleet.look(instance_id)
        await fleet.look(instance_id)

        state = await fleet.config(instance_id)
        assert len(stand_in.updates) == 1
        assert json.loads(state["errors"]) == [
            {"path": "/channels/0", "code": "bad", "message": "not so"}
        ]
        assert state["applied_sha256"] == given.newest.sha256
        assert state["rejected_sha256"] == stand_in.updates[0][1].sha256
        assert await fleet.phase(instance_id) == "degraded"

    async def test_the_next_one_after_a_refused_one_makes_good(self, fleet, stand_in) -> None:
        instance_id, _ = await fleet.run()
        stand_in.outcome = ConfigOutcome(outcome="rejected", revision=0)
        await rename(fleet, instance_id)
        await fleet.look(instance_id)
        written = await fleet.owner.post(
            f"/instances/{instance_id}/revisions", {"document": {"persona": {"name": "Mei"}}}
        )
        assert written.status_code == 201

        stand_in.outcome = ConfigOutcome(outcome="applied", revision=1)
        await fleet.owner.post(f"/revisions/{written.json()['id']}/publish")
        await fleet.look(instance_id)

        state = await fleet.config(instance_id)
        numbers = {name: state[name] for name in ("desired", "delivered", "applied", "last_good")}
        assert set(numbers.values()) == {1}
        assert (state["rejected"], json.loads(state["errors"])) == (None, [])
        assert await fleet.phase(instance_id) == "running"

    async def test_the_same_document_under_a_new_number_is_delivered_too(
        self, fleet, stand_in
    ) -> None:
        instance_id, given = await fleet.run()
        stand_in.outcome = ConfigOutcome(outcome="applied", revision=1)

        await fleet.owner.post(f"/instances/{instance_id}/rollback", {"number": 0})
        await fleet.look(instance_id)

        state = await fleet.config(instance_id)
        assert (state["desired"], state["applied"], state["last_good"]) == (1, 1, 1)
        assert state["applied_sha256"] == given.newest.sha256

    async def test_an_agent_that_cannot_take_it_now_gets_it_later(self, fleet, stand_in) -> None:
        instance_id, _ = await fleet.run()
        stand_in.busy = True
        await rename(fleet, instance_id)
        with pytest.raises(AgentRefused):
            await fleet.look(instance_id)
        between = await fleet.config(instance_id)

        stand_in.busy = False
        await fleet.look(instance_id)

        after = await fleet.config(instance_id)
        assert between["delivered_sha256"] != between["applied_sha256"]
        assert after["delivered_sha256"] == after["applied_sha256"]
