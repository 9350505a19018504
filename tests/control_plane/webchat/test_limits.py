"""How fast a visitor may write."""

import pytest

from control_plane.access.limits import Rate, Rates
from tests.control_plane.delivery.stand_in import StandIn
from tests.control_plane.webchat.conftest import Open


@pytest.fixture
def rates() -> Rates:
    return Rates(visitor=Rate(2, 3600))


class TestVisitor:
    async def test_who_writes_too_fast_is_told_when_to_repeat_it(
        self, page: Open, agent: StandIn, superuser
    ) -> None:
        async with page() as tab:
            await tab.resume()
            taken = [(await tab.write(str(number)))["type"] for number in range(2)]
            refused = await tab.write("2")

        assert taken == ["ack", "ack"]
        assert (refused["type"], refused["code"], refused["id"]) == ("error", "rate_limited", "2")
        assert 0 < refused["retry_after"] <= 1800
        assert await superuser.fetchval("SELECT count(*) FROM webchat_messages") == 2

    async def test_another_visitor_is_not_held_up(self, page: Open, agent: StandIn) -> None:
        async with page() as one, page() as other:
            await one.resume()
            await other.resume()
            for number in range(3):
                last = await one.write(str(number))

            assert last["type"] == "error"
            assert (await other.write("0"))["type"] == "ack"
