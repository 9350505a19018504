"""What a trial brings along, run here: its script makes roles and a database that suffice, and its
processes, which start beside it, wait for the schema.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import httpx2
import pytest
from sqlalchemy.engine import make_url

from control_plane.db.embedded import EmbeddedPostgres, Server
from control_plane.db.migrate import migrate
from control_plane.db.postgres_process import BinariesMissingError, locate_binaries
from tests.helm.conftest import one

PATIENCE_S = 120
"""Starting is work of seconds, on a busy machine of many."""

PARTS = ("api", "worker", "controller")


@pytest.fixture
def programs() -> Path:
    try:
        return locate_binaries(None)
    except BinariesMissingError as error:
        pytest.skip(
            f"no PostgreSQL of our own, so nothing shows that a trial's script works: {error}"
        )


@pytest.fixture
async def server(tmp_path: Path, programs: Path) -> AsyncIterator[Server]:
    """A fresh server, as the trial's image starts one."""
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    server = await postgres.start()
    url = make_url(server.url("postgres", server.superuser_password, "postgres"))
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain)
    await connection.execute("DROP DATABASE botyard")
    await connection.execute("DROP ROLE botyard, botyard_owner")
    await connection.close()
    yield server
    await postgres.stop()


@pytest.fixture
async def urls(server: Server, programs: Path, documents, tmp_path: Path) -> dict[str, str]:
    """Of the owner and of the application, after the script has run."""
    made = documents("trial")
    secret = one(made, "Secret", "botyard-trial")["stringData"]
    script = one(made, "ConfigMap", "botyard-trial-postgresql")["data"]["roles.sh"]
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name in ("owner-password", "app-password"):
        (folder / name).write_text(secret[name])
    done = await asyncio.create_subprocess_exec(
        "bash",
        "-euc",
        script.replace("/run/secrets/trial", str(folder)),
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "POSTGRES_USER": "postgres",
            "PGHOST": str(server.socket_dir),
            "PGPASSWORD": server.superuser_password,
        },
    )
    assert await done.wait() == 0
    found = {}
    for key in ("database-url", "owner-database-url"):
        given = make_url(secret[key])
        found[key] = server.url(given.username, given.password, given.database)
    return found


class Process:
    """One of them, and where it is asked how it is."""

    def __init__(self, child: asyncio.subprocess.Process, port: int) -> None:
        self._child, self._port = child, port

    async def ask(self, http: httpx2.AsyncClient, path: str) -> httpx2.Response | None:
        """None while it does not listen yet."""
        assert self._child.returncode is None
        try:
            return await http.get(f"http://127.0.0.1:{self._port}{path}")
        except httpx2.TransportError:
            return None

    async def end(self) -> None:
        if self._child.returncode is None:
            self._child.terminate()
        await self._child.wait()


@pytest.fixture
async def processes(
    urls: dict[str, str], tmp_path: Path, unused_tcp_port_factory
) -> AsyncIterator[dict[str, Process]]:
    started = {}
    for part in PARTS:
        port = unused_tcp_port_factory()
        environment = {
            "PATH": os.environ["PATH"],
            "BOTYARD_DATABASE_URL": urls["database-url"],
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
        await process.end()


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await done():
                return
            await asyncio.sleep(0.2)


async def test_processes_wait_for_the_schema_and_then_work(
    urls: dict[str, str], processes: dict[str, Process]
) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:

        async def ready() -> bool:
            answers = [await each.ask(http, "/readyz") for each in processes.values()]
            return all(answer is not None and answer.is_success for answer in answers)

        async def working() -> bool:
            for part, loop in (("worker", "turn"), ("controller", "leader")):
                answer = await processes[part].ask(http, "/metrics")
                well = f'botyard_loop_last_success_timestamp_seconds{{loop="{loop}"}}'
                if answer is None or well not in answer.text:
                    return False
            return True

        await until(ready)
        assert not await working()
        app = make_url(urls["database-url"]).username
        await migrate(urls["owner-database-url"], grant_to=app)
        await until(working)
        answer = await processes["api"].ask(http, "/api/v1/auth/me")
        assert answer is not None
        assert answer.status_code == 401
