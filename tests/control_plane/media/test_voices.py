"""Voices that no browser plays: what is made of them, who gets it, and with what it goes."""

import asyncio
import io
import json
import zipfile
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest

from adapters.model import Ref, Reply, Voice
from control_plane.db.leases import LeaseLost
from control_plane.db.session import Scope
from control_plane.media import child, service, voices
from control_plane.media.child import Ended
from control_plane.media.removal import Removal
from control_plane.media.service import UNUSED_LIFE, WORK
from control_plane.media.storage import Storage
from control_plane.media.voices import OVER_LIMITS, Voices
from control_plane.parts import Parts
from control_plane.tenants import quota
from control_plane.tenants.life import REMOVAL
from tests.control_plane.conversations.scene import Gated, Worker
from tests.control_plane.ingest.conftest import Agent, Agents
from tests.control_plane.media import sound
from tests.control_plane.media.conftest import PNG, add, link

pytestmark = pytest.mark.usefixtures("writing")

VOICE = sound.amr()


@pytest.fixture
async def agent(agents: Agents, owner: Any) -> Agent:
    return await agents.make(owner=owner)


@pytest.fixture
def worker(parts: Parts) -> Worker:
    house = parts.house
    return Worker(
        house.database,
        service.VOICE,
        Voices(house.database, parts.storage, house.clock).convert,
    )


class Ward:
    """A tenant, its bot, and what it keeps."""

    def __init__(
        self, agent: Agent, owner: Any, storage: Storage, superuser: asyncpg.Connection
    ) -> None:
        self.agent = agent
        self.owner = owner
        self.storage = storage
        self.superuser = superuser

    async def hears(self, body: bytes = VOICE, name: str = "一.amr") -> str:
        """A customer's voice; its media id."""
        media_id = await add(self.agent, body, name)
        ref = Ref(via="media", id=media_id)
        segments = [Voice(ref=ref), Reply(quoted=[Voice(ref=ref)])]
        answer = await self.agent.post(self.agent.message("a", segments=segments))
        assert answer.json()["results"][0]["status"] == "stored"
        return media_id

    async def shown(self) -> dict[str, Any]:
        """The voice as members see it."""
        [item] = (await self.owner.get("/conversations")).json()["items"]
        thread = await self.owner.get(f"/conversations/{item['id']}/messages")
        [message] = thread.json()["items"]
        voice, reply = message["segments"]
        assert reply["quoted"] == [voice]
        return voice  # type: ignore[no-any-return]

    async def get(self, url: str, **headers: str) -> httpx2.Response:
        return await self.agent.client.get(url, headers=headers)

    async def objects(self) -> int:
        pages = [page async for page in self.storage.list(str(self.owner.tenant_id))]
        return sum(map(len, pages))

    async def rows(self) -> list[tuple[Any, ...]]:
        rows = await self.superuser.fetch(
            "SELECT state, conversion, original_id IS NULL FROM media ORDER BY id"
        )
        return [tuple(row) for row in rows]

    async def told(self) -> list[dict[str, Any]]:
        rows = await self.superuser.fetch(
            "SELECT data FROM stream WHERE type = 'media.converted' ORDER BY seq"
        )
        return [json.loads(row["data"]) for row in rows]

    async def due(self) -> int:
        count: int = await self.superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'voice'")
        return count


@pytest.fixture
def ward(agent: Agent, owner: Any, storage: Storage, superuser: asyncpg.Connection) -> Ward:
    return Ward(agent, owner, storage, superuser)


async def ends_with(ended: Ended) -> Any:
    """Stands for a child that ends so."""

    async def run(*_arguments: Any, **_named: Any) -> Ended:
        return ended

    return run


