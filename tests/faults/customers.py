"""People who write, steadily and in bursts, and remember what they were told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from adapters.simulators.wecom import PER_MINUTE, WeCom
from tests.e2e.conftest import Visitor, page_of

# Between messages of one person, and how many come in one breath.
PAUSE_S = (0.3, 2.5)
BURST = 4
# What one person writes in a minute: beyond its limit the platform drops answers in silence.
MAX_SAID = PER_MINUTE - BURST


@dataclass
class Member:
    """Somebody on WeCom: what the platform was acknowledged, and what it gave up."""

    wecom: WeCom
    name: str
    said: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    async def say(self, message_id: str, text: str) -> None:
        self.said.append(message_id)
        if await self.wecom.say(self.name, text, message_id=message_id):
            self.acknowledged.append(message_id)

    @property
    def told(self) -> list[str]:
        return self.wecom.told(self.name)


@dataclass
class Guest:
    """Somebody on the web page, which repeats what was not acknowledged."""

    page: Visitor
    name: str
    said: list[str] = field(default_factory=list)

    async def say(self, message_id: str, text: str) -> None:
        self.said.append(message_id)
        await self.page.say(message_id, text)

    @property
    def acknowledged(self) -> list[str]:
        return [each for each in self.said if each not in self.page.unacknowledged]

    @property
    def told(self) -> list[str]:
        return self.page.answers


async def write(who: Member | Guest, texts: list[str], random: Random, end: asyncio.Event) -> None:
    """Write until the end: mostly one message at a time, now and then several at once."""
    while not end.is_set() and len(who.said) < MAX_SAID:
        for _ in range(BURST if random.random() < 0.2 else 1):
            await who.say(f"{who.name}-{len(who.said)}", random.choice(texts))
        try:
            await asyncio.wait_for(end.wait(), random.uniform(*PAUSE_S))
        except TimeoutError:
            continue


@asynccontextmanager
async def guests(webchat_url: str, count: int) -> AsyncIterator[list[Guest]]:
    """People with the page open."""
    pages = [page_of(webchat_url) for _ in range(count)]
    opened = [await page.__aenter__() for page in pages]
    try:
        yield [Guest(page, f"guest{number}") for number, page in enumerate(opened)]
    finally:
        for page in pages:
            await page.__aexit__(None, None, None)
