"""PostgreSQL's programs as children: what stands in for them here are small scripts."""

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from control_plane.db import postgres_launch
from control_plane.db.postgres_process import LOG_BYTES, Child, Launcher, locate_binaries, serves


def launcher(folder: Path, name: str, script: str) -> Launcher:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return Launcher(folder, "same")


class TestLocateBinaries:
    def test_given_folder_comes_first(self, tmp_path: Path) -> None:
        for name in ("initdb", "postgres"):
            launcher(tmp_path, name, "")
        assert locate_binaries(tmp_path) == tmp_path

    def test_installed_wheel_is_found(self) -> None:
        assert (locate_binaries(None) / "postgres").is_file()


class TestLauncher:
    async def test_programs_inherit_no_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BOTYARD_SECRET", "s3cret")
        code, output = await launcher(tmp_path, "env", "export -p").run("env")
        assert code == 0
        assert "LC_ALL" in output
        assert "s3cret" not in output

    async def test_reports_exit_code_and_words(self, tmp_path: Path) -> None:
        failing = launcher(tmp_path, "failing", "echo out; echo err >&2; exit 3")
        assert await failing.run("failing") == (3, "out\nerr\n")

    async def test_does_not_start_for_a_parent_that_is_gone(self, tmp_path: Path) -> None:
        launcher(tmp_path, "program", "echo started")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(Path(postgres_launch.__file__))),
            *("1", "same", str(tmp_path / "program")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 1
        assert output == b"the parent ended before the database could start\n"


class TestChild:
    async def test_log_is_private_and_does_not_grow_without_bound(self, tmp_path: Path) -> None:
        size = 3 * LOG_BYTES
        talkative = launcher(tmp_path, "talkative", f"head -c {size} /dev/zero; echo last words")
        log = tmp_path / "postgres.log"
        child = Child(await talkative.spawn("talkative"), log)
        assert await child.ended() == 0
        files = [log, tmp_path / "postgres.log.1"]
        assert all(path.stat().st_size <= LOG_BYTES for path in files)
        assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600, 0o600]
        assert log.read_bytes().endswith(b"last words\n")

    async def test_unwritable_log_does_not_stop_the_reading(self, tmp_path: Path) -> None:
        talkative = launcher(tmp_path, "talkative", "head -c 1000000 /dev/zero; echo last words")
        child = Child(await talkative.spawn("talkative"), tmp_path / "missing" / "postgres.log")
        assert await child.ended() == 0
        assert child.last_lines.endswith("last words")

    async def test_ready_is_seen_across_two_reads(self, tmp_path: Path) -> None:
        script = "printf 'database system is ready '; read x < go; echo to accept connections"
        os.mkfifo(tmp_path / "go")
        child = Child(
            await launcher(tmp_path, "slow", f"cd {tmp_path}; {script}; exec sleep 600").spawn(
                "slow"
            ),
            tmp_path / "log",
        )
        with await asyncio.to_thread(open, tmp_path / "go", "w") as go:
            go.write("\n")
        assert await child.accepting()
        await child.stop(10)
        assert not child.alive

    async def test_end_without_ready_is_told(self, tmp_path: Path) -> None:
        child = Child(await launcher(tmp_path, "short", "exit 1").spawn("short"), tmp_path / "log")
        assert not await child.accepting()
        assert await child.ended() == 1

    async def test_deaf_program_is_stopped_by_sigquit(self, tmp_path: Path) -> None:
        deaf = launcher(
            tmp_path,
            "deaf",
            # A core file on a busy disk takes longer than we wait.
            "ulimit -c 0; exec env --default-signal=QUIT sh -c "
            # Tests that run in the background of a shell inherit an ignored SIGQUIT.
            "\"trap '' INT; echo database system is ready to accept connections; exec sleep 600\"",
        )
        child = Child(await deaf.spawn("deaf"), tmp_path / "log")
        assert await child.accepting()
        await child.stop(0.05)
        assert await child.ended() == -signal.SIGQUIT


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
class TestServes:
    def test_this_process_and_no_process_do_not(self) -> None:
        assert not serves(os.getpid(), Path.cwd())
        assert not serves(2**30, Path.cwd())
