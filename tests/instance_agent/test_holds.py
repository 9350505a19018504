"""An account is held while it is confirmed, and let go before anybody else may have it."""

import asyncio
import contextlib
from uuid import UUID

import pytest

from adapters.base import NotAccepted
from instance_agent.holds import ELSEWHERE, MARGIN_S, Holds
from instance_agent.protocol import LeaseAnswer

CHANNEL, OTHER = UUID(int=1), UUID(int=2)
LIFE_S = 60.0
EVERY_S = 10_000.0


class Control:
    """Answers what the test says, and counts."""

    def __init__(self):
        self.now = 1000.0
        self.state = "held"
        self.calls = []

    async def claim(self, accounts, number):
        self.calls.append((number, set(accounts)))
        if self.state == "away":
            raise NotAccepted("away")
        return LeaseAnswer(accounts=dict.fromkeys(accounts, self.state), life_s=LIFE_S)


@pytest.fixture
def control():
    return Control()


@pytest.fixture
async def holds(control):
    made = Holds(control.claim, every_s=EVERY_S, clock=lambda: control.now)
    keeping = asyncio.create_task(made.keep())
    yield made
    keeping.cancel()


class Holder:
    """An adapter that holds an account until it is told to let go."""

    def __init__(self, holds, channel=CHANNEL):
        self.told, self.has, self.lost = [], asyncio.Event(), asyncio.Event()
        self.heard = asyncio.Event()
        self.task = asyncio.create_task(self._run(holds, channel))

    async def _run(self, holds, channel):
        def told(reason):
            self.told.append(reason)
            self.heard.set()

        async with holds.holding("account", channel, told) as lost:
            self.has.set()
            await lost.wait()
            self.lost.set()

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def again(holds):
    """The next round, at once."""
    holds._wake.set()
    for _ in range(10):
        await asyncio.sleep(0)


async def test_it_is_let_go_in_time_when_nobody_confirms_it(holds, control):
    holder = Holder(holds)
    await holder.has.wait()
    control.state = "away"
    control.now += LIFE_S - MARGIN_S - 1
    await again(holds)
    assert not holder.lost.is_set()
    control.now += 1
    await again(holds)
    assert holder.lost.is_set()


async def test_a_confirmed_one_is_kept(holds, control):
    holder = Holder(holds)
    await holder.has.wait()
    for _ in range(5):
        control.now += LIFE_S - MARGIN_S - 1
        await again(holds)
    assert not holder.lost.is_set()
    await holder.stop()


@pytest.mark.parametrize("state", ["elsewhere", "not_active"])
async def test_one_that_is_another_s_is_let_go_at_once(holds, control, state):
    holder = Holder(holds)
    await holder.has.wait()
    control.state = state
    await again(holds)
    assert holder.lost.is_set()


async def test_who_waits_is_told_once_and_gets_it_later(holds, control):
    control.state = "elsewhere"
    holder = Holder(holds)
    await holder.heard.wait()
    control.state = "held"
    await again(holds)
    await holder.has.wait()
    assert holder.told == [ELSEWHERE, None]
    assert not holder.lost.is_set()
    await holder.stop()


async def test_another_channel_here_waits_until_it_is_really_free(holds, control):
    first = Holder(holds)
    await first.has.wait()
    second = Holder(holds, OTHER)
    await second.heard.wait()
    assert second.told == [ELSEWHERE]
    await first.stop()
    await second.has.wait()
    await second.stop()


async def test_what_is_held_no_more_is_given_back_even_if_it_takes_several_calls(holds, control):
    holder = Holder(holds)
    await holder.has.wait()
    control.state = "away"
    await holder.stop()
    await again(holds)
    control.state = "held"
    await again(holds)
    calls = len(control.calls)
    await again(holds)
    assert control.calls[-1][1] == set()
    assert len(control.calls) == calls
    numbers = [number for number, _ in control.calls]
    assert numbers == sorted(set(numbers))


async def test_nothing_is_asked_where_nothing_is_wanted(holds, control):
    await again(holds)
    await holds.close()
    assert control.calls == []


async def test_who_slept_too_long_may_say_nothing_before_anything_else_happens(holds, control):
    holder = Holder(holds)
    await holder.has.wait()
    assert holds.ours("account")
    # No task has run since: so it is for a process that was paused.
    control.now += LIFE_S
    assert not holds.ours("account")
    await holder.stop()
    assert not holds.ours("account")


async def test_who_slept_too_long_lets_go_before_anybody_answers(control):
    never = asyncio.Event()

    async def claim(accounts, number):
        if number > 1:
            await never.wait()
        return await Control.claim(control, accounts, number)

    made = Holds(claim, every_s=EVERY_S, clock=lambda: control.now)
    keeping = asyncio.create_task(made.keep())
    holder = Holder(made)
    await holder.has.wait()
    control.now += LIFE_S
    await again(made)
    assert holder.lost.is_set()
    keeping.cancel()


async def test_nobody_has_what_was_never_given(holds, control):
    control.state = "elsewhere"
    holder = Holder(holds)
    await holder.heard.wait()
    assert not holds.ours("account")
    await holder.stop()
