"""Agents as processes: kills at every moment, reused pids, secrets, limits, logs."""

import asyncio
import json
import os
import signal
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from control_plane.fleet.provision import process_home, process_table
from control_plane.fleet.provision.base import (
    ABSENT,
    Allowance,
    InstanceSpec,
    Release,
    Transient,
    Workload,
    WorkloadState,
)
from control_plane.fleet.provision.process import ProcessProvisioner, ProcessSettings
from control_plane.fleet.provision.process_launch import AgentLimits, niceness

GRACE = timedelta(seconds=20)
PATIENCE_S = 30


@pytest.fixture
def spec() -> InstanceSpec:
    return InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=3)


@pytest.fixture(params=["pidfd", "no pidfd"])
def either_kernel(request, monkeypatch):
    if request.param == "no pidfd":
        monkeypatch.setattr(process_table, "_open_pidfd", lambda pid: None)


async def observed(provisioner: ProcessProvisioner, spec: InstanceSpec) -> Workload:
    return (await provisioner.observe([spec.instance_id]))[spec.instance_id]


async def answer(caller: asyncio.subprocess.Process) -> str:
    async with asyncio.timeout(PATIENCE_S):
        line = await caller.stdout.readline()
    assert line
    return line.decode().strip()


async def dead(caller: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(PATIENCE_S):
        assert await caller.wait() == -9


def runs(pid: int) -> bool:
    entry = process_table._entry(pid)
    return entry is not None and not entry.dead


class TestACallerKilledWithSigkill:
    async def test_after_ensure_leaves_an_agent_that_the_next_one_adopts(self, processes, spec):
        caller = await processes.outside_caller(spec)
        ref = await answer(caller)
        caller.kill()
        await dead(caller)
        agent = await processes.agent(spec.instance_id)
        provisioner = processes.caller()
        adopted = await provisioner.ensure(spec)
        assert (adopted.ref, adopted.state) == (ref, WorkloadState.RUNNING)
        assert [each.pid for each in processes.agents] == [agent.pid]

    async def test_whose_agent_then_ends_is_told_without_an_exit_code(
        self, processes, clock, spec, either_kernel
    ):
        caller = await processes.outside_caller(spec)
        await answer(caller)
        caller.kill()
        await dead(caller)
        provisioner = processes.caller()
        changes = provisioner.changes()
        agent = await processes.agent(spec.instance_id)
        await agent.tell("say", "good-bye")
        await agent.tell("exit", "3")
        async with asyncio.timeout(PATIENCE_S):
            assert await anext(changes) == spec.instance_id
        workload = await observed(provisioner, spec)
        assert workload.state is WorkloadState.EXITED
        assert (workload.exit_code, workload.exited_at) == (None, clock.now())
        assert workload.last_lines == ("good-bye",)

    async def test_between_intent_and_spawn_leaves_nothing_that_runs(self, processes, spec):
        caller = await processes.outside_caller(spec, dies="before the spawn")
        await dead(caller)
        assert processes.record(spec.instance_id)["process"] is None
        provisioner = processes.caller()
        assert (await observed(provisioner, spec)).state is WorkloadState.EXITED
        assert (await provisioner.ensure(spec)).state is WorkloadState.RUNNING
        await processes.agent(spec.instance_id)
        assert len(processes.agents) == 1

    @pytest.mark.parametrize("first_call", ["observe", "ensure"])
    async def test_between_spawn_and_record_leaves_an_agent_that_is_found(
        self, processes, spec, first_call
    ):
        caller = await processes.outside_caller(spec, dies="before the pid is written")
        await dead(caller)
        intent = processes.record(spec.instance_id)
        assert intent["process"] is None
        provisioner = processes.caller()
        if first_call == "observe":
            assert (await observed(provisioner, spec)).state is WorkloadState.RUNNING
        assert (await provisioner.ensure(spec)).ref == intent["ref"]
        await processes.agent(spec.instance_id)
        assert len(processes.agents) == 1

    async def test_between_spawn_and_record_can_still_be_destroyed(self, processes, spec):
        caller = await processes.outside_caller(spec, dies="before the pid is written")
        await dead(caller)
        assert await processes.caller().destroy(spec.instance_id) == ABSENT
        assert command_lines(processes.folder / str(spec.instance_id)) == []

    async def test_while_it_stops_an_older_generation_is_finished_by_the_next(
        self, processes, spec
    ):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        older = await processes.agent(spec.instance_id)
        newer = replace(spec, generation=4)
        caller = await processes.outside_caller(newer, dies="while it stops an older one")
        await dead(caller)
        workload = await provisioner.ensure(newer)
        assert (workload.state, workload.generation) == (WorkloadState.RUNNING, 4)
        assert not runs(older.pid)


class TestTwoProcessesAtOnce:
    async def test_start_one_agent(self, processes, spec):
        callers = [await processes.outside_caller(spec) for _ in range(3)]
        refs = {await answer(caller) for caller in callers}
        assert len(refs) == 1
        await processes.agent(spec.instance_id)
        assert len(processes.agents) == 1

    async def test_the_second_gives_up_when_the_first_takes_long(self, processes, spec):
        home = process_home.Home(processes.folder, spec.instance_id)
        provisioner = processes.caller(settings=ProcessSettings(lock_wait=timedelta(0)))
        home.create()
        lock = home.try_lock()
        try:
            with pytest.raises(Transient, match="busy"):
                await provisioner.ensure(spec)
        finally:
            os.close(lock)
        assert (await provisioner.ensure(spec)).state is WorkloadState.RUNNING


class TestAReusedPid:
    """The record names a pid that now belongs to somebody else."""

    @pytest.fixture
    def sleeper(self):
        with subprocess.Popen(["sleep", "600"], start_new_session=True) as sleeper:
            yield sleeper
            sleeper.kill()

    @pytest.fixture
    async def bystander(self, processes, spec, sleeper, either_kernel):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        await processes.kill(spec.instance_id)
        await provisioner.close()
        record = processes.record(spec.instance_id)
        boot = record["process"]["birth"].partition("/")[0]
        record["process"] = {"pid": sleeper.pid, "birth": f"{boot}/1"}
        record["exit"] = None
        path = processes.folder / str(spec.instance_id) / "state.json"
        path.write_text(json.dumps(record))
        yield sleeper
        assert sleeper.poll() is None

    async def test_is_not_taken_for_the_agent(self, processes, spec, bystander):
        assert (await observed(processes.caller(), spec)).state is WorkloadState.EXITED

    async def test_is_left_alone_by_stop(self, processes, spec, bystander):
        workload = await processes.caller().stop(spec.instance_id, grace=GRACE)
        assert workload.state is WorkloadState.EXITED

    async def test_is_left_alone_by_destroy(self, processes, spec, bystander):
        assert await processes.caller().destroy(spec.instance_id) == ABSENT

    async def test_is_left_alone_by_a_new_start(self, processes, spec, bystander):
        await processes.caller().ensure(replace(spec, generation=4))
        assert (await processes.agent(spec.instance_id)).pid != bystander.pid

    async def test_is_left_alone_also_when_it_was_reused_while_we_watched(
        self, processes, spec, bystander
    ):
        key = process_table.ProcessKey(bystander.pid, "another birth")
        assert process_table.HeldProcess.hold(key, lambda: None) is None
        held = process_table.HeldProcess(key, None, lambda: None)
        held.send(process_table.signal.SIGKILL)
        held.close()


class TestAnUnreadableRecord:
    async def test_of_a_living_agent_lets_it_be_replaced(self, processes, spec):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        older = await processes.agent(spec.instance_id)
        await provisioner.close()
        (processes.folder / str(spec.instance_id) / "state.json").write_bytes(b"\0\0\0")
        workload = await processes.caller().ensure(spec)
        assert (workload.state, workload.generation) == (WorkloadState.RUNNING, 3)
        assert not runs(older.pid)

    async def test_that_is_gone_leaves_no_agent_without_one(self, processes, spec):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        older = await processes.agent(spec.instance_id)
        await provisioner.close()
        (processes.folder / str(spec.instance_id) / "state.json").unlink()
        next_one = processes.caller()
        assert await observed(next_one, spec) == ABSENT
        await next_one.ensure(spec)
        assert not runs(older.pid)


class TestWhatTheAgentIsGiven:
    async def test_is_its_own_folder_token_and_little_else(self, processes, monkeypatch, spec):
        monkeypatch.setenv("BOTYARD_SECRET_KEY", "open sesame")
        monkeypatch.setenv("TZ", "Asia/Shanghai")
        await processes.caller().ensure(spec)
        agent = await processes.agent(spec.instance_id)
        home = processes.folder / str(spec.instance_id)
        assert agent.hello["argv"] == [
            *("--instance-id", str(spec.instance_id)),
            *("--generation", "3"),
            *("--control-url", processes.url),
            *("--data-dir", str(home / "agent")),
            *("--bootstrap-file", str(home / "bootstrap")),
            *("--listen", "127.0.0.1:0"),
        ]
        assert agent.hello["token"] == "token-3"
        assert agent.hello["bootstrap_mode"] == 0o600
        assert agent.hello["cwd"] == str(home / "agent")
        assert agent.hello["session"] == agent.pid
        environment = agent.hello["env"]
        # PWD is the shell's own addition: the folder that it was started in.
        assert environment.pop("PWD", agent.hello["cwd"]) == agent.hello["cwd"]
        environment.pop("LC_CTYPE", None)
        assert environment == {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(home / "agent"),
            "TZ": "Asia/Shanghai",
            "PYTHONUNBUFFERED": "1",
        }

    async def test_has_the_options_of_its_release_and_nothing_of_its_image(self, processes, spec):
        settings = (("log_level", "debug"), ("max_connections", "64"))
        release = Release(number=1, image="agent:2", settings=settings)
        await processes.caller().ensure(replace(spec, release=release))

        agent = await processes.agent(spec.instance_id)

        assert agent.hello["env"]["BOTYARD_AGENT_LOG_LEVEL"] == "debug"
        assert agent.hello["env"]["BOTYARD_AGENT_MAX_CONNECTIONS"] == "64"
        assert "agent:2" not in str(agent.hello)

    async def test_says_which_private_networks_are_open(self, processes, spec):
        await processes.caller(outbound_allow="10.2.0.0/16").ensure(spec)

        agent = await processes.agent(spec.instance_id)

        assert agent.hello["argv"][-2:] == ["--outbound-allow", "10.2.0.0/16"]

    async def test_is_limited(self, processes, spec):
        limits = AgentLimits(open_files=128, address_space_bytes=2 * 1024**3)
        provisioner = processes.caller(settings=ProcessSettings(limits=limits))
        await provisioner.ensure(spec)
        agent = await processes.agent(spec.instance_id)
        assert agent.hello["core"] == [0, 0]
        assert agent.hello["files"] == [128, 128]
        assert agent.hello["address_space"] == [2 * 1024**3] * 2

    async def test_is_held_to_what_its_plan_gives(self, processes, spec):
        provisioner = processes.caller()
        await provisioner.ensure(replace(spec, allowance=Allowance(cpu=512, memory=2**27)))
        agent = await processes.agent(spec.instance_id)
        assert await agent.tell("may_use") == [2**27, os.nice(0) + 3]
        assert await agent.tell("take", str(2**28)) == "MemoryError"

        await provisioner.ensure(replace(spec, allowance=Allowance(cpu=100, memory=2**30)))

        assert await agent.tell("may_use") == [2**30, 10]
        assert await agent.tell("take", str(2**28)) == "taken"

    @pytest.mark.parametrize(
        ("cpu", "nice"), [(64_000, 0), (1000, 0), (800, 1), (500, 3), (250, 6), (100, 10), (50, 13)]
    )
    def test_stands_back_by_its_share_of_a_processor(self, cpu, nice):
        assert niceness(cpu) == nice

    async def test_is_closed_to_other_users(self, processes, spec):
        await processes.caller().ensure(spec)
        await processes.agent(spec.instance_id)
        home = processes.folder / str(spec.instance_id)
        modes = {path: path.stat().st_mode & 0o777 for path in [home, *home.rglob("*")]}
        assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in modes}

    async def test_is_a_new_token_for_each_start(self, processes, spec):
        tokens = iter(["one", "two"])
        provisioner = processes.caller(mint=lambda spec, place: next(tokens))
        await provisioner.ensure(spec)
        await processes.kill(spec.instance_id)
        await provisioner.ensure(spec)
        await processes.agent(spec.instance_id)
        assert [agent.hello["token"] for agent in processes.agents] == ["one", "two"]

    async def test_names_the_folder_in_which_nobody_else_lives_then(self, processes, spec):
        places, before = [], []

        def mint(spec, place):
            assert [process_table.birth_of(pid) for pid in before] == [None] * len(before)
            places.append(place)
            return "token"

        await processes.caller(mint=mint).ensure(spec)
        before.append((await processes.agent(spec.instance_id)).pid)
        os.kill(before[0], signal.SIGSTOP)
        # Another control plane over the same folder, and an agent that does not hear it.
        newer = replace(spec, generation=spec.generation + 1)
        hasty = ProcessSettings(replace_grace=timedelta(0))
        await processes.caller(mint=mint, settings=hasty).ensure(newer)
        assert len(places) == 2
        assert len(set(places)) == 1

    async def test_is_taken_back_when_it_ended_unread(self, processes, spec):
        provisioner = processes.caller(command=["false"])
        changes = provisioner.changes()
        await provisioner.ensure(spec)
        async with asyncio.timeout(PATIENCE_S):
            while (await observed(provisioner, spec)).state is not WorkloadState.EXITED:
                await anext(changes)
        assert not (processes.folder / str(spec.instance_id) / "bootstrap").exists()

    async def test_is_kept_over_restarts(self, processes, spec):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        kept = Path((await processes.agent(spec.instance_id)).hello["cwd"]) / "spool"
        kept.write_text("not yet accepted")
        await provisioner.stop(spec.instance_id, grace=GRACE)
        await provisioner.ensure(spec)
        await processes.agent(spec.instance_id)
        assert kept.read_text() == "not yet accepted"


