"""Agents and media: what they may ask for, and their side of it against the real control plane."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from uuid import UUID

import asyncpg
import httpx2
import pytest

from adapters.base import MediaRefused, NotAccepted
from adapters.model import File, Image, Ref, Reply, Text, Video
from control_plane.app import Application
from instance_agent.media import MAX_TRIES, MediaStore
from instance_agent.protocol import MAX_MEDIA_BYTES
from tests.control_plane.ingest.conftest import Agent, Agents
from tests.control_plane.media.conftest import PNG, add, ask, link, pieces

UPPER = "01A1FE55-C30B-732F-8B47-4E1ADE856957"


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def result(answer: httpx2.Response) -> tuple[str, str | None]:
    [only] = answer.json()["results"]
    return only["status"], only.get("code")


def image(media_id: object) -> list[Image]:
    return [Image(ref=Ref(via="media", id=str(media_id)))]


class TestRequest:
    async def test_is_proven_by_its_signature(self, agent: Agent) -> None:
        url = f"/api/v1/instances/{agent.instance_id}/media"
        body = b'{"size": 10}'

        unsigned = await agent.client.post(url, content=body)
        swapped = await agent.client.post(url, content=body, headers=agent.headers(b"other"))

        assert code(unsigned) == code(swapped) == (401, "invalid_signature")
        assert (await ask(agent, {"size": 10})).status_code == 201

    async def test_of_a_draining_agent_is_answered(self, agents: Agents, agent: Agent) -> None:
        await agents.succeed(agent)

        assert (await ask(agent, {"size": 10})).status_code == 201

    @pytest.mark.parametrize(
        "body",
        [{}, {"size": 0}, {"size": -1}, {"size": "1"}, {"size": 1, "name": "x" * 501}, [], None],
    )
    async def test_that_makes_no_sense_is_refused(self, agent: Agent, body: object) -> None:
        assert code(await ask(agent, body)) == (400, "malformed_request")

    async def test_for_too_much_is_refused(self, agent: Agent) -> None:
        answer = await ask(agent, {"size": MAX_MEDIA_BYTES + 1})

        assert code(answer) == (413, "media_too_large")

    async def test_repeated_gets_the_same_room(
        self, agent: Agent, superuser: asyncpg.Connection
    ) -> None:
        first = await ask(agent, {"size": 10}, webhook_id="med_1")
        again = await ask(agent, {"size": 10}, webhook_id="med_1")
        other = await ask(agent, {"size": 11}, webhook_id="med_1")

        assert first.json()["media_id"] == again.json()["media_id"]
        assert code(other) == (409, "webhook_id_reused")
        assert await superuser.fetchval("SELECT count(*) FROM media") == 1


class TestLink:
    async def test_is_for_the_tenants_own_only(self, agents: Agents, agent: Agent) -> None:
        media_id = await add(agent)
        stranger = await agents.make()

        assert (await link(agent, media_id)).json()["sha256"] == hashlib.sha256(PNG).hexdigest()
        assert code(await link(stranger, media_id)) == (404, "media_not_found")

    async def test_is_signed_for_one_object(self, agent: Agent) -> None:
        one, other = await add(agent), await add(agent)

        assert code(await link(agent, one, signed=other)) == (401, "invalid_signature")


@pytest.mark.usefixtures("writing")
class TestEvent:
    async def test_may_speak_of_what_is_stored(
        self, agent: Agent, superuser: asyncpg.Connection
    ) -> None:
        media_id = await add(agent)

        answer = await agent.post(agent.message("a", segments=image(media_id)))

        assert result(answer) == ("stored", None)
        assert await superuser.fetchval("SELECT expires_at FROM media") is None

    async def test_of_another_tenants_object_is_rejected_and_its_neighbour_is_not(
        self, agents: Agents, agent: Agent, superuser: asyncpg.Connection
    ) -> None:
        theirs = await add(await agents.make())

        answer = await agent.post(
            agent.message("a", segments=image(theirs)),
            agent.message("b", segments=[Text(text="x")]),
        )

        assert [item["status"] for item in answer.json()["results"]] == ["rejected", "stored"]
        assert answer.json()["results"][0]["code"] == "unknown_media"
        assert await superuser.fetchval("SELECT count(*) FROM media WHERE expires_at IS NULL") == 0

    @pytest.mark.parametrize("media_id", ["", "x", "../../a", UPPER, UPPER.lower()])
    async def test_of_a_made_up_object_is_rejected(self, agent: Agent, media_id: str) -> None:
        answer = await agent.post(agent.message("a", segments=image(media_id)))

        assert result(answer) == ("rejected", "unknown_media")

    async def test_hides_no_ref_in_a_quotation_or_a_thumbnail(
        self, agents: Agents, agent: Agent
    ) -> None:
        mine, theirs = await add(agent), await add(await agents.make())
        thumb = Video(ref=Ref(via="media", id=mine), thumb=Ref(via="media", id=theirs))
        quoted = Reply(quoted=[File(ref=Ref(via="media", id=theirs))])

        answers = [
            await agent.post(agent.message(key, segments=[segment]))
            for key, segment in (("a", thumb), ("b", quoted))
        ]

        assert {result(answer) for answer in answers} == {("rejected", "unknown_media")}

    async def test_of_what_is_only_reserved_is_rejected(self, agent: Agent) -> None:
        reserved = (await ask(agent, {"size": 10})).json()

        answer = await agent.post(agent.message("a", segments=image(reserved["media_id"])))

        assert result(answer) == ("rejected", "unknown_media")

    async def test_of_another_store_is_taken_as_it_is(self, agent: Agent) -> None:
        segments = [Image(ref=Ref(via="wecom", id="anything"))]

        assert result(await agent.post(agent.message("a", segments=segments))) == ("stored", None)


class Flaky(httpx2.AsyncBaseTransport):
    """The way to the control plane, which fails as often as it is told to."""

    def __init__(self, app: Application) -> None:
        self._inner = httpx2.ASGITransport(app=app)
        self.cut: dict[str, int] = {}
        self.calls: list[str] = []
        self.lose_answers = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        what = f"{request.method} {'link' if request.url.path.startswith('/media/') else 'api'}"
        self.calls.append(what)
        answer = None
        if not self.cut.get(what) or self.lose_answers:
            answer = await self._inner.handle_async_request(request)
        if self.cut.get(what):
            self.cut[what] -= 1
            raise httpx2.ReadError("cut", request=request)
        assert answer is not None
        return answer


class Soon(Random):
    """Back-off without waiting."""

    def uniform(self, a: float, b: float) -> float:
        return a


@pytest.fixture
def way(app: Application) -> Flaky:
    return Flaky(app)


@pytest.fixture
async def own(agent: Agent, way: Flaky, tmp_path: Path) -> AsyncIterator[MediaStore]:
    """The agent's side."""
    async with httpx2.AsyncClient(transport=way) as http:
        yield MediaStore(
            http=http,
            control_url="http://botyard.test",
            instance_id=agent.instance_id,
            secret=lambda: agent.secret,
            folder=tmp_path,
            clock=lambda: agent.clock.now().timestamp(),
            random=Soon(),
        )


