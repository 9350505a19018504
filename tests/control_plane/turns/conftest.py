"""A bot that knows some answers, and the worker of its turns."""

import pytest

from control_plane.turns import worker as turns
from control_plane.turns.worker import Turns
from tests.control_plane.conversations.scene import Bot, Worker, make_bot

ANSWERS = {
    "你们几点开门？": "九点开门。",
    "你们几点关门？": "九点关门。",
    "你们在哪里？": "人民路 88 号。",
    "怎么退货？": "24 小时内联系我们。",
    "Do you deliver?": "Yes, within two hours.",
}


@pytest.fixture
async def bot(parts, people) -> Bot:
    bot = await make_bot(parts, await people.owner())
    items = [{"question": question, "answer": answer} for question, answer in ANSWERS.items()]
    assert (await bot.owner.call("PUT", "/answers", json={"items": items})).status_code == 200
    return bot


@pytest.fixture
def turning(parts) -> Turns:
    return Turns(parts.house.database, parts.house.keys, parts.house.clock, parts.agents)


@pytest.fixture
def worker(parts, turning: Turns) -> Worker:
    return Worker(parts.house.database, turns.WORK, turning.run)
