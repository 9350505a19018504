"""A bot whose agent has a voice in its store, and a provider that hears, over real sockets."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.model import Ref, Segment, Voice
from adapters.outbound import Outbound, networks
from control_plane.fleet.view import compiled
from control_plane.kit.ids import new_id
from control_plane.parts import Parts, build
from control_plane.revisions import service as revisions
from control_plane.serve import listen
from control_plane.speech import worker as speech
from control_plane.speech.worker import Speech
from instance_agent import app as agent_app
from instance_agent.document import Document, Llm
from instance_agent.media import MediaStore
from instance_agent.metrics import Metrics
from instance_agent.problems import Refusal
from instance_agent.protocol import TranscribeRequest
from instance_agent.speech import Transcription
from tests.conftest import PUBLIC_URL
from tests.control_plane.conversations.scene import Bot, Worker
from tests.control_plane.ingest.conftest import Agent, Agents, agents
from tests.control_plane.media.conftest import add
from tests.model_provider import KEY, ModelProvider, _Server, providing

__all__ = ["agents"]

LOOPBACK = networks("127.0.0.0/8")
# What browsers play, so nothing is made of it.
VOICE = b"ID3\x04" + bytes(range(256)) * 20


@pytest.fixture
async def parts(app_url, keys, clock, rates, storage) -> AsyncIterator[Parts]:
    """The parts of a platform that may call this machine."""
    parts = build(
        database_url=app_url,
        keys=keys,
        clock=clock,
        public_url=PUBLIC_URL,
        rates=rates,
        media=storage,
        outbound_allow=LOOPBACK,
    )
    yield parts
    await parts.close()


@pytest.fixture
async def provider() -> AsyncIterator[ModelProvider]:
    async with providing() as provider:
        yield provider


class Hearing:
    """The part of an agent that has voices written down, with its own store of media."""

    def __init__(self, agent: Agent, client: httpx2.AsyncClient, folder: Path) -> None:
        self._llm = Llm()
        self.url = ""
        self.asked: list[TranscribeRequest] = []
        media = MediaStore(
            http=client,
            control_url=PUBLIC_URL,
            instance_id=agent.instance_id,
            secret=lambda: agent.secret,
            folder=folder,
            clock=lambda: agent.clock.now().timestamp(),
            random=random.Random(1),
        )
        self.transcription = Transcription(
            lambda: self._llm,
            lambda: Outbound(LOOPBACK),
            media=media,
            metrics=Metrics(),
            now=time.monotonic,
        )

    def learn(self, document: dict[str, Any]) -> None:
        self._llm = Document.model_validate(document).llm

    async def _transcribe(self, request: Request) -> Response:
        ask = msgspec.json.decode(await request.body(), type=TranscribeRequest)
        self.asked.append(ask)
        return agent_app._json(await self.transcription.transcribe(ask))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen on a free port until the end of the block."""
        listener = listen("127.0.0.1", 0)
        route = Route("/astrbot-api/v1/speech/transcribe", self._transcribe, methods=["POST"])
        application = Starlette(
            routes=[route],
            exception_handlers={Refusal: agent_app._refused},  # type: ignore[dict-item]
        )
        config = uvicorn.Config(
            application, lifespan="off", log_config=None, timeout_graceful_shutdown=1
        )
        server = _Server(config)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield
        server.should_exit = True
        await task
        listener.close()
        await self.transcription.close()


class Shop:
    """A bot that is spoken to."""

    def __init__(
        self, bot: Bot, agent: Agent, hearing: Hearing, provider: ModelProvider, superuser: Any
    ) -> None:
        self.bot = bot
        self.agent = agent
        self.hearing = hearing
        self.provider = provider
        self.superuser = superuser
        self.account = ""

    @property
    def owner(self) -> Any:
        return self.bot.owner

    async def write(self, **document: Any) -> httpx2.Response:
        path = f"/instances/{self.bot.instance_id}/revisions"
        answer: httpx2.Response = await self.owner.post(path, {"document": document})
        return answer

    async def publish(self, **document: Any) -> None:
        """Publish a document, and have the agent know it."""
        written = await self.write(**document)
        assert written.status_code == 201, written.text
        published = await self.owner.post(f"/revisions/{written.json()['id']}/publish")
        assert published.status_code == 200, published.text
        await self.learn()

    async def learn(self) -> None:
        async with self.bot.session() as session:
            state = await revisions.standing(session, self.bot.instance_id)
            keys = self.bot.parts.house.keys
            update = await compiled(session, keys, self.bot.instance_id, state.desired)
        self.hearing.learn(update.document)

    def heard_by(self, **more: Any) -> dict[str, Any]:
        return {"provider": self.account, "model": "whisper-1", **more}

    async def hears(
        self, key: str = "a", *, segments: list[Segment] | None = None, **voice: Any
    ) -> UUID:
        """A customer says something; the conversation."""
        if segments is None:
            media_id = await add(self.agent, VOICE, "一.mp3")
            segments = [Voice(ref=Ref(via="media", id=media_id), **voice)]
        answer = await self.agent.post(self.agent.message(key, segments=segments))
        assert answer.json()["results"][0]["status"] == "stored", answer.text
        [row] = await self.superuser.fetch(
            "SELECT id FROM conversations WHERE channel_id = $1", self.agent.channel_id
        )
        conversation: UUID = row["id"]
        return conversation

    async def said(self, conversation: UUID) -> list[Any]:
        """What members see of the voices."""
        thread = await self.bot.thread(conversation)
        return [
            segment.get("transcript")
            for message in thread
            for segment in message["segments"]
            if segment["type"] == "voice"
        ]

    async def told(self, kind: str = "asr.completed") -> list[dict[str, Any]]:
        """What the tenant's stream has of it."""
        rows = await self.superuser.fetch(
            "SELECT data FROM stream WHERE type = $1 AND tenant_id = $2 ORDER BY epoch, seq",
            kind,
            self.bot.tenant_id,
        )
        return [msgspec.json.decode(row["data"]) for row in rows]

    async def left(self) -> tuple[int, int]:
        """Tasks, and rows of work that point at them."""
        tasks = await self.superuser.fetchval("SELECT count(*) FROM speech_tasks")
        work = await self.superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'speech'")
        return tasks, work

    async def task(self) -> UUID:
        task: UUID = await self.superuser.fetchval("SELECT id FROM speech_tasks")
        return task


@pytest.fixture
async def shop(
    parts: Parts, people, agents: Agents, client, provider, superuser, tmp_path, writing
) -> AsyncIterator[Shop]:
    """Its document names who hears, and its agent runs."""
    owner = await people.owner()
    agent = await agents.make(owner=owner)
    bot = Bot(
        parts=parts,
        owner=owner,
        instance_id=agent.instance_id,
        channel_id=agent.channel_id,
        token="",
        generation=1,
    )
    hearing = Hearing(agent, client, tmp_path)
    shop = Shop(bot, agent, hearing, provider, superuser)
    body = {"name": "Ears", "kind": "openai", "base_url": provider.url, "api_key": KEY}
    shop.account = (await owner.post("/providers", body)).json()["id"]
    async with hearing.running():
        await bot.attach(hearing.url, new_id())
        await shop.publish(speech=shop.heard_by(language="zh"))
        yield shop


@pytest.fixture
def hearer(parts: Parts) -> Speech:
    return Speech(parts.house.database, parts.house.keys, parts.house.clock, parts.agents)


@pytest.fixture
def worker(parts: Parts, hearer: Speech) -> Worker:
    return Worker(parts.house.database, speech.WORK, hearer.run)
