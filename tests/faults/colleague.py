"""Somebody who takes conversations over in the middle, answers, and gives them back."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import httpx2

from control_plane.kit.ids import new_token
from tests.faults.customers import draw, known_by
from tests.faults.installation import BOSS, Installation, sign_in

# Tries of one request, a moment apart: whoever is told nothing asks again.
_TRIES = 60
_MOMENT_S = 0.5
_AT_ONCE = 4
"""How many conversations they look after at the same time."""


class NotDone(Exception):
    """The answer was no."""


@dataclass
class Colleague:
    """What they wrote, and which of it was taken."""

    house: Installation
    http: httpx2.AsyncClient
    random: Random
    pause_s: tuple[float, float]
    """Between two things that they do."""
    said: dict[str, bool] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    async def work(self, end: asyncio.Event) -> None:
        """Until the end; what was taken over last may not have been given back."""
        async with asyncio.TaskGroup() as group:
            for hand in range(_AT_ONCE):
                group.create_task(self._look_after(hand, Random(self.random.random()), end))

    async def give_everything_back(self) -> None:
        for found in await self._conversations():
            if found["owner"] != "bot":
                await self._ask("POST", f"/conversations/{found['id']}/hand-back")

    async def _look_after(self, hand: int, random: Random, end: asyncio.Event) -> None:
        while not end.is_set():
            try:
                await self._one(hand, random, end)
            except NotDone:
                self.counts["refused"] += 1
            await self._pause(random, end)

    async def _one(self, hand: int, random: Random, end: asyncio.Event) -> None:
        every = await self._conversations()
        mine = [each for each in every if UUID(each["id"]).int % _AT_ONCE == hand]
        if not mine:
            return
        chosen = random.choice(mine)
        path = f"/conversations/{chosen['id']}"
        await self._ask("POST", f"{path}/take-over")
        self.counts["taken over"] += 1
        for _ in range(random.randint(0, 2)):
            await self._pause(random, end)
            await self._answer(chosen, random)
        await self._pause(random, end)
        await self._ask("POST", f"{path}/hand-back")
        self.counts["given back"] += 1

    async def _answer(self, chosen: dict[str, Any], random: Random) -> None:
        said = f"我是客服 {len(self.said)}。"
        segment: dict[str, Any] = {"type": "text", "text": said}
        if chosen["channel_id"] == self.house.channels["wecom"] and random.random() < 0.4:
            body = draw(random)
            said, segment = known_by(body), await self._upload(body)
        self.said[said] = False
        await self._ask("POST", f"/conversations/{chosen['id']}/messages", {"segments": [segment]})
        self.said[said] = True

    async def _upload(self, body: bytes) -> dict[str, Any]:
        room = await self._ask("POST", "/media", {"size": len(body), "name": "a.png"})
        await self._ask("PUT", self.house.public_url + room["upload_url"], body)
        return {"type": "image", "ref": {"via": "media", "id": room["media_id"]}}

    async def _conversations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._ask("GET", "/conversations?limit=200"))["items"]
        return found

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask until there is an answer, under one key; raises NotDone for a no."""
        headers = {"idempotency-key": new_token()} if method == "POST" else {}
        how = {"content": body} if isinstance(body, bytes) else {"json": body}
        for _ in range(_TRIES):
            try:
                answer = await self.http.request(method, path, headers=headers, **how)
                if answer.status_code == 401:
                    # A clock that was set may have ended the token.
                    await sign_in(self.http, BOSS)
                elif answer.status_code < 300:
                    return answer.json()
                elif answer.status_code in (403, 404, 409, 422):
                    raise NotDone(answer.text)
            except httpx2.HTTPError:
                self.counts["asked again"] += 1
            await asyncio.sleep(_MOMENT_S)
        raise NotDone("never answered")

    async def _pause(self, random: Random, end: asyncio.Event) -> None:
        try:
            await asyncio.wait_for(end.wait(), random.uniform(*self.pause_s))
        except TimeoutError:
            return