class TestConversion:
    @pytest.mark.parametrize("body", [VOICE, sound.silk()], ids=["amr", "silk"])
    async def test_gives_browsers_something_to_play_and_keeps_the_voice(
        self, ward: Ward, worker: Worker, body: bytes
    ) -> None:
        media_id = await ward.hears(body)
        before = await ward.shown()

        assert await worker.once() is None

        after = await ward.shown()
        assert before["playback"]["state"] == "pending"
        assert after["playback"] | {"original_url": ""} == {
            "state": "ready",
            "error_class": None,
            "original_url": "",
        }
        played = await ward.get(after["url"])
        assert played.headers["content-type"] == "audio/mpeg"
        assert played.headers["content-disposition"].startswith("inline")
        assert sound.heard(played.content)[1] == pytest.approx(1, abs=0.2)
        original = await ward.get(after["playback"]["original_url"])
        assert original.content == body
        assert original.headers["content-disposition"].startswith("attachment")
        assert await ward.told() == [{"media_id": media_id, "state": "ready", "error_class": None}]
        assert await ward.due() == 0

    async def test_of_what_browsers_play_is_none(self, ward: Ward) -> None:
        await ward.hears(b"ID3\x04" + bytes(500), "a.mp3")

        assert "playback" not in await ward.shown()
        assert await ward.due() == 0

    async def test_goes_by_the_bytes_and_not_by_the_name(self, ward: Ward) -> None:
        await ward.hears(VOICE, "song.mp3")

        assert (await ward.shown())["playback"]["state"] == "pending"

    async def test_until_there_is_one_a_browser_asks_again(
        self, ward: Ward, worker: Worker
    ) -> None:
        await ward.hears()
        url = (await ward.shown())["url"]
        first = await ward.get(url)
        await worker.once()
        second = await ward.get(url, **{"if-none-match": first.headers["etag"]})
        third = await ward.get(url, **{"if-none-match": second.headers["etag"]})

        assert first.content == VOICE
        assert (second.status_code, third.status_code) == (200, 304)
        assert first.headers["cache-control"] == "private, no-cache"
        assert "immutable" in second.headers["cache-control"]

    async def test_gives_ranges_of_what_is_played(self, ward: Ward, worker: Worker) -> None:
        await ward.hears()
        await worker.once()
        url = (await ward.shown())["url"]
        whole = await ward.get(url)
        part = await ward.get(url, range="bytes=100-199")

        assert (part.status_code, part.content) == (206, whole.content[100:200])

    async def test_is_told_to_no_other_tenant(
        self, ward: Ward, worker: Worker, people: Any, agents: Agents
    ) -> None:
        media_id = await ward.hears()
        await worker.once()
        made = await ward.superuser.fetchval(
            "SELECT id FROM media WHERE original_id = $1", UUID(media_id)
        )
        stranger = await agents.make(owner=await people.owner())

        assert (await link(ward.agent, made)).status_code == 200
        assert (await link(stranger, made)).status_code == 404

    async def test_cannot_be_sent_as_if_it_were_an_upload(self, ward: Ward, worker: Worker) -> None:
        media_id = await ward.hears()
        await worker.once()
        made = await ward.superuser.fetchval(
            "SELECT id FROM media WHERE original_id = $1", UUID(media_id)
        )
        event = ward.agent.message("b", segments=[Voice(ref=Ref(via="media", id=str(made)))])

        [result] = (await ward.agent.post(event)).json()["results"]

        assert (result["status"], result["code"]) == ("rejected", "unknown_media")


