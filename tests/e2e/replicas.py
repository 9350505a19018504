"""Two of each process over one database, behind a balancer, and a witness of what they do twice.

The witness is in the database: it notes each lease that was taken over without being given back,
and each timed job that was done, by whoever led.
"""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import asyncpg
import httpx2
import psutil

from control_plane.kit.ids import new_token
from tests.e2e.conftest import free_port, until
from tests.faults.proxy import Proxy

BOTYARD = str(Path(sys.executable).with_name("botyard"))
PATIENCE_S = 120.0
STOP_WITHIN_S = 40
PARTS = [f"{command}-{number}" for command in ("api", "worker", "controller") for number in (1, 2)]

GATE = 7_777
"""Who holds this advisory lock keeps every timed job in the middle of its transaction."""

JOBS = {
    "ensure_partitions": "(a timestamptz, b timestamptz) RETURNS integer",
    "prune": "(a timestamptz, b timestamptz, c integer) RETURNS bigint",
    "prune_audit": "(a timestamptz, c integer) RETURNS bigint",
}
_ARGUMENTS = {"ensure_partitions": "a, b", "prune": "a, b, c", "prune_audit": "a, c"}
_SEES = """
CREATE SCHEMA replicas;
CREATE TABLE replicas.taken (
    kind text, key uuid, former text, owner text, expired interval
);
CREATE TABLE replicas.done (job text, leader text);
CREATE FUNCTION replicas.takes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO replicas.taken
    VALUES (NEW.kind, NEW.key, OLD.owner, NEW.owner, clock_timestamp() - OLD.expires_at);
    RETURN NULL;
END $$;
CREATE TRIGGER replicas_takes AFTER UPDATE OF token ON work FOR EACH ROW
    WHEN (OLD.token IS NOT NULL AND NEW.token IS NOT NULL AND OLD.token <> NEW.token)
    EXECUTE FUNCTION replicas.takes();
"""
_SEES_JOB = """
ALTER FUNCTION {job} RENAME TO {job}_itself;
CREATE FUNCTION {job}{signature} LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({gate});
    INSERT INTO replicas.done SELECT '{job}', owner FROM work WHERE kind = 'leader';
    RETURN {job}_itself({arguments});
END $$;
"""
HELD_UP = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"


async def install(connection: asyncpg.Connection) -> None:
    """From here on the witness sees; timed jobs wait until the gate is opened."""
    await connection.execute(_SEES)
    for job, signature in JOBS.items():
        await connection.execute(
            _SEES_JOB.format(job=job, signature=signature, gate=GATE, arguments=_ARGUMENTS[job])
        )
    await connection.execute("SELECT pg_advisory_lock($1)", GATE)


class Replicas:
    """The processes that run, by name; each has the same settings but for its port."""

    def __init__(self, folder: Path, app_url: str) -> None:
        self._folder = folder
        self._app_url = app_url
        self._ports = {name: free_port() for name in PARTS if name.startswith("api")}
        self._turns = itertools.count()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ""
        self.serves_page = ""
        """The api process to which a page was led last."""

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """All serve; at the end none is left, and no agent."""
        async with Proxy("balancer", self._balance, Random(0)) as balancer:
            self.url = f"http://127.0.0.1:{balancer.port}"
            self._environment = self._settings()
            try:
                for name in PARTS:
                    self._start(name)
                for port in self._ports.values():
                    await until(lambda port=port: _serves(port), "an api serves", PATIENCE_S)
                yield
            finally:
                for process in self._running.values():
                    process.kill()
                    process.wait()
                for agent in self.agents():
                    agent.kill()

    def _next(self) -> str:
        """One after the other, dead ones left out, as a Kubernetes service does."""
        living = [name for name in self._ports if name in self._running]
        return living[next(self._turns) % len(living)]

    def _balance(self, _: tuple[str, int]) -> tuple[str, int]:
        return "127.0.0.1", self._ports[self._next()]

    def page(self, url: str) -> str:
        """Where a page connects this time, so that the test knows to whom."""
        self.serves_page = self._next()
        return url.replace(self.url, f"http://127.0.0.1:{self._ports[self.serves_page]}")

    def _settings(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "BOTYARD_DATABASE_URL": self._app_url,
            "BOTYARD_SECRET_KEYS": new_token(),
            "BOTYARD_PUBLIC_URL": self.url,
            "BOTYARD_CONTROL_URL": self.url,
            # The stand-in of who runs models is on this machine.
            "BOTYARD_OUTBOUND_ALLOW": "127.0.0.0/8",
            "BOTYARD_DATA_DIR": str(self._folder / "data"),
        }

    def _start(self, name: str) -> None:
        port = {"BOTYARD_PORT": str(self._ports.get(name, 0))}
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [BOTYARD, name.partition("-")[0]],
                env=self._environment | port,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def command(self, *words: str) -> str:
        """What a command that ends prints."""
        done = subprocess.run(
            [BOTYARD, *words], env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def who(self, owner: str) -> str:
        """Which process holds a lease under this name."""
        pid = int(owner.split(":")[1])
        return next(name for name, process in self._running.items() if process.pid == pid)

    def kill(self, name: str) -> None:
        """kill -9, and nobody starts it again."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> list[int]:
        """Ask all that are left to end; how they did."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        return [process.wait(STOP_WITHIN_S) for process in self._running.values()]

    def agents(self) -> list[psutil.Process]:
        """The agents that run on this installation's behalf."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if "instance_agent" in words and any(str(self._folder) in word for word in words):
                found.append(process)
        return found


async def _serves(port: int) -> bool:
    async with httpx2.AsyncClient(trust_env=False) as http:
        try:
            answer = await http.get(f"http://127.0.0.1:{port}/readyz")
        except httpx2.HTTPError:
            return False
    return answer.status_code == httpx2.codes.OK
