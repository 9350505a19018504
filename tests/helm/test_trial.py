"""A trial's processes start beside their database and before its schema: they wait for both."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from control_plane.db.migrate import migrate
from tests.conftest import Ground

PATIENCE_S = 120
"""Starting is work of seconds, on a busy machine of many."""

PARTS = ("api", "worker", "controller")


class Process:
    """One of them, and where it is asked how it is."""

    def __init__(self, child: asyncio.subprocess.Process, port: int) -> None:
        self.child, self.port = child, port

    async def ask(self, http: httpx2.AsyncClient, path: str) -> httpx2.Response:
        """As soon as it listens; an end of the process is an error."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                assert self.child.returncode is None
                try:
                    return await http.get(f"http://127.0.0.1:{self.port}{path}")
                except httpx2.TransportError:
                    await asyncio.sleep(0.2)


@pytest.fixture
async def empty(ground: Ground) -> AsyncIterator[str]:
    """A database without a schema."""
    name = f"empty_{os.getpid()}"
    await ground.create(name, source="template1")
    yield name
    await ground.drop(name)


@pytest.fixture
async def processes(
    ground: Ground, empty: str, tmp_path: Path, unused_tcp_port_factory
) -> AsyncIterator[dict[str, Process]]:
    started = {}
    for part in PARTS:
        port = unused_tcp_port_factory()
        environment = {
            "PATH": os.environ["PATH"],
            "BOTYARD_DATABASE_URL": ground.url(ground.app, empty),
            "BOTYARD_SECRET_KEYS": "k" * 32,
            "BOTYARD_DATA_DIR": str(tmp_path),
            "BOTYARD_PORT": str(port),
            "BOTYARD_PROBE_PORT": str(port),
        }
        with (tmp_path / f"{part}.log").open("w") as log:
            child = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).with_name("botyard")), part, env=environment, stdout=log
            )
        started[part] = Process(child, port)
    yield started
    for process in started.values():
        if process.child.returncode is None:
            process.child.terminate()
        await process.child.wait()


async def test_processes_wait_for_the_schema_and_then_work(
    ground: Ground, empty: str, processes: dict[str, Process]
) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        for process in processes.values():
            assert (await process.ask(http, "/readyz")).status_code == 200
        await migrate(ground.url(ground.owner, empty), grant_to=ground.app)

        assert (await processes["api"].ask(http, "/api/v1/auth/me")).status_code == 401
        for part, loop in (("worker", "turn"), ("controller", "leader")):
            well = f'botyard_loop_last_success_timestamp_seconds{{loop="{loop}"}}'
            async with asyncio.timeout(PATIENCE_S):
                while well not in (await processes[part].ask(http, "/metrics")).text:
                    await asyncio.sleep(0.2)
