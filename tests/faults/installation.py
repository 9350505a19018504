"""An installation as in production, every part a process of its own and every link a proxy."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock
from urllib.parse import quote

import asyncpg
import httpx2
import psutil
from sqlalchemy.engine import make_url

from adapters.simulators.wecom import WeCom
from control_plane.db import embedded
from control_plane.db.embedded import EmbeddedPostgres, Server
from control_plane.kit.ids import new_token
from tests.e2e.conftest import free_port, until
from tests.faults import skewed, witness
from tests.faults.proxy import Proxy
from tests.faults.weather import PARTS
from tests.redis_server import RedisServer

BOTYARD = str(Path(sys.executable).with_name("botyard"))
PATIENCE_S = 120.0
"""For a start on a busy machine."""

OPERATOR = "op@example.com"
BOSS = {"email": "boss@tea.example", "password": "a long password"}
"""Whose the tenant is, and who answers customers."""

ANSWERS = {
    "你们几点开门？": "早上九点。",
    "你们在哪里？": "人民路 88 号。",
    "怎么退货？": "收到后 24 小时内联系我们。",
    "可以送货上门吗？": "市区两小时内送达。",
}


class Installation:
    """One tenant with a bot that has a WeCom application and a web chat."""

    def __init__(self, folder: Path, redis: RedisServer, wecom: WeCom, random: Random) -> None:
        self.folder = folder
        self.redis = redis
        self.wecom = wecom
        self.links: dict[str, Proxy] = {}
        self.webchat_url = ""
        self.channels: dict[str, str] = {}
        self._random = random
        self._postgres = EmbeddedPostgres(folder / "postgres")
        self._server: Server | None = None
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._environment: dict[str, str] = {}

    # --- start and end ---

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Everything runs, and the bot is connected; at the end nothing is left."""
        async with AsyncExitStack() as stack:
            with mock.patch.dict(embedded.SERVER_SETTINGS, fsync="off"):
                self._server = await self._postgres.start()
            stack.push_async_callback(self._postgres.stop)
            port = free_port()
            socket = self._server.socket_dir / embedded.SOCKET
            wecom = ("127.0.0.1", int(self.wecom.url.rpartition(":")[2]))
            targets: dict[str, Any] = {
                "database": socket,
                "redis": Path(self.redis.url.removeprefix("unix://")),
                "agents": ("127.0.0.1", port),
                "control": witness.port_meant,
                "public": ("127.0.0.1", port),
                "platform": wecom,
            }
            for name, target in targets.items():
                link = Proxy(name, target, self._random)
                self.links[name] = await stack.enter_async_context(link)
            self._environment = self._settings(port)
            stack.callback(self._end)
            await asyncio.to_thread(self._command, "migrate")
            async with self.behind_the_walls() as connection:
                await witness.install(connection, agents_link=self.links["control"].port)
            for name in (*PARTS, "agent"):
                self.set_clock(name, 0.0)
            for name in PARTS:
                self.start(name)
            await self._furnish(await asyncio.to_thread(self._command, "operator", OPERATOR))
            yield

    def _settings(self, port: int) -> dict[str, str]:
        through = self._url(self._postgres.app_url)
        links = self.links
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "BOTYARD_DATABASE_URL": through,
            "BOTYARD_OWNER_DATABASE_URL": self._postgres.owner_url,
            "BOTYARD_REDIS_URL": f"redis://127.0.0.1:{links['redis'].port}/0",
            "BOTYARD_SECRET_KEYS": new_token(),
            "BOTYARD_PORT": str(port),
            "BOTYARD_PUBLIC_URL": f"http://127.0.0.1:{links['public'].port}",
            "BOTYARD_CONTROL_URL": f"http://127.0.0.1:{links['agents'].port}",
            # The stand-in of the platform is on this machine.
            "BOTYARD_OUTBOUND_ALLOW": "127.0.0.0/8",
            "BOTYARD_DATA_DIR": str(self.folder / "data"),
        }

    def _url(self, direct: str) -> str:
        """The same database through its link."""
        url = make_url(direct)
        password = quote(str(url.password), safe="")
        port = self.links["database"].port
        return f"postgresql+asyncpg://{url.username}:{password}@127.0.0.1:{port}/{url.database}"

    def _command(self, *words: str) -> str:
        done = subprocess.run(
            [BOTYARD, *words], env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, name: str) -> None:
        """Start a part that does not run."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [
                    *(sys.executable, skewed.__file__),
                    *(str(self._clock(name)), str(self._clock("agent")), "botyard", PARTS[name]),
                ],
                env=self._environment | ({} if name == "api" else {"BOTYARD_PORT": "0"}),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _end(self) -> None:
        """Kill all parts: their links end with this loop, so there is nothing left to finish."""
        for process in self._running.values():
            process.kill()
            process.wait()
        for agent in self.agents():
            agent.kill()

    # --- one tenant ---

    async def _furnish(self, said: str) -> None:
        async with self.client() as http:

            async def ready() -> bool:
                with contextlib.suppress(httpx2.HTTPError):
                    return (await http.get("/openapi.json")).status_code == 200
                return False

            await until(ready, "the api serves", PATIENCE_S)
            await http.post("/auth/register", json={"company": "茶馆", **BOSS})
            operator = {"email": OPERATOR, "password": said.split()[-1]}
            await sign_in(http, operator)
            waiting = (await http.get("/tenants?state=pending")).json()["items"]
            await http.post(f"/tenants/{waiting[0]['id']}/approve")
            await sign_in(http, BOSS)
            items = [{"question": q, "answer": a} for q, a in ANSWERS.items()]
            assert (await http.put("/answers", json={"items": items})).status_code == 200
            await self._open_channels(http)

    async def _open_channels(self, http: httpx2.AsyncClient) -> None:
        bot = (await http.post("/instances", json={"name": "b"})).json()["id"]
        link = f"http://127.0.0.1:{self.links['platform'].port}"
        wecom = {"kind": "wecom", "name": "客服"}
        wecom_settings = self.wecom.settings | {"base_url": link}
        bodies = [wecom | {"settings": wecom_settings}, {"kind": "webchat", "name": "Site"}]
        ids = []
        for body in bodies:
            answer = await http.post(f"/instances/{bot}/channels", json=body)
            assert answer.status_code == 201, answer.text
            ids.append(answer.json()["id"])
            self.channels[body["kind"]] = ids[-1]
            if answer.json()["webchat_url"]:
                self.webchat_url = answer.json()["webchat_url"]
            else:
                self.wecom.callback_url = answer.json()["callback_url"]

        async def connected() -> bool:
            states = [(await http.get(f"/channels/{each}")).json()["state"] for each in ids]
            return states == ["connected"] * len(ids)

        await until(connected, "connected channels", PATIENCE_S)

    @property
    def public_url(self) -> str:
        return self._environment["BOTYARD_PUBLIC_URL"]

    def client(self) -> httpx2.AsyncClient:
        """Somebody with a browser."""
        url = f"{self.public_url}/api/v1"
        return httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20)

    # --- what a fault needs ---

    def kill(self, name: str) -> None:
        """kill -9, and start again as a supervisor would."""
        self._running[name].kill()
        self._running[name].wait()
        self.start(name)

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """What stands still for as long as this lasts, and does not know it."""
        processes = self._processes(name)
        _signal(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(processes, signal.SIGCONT)

    def _processes(self, name: str) -> list[psutil.Process]:
        if name == "agent":
            return self.agents()
        if name == "database":
            assert self._server is not None
            server = psutil.Process(self._server.pid)
            return [server, *server.children(recursive=True)]
        return [psutil.Process(self.redis.pid if name == "redis" else self._running[name].pid)]

    def _clock(self, name: str) -> Path:
        return self.folder / f"{name}.clock"

    def set_clock(self, name: str, ahead_s: float) -> None:
        skewed.set_ahead(self._clock(name), ahead_s)

    def agents(self) -> list[psutil.Process]:
        """The agents that run on this installation's behalf, dead ones left out."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if "instance_agent" in words and any(str(self.folder) in word for word in words):
                    found.append(process)
        return found

    def forget_disks(self) -> None:
        """What agents have written is gone; only while none runs and none is started."""
        for file in (self.folder / "data" / "instances").glob("*/agent/agent.db*"):
            file.unlink()

    def fill_disks(self, full: bool) -> None:
        """Agents cannot make any file longer, or can again."""
        for agent in self.agents():
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(agent.pid, resource.RLIMIT_FSIZE)
                soft = 0 if full else hard
                resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (soft, hard))

    @staticmethod
    def living(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
        """Those that have not ended."""
        found = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    async def kill_database(self) -> None:
        """kill -9 of the server, which then recovers."""
        assert self._server is not None
        os.kill(self._server.pid, signal.SIGKILL)
        await self._postgres.wait()
        with mock.patch.dict(embedded.SERVER_SETTINGS, fsync="off"):
            self._server = await self._postgres.start()

    @asynccontextmanager
    async def behind_the_walls(self) -> AsyncIterator[asyncpg.Connection]:
        """A superuser's connection, without the link."""
        assert self._server is not None
        server = self._server
        connection = await asyncpg.connect(
            host=str(server.socket_dir),
            port=embedded.PORT,
            user=embedded.SUPERUSER,
            password=server.superuser_password,
            database=embedded.DATABASE,
        )
        try:
            yield connection
        finally:
            await connection.close()


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


async def sign_in(http: httpx2.AsyncClient, who: dict[str, str]) -> None:
    """From here on this client speaks for somebody."""
    answer = await http.post("/auth/login", json=who)
    answer.raise_for_status()
    http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
