"""A visitor's pictures: up, into the conversation, and back to nobody but them."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest

from control_plane.kit.ids import new_id
from control_plane.webchat import pictures
from control_plane.webchat.frames import MAX_PICTURE_BYTES
from tests.control_plane.conversations.scene import Bot
from tests.control_plane.delivery.stand_in import StandIn
from tests.control_plane.media.conftest import HTML, PNG
from tests.control_plane.webchat.conftest import Open, Platform, Tab

pytestmark = pytest.mark.usefixtures("agent")


class Sender:
    """A page that sends pictures."""

    def __init__(self, tab: Tab, client: httpx2.AsyncClient) -> None:
        self.tab = tab
        self._client = client

    async def asks(self, client_id: str, size: int = len(PNG)) -> dict[str, Any]:
        await self.tab.send({"type": "picture", "id": client_id, "size": size})
        return await self.tab.next("upload", "error")

    async def stores(self, client_id: str, content: bytes = PNG) -> str:
        room = await self.asks(client_id, len(content))
        answer = await self._client.put(room["url"], content=content)
        assert answer.status_code == 200, answer.text
        return str(room["media_id"])

    async def shows(self, client_id: str, media_id: str, text: str = "") -> dict[str, Any]:
        frame = {"type": "message", "id": client_id, "text": text, "picture": media_id}
        await self.tab.send(frame)
        return await self.tab.next("ack", "error")


def _said(agent: StandIn) -> dict[str, Any]:
    """What the one call of the platform said."""
    [call] = agent.callbacks
    said: dict[str, Any] = json.loads(call)
    return said


@pytest.fixture
def sender(client) -> Callable[[Tab], Sender]:
    return lambda tab: Sender(tab, client)


@pytest.fixture
def look(client, bot: Bot) -> Callable:
    """Ask for a picture's bytes, as a page does."""

    async def look(media_id: str | UUID, secret: str, token: str = bot.token) -> httpx2.Response:
        headers = {"authorization": f"Bearer {secret}"}
        answer: httpx2.Response = await client.get(
            f"/webchat/{token}/media/{media_id}", headers=headers
        )
        return answer

    return look


class TestSending:
    async def test_a_picture_reaches_the_agent_and_comes_back_to_the_visitor(
        self, page: Open, sender, look, agent: StandIn
    ) -> None:
        async with page() as tab:
            await tab.resume()
            media_id = await sender(tab).stores("p-1")
            assert (await sender(tab).shows("m-1", media_id, "看这个"))["type"] == "ack"
            seen = await look(media_id, tab.secret)

        assert seen.content == PNG
        assert seen.headers["content-type"] == "image/png"
        call = _said(agent)
        assert call["picture"] == media_id
        assert call["text"] == "看这个"

    async def test_needs_no_words(self, page: Open, sender) -> None:
        async with page() as tab:
            await tab.resume()
            media_id = await sender(tab).stores("p-1")
            await sender(tab).shows("m-1", media_id)
            async with page() as other:
                welcome = await other.resume(tab.secret)

        [message] = welcome["messages"]
        assert message["segments"] == [{"type": "image", "ref": {"via": "media", "id": media_id}}]

    async def test_asked_for_again_has_the_same_room(self, page: Open, sender) -> None:
        async with page() as tab:
            await tab.resume()
            rooms = [await sender(tab).asks("p-1") for _ in range(2)]

        assert rooms[0]["media_id"] == rooms[1]["media_id"]

    async def test_too_large_is_refused(self, page: Open, sender) -> None:
        async with page() as tab:
            await tab.resume()
            answer = await sender(tab).asks("p-1", MAX_PICTURE_BYTES + 1)

        assert (answer["code"], answer["id"]) == ("picture_too_large", "p-1")

    async def test_that_is_none_is_refused_with_its_message(
        self, page: Open, sender, superuser: asyncpg.Connection
    ) -> None:
        async with page() as tab:
            await tab.resume()
            media_id = await sender(tab).stores("p-1", HTML)
            answer = await sender(tab).shows("m-1", media_id)

        assert (answer["code"], answer["id"]) == ("not_a_picture", "m-1")
        assert await superuser.fetchval("SELECT count(*) FROM webchat_messages") == 0

    async def test_of_another_visitor_is_refused(self, page: Open, sender) -> None:
        async with page() as one, page() as other:
            await one.resume()
            await other.resume()
            media_id = await sender(one).stores("p-1")
            answer = await sender(other).shows("m-1", media_id)

        assert answer["code"] == "not_a_picture"

    async def test_waits_while_strangers_have_too_many(
        self, page: Open, sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pictures, "MAX_WAITING", 1)
        async with page() as tab:
            await tab.resume()
            await sender(tab).stores("p-1")
            answer = await sender(tab).asks("p-2")

        assert (answer["code"], answer["id"]) == ("pictures_busy", "p-2")


class TestLooking:
    async def test_is_for_the_visitor_alone(self, page: Open, sender, look) -> None:
        async with page() as one, page() as other:
            await one.resume()
            await other.resume()
            media_id = await sender(one).stores("p-1")
            await sender(one).shows("m-1", media_id)
            await other.write("m-1")
            answers = [
                await look(media_id, other.secret),
                await look(media_id, "s" * 43),
                await look(new_id(), one.secret),
                await look(media_id, one.secret, token="t" * 43),
            ]

        assert [answer.status_code for answer in answers] == [404] * 4

    async def test_is_not_for_what_was_never_shown(self, page: Open, sender, look) -> None:
        async with page() as tab:
            await tab.resume()
            media_id = await sender(tab).stores("p-1")
            answer = await look(media_id, tab.secret)

        assert answer.status_code == 404


class TestAnswers:
    async def test_with_a_picture_of_the_house_are_shown(
        self, page: Open, sender, look, platform: Platform, visitor_id
    ) -> None:
        async with page() as tab:
            await tab.resume()
            media_id = await sender(tab).stores("p-1")
            await sender(tab).shows("m-1", media_id)
            segments = [{"type": "image", "ref": {"via": "media", "id": media_id}}]
            answer = await platform.post(await visitor_id(), "1", segments=segments)
            shown = await tab.next("message")

        assert answer.status_code == 200
        assert shown["segments"] == segments

    async def test_with_a_picture_that_is_nowhere_are_refused(
        self, page: Open, platform: Platform, visitor_id
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.write("m-1")
            segments = [{"type": "image", "ref": {"via": "media", "id": str(new_id())}}]
            answer = await platform.post(await visitor_id(), "1", segments=segments)

        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_media")