class TestEnding:
    async def test_gives_the_exit_code_of_an_own_child(self, processes, spec, either_kernel):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        agent = await processes.agent(spec.instance_id)
        changes = provisioner.changes()
        await agent.tell("exit", "3")
        async with asyncio.timeout(PATIENCE_S):
            assert await anext(changes) == spec.instance_id
        assert (await observed(provisioner, spec)).exit_code == 3

    async def test_is_forced_on_an_agent_that_does_not_drain(self, processes, spec):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        await (await processes.agent(spec.instance_id)).tell("ignore_sigterm")
        stopped = await provisioner.stop(spec.instance_id, grace=timedelta(milliseconds=50))
        assert (stopped.state, stopped.exit_code) == (WorkloadState.EXITED, -9)

    async def test_shows_as_stopping_while_the_agent_drains(self, processes, spec):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        agent = await processes.agent(spec.instance_id)
        await agent.tell("ignore_sigterm")
        stop = asyncio.create_task(provisioner.stop(spec.instance_id, grace=GRACE))
        async with asyncio.timeout(PATIENCE_S):
            while (await observed(provisioner, spec)).state is WorkloadState.RUNNING:
                await agent.tell("say", "still here")
        assert (await observed(provisioner, spec)).state is WorkloadState.STOPPING
        await agent.tell("exit", "0")
        assert (await stop).exit_code == 0

    async def test_that_its_caller_gave_up_is_finished_by_the_next_ensure(self, processes, spec):
        settings = ProcessSettings(replace_grace=timedelta(milliseconds=50))
        provisioner = processes.caller(settings=settings)
        first = await provisioner.ensure(spec)
        agent = await processes.agent(spec.instance_id)
        await agent.tell("ignore_sigterm")
        stop = asyncio.create_task(provisioner.stop(spec.instance_id, grace=GRACE))
        async with asyncio.timeout(PATIENCE_S):
            while (await observed(provisioner, spec)).state is WorkloadState.RUNNING:
                await agent.tell("say", "still here")
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        second = await provisioner.ensure(spec)
        assert (second.state, second.generation) == (WorkloadState.RUNNING, 3)
        assert second.ref != first.ref
        assert not runs(agent.pid)

    async def test_ends_what_the_agent_started_too(self, processes, spec, wait_gone, either_kernel):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        agent = await processes.agent(spec.instance_id)
        started = await agent.tell("start")
        assert runs(started)
        changes = provisioner.changes()
        await agent.tell("exit", "0")
        async with asyncio.timeout(PATIENCE_S):
            assert await anext(changes) == spec.instance_id
        await wait_gone(started)

    async def test_by_close_does_not_happen(self, processes, spec):
        provisioner = processes.caller()
        await provisioner.ensure(spec)
        agent = await processes.agent(spec.instance_id)
        await provisioner.close()
        assert await agent.tell("say", "still here") is None
        assert runs(agent.pid)


