"""`botyard migrate | api | worker | controller` as processes of their own, as in production."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from control_plane.kit.ids import new_token

BOTYARD = str(Path(sys.executable).with_name("botyard"))


class Processes:
    """The commands of one installation over one database."""

    def __init__(self, folder, app_url, owner_url, port):
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "BOTYARD_DATABASE_URL": app_url,
            "BOTYARD_OWNER_DATABASE_URL": owner_url,
            "BOTYARD_SECRET_KEYS": new_token(),
            "BOTYARD_PORT": str(port),
            "BOTYARD_DATA_DIR": str(folder / "data"),
        }
        self.running = []

    def run(self, *words):
        """A command that ends; what it printed."""
        done = subprocess.run(
            [BOTYARD, *words], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *words):
        """A command that serves."""
        log = (self.folder / f"{words[0]}.log").open("wb")
        with log:
            process = subprocess.Popen([BOTYARD, *words], env=self.environment, stdout=log)
        self.running.append(process)
        return process

    def stop(self):
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        return [process.wait(20) for process in self.running]


@pytest.fixture
async def processes(tmp_path, app_url, owner_url, port):
    """Migrated and started; at the end everything is asked to stop, and must."""
    started = Processes(tmp_path, app_url, owner_url, port)
    await asyncio.to_thread(started.run, "migrate")
    for command in ("api", "worker", "controller"):
        started.start(command)
    yield started
    await asyncio.to_thread(started.stop)


@pytest.fixture
def port(free_port):
    return free_port()


class TestProcesses:
    async def test_a_customer_is_answered_across_them_and_each_stops_when_asked(
        self, processes, until, page_of
    ):
        said = await asyncio.to_thread(processes.run, "operator", "op@example.com")
        password = said.split()[-1]
        async with httpx2.AsyncClient(
            base_url=f"{processes.url}/api/v1", trust_env=False, timeout=20
        ) as http:
            await until(lambda: self._ready(http), "the api serves")
            operator = await self._sign_in(http, "op@example.com", password)
            boss = {"company": "茶馆", "email": "boss@tea.example", "password": "a long password"}
            await http.post("/auth/register", json=boss)
            waiting = await http.get("/tenants?state=pending", headers=operator)
            tenant = waiting.json()["items"][0]["id"]
            await http.post(f"/tenants/{tenant}/approve", headers=operator)
            owner = await self._sign_in(http, boss["email"], boss["password"])
            bot = (await http.post("/instances", json={"name": "b"}, headers=owner)).json()["id"]
            body = {"kind": "webchat", "name": "web"}
            path = f"/instances/{bot}/channels"
            channel = (await http.post(path, json=body, headers=owner)).json()
            items = [{"question": "有什么茶？", "answer": "龙井和普洱。"}]
            await http.put("/answers", json={"items": items}, headers=owner)

            async def runs():
                answer = await http.get(f"/instances/{bot}", headers=owner)
                return answer.json()["phase"] == "running"

            await until(runs, "the bot runs")
            async with page_of(channel["webchat_url"]) as page:
                await page.say("1", "有什么茶呀？")
                await page.sees(lambda page: page.answers == ["龙井和普洱。"])
            await http.delete(f"/instances/{bot}", headers=owner)

            async def gone():
                return (await http.get(f"/instances/{bot}", headers=owner)).status_code == 404

            await until(gone, "the bot is gone")
        assert await asyncio.to_thread(processes.stop) == [0, 0, 0]

    async def test_without_settings_each_says_what_it_needs(self, tmp_path):
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        for command in ("api", "worker", "controller", "migrate"):
            done = await asyncio.to_thread(
                subprocess.run,
                [BOTYARD, command],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                cwd=tmp_path,
            )
            assert done.returncode == 1
            assert "BOTYARD_DATABASE_URL" in done.stdout
            assert "Traceback" not in done.stdout + done.stderr

    @staticmethod
    async def _ready(http):
        try:
            return (await http.get("/openapi.json")).status_code == 200
        except httpx2.HTTPError:
            return False

    @staticmethod
    async def _sign_in(http, email, password):
        answer = await http.post("/auth/login", json={"email": email, "password": password})
        return {"authorization": f"Bearer {answer.json()['access_token']}"}
