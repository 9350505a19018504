"""Places where agents run, for the conformance suite and the tests of each provisioner."""

import asyncio
import json
import os
import select
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from control_plane.fleet.provision.base import (
    InstanceSpec,
    Provisioner,
    Workload,
    WorkloadState,
)
from control_plane.fleet.provision.fake import FakePlace, FakeProvisioner
from control_plane.fleet.provision.process import ProcessProvisioner, ProcessSettings
from tests.cluster.substrate.plan import SIMULATED
from tests.control_plane.fleet.provision.pods import PodBench, placement

HERE = Path(__file__).parent
PATIENCE_S = 30
"""Longest wait for something that must happen."""


class SetClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def advance(self, by: timedelta) -> None:
        self.time += by


class AtOnce:
    """A place where everything is done when the call returns, on the test's clock."""

    refits_in_place = True
    has_logs = True
    after_a_death = WorkloadState.EXITED
    clock: SetClock

    def is_now(self, moment: datetime) -> bool:
        return moment == self.clock.now()

    async def settled(self, provisioner: Provisioner, instance_id: UUID) -> Workload:
        return (await provisioner.observe([instance_id]))[instance_id]


class FakeBench(AtOnce):
    """The fake as the conformance suite sees it."""

    def __init__(self, clock: SetClock) -> None:
        self.clock = clock
        self.place = FakePlace(clock)

    def caller(self) -> Provisioner:
        return FakeProvisioner(self.place)

    async def kill(self, instance_id: UUID) -> None:
        self.place.exit(instance_id)

    async def say(self, instance_id: UUID, line: str) -> None:
        self.place.say(instance_id, line)

    async def close(self) -> None:
        return None


@dataclass
class StandIn:
    """One running stand-in and the line to it."""

    hello: dict
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def pid(self) -> int:
        return self.hello["pid"]

    async def tell(self, order: str, argument: str = "") -> object:
        self.writer.write(json.dumps([order, argument]).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            answer = await self.reader.readline()
        return json.loads(answer) if answer else None


class ProcessBench(AtOnce):
    """Real processes: stand-ins that report to a small server here."""

    def __init__(self, folder: Path, clock: SetClock) -> None:
        self.folder = folder
        self.clock = clock
        self.command = (sys.executable, str(HERE / "stand_in.py"))
        self.agents: list[StandIn] = []
        self._arrived = asyncio.Condition()
        self._callers: list[ProcessProvisioner] = []
        self._outside: list[asyncio.subprocess.Process] = []
        self._server: asyncio.Server | None = None
        self.url = ""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def caller(self, **changes) -> ProcessProvisioner:
        arguments = {
            "control_url": self.url,
            "mint": lambda spec, place: f"token-{spec.generation}",
            "clock": self.clock,
            "command": self.command,
            "settings": ProcessSettings(),
            **changes,
        }
        provisioner = ProcessProvisioner(self.folder, **arguments)
        self._callers.append(provisioner)
        return provisioner

    async def outside_caller(
        self, spec: InstanceSpec, *, dies: str = "never"
    ) -> asyncio.subprocess.Process:
        """A caller in a process of its own."""
        order = [str(self.folder), self.url, self.command, str(spec.instance_id), spec.generation]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / "caller.py"),
            json.dumps([*order, dies]),
            stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._outside.append(process)
        return process

    def record(self, instance_id: UUID) -> dict:
        return json.loads((self.folder / str(instance_id) / "state.json").read_text())

    async def agent(self, instance_id: UUID) -> StandIn:
        """The agent that the record names, once it has reported."""
        pid = self.record(instance_id)["process"]["pid"]
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: any(agent.pid == pid for agent in self.agents))
        return next(agent for agent in self.agents if agent.pid == pid)

    async def kill(self, instance_id: UUID) -> None:
        agent = await self.agent(instance_id)
        os.kill(agent.pid, signal.SIGKILL)
        await gone(agent.pid)

    async def say(self, instance_id: UUID, line: str) -> None:
        await (await self.agent(instance_id)).tell("say", line)

    async def close(self) -> None:
        for process in self._outside:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
        last = self.caller()
        for instance_id in [owned.instance_id async for owned in last.inventory()]:
            await last.destroy(instance_id)
        for provisioner in self._callers:
            await provisioner.close()
        for agent in self.agents:
            agent.writer.close()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = json.loads(await reader.readline())
        async with self._arrived:
            self.agents.append(StandIn(hello, reader, writer))
            self._arrived.notify_all()


async def gone(pid: int) -> None:
    """Wait until this process runs no more."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert await asyncio.to_thread(poll.poll, PATIENCE_S * 1000)
    finally:
        os.close(fd)


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
async def processes(tmp_path, clock):
    bench = ProcessBench(tmp_path / "instances", clock)
    await bench.open()
    yield bench
    await bench.close()


@pytest.fixture
def fake(clock):
    return FakeBench(clock)


@pytest.fixture
async def pods(cluster, cluster_prefix):
    bench = PodBench(cluster, placement(cluster_prefix, SIMULATED if cluster.simulated else None))
    await bench.open()
    yield bench
    await bench.close()


@pytest.fixture(params=["fake", "processes", "pods"])
def bench(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["fake", "processes"])
def telling(request):
    """Where the bench can have an agent write to its log."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def wait_gone():
    return gone