class TestStartingFails:
    async def test_shows_what_the_agent_said(self, processes, spec):
        provisioner = processes.caller(command=["sh", "-c", "echo no such module; exit 7"])
        changes = provisioner.changes()
        await provisioner.ensure(spec)
        async with asyncio.timeout(PATIENCE_S):
            while (workload := await observed(provisioner, spec)).exit_code is None:
                await anext(changes)
        assert (workload.exit_code, workload.last_lines) == (7, ("no such module",))

    async def test_is_transient_when_the_system_refuses(self, processes, monkeypatch, spec):
        def refuse(*_, **__):
            raise BlockingIOError(11, "Resource temporarily unavailable")

        provisioner = processes.caller()
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", refuse)
            with pytest.raises(Transient, match="Resource temporarily unavailable"):
                await provisioner.ensure(spec)
        assert (await observed(provisioner, spec)).state is WorkloadState.EXITED
        assert (await provisioner.ensure(spec)).state is WorkloadState.RUNNING

    async def test_of_the_token_leaves_room_for_another_try(self, processes, spec):
        def refuse(spec, place):
            raise RuntimeError("no key")

        with pytest.raises(RuntimeError, match="no key"):
            await processes.caller(mint=refuse).ensure(spec)
        assert (await processes.caller().ensure(spec)).state is WorkloadState.RUNNING


