"""Naming, finding and watching processes, with /proc and with ps."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from control_plane.fleet.provision import process_table
from control_plane.fleet.provision.process_table import (
    HeldProcess,
    ProcessKey,
    birth_of,
    find_group_leader,
    kill_all,
)

PATIENCE_S = 30
SLEEP = "import sys; print('up', flush=True); sys.stdin.read()"


@pytest.fixture(params=["/proc", "ps"])
def either_table(request, monkeypatch):
    if request.param == "ps":
        monkeypatch.setattr(process_table, "_has_proc", lambda: False)


@pytest.fixture
def child(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", SLEEP, "--data-dir", str(tmp_path), "last"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        assert child.stdout.readline() == b"up\n"
        yield child
        child.kill()


def key_of(child) -> ProcessKey:
    return ProcessKey(child.pid, birth_of(child.pid))


def make_zombie(child) -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.usefixtures("either_table")
class TestBirth:
    def test_stays_the_same(self, child):
        assert birth_of(child.pid) == birth_of(child.pid) is not None

    def test_is_kept_by_a_zombie(self, child):
        before = birth_of(child.pid)
        make_zombie(child)
        assert birth_of(child.pid) == before

    def test_of_nobody_is_none(self, child):
        child.kill()
        child.wait()
        assert birth_of(child.pid) is None


@pytest.mark.usefixtures("either_table")
class TestFind:
    def test_finds_the_leader_by_its_arguments(self, child, tmp_path):
        assert find_group_leader(("--data-dir", str(tmp_path))) == key_of(child)

    def test_takes_no_other_folder_for_it(self, child, tmp_path):
        assert find_group_leader(("--data-dir", str(tmp_path)[:-1])) is None

    def test_leaves_out_who_leads_no_group(self, child, tmp_path):
        mark = ("--data-dir", f"{tmp_path}/inner")
        with subprocess.Popen(
            [sys.executable, "-c", SLEEP, *mark], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as follower:
            assert follower.stdout.readline() == b"up\n"
            assert find_group_leader(mark) is None
            follower.kill()

    async def test_kill_all_ends_those_and_no_others(self, child, tmp_path):
        await kill_all(("--data-dir", f"{tmp_path}/inner"), seconds=PATIENCE_S)
        assert child.poll() is None
        await kill_all(("--data-dir", str(tmp_path)), seconds=PATIENCE_S)
        assert birth_of(child.pid) is None


class TestHeldProcess:
    async def test_tells_the_exit_once_with_its_code(self, child):
        exits = asyncio.Queue()
        held = HeldProcess.hold(key_of(child), lambda: exits.put_nowait("exit"))
        assert held.alive()
        held.send(signal.SIGTERM)
        assert await held.wait(PATIENCE_S)
        assert not held.alive()
        assert held.exit_code == -15
        assert await exits.get() == "exit"
        await asyncio.to_thread(lambda: None)
        assert exits.empty()
        held.close()

    async def test_gives_up_waiting_in_time(self, child):
        held = HeldProcess.hold(key_of(child), lambda: None)
        assert not await held.wait(0)
        held.close()

    async def test_takes_a_zombie_for_dead(self, child):
        make_zombie(child)
        held = HeldProcess.hold(key_of(child), lambda: None)
        assert not held.alive()
        assert held.exit_code == -9
        held.close()

    async def test_is_not_had_of_another_birth(self, child):
        assert HeldProcess.hold(ProcessKey(child.pid, "earlier"), lambda: None) is None

    async def test_signals_through_the_group_where_the_kernel_is_older(self, child, monkeypatch):
        def old_kernel(fd, number, info=None, flags=0):
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(signal, "pidfd_send_signal", old_kernel)
        held = HeldProcess.hold(key_of(child), lambda: None)
        held.send(signal.SIGTERM)
        assert await held.wait(PATIENCE_S)
        assert held.exit_code == -15
        held.close()
