"""People who write, steadily and in bursts, and remember what they were told."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from adapters.simulators.wecom import WeCom
from tests.e2e.conftest import Visitor, page_of

# Messages in one breath, and how often somebody has so many.
BURST = 4
_BURSTS = 0.2
# How often somebody who can sends a picture.
_PICTURES = 0.15
_PNG = b"\x89PNG\r\n\x1a\n"


def draw(random: Random) -> bytes:
    """A picture that no other is like, of a few bytes or of several reads."""
    return _PNG + random.randbytes(random.choice([100, 60_000]))


def known_by(body: bytes) -> str:
    """What a picture is called where texts are compared."""
    return f"picture {hashlib.sha256(body).hexdigest()}"


@dataclass
class Member:
    """Somebody on WeCom: what the platform was acknowledged, and what it gave up."""

    wecom: WeCom
    name: str
    said: dict[str, str] = field(default_factory=dict)
    """By message id, as the database must have it."""
    acknowledged: list[str] = field(default_factory=list)

    async def say(self, message_id: str, text: str) -> None:
        self.said[message_id] = text
        if await self.wecom.say(self.name, text, message_id=message_id):
            self.acknowledged.append(message_id)

    async def show(self, message_id: str, body: bytes) -> None:
        self.said[message_id] = known_by(body)
        more = {"PicUrl": "http://pictures", "MediaId": self.wecom.keep("image", body)}
        if await self.wecom.deliver(self.name, "image", more, message_id=message_id):
            self.acknowledged.append(message_id)

    @property
    def told(self) -> list[str]:
        return [self._read(each) for each in self.wecom.seen if each.user == self.name]

    def _read(self, seen: Any) -> str:
        if seen.msgtype == "image":
            return known_by(self.wecom.media[seen.payload["media_id"]].body)
        return str(seen.text)


@dataclass
class Guest:
    """Somebody on the web page, which repeats what was not acknowledged."""

    page: Visitor
    name: str
    said: dict[str, str] = field(default_factory=dict)

    async def say(self, message_id: str, text: str) -> None:
        self.said[message_id] = text
        await self.page.say(message_id, text)

    @property
    def acknowledged(self) -> list[str]:
        return [each for each in self.said if each not in self.page.unacknowledged]

    @property
    def told(self) -> list[str]:
        return self.page.answers


async def write(
    who: Member | Guest,
    texts: Sequence[str],
    random: Random,
    end: asyncio.Event,
    *,
    pause_s: tuple[float, float],
    most: int,
    pictures: float = _PICTURES,
) -> None:
    """Write until the end: mostly one message at a time, now and then several at once."""
    while not end.is_set() and len(who.said) < most:
        for _ in range(BURST if random.random() < _BURSTS else 1):
            message_id = f"{who.name}-{len(who.said)}"
            if isinstance(who, Member) and random.random() < pictures:
                await who.show(message_id, draw(random))
            else:
                await who.say(message_id, random.choice(texts))
        try:
            await asyncio.wait_for(end.wait(), random.uniform(*pause_s))
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