class TestLogs:
    async def test_stay_small_while_the_agent_writes(self, processes, spec):
        settings = ProcessSettings(log_bytes=2_000, log_look=timedelta(milliseconds=1))
        provisioner = processes.caller(settings=settings)
        await provisioner.ensure(spec)
        agent = await processes.agent(spec.instance_id)
        folder = processes.folder / str(spec.instance_id) / "log"
        async with asyncio.timeout(PATIENCE_S):
            while not (folder / "agent.log.2").exists():
                await agent.tell("say", "x" * 500)
        await provisioner.close()
        assert {path.name for path in folder.iterdir()} <= {
            "agent.log",
            "agent.log.1",
            "agent.log.2",
        }
        await agent.tell("say", "the agent still writes to the same file")
        assert (folder / "agent.log").read_text().endswith("writes to the same file\n")

    async def test_are_rotated_before_a_start(self, processes, spec):
        provisioner = processes.caller(settings=ProcessSettings(log_bytes=1_000))
        await provisioner.ensure(spec)
        await processes.say(spec.instance_id, "x" * 2_000)
        await processes.kill(spec.instance_id)
        await provisioner.ensure(spec)
        log = processes.folder / str(spec.instance_id) / "log" / "agent.log"
        assert log.stat().st_size == 0
        assert log.with_name("agent.log.1").stat().st_size == 1_000

    async def test_go_on_while_no_control_plane_lives(self, processes, spec):
        caller = await processes.outside_caller(spec)
        await answer(caller)
        caller.kill()
        await dead(caller)
        await processes.say(spec.instance_id, "alone")
        lines = processes.caller().logs(spec.instance_id, tail=10, follow=False)
        assert [line async for line in lines] == ["alone"]


def command_lines(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found
