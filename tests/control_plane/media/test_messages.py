"""Media in what people read, send, export and erase."""

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest

from adapters.model import Image, Ref, Reply, Text
from control_plane.db import leases
from control_plane.fleet import upkeep
from control_plane.kit.ids import new_id
from control_plane.media.removal import Removal
from control_plane.media.service import WORK
from control_plane.media.storage import Storage
from control_plane.privacy.retention import Retention
from tests.control_plane.conversations.scene import Worker
from tests.control_plane.ingest.conftest import Agent, Agents
from tests.control_plane.media.conftest import PNG, Store, add

pytestmark = pytest.mark.usefixtures("writing")


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture
async def agent(agents: Agents, owner: Any) -> Agent:
    """The owner's bot."""
    return await agents.make(owner=owner)


@pytest.fixture
async def picture(agent: Agent) -> str:
    """What a customer has sent; its media id."""
    media_id = await add(agent, name="cat.png")
    segments = [
        Text(text="look"),
        Image(ref=Ref(via="media", id=media_id), name="cat.png"),
        Reply(quoted=[Image(ref=Ref(via="media", id=media_id))]),
    ]
    answer = await agent.post(agent.message("a", segments=segments))
    assert answer.json()["results"][0]["status"] == "stored"
    return media_id


@pytest.fixture
async def conversation(owner: Any, picture: str) -> str:
    """The conversation, taken over by the owner."""
    [item] = (await owner.get("/conversations")).json()["items"]
    await owner.post(f"/conversations/{item['id']}/take-over")
    return item["id"]


async def thread(owner: Any, conversation: str) -> list[dict[str, Any]]:
    return (await owner.get(f"/conversations/{conversation}/messages")).json()["items"]


async def kept(storage: Storage, owner: Any) -> list[str]:
    """The media whose bytes are there."""
    keys = [item.key async for page in storage.list(str(owner.tenant_id)) for item in page]
    return [key.split("/")[1].split(".")[0] for key in keys]


def image(media_id: object, **more: Any) -> dict[str, Any]:
    return {"type": "image", "ref": {"via": "media", "id": str(media_id)}, **more}


class TestReading:
    async def test_has_a_link_beside_each_ref(
        self, store: Store, owner, conversation: str, picture: str
    ) -> None:
        [message] = await thread(owner, conversation)
        text, shown, reply = message["segments"]

        assert "url" not in text
        assert shown["ref"] == {"via": "media", "id": picture}
        assert (await store.client.get(shown["url"])).content == PNG
        assert reply["quoted"][0]["url"] == shown["url"]

    async def test_keeps_links_out_of_what_is_stored(
        self, owner, conversation: str, superuser: asyncpg.Connection
    ) -> None:
        await thread(owner, conversation)

        assert "/media/" not in await superuser.fetchval("SELECT segments::text FROM messages")


class TestSending:
    @pytest.mark.parametrize("kind", ["image", "voice", "video", "file"])
    async def test_takes_what_was_uploaded(
        self, store: Store, owner, conversation: str, kind: str, superuser: asyncpg.Connection
    ) -> None:
        media_id = await store.add()
        segment = {"type": kind, "ref": {"via": "media", "id": media_id}}

        answer = await owner.post(
            f"/conversations/{conversation}/messages", {"segments": [segment]}
        )

        assert answer.status_code == 202
        [shown] = answer.json()["segments"]
        assert (await store.client.get(shown.pop("url"))).content == PNG
        assert shown == segment
        queued = await superuser.fetchval("SELECT segments FROM deliveries")
        assert json.loads(queued) == [segment]
        assert await superuser.fetchval(
            "SELECT expires_at IS NULL FROM media WHERE id = $1", UUID(media_id)
        )

    async def test_takes_nothing_of_another_tenant(
        self, store: Store, people, owner, conversation: str
    ) -> None:
        theirs = await store.add(who=await people.owner("Other"))

        answers = [
            await owner.post(
                f"/conversations/{conversation}/messages", {"segments": [image(media_id)]}
            )
            for media_id in (theirs, new_id())
        ]

        assert {code(answer) for answer in answers} == {(404, "media_not_found")}
        assert len(await thread(owner, conversation)) == 1

    async def test_takes_no_thumbnail_of_another_tenant(
        self, store: Store, people, owner, conversation: str
    ) -> None:
        theirs = await store.add(who=await people.owner("Other"))
        segment = image(await store.add()) | {"type": "video"}
        segment["thumb"] = {"via": "media", "id": theirs}

        answer = await owner.post(
            f"/conversations/{conversation}/messages", {"segments": [segment]}
        )

        assert code(answer) == (404, "media_not_found")

    async def test_takes_nothing_that_is_only_reserved(
        self, store: Store, owner, conversation: str
    ) -> None:
        reserved = await store.reserve(10)

        answer = await owner.post(
            f"/conversations/{conversation}/messages", {"segments": [image(reserved["media_id"])]}
        )

        assert code(answer) == (404, "media_not_found")

    @pytest.mark.parametrize(
        "segment",
        [
            {"type": "image", "ref": {"via": "wecom", "id": "x"}},
            {"type": "image", "ref": {"via": "media", "id": "../../x"}},
            {"type": "image", "ref": {"via": "media", "id": str(UUID(int=1)), "more": {"a": "b"}}},
            {"type": "voice", "transcript": "hello"},
            {"type": "link", "url": "https://example.com"},
            {"type": "sticker", "ref": {"via": "media", "id": str(UUID(int=1))}},
        ],
    )
    async def test_takes_no_other_refs_and_kinds(
        self, owner, conversation: str, segment: dict[str, Any]
    ) -> None:
        answer = await owner.post(
            f"/conversations/{conversation}/messages", {"segments": [segment]}
        )

        assert code(answer) == (422, "invalid_request")

    async def test_makes_names_fit_to_show(self, store: Store, owner, conversation: str) -> None:
        segment = image(await store.add(), name="../\u202egnp.exe\r\n")

        answer = await owner.post(
            f"/conversations/{conversation}/messages", {"segments": [segment]}
        )

        assert answer.json()["segments"][0]["name"] == "gnp.exe"


