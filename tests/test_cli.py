"""The program: help that teaches, settings that are checked, and a doctor who says what to do."""

import asyncio
import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control_plane import doctor
from control_plane.cli import cli
from control_plane.doctor import MIN_FREE_BYTES, MIN_NODE, Finding
from control_plane.settings import Settings

KEY = "k" * 32
PATIENCE_S = 60
"""Longest wait for a program that ends by itself."""

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting but those of the test, and no line broken for a narrow terminal."""
    for name in os.environ:
        if name.startswith("BOTYARD_"):
            monkeypatch.delenv(name)
    for name, value in {"COLUMNS": "200", "TERMINAL_WIDTH": "200", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program as people start it."""
    return subprocess.run(
        [sys.executable, "-c", "from control_plane.cli import main; main()", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def helps(*words: str) -> str:
    answer = CliRunner().invoke(cli, [*words, "--help"])
    assert answer.exit_code == 0
    return answer.output


class TestHelp:
    def test_says_what_there_is_and_where_to_begin(self) -> None:
        text = helps()

        for command in ("up", "api", "worker", "controller", "agent", "migrate", "doctor"):
            assert re.search(rf"^\W*{command}\b", text, re.MULTILINE)
        assert "botyard up is all you need" in text
        assert "BOTYARD_DATABASE_URL" in text

    def test_without_a_command_is_help(self) -> None:
        assert "botyard up is all you need" in CliRunner().invoke(cli, []).output

    @pytest.mark.parametrize(
        ("command", "names"),
        [
            ("up", ["--data-dir", "--host", "--port", "first-run.json", "Ctrl-C"]),
            ("api", ["--host", "--port", "BOTYARD_DATABASE_URL", "BOTYARD_SECRET_KEYS"]),
            ("worker", ["BOTYARD_DATABASE_URL", "BOTYARD_SECRET_KEYS"]),
            ("controller", ["--data-dir", "BOTYARD_DATABASE_URL", "BOTYARD_SECRET_KEYS"]),
            ("migrate", ["BOTYARD_OWNER_DATABASE_URL"]),
            ("doctor", ["--data-dir", "--host", "--port"]),
            ("reset-link", ["email", "new password", "once"]),
        ],
    )
    def test_of_a_command_names_what_it_needs(self, command: str, names: list[str]) -> None:
        text = helps(command)

        assert [name for name in names if name not in text] == []

    def test_of_the_agent_is_the_agents_own(self) -> None:
        answer = run("agent", "--help")

        assert answer.returncode == 0
        assert "--bootstrap-file" in answer.stdout


@pytest.mark.usefixtures("own_logging")
class TestSettings:
    def test_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BOTYARD_SECRET_KEYS", f"{KEY},{KEY[::-1]}x")
        monkeypatch.setenv("BOTYARD_PORT", "9000")

        settings = Settings()

        assert [key.get_secret_value() for key in settings.secret_keys] == [KEY, KEY + "x"]
        assert settings.base_url == "http://127.0.0.1:9000"

    def test_the_public_address_is_what_it_is_said_to_be(self) -> None:
        assert Settings(public_url="https://bots.example").base_url == "https://bots.example"

    def test_no_private_network_may_be_called_unless_it_is_named(self) -> None:
        allowed = Settings(outbound_allow="10.2.0.0/16, ::1/128").outbound_networks

        assert Settings().outbound_networks == ()
        assert [str(network) for network in allowed] == ["10.2.0.0/16", "::1/128"]

    def test_secrets_do_not_show(self) -> None:
        settings = Settings(database_url="postgresql+asyncpg://u:hush@h/d", secret_keys=KEY)

        assert "hush" not in repr(settings)
        assert KEY not in repr(settings)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("BOTYARD_SECRET_KEYS", f"{KEY},too-short"),
            ("BOTYARD_PORT", "99999"),
            ("BOTYARD_DATABASE_URL", "postgresql+asyncpg://app:hush@127.0.0.1:port/botyard"),
            ("BOTYARD_DATABASE_URL", "app:hush at 127.0.0.1"),
            ("BOTYARD_DATABASE_URL", "postgresql://app:hush@127.0.0.1/botyard"),
            ("BOTYARD_OUTBOUND_ALLOW", "10.2.0.0/16,intranet"),
        ],
    )
    def test_wrong_ones_are_named_and_not_shown(self, name: str, value: str) -> None:
        answer = run("doctor", **{name: value})

        assert answer.returncode == 2
        assert answer.stdout.startswith(f"{name}: ")
        assert value not in answer.stdout + answer.stderr
        assert "Traceback" not in answer.stderr

    def test_a_secret_may_come_from_a_file(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name, text in {
            "database_url": "postgresql+asyncpg://u:hush@h/d\n",
            "owner_database_url": "postgresql+asyncpg://o:hush@h/d",
            "secret_keys": f"{KEY}\n{KEY}2\n",
        }.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
            monkeypatch.setenv(f"BOTYARD_{name.upper()}_FILE", str(tmp_path / name))

        settings = Settings()

        assert settings.database_url is not None
        assert settings.database_url.get_secret_value() == "postgresql+asyncpg://u:hush@h/d"
        assert settings.owner_database_url is not None
        assert [key.get_secret_value() for key in settings.secret_keys] == [KEY, f"{KEY}2"]

    def test_what_is_no_secret_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BOTYARD_HOST_FILE", "/dev/null")

        assert Settings().host == "127.0.0.1"

    def test_a_secret_from_two_places_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text(KEY, encoding="utf-8")
        given = {"BOTYARD_SECRET_KEYS": KEY, "BOTYARD_SECRET_KEYS_FILE": str(tmp_path / "keys")}

        answer = run("doctor", **given)

        assert answer.returncode == 2
        assert "set either BOTYARD_SECRET_KEYS or BOTYARD_SECRET_KEYS_FILE" in answer.stdout
        assert KEY not in answer.stdout + answer.stderr

    def test_a_file_that_is_not_there_is_named(self) -> None:
        answer = run("doctor", BOTYARD_DATABASE_URL_FILE="/nowhere/url")

        assert answer.returncode == 2
        assert "BOTYARD_DATABASE_URL_FILE cannot be read: FileNotFoundError" in answer.stdout

    @pytest.mark.parametrize("command", ["api", "worker", "controller"])
    def test_a_process_without_its_settings_says_which_it_needs(self, command: str) -> None:
        answer = CliRunner().invoke(cli, [command])

        assert answer.exit_code == 1
        assert "Set BOTYARD_DATABASE_URL and BOTYARD_SECRET_KEYS" in answer.output

    def test_migrate_without_its_settings_says_which_it_needs(self) -> None:
        answer = CliRunner().invoke(cli, ["migrate"])

        assert answer.exit_code == 1
        assert "Set BOTYARD_OWNER_DATABASE_URL" in answer.output


class TestResetLink:
    async def test_changes_the_password_of_whoever_forgot_it(
        self, people, client, app_url: str
    ) -> None:
        operator = await people.operator()
        environment = {
            "BOTYARD_DATABASE_URL": app_url,
            "BOTYARD_SECRET_KEYS": KEY,
            "BOTYARD_PUBLIC_URL": "https://bots.example.com",
        }
        done = await asyncio.to_thread(run, "reset-link", operator.email, **environment)

        link, _, token = done.stdout.strip().partition("#")
        assert link == "https://bots.example.com/app/reset"
        # The program's clock is the machine's, and the house's here is years behind.
        body = {"token": token, "new": "a new one of mine"}
        assert (await client.post("/api/v1/auth/reset", json=body)).status_code == 204

    async def test_for_nobody_there_is_none(self, app_url: str) -> None:
        environment = {"BOTYARD_DATABASE_URL": app_url, "BOTYARD_SECRET_KEYS": KEY}
        done = await asyncio.to_thread(run, "reset-link", "nobody@example.com", **environment)

        assert done.returncode == 1
        assert "There is no such account." in done.stdout


class TestKeys:
    def test_rotate_puts_a_new_key_before_the_others(self, tmp_path: Path) -> None:
        file = tmp_path / "secret-keys.json"
        file.write_text(json.dumps([KEY]), encoding="utf-8")

        answer = CliRunner().invoke(cli, ["keys", "rotate", "--data-dir", str(tmp_path)])

        assert answer.exit_code == 0
        assert "has 2 keys now" in answer.output
        new, old = json.loads(file.read_text(encoding="utf-8"))
        assert (old, len(new)) == (KEY, 43)
        assert new not in answer.output
        assert file.stat().st_mode & 0o777 == 0o600

    def test_rotate_without_any_keys_says_so(self, tmp_path: Path) -> None:
        answer = CliRunner().invoke(cli, ["keys", "rotate", "--data-dir", str(tmp_path)])

        assert answer.exit_code == 1
        assert "There are no keys in" in answer.output

    async def test_rotate_calls_the_workers_and_status_counts(self, app_url: str) -> None:
        given = {"BOTYARD_DATABASE_URL": app_url, "BOTYARD_SECRET_KEYS": f"{KEY}2,{KEY}"}
        rotate = await asyncio.to_thread(run, "keys", "rotate", **given)
        status = await asyncio.to_thread(run, "keys", "status", **given)

        assert rotate.stdout.startswith("The workers look at the secrets of 0 tenants.")
        first, rest = status.stdout.split("\n", 1)
        assert first == "0 of 0 secrets still need an older key."
        assert "for 2 days" in " ".join(rest.split())


class TestAuditVerify:
    async def test_says_what_is_whole_and_what_is_broken(
        self, app_url: str, people, superuser
    ) -> None:
        owner, other = await people.owner(), await people.owner()
        given = {"BOTYARD_DATABASE_URL": app_url, "BOTYARD_SECRET_KEYS": KEY}
        whole = await asyncio.to_thread(run, "audit", "verify", **given)
        await superuser.execute(
            "UPDATE audit SET action = 'x' WHERE tenant_id = $1", other.tenant_id
        )
        broken = await asyncio.to_thread(run, "audit", "verify", **given)

        assert whole.returncode == 0
        assert f"ok  {owner.tenant_id}: 1 entries" in whole.stdout
        assert broken.returncode == 1
        assert f"bad {other.tenant_id}: broken at 1" in broken.stdout
        assert f"ok  {owner.tenant_id}: 1 entries" in broken.stdout


class TestUp:
    """What stops it before it starts, in plain words."""

    def test_a_folder_that_is_in_use(self, tmp_path: Path) -> None:
        with (tmp_path / "up.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            answer = run("up", "--data-dir", str(tmp_path), "--port", "0")

        assert answer.returncode == 1
        assert f"another botyard uses {tmp_path}" in answer.stdout
        assert "botyard doctor" in answer.stdout
        assert answer.stderr == ""

    def test_a_port_that_is_taken(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            answer = run("up", "--data-dir", str(tmp_path), "--port", port)

        assert answer.returncode == 1
        assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in answer.stdout
        assert answer.stderr == ""
        # Nothing was begun.
        assert not (tmp_path / "postgres").exists()


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Web pages as `make up` builds them."""
    for name in ("app", "webchat"):
        (tmp_path / "dist" / name).mkdir(parents=True)
        (tmp_path / "dist" / name / "index.html").touch()
    return tmp_path / "dist"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program named node, and no other, on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(content: str) -> None:
        program = folder / "node"
        program.write_text(content)
        program.chmod(0o755)

    install("#!/bin/sh\necho v22.1.0\n")
    return install


@pytest.fixture
def settings(tmp_path: Path, pages: Path, node) -> Settings:
    """A machine on which all is well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Settings(data_dir=tmp_path / "data", web_pages=pages, port=port)


def look(settings: Settings, about: str) -> Finding:
    return next(f for f in asyncio.run(doctor.examine(settings)) if f.about == about)


class TestDoctor:
    def test_finds_nothing_where_all_is_well(self, settings: Settings) -> None:
        findings = asyncio.run(doctor.examine(settings))

        assert [finding.about for finding in findings if not finding.ok] == []
        assert [finding.about for finding in findings] == [
            "Python",
            "Node",
            "Web pages",
            "Disk",
            "Data folder",
            "Port",
            "Clock",
            "Database",
        ]
        # Looking leaves nothing behind.
        assert not settings.data_dir.exists()

    def test_a_port_that_is_taken(self, settings: Settings) -> None:
        with socket.create_server((settings.host, settings.port)):
            found = look(settings, "Port")

        assert (found.ok, found.says) == (
            False,
            f"127.0.0.1:{settings.port}: Address already in use",
        )
        assert "choose another --port" in found.advice

    def test_a_disk_that_is_full(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        left = MIN_FREE_BYTES - 1
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(left, 0, left))

        found = look(settings, "Disk")

        assert (found.ok, found.says) == (False, "1.0 GiB free")
        assert "Free some space" in found.advice

    @pytest.mark.parametrize(
        ("program", "says"),
        [
            ("#!/bin/sh\necho v18.20.4\n", "v18.20.4"),
            ("#!/bin/sh\nexit 1\n", "does not start"),
            ("#!/no/such/shell\n", "does not start"),
            ("\x7fELF of another machine", "does not start"),
        ],
        ids=["too old", "broken", "without its shell", "for another machine"],
    )
    def test_a_node_that_cannot_build(
        self, settings: Settings, node, program: str, says: str
    ) -> None:
        node(program)

        found = look(settings, "Node")

        assert (found.ok, found.says) == (False, says)
        assert f"Install Node {MIN_NODE} or newer" in found.advice

    def test_no_node(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")

        assert look(settings, "Node").says == "not found"

    def test_pages_that_are_not_built(self, settings: Settings) -> None:
        (settings.web_pages / "webchat" / "index.html").unlink()

        found = look(settings, "Web pages")

        assert (found.ok, found.says) == (False, f"not built in {settings.web_pages}")
        assert found.advice == "Run make up, which builds them."

    def test_a_clock_behind_what_was_written_before(self, settings: Settings) -> None:
        settings.data_dir.mkdir()
        file = settings.data_dir / "first-run.json"
        file.touch()
        tomorrow = time.time() + 24 * 3600
        os.utime(file, (tomorrow, tomorrow))

        found = look(settings, "Clock")

        assert not found.ok
        assert "behind by" in found.says
        assert "Set the clock" in found.advice

    def test_a_folder_that_cannot_be_written_to(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        found = look(
            settings.model_copy(update={"data_dir": tmp_path / "file" / "x"}), "Data folder"
        )

        assert (found.ok, found.says) == (False, f"{tmp_path / 'file'}: Not a directory")
        assert "--data-dir" in found.advice


class TestDoctorsDatabase:
    async def look(self, url: str) -> Finding:
        return await doctor._database(Settings(database_url=url))

    async def test_the_applications_role_is_well(self, app_url: str) -> None:
        found = await self.look(app_url)

        assert found.ok
        assert found.says.startswith("PostgreSQL ")

    async def test_a_superuser_is_refused(self, ground, database_name: str) -> None:
        found = await self.look(ground.url(None, database_name))

        assert (found.ok, found.says) == (False, "its role passes every wall between tenants")
        assert "neither superuser nor BYPASSRLS" in found.advice

    async def test_a_server_with_another_time(
        self, app_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(doctor, "MAX_CLOCK_OFF_S", -1)

        found = await self.look(app_url)

        assert (found.ok, found.advice) == (False, "Set both clocks.")
        assert found.says.startswith("its clock and ours differ by ")

    async def test_what_cannot_be_reached(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]

        found = await self.look(f"postgresql+asyncpg://app:hush@127.0.0.1:{port}/botyard")

        assert not found.ok
        assert found.says.startswith("cannot connect: ")
        assert "BOTYARD_DATABASE_URL" in found.advice
        assert "hush" not in found.says + found.advice

    async def test_a_wrong_password(self, app_url: str) -> None:
        found = await self.look(re.sub(r":[^:@/]+@", ":wrong@", app_url))

        assert (found.ok, found.says) == (False, "cannot connect: InvalidPasswordError")


class TestDoctorAtTheTerminal:
    def ask(self, settings: Settings):
        words = ["--data-dir", str(settings.data_dir), "--port", str(settings.port)]
        return CliRunner().invoke(
            cli, ["doctor", *words], env={"BOTYARD_WEB_PAGES": str(settings.web_pages)}
        )

    def test_all_well_is_success(self, settings: Settings) -> None:
        answer = self.ask(settings)

        assert answer.exit_code == 0
        assert "bad" not in answer.output

    def test_anything_bad_is_failure_with_what_to_do(self, settings: Settings, node) -> None:
        node("#!/bin/sh\necho v18.20.4\n")

        answer = self.ask(settings)

        assert answer.exit_code == 1
        assert "bad  Node: v18.20.4" in answer.output
        assert f"→ Install Node {MIN_NODE} or newer" in answer.output
        assert answer.output.count("→") == 1


class TestSimulate:
    """The stand-in itself is tried in tests/adapters/simulators and control_plane/channels."""

    def test_says_what_is_missing(self, tmp_path: Path) -> None:
        program = Path(sys.executable).with_name("botyard")
        options = ["--channel", "new", "--data-dir", str(tmp_path)]
        done = subprocess.run(
            [str(program), "simulate", "wecom", *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 1
        assert "run botyard up" in done.stderr