class TestAgentsSide:
    @pytest.mark.parametrize("size", [1, 1_000_000])
    async def test_gets_back_what_it_stored(self, own: MediaStore, size: int) -> None:
        body = (PNG * (size // len(PNG) + 1))[: size + 8]

        ref = await own.store(pieces(body), name="../a.png", content_type="text/html")
        content = await own.read(ref)

        assert ref.via == "media"
        assert (content.body, content.name) == (body, "a.png")
        assert content.content_type == "image/png"
        assert content.sha256 == hashlib.sha256(body).hexdigest()

    @pytest.mark.parametrize("lose_answers", [False, True])
    async def test_tries_again_and_takes_room_once(
        self, own: MediaStore, way: Flaky, superuser: asyncpg.Connection, lose_answers: bool
    ) -> None:
        way.lose_answers = lose_answers
        way.cut = {"POST api": 1, "PUT link": 2, "GET api": 1, "GET link": 1}

        content = await own.read(await own.store(pieces(PNG)))

        assert content.body == PNG
        assert await superuser.fetchval("SELECT count(*) FROM media") == 1

    async def test_gives_up_in_time(self, own: MediaStore, way: Flaky) -> None:
        way.cut = {"POST api": 99}

        with pytest.raises(NotAccepted):
            await own.store(pieces(PNG))

        assert way.calls == ["POST api"] * MAX_TRIES

    async def test_asks_for_no_room_for_too_much(self, own: MediaStore, way: Flaky) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1024 * 1024

        with pytest.raises(MediaRefused):
            await own.store(endless())

        assert way.calls == []

    async def test_asks_for_no_room_for_nothing(self, own: MediaStore) -> None:
        with pytest.raises(MediaRefused):
            await own.store(pieces(b""))

    async def test_hears_that_the_plan_is_full(
        self, own: MediaStore, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("""UPDATE tenants SET quota_overrides = '{"storage_bytes": 1}'""")

        with pytest.raises(MediaRefused, match="quota_exceeded"):
            await own.store(pieces(PNG))

    @pytest.mark.parametrize(
        "ref",
        [
            Ref(via="media", id=str(UUID(int=1))),
            Ref(via="media", id="../x"),
            Ref(via="wecom", id=str(UUID(int=1))),
        ],
        ids=["gone", "no id", "elsewhere"],
    )
    async def test_says_what_is_not_there(self, own: MediaStore, ref: Ref) -> None:
        with pytest.raises(MediaRefused):
            await own.read(ref)

    async def test_notices_bytes_that_are_not_those(
        self, own: MediaStore, superuser: asyncpg.Connection
    ) -> None:
        ref = await own.store(pieces(PNG))
        await superuser.execute("UPDATE media SET sha256 = 'other'")

        with pytest.raises(NotAccepted, match="not those"):
            await own.read(ref)
