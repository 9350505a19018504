"""kill -9 between message and answer: the visitor sees every answer exactly once."""

import os
import random
import signal

import pytest

# Kills per victim at a random moment after the message was written.
ROUNDS = 3


async def control_plane(up):
    up.kill()
    await up.start()


async def agent(up):
    for pid in up.agents():
        os.kill(pid, signal.SIGKILL)


async def database(up):
    for pid in up.databases():
        os.kill(pid, signal.SIGKILL)


VICTIMS = pytest.mark.parametrize("victim", [control_plane, agent, database])


def once(visitor, count):
    """Exactly so many answers, none of them twice."""
    ids = [message["id"] for message in visitor.shown]
    return len(visitor.answers) == count and len(set(ids)) == len(ids)


class TestKill:
    @VICTIMS
    async def test_while_the_answer_is_held_up(self, up, visitor, until, victim):
        """The agent is paused, so the kill surely falls between acknowledgement and answer."""
        await visitor.say("0", "你们几点开门？")
        await visitor.sees(lambda page: once(page, 1))
        paused = up.agents()
        assert len(paused) == 1
        os.kill(paused[0], signal.SIGSTOP)
        await visitor.say("1", "你们几点关门？")
        await visitor.sees(lambda page: not page.unacknowledged)
        assert once(visitor, 1)
        await victim(up)
        if victim is not agent:
            os.kill(paused[0], signal.SIGCONT)
        await visitor.sees(lambda page: len(page.answers) >= 2)
        await self._settles(up, visitor, until, 2)
        assert "21:00" in visitor.answers[1]

    @VICTIMS
    async def test_at_random_moments(self, up, visitor, until, victim):
        for count in range(1, ROUNDS + 1):
            await visitor.say(str(count), "你们几点开门？")
            await visitor.lets_pass(random.uniform(0, 0.08))
            await victim(up)
            await visitor.sees(lambda page, count=count: len(page.answers) >= count)
        await self._settles(up, visitor, until, ROUNDS)

    @staticmethod
    async def _settles(up, visitor, until, count):
        """Nothing more is on its way, and all that was shown was shown once."""
        client = await up.sign_in_again()
        item = (await client.get("/conversations")).json()["items"][0]

        async def at_rest():
            thread = (await client.get(f"/conversations/{item['id']}/messages")).json()["items"]
            out = [message["delivery"]["state"] for message in thread if message["delivery"]]
            return out == ["sent"] * count and len(thread) == 2 * count

        await until(at_rest, "one sent answer for each message")
        assert once(visitor, count)
        await until(lambda: one_agent(up), "exactly one agent")


async def one_agent(up):
    return len(up.agents()) == 1
