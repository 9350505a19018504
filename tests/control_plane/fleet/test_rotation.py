"""Secrets between agents and us are replaced: nothing is lost, and nobody is locked out."""

from datetime import timedelta

import httpx2
import msgspec
import pytest

from adapters import standard_webhooks
from control_plane.db.leases import LeaseLost
from control_plane.fleet.plan import SILENT_AFTER
from control_plane.instances.client import AgentRefused
from control_plane.instances.rotation import BOUND, EVERY, GRACE
from control_plane.kit.ids import new_id
from instance_agent.protocol import EventBatch

SECOND = timedelta(seconds=1)


@pytest.fixture
def heard(client: httpx2.AsyncClient, clock, writing):
    """Whether what this secret signs is taken."""

    async def post(instance_id, given, secret: str) -> bool:
        body = msgspec.json.encode(EventBatch(session_id=given.session_id, events=[]))
        headers = standard_webhooks.sign(
            secret,
            message_id=str(new_id()),
            timestamp=int(clock.now().timestamp()),
            body=body,
        )
        answer = await client.post(
            f"/api/v1/instances/{instance_id}/events", content=body, headers=headers
        )
        assert answer.status_code in (202, 401), answer.text
        return answer.status_code == 202

    return post


async def ask(fleet, instance_id) -> None:
    fleet.clock.advance(SECOND)
    answer = await fleet.owner.post(f"/instances/{instance_id}/secrets/rotate")
    assert answer.status_code == 202, answer.text


class TestRotation:
    async def test_asked_for_it_is_done_with_the_next_look_and_once(
        self, fleet, stand_in, heard, superuser
    ) -> None:
        instance_id, given = await fleet.run()
        [old] = given.webhook_secrets
        # The process that hears events remembers the old one for a while.
        assert await heard(instance_id, given, old)
        await ask(fleet, instance_id)
        await fleet.look(instance_id)
        await fleet.look(instance_id)

        [(bearer, renewal)] = stand_in.renewals
        new = renewal.webhook_secrets[0]
        assert bearer == f"Bearer {given.api_token}"
        assert renewal.webhook_secrets == [new, old]
        assert new != old
        fleet.clock.advance(2 * SECOND)
        assert await heard(instance_id, given, new)
        assert await heard(instance_id, given, old)
        fleet.clock.advance(GRACE)
        await fleet.beat(instance_id, given)
        assert await heard(instance_id, given, new)
        assert not await heard(instance_id, given, old)

        await fleet.owner.post(f"/instances/{instance_id}/rollback", {"number": 0})
        await fleet.look(instance_id)
        assert stand_in.updates[-1][0] == f"Bearer {renewal.api_token}"
        actions = await superuser.fetch("SELECT action FROM audit")
        assert "instance.rotate_secrets" in {row["action"] for row in actions}

    async def test_it_comes_by_itself_when_they_are_old(self, fleet, stand_in) -> None:
        instance_id, given = await fleet.run()
        fleet.clock.advance(EVERY + SECOND)
        await fleet.beat(instance_id, given)
        await fleet.look(instance_id)
        assert len(stand_in.renewals) == 1
        await fleet.look(instance_id)
        assert len(stand_in.renewals) == 1

    async def test_who_restarts_often_gets_another_signing_secret_too(
        self, fleet, stand_in, superuser
    ) -> None:
        instance_id, first = await fleet.run()
        await superuser.execute(
            "UPDATE credentials SET created_at = created_at - $1::interval", EVERY + SECOND
        )
        await fleet.owner.post(f"/instances/{instance_id}/restart")
        second = await fleet.bring_up(instance_id)
        assert second.webhook_secrets == first.webhook_secrets
        await fleet.look(instance_id)
        [(_, renewal)] = stand_in.renewals
        assert renewal.webhook_secrets[1:] == first.webhook_secrets


class TestCut:
    async def test_before_the_agent_took_them_the_same_ones_are_sent_again(
        self, fleet, stand_in, heard
    ) -> None:
        instance_id, given = await fleet.run()
        stand_in.renewing = 503
        await ask(fleet, instance_id)
        for _ in range(2):
            with pytest.raises(AgentRefused):
                await fleet.look(instance_id)
            assert await heard(instance_id, given, given.webhook_secrets[0])
        stand_in.renewing = 200
        await fleet.look(instance_id)

        renewals = [renewal for _, renewal in stand_in.renewals]
        assert len(renewals) == 3
        assert renewals[0] == renewals[1] == renewals[2]
        assert {bearer for bearer, _ in stand_in.renewals} == {f"Bearer {given.api_token}"}

    async def test_after_the_agent_took_them_the_same_ones_are_sent_again(
        self, fleet, stand_in, heard
    ) -> None:
        instance_id, given = await fleet.run()
        await ask(fleet, instance_id)
        stand_in.meanwhile = fleet.take_over
        with pytest.raises(LeaseLost):
            await fleet.look(instance_id)
        stand_in.meanwhile = None
        new = stand_in.renewals[0][1].webhook_secrets[0]
        assert await heard(instance_id, given, new)
        await fleet.expire_leases()
        await fleet.look(instance_id)

        assert stand_in.renewals[0] == stand_in.renewals[1]
        assert len(stand_in.renewals) == 2

    async def test_an_agent_that_never_takes_them_is_not_heard_for_ever_and_replaced(
        self, fleet, stand_in, heard, superuser
    ) -> None:
        instance_id, given = await fleet.run()
        first = fleet.place.get(instance_id).ref
        stand_in.renewing = 503
        await ask(fleet, instance_id)
        with pytest.raises(AgentRefused):
            await fleet.look(instance_id)
        await superuser.execute(
            "UPDATE credentials SET expires_at = expires_at - $1::interval", BOUND
        )
        fleet.clock.advance(SILENT_AFTER + SECOND)
        assert not await heard(instance_id, given, given.webhook_secrets[0])
        await fleet.look(instance_id)
        successor = await fleet.bring_up(instance_id)

        assert fleet.place.get(instance_id).ref != first
        assert successor.webhook_secrets == stand_in.renewals[0][1].webhook_secrets[:1]
        assert await heard(instance_id, successor, successor.webhook_secrets[0])

    async def test_an_agent_of_before_is_replaced(self, fleet, stand_in) -> None:
        instance_id, given = await fleet.run()
        first = fleet.place.get(instance_id).ref
        stand_in.renewing = 404
        await ask(fleet, instance_id)
        await fleet.look(instance_id)
        successor = await fleet.bring_up(instance_id)

        assert fleet.place.get(instance_id).ref != first
        assert successor.webhook_secrets[0] not in given.webhook_secrets
        assert successor.api_token != given.api_token
        await fleet.look(instance_id)
        assert len(stand_in.renewals) == 1