class TestFailure:
    async def shown(self, ward: Ward, error_class: str) -> None:
        """Members see why, and get the voice itself."""
        voice = await ward.shown()
        assert (voice["playback"]["state"], voice["playback"]["error_class"]) == (
            "failed",
            error_class,
        )
        [told] = await ward.told()
        assert (told["state"], told["error_class"]) == ("failed", error_class)
        assert (await ward.get(voice["url"])).status_code == 200
        assert (await ward.objects(), await ward.due()) == (1, 0)

    async def test_of_bytes_that_are_no_voice_is_said(self, ward: Ward, worker: Worker) -> None:
        await ward.hears(b"#!AMR\n" + bytes(range(256)) * 20)

        assert await worker.once() is None

        await self.shown(ward, "undecodable")

    @pytest.mark.parametrize(
        ("code", "error_class"),
        [(4, "too_long"), (5, "no_decoder"), (6, OVER_LIMITS), (child.KILLED, OVER_LIMITS)],
    )
    async def test_of_the_program_is_said_by_class(
        self,
        ward: Ward,
        worker: Worker,
        monkeypatch: pytest.MonkeyPatch,
        code: int,
        error_class: str,
    ) -> None:
        await ward.hears()
        monkeypatch.setattr(voices.child, "run", await ends_with(Ended(code=code, written=b"")))

        await worker.once()

        await self.shown(ward, error_class)

    async def test_of_a_program_that_was_taken_over_keeps_nothing_of_what_it_says(
        self, ward: Ward, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await ward.hears()
        page = b"<html><script>alert(1)</script></html>"
        monkeypatch.setattr(voices.child, "run", await ends_with(Ended(code=0, written=page)))

        await worker.once()

        await self.shown(ward, "undecodable")

    async def test_of_more_bytes_than_a_voice_has_starts_nothing(
        self, ward: Ward, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await ward.hears()
        monkeypatch.setattr(voices, "MAX_VOICE_BYTES", len(VOICE) - 1)
        monkeypatch.delattr(voices.child, "run")

        await worker.once()

        await self.shown(ward, "too_large")

    async def test_of_a_full_plan_leaves_nothing_in_the_storage(
        self, ward: Ward, worker: Worker
    ) -> None:
        await ward.hears()
        await ward.superuser.execute(
            "UPDATE tenants SET quota_overrides = jsonb_build_object('storage_bytes', $1::int)",
            len(VOICE),
        )

        await worker.once()

        await self.shown(ward, "no_room")


class TestLife:
    async def test_counts_as_stored_bytes(self, ward: Ward, worker: Worker, parts: Parts) -> None:
        await ward.hears()
        await worker.once()
        url = (await ward.shown())["url"]
        made = len((await ward.get(url)).content)

        async with parts.house.database.session(Scope(tenants=(ward.owner.tenant_id,))) as session:
            standing = await quota.standing(
                session, ward.owner.tenant_id, now=parts.house.clock.now()
            )
        assert standing.levels["storage_bytes"].used == len(VOICE) + made

    async def test_goes_with_the_voice(
        self, ward: Ward, worker: Worker, parts: Parts, clock: Any
    ) -> None:
        await add(ward.agent, VOICE)
        await worker.once()
        removal = Removal(parts.house.database, parts.storage, parts.house.clock)
        remover = Worker(parts.house.database, WORK, removal.remove)
        await remover.again(ward.owner.tenant_id)
        kept = await ward.objects()
        clock.advance(UNUSED_LIFE)

        await remover.again(ward.owner.tenant_id)

        assert (kept, await ward.objects(), await ward.rows()) == (2, 0, [])

    async def test_goes_after_a_voice_that_went_before_it(
        self, ward: Ward, worker: Worker, parts: Parts
    ) -> None:
        media_id = await ward.hears()
        await worker.once()
        # As if it was forgotten just when a worker had looked for what goes with it.
        await ward.superuser.execute("DELETE FROM media WHERE id = $1", UUID(media_id))
        removal = Removal(parts.house.database, parts.storage, parts.house.clock)

        await Worker(parts.house.database, WORK, removal.remove).again(ward.owner.tenant_id)

        assert await ward.rows() == []

    async def test_is_named_by_its_row_for_the_sweep(
        self, ward: Ward, worker: Worker, parts: Parts, clock: Any
    ) -> None:
        await ward.hears()
        await worker.once()
        removal = Removal(parts.house.database, parts.storage, parts.house.clock)
        clock.advance(timedelta(days=2))

        await Worker(parts.house.database, REMOVAL, removal.sweep).again(ward.owner.tenant_id)

        assert await ward.objects() == 2

    async def test_is_erased_with_its_contact(
        self, ward: Ward, worker: Worker, parts: Parts
    ) -> None:
        await ward.hears()
        await worker.once()
        url = (await ward.shown())["url"]
        [item] = (await ward.owner.get("/conversations")).json()["items"]

        erased = await ward.owner.post(f"/contacts/{item['contact']['id']}/erase")

        assert erased.status_code == 200, erased.text
        assert (await ward.get(url)).status_code == 404
        removal = Removal(parts.house.database, parts.storage, parts.house.clock)
        await Worker(parts.house.database, WORK, removal.remove).again(ward.owner.tenant_id)
        assert (await ward.objects(), await ward.rows()) == (0, [])

    async def test_is_in_exports_beside_the_voice(self, ward: Ward, worker: Worker) -> None:
        await ward.hears()
        await worker.once()
        [item] = (await ward.owner.get("/conversations")).json()["items"]

        answer = await ward.owner.get(f"/contacts/{item['contact']['id']}/export")

        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            endings = sorted(
                name.rpartition(".")[2] for name in archive.namelist() if name.startswith("media/")
            )
        assert endings == ["amr", "mp3"]

    async def test_of_a_voice_that_went_meanwhile_leaves_nothing(
        self, ward: Ward, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await ward.hears()
        gate = Gated(child.run, after=True)
        monkeypatch.setattr(voices.child, "run", gate)
        converting = asyncio.create_task(worker.once())
        await gate.wait()
        await ward.superuser.execute("UPDATE media SET state = 'gone'")
        gate.open.set()
        await converting

        assert await ward.told() == []
        assert await ward.objects() == 1
        assert await ward.rows() == [("gone", "pending", True)]

    async def test_that_two_workers_made_is_kept_once(
        self, ward: Ward, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await ward.hears()
        gate = Gated(child.run, after=True)
        monkeypatch.setattr(voices.child, "run", gate)
        lease = await worker.claim(lease=timedelta(0))
        assert lease is not None
        slow = asyncio.create_task(worker.handle(lease))
        await gate.wait()
        gate.open.set()
        await worker.once()

        with pytest.raises(LeaseLost):
            await slow
        assert len(await ward.told()) == 1
        assert (await ward.rows())[1:] == [("stored", None, False)]

    async def test_rests_while_its_tenant_does(self, ward: Ward, worker: Worker) -> None:
        await ward.hears()
        await ward.superuser.execute("UPDATE tenants SET state = 'suspended'")

        assert await worker.once() is not None
        assert await ward.rows() == [("stored", "pending", True)]

    async def test_of_a_picture_is_nothing(self, ward: Ward) -> None:
        await add(ward.agent, PNG)

        assert await ward.rows() == [("stored", None, True)]