class TestPrivacy:
    async def test_a_tenants_export_has_all_bytes(
        self, store: Store, owner, people, picture: str
    ) -> None:
        unused = await store.add(PNG + b"2", "two.png")
        await store.add(who=await people.owner("Other"))

        content = (await owner.get("/export")).content

        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {
                name: archive.read(name) for name in archive.namelist() if name.startswith("media/")
            }
            listed = json.loads(archive.read("media.json"))
        assert found == {f"media/{picture}.png": PNG, f"media/{unused}.png": PNG + b"2"}
        assert {row["id"]: row["name"] for row in listed} == {picture: "cat.png", unused: "two.png"}

    async def test_a_contacts_export_has_theirs_only(
        self, agent: Agent, owner, conversation: str, picture: str
    ) -> None:
        other = await add(agent)
        segments = [Image(ref=Ref(via="media", id=other))]
        await agent.post(agent.message("b", visitor="v2", segments=segments))
        contact = (await owner.get(f"/conversations/{conversation}")).json()["contact"]["id"]

        content = (await owner.get(f"/contacts/{contact}/export")).content

        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert [n for n in archive.namelist() if n.startswith("media/")] == [
                f"media/{picture}.png"
            ]
            assert [row["id"] for row in json.loads(archive.read("media.json"))] == [picture]

    async def test_an_export_leaves_out_what_is_missing(
        self, owner, picture: str, storage: Storage
    ) -> None:
        async for page in storage.list(str(owner.tenant_id)):
            await storage.delete([item.key for item in page])

        content = (await owner.get("/export")).content

        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
            assert len(json.loads(archive.read("media.json"))) == 1

    async def test_erasing_a_contact_removes_their_bytes_and_no_others(
        self, agent: Agent, store: Store, owner, parts, conversation: str, storage: Storage
    ) -> None:
        other = await add(agent)
        segments = [Image(ref=Ref(via="media", id=other))]
        await agent.post(agent.message("b", visitor="v2", segments=segments))
        sent = await store.add()
        await owner.post(f"/conversations/{conversation}/messages", {"segments": [image(sent)]})
        urls = [
            segment["url"]
            for message in await thread(owner, conversation)
            for segment in message["segments"]
            if "url" in segment
        ]
        contact = (await owner.get(f"/conversations/{conversation}")).json()["contact"]["id"]

        erased = await owner.post(f"/contacts/{contact}/erase")

        assert erased.json()["media"] == 2
        assert {(await store.client.get(url)).status_code for url in urls} == {404}
        house = parts.house
        removing = Removal(house.database, storage, house.clock)
        await Worker(house.database, WORK, removing.remove).once()
        assert await kept(storage, owner) == [other]

    async def test_bytes_go_with_the_messages_that_a_tenant_no_longer_keeps(
        self, owner, parts, picture: str, clock, storage: Storage
    ) -> None:
        house = parts.house
        async with house.database.session() as session:
            [lease] = await leases.claim(
                session, upkeep.WORK, owner="test", limit=1, lease=timedelta(hours=1)
            )
        retention = Retention(house.database, clock, at_most=timedelta(days=31))
        await retention.sweep(lease)
        removing = Worker(house.database, WORK, Removal(house.database, storage, clock).remove)
        assert await kept(storage, owner) == [picture]

        # Ids tell the real time.
        clock.time = datetime.now(UTC) + timedelta(days=32)
        await retention.sweep(lease)
        await removing.once()

        assert await kept(storage, owner) == []
