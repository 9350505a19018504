import asyncio

import pytest

from instance_agent.gate import Gate
from instance_agent.problems import Refusal


class TestGate:
    async def test_closing_waits_for_who_is_inside_and_lets_nobody_in(self):
        gate = Gate()
        with gate:
            closing = asyncio.create_task(gate.close(10))
            await asyncio.sleep(0)
            with pytest.raises(Refusal) as refused, gate:
                pass
            assert refused.value.code == "draining"
            assert not closing.done()
        assert await closing is True

    async def test_an_error_inside_leaves_like_everybody(self):
        gate = Gate()
        with pytest.raises(ValueError, match="inside"), gate:
            raise ValueError("inside")
        assert await gate.close(10) is True

    async def test_it_does_not_wait_for_ever(self):
        gate = Gate()
        with gate:
            assert await gate.close(0) is False
