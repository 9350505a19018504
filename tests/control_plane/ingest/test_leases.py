"""Accounts that take one connection: one holder at a time, whoever asks and however late."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from control_plane.db.session import Scope
from control_plane.instances import accounts
from control_plane.instances.sessions import activate
from instance_agent.holds import account_key
from instance_agent.protocol import LeaseRequest

ACCOUNT = account_key("telegram", "123:token")


class Asking:
    """An agent that counts its calls."""

    def __init__(self, agent) -> None:
        self.agent, self.number = agent, 0

    async def post(self, *named: str, number: int | None = None, channel: UUID | None = None):
        self.number += 1
        request = LeaseRequest(
            session_id=self.agent.session_id,
            accounts=dict.fromkeys(named, channel or self.agent.channel_id),
            number=number or self.number,
        )
        body = msgspec.json.encode(request)
        return await self.agent.client.post(
            f"/api/v1/instances/{self.agent.instance_id}/leases",
            content=body,
            headers=self.agent.headers(body),
        )

    async def states(self, *named: str, **how) -> dict[str, str]:
        answer = await self.post(*named, **how)
        assert answer.status_code == 200, answer.text
        return answer.json()["accounts"]


@pytest.fixture
async def one(agents, parts) -> Asking:
    return await active(agents, parts)


@pytest.fixture
async def another(agents, parts) -> Asking:
    return await active(agents, parts)


async def active(agents, parts, *, place: str = "") -> Asking:
    agent = await agents.make(place=place)
    async with parts.house.database.session(Scope(tenants=(agent.tenant_id,))) as session:
        await activate(session, instance_id=agent.instance_id, session_id=agent.session_id)
    return Asking(agent)


class TestLease:
    async def test_the_second_tenant_is_told_and_gets_it_when_it_is_given_back(
        self, one, another
    ) -> None:
        assert one.agent.tenant_id != another.agent.tenant_id
        assert await one.states(ACCOUNT) == {ACCOUNT: "held"}
        assert await another.states(ACCOUNT) == {ACCOUNT: "elsewhere"}
        assert await one.states() == {}
        assert await another.states(ACCOUNT) == {ACCOUNT: "held"}
        assert await one.states(ACCOUNT) == {ACCOUNT: "elsewhere"}

    async def test_it_ends_unless_it_is_confirmed(self, one, another, clock) -> None:
        await one.states(ACCOUNT)
        clock.advance(accounts.LIFE - timedelta(seconds=1))
        assert await another.states(ACCOUNT) == {ACCOUNT: "elsewhere"}
        await one.states(ACCOUNT)
        clock.advance(accounts.LIFE - timedelta(seconds=1))
        assert await another.states(ACCOUNT) == {ACCOUNT: "elsewhere"}
        clock.advance(timedelta(seconds=1))
        assert await another.states(ACCOUNT) == {ACCOUNT: "held"}

    async def test_a_call_that_comes_late_undoes_nothing(self, one, another) -> None:
        await one.states(number=1)
        await one.states(ACCOUNT, number=3)
        await one.states(number=2)
        assert await another.states(ACCOUNT) == {ACCOUNT: "elsewhere"}

    async def test_a_session_that_was_replaced_keeps_it_no_longer_than_it_had_it(
        self, one, agents, clock
    ) -> None:
        await one.states(ACCOUNT)
        ghost, one.agent.session_id = one.agent.session_id, await agents.succeed(one.agent)
        assert await one.states(ACCOUNT) == {ACCOUNT: "elsewhere"}
        successors = one.agent.session_id
        one.agent.session_id = ghost
        assert await one.states(ACCOUNT, number=100) == {ACCOUNT: "not_active"}

        clock.advance(accounts.LIFE)
        one.agent.session_id = successors
        assert await one.states(ACCOUNT, number=101) == {ACCOUNT: "held"}
        one.agent.session_id = ghost
        assert await one.states(number=102) == {}
        one.agent.session_id = successors
        assert await one.states(ACCOUNT, number=103) == {ACCOUNT: "held"}

    async def test_a_successor_in_the_same_place_has_it_at_once(self, agents, parts) -> None:
        one = await active(agents, parts, place="folder-1")
        assert await one.states(ACCOUNT) == {ACCOUNT: "held"}
        ghost, successor = one.agent.session_id, await agents.succeed(one.agent, place="folder-1")

        one.agent.session_id = successor
        assert await one.states(ACCOUNT, number=1) == {ACCOUNT: "held"}
        # What the dead one had sent before it died comes late, and takes nothing back.
        one.agent.session_id = ghost
        assert await one.states(ACCOUNT, number=100) == {ACCOUNT: "not_active"}
        assert await one.states(number=101) == {}
        one.agent.session_id = successor
        assert await one.states(ACCOUNT, number=2) == {ACCOUNT: "held"}

    @pytest.mark.parametrize(("place", "next_place"), [("pod-1", "pod-2"), ("", ""), ("pod-1", "")])
    async def test_a_successor_elsewhere_waits_since_the_other_may_be_connected(
        self, agents, parts, clock, place: str, next_place: str
    ) -> None:
        one = await active(agents, parts, place=place)
        await one.states(ACCOUNT)
        one.agent.session_id = await agents.succeed(one.agent, place=next_place)
        assert await one.states(ACCOUNT) == {ACCOUNT: "elsewhere"}
        clock.advance(accounts.LIFE)
        assert await one.states(ACCOUNT) == {ACCOUNT: "held"}

    async def test_another_bot_in_that_place_gets_nothing_of_it(self, agents, parts) -> None:
        one = await active(agents, parts, place="folder-1")
        other = await active(agents, parts, place="folder-1")
        await one.states(ACCOUNT)
        other.agent.session_id = await agents.succeed(other.agent, place="folder-1")
        assert await other.states(ACCOUNT) == {ACCOUNT: "elsewhere"}
        assert await one.states(ACCOUNT) == {ACCOUNT: "held"}

    async def test_only_for_channels_of_its_own(self, one, another) -> None:
        foreign = another.agent.channel_id
        assert await one.states(ACCOUNT, channel=foreign) == {ACCOUNT: "elsewhere"}
        assert await another.states(ACCOUNT) == {ACCOUNT: "held"}

    async def test_what_ended_leaves_no_row(self, one, clock, superuser) -> None:
        names = [account_key("telegram", str(n)) for n in range(50)]
        await one.states(*names)
        clock.advance(accounts.LIFE)
        await one.states(ACCOUNT)
        count = await superuser.fetchval("SELECT count(*) FROM credentials WHERE kind = 'account'")
        assert count == 1

    @pytest.mark.parametrize("named", [["not hex"], ["ab"], [f"{n:064x}" for n in range(51)]])
    async def test_what_names_no_account_is_refused(self, one, named) -> None:
        answer = await one.post(*named)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")

    async def test_and_what_is_not_signed(self, one) -> None:
        one.agent.secret = "whsec_" + "A" * 44
        assert (await one.post(ACCOUNT)).status_code == 401
