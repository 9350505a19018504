"""What the substrate is put together from, each on its own: no cluster runs here."""

import asyncio
import json
import os
import ssl
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cluster.fixtures import do_without
from tests.cluster.handle import CHECKOUT
from tests.cluster.substrate import build, cgroups, image
from tests.cluster.substrate.keeper import DIE_WITH_US
from tests.cluster.substrate.packages import UnavailableError
from tests.cluster.substrate.pki import Authority
from tests.cluster.substrate.relay import COMMAND

Failed, Skipped = pytest.fail.Exception, pytest.skip.Exception
MANIFEST_BYTES = 50_000
"""What is longer is a layer."""


class TestRelease:
    @pytest.mark.parametrize(
        ("version", "release"),
        [("1.20.5+really1.20.2-1.1+deb12u1", "1.20.2"), ("1.33.1-1", "1.33.1")],
    )
    def test_is_what_the_source_really_is(self, version: str, release: str) -> None:
        assert build._release(version) == release


class TestLock:
    async def test_lets_one_in_at_a_time(self, tmp_path: Path) -> None:
        inside = asyncio.Event()

        def second() -> None:
            with build.locked(tmp_path / "lock"):
                loop.call_soon_threadsafe(inside.set)

        loop = asyncio.get_running_loop()
        with build.locked(tmp_path / "lock"):
            waiting = asyncio.create_task(asyncio.to_thread(second))
            await asyncio.sleep(0)
            assert not inside.is_set()
        await waiting
        await inside.wait()


class TestNoCluster:
    @pytest.mark.parametrize(
        ("ci", "made", "outcome"),
        [("true", True, Failed), ("true", False, Skipped), ("", True, Skipped)],
    )
    def test_fails_a_build_that_could_have_had_one_and_says_why_everywhere(
        self,
        monkeypatch: pytest.MonkeyPatch,
        ci: str,
        made: bool,
        outcome: type[BaseException],
    ) -> None:
        monkeypatch.setenv("CI", ci)
        monkeypatch.setattr(build, "made", lambda: made)

        with pytest.raises(outcome, match="etcd ended"):
            do_without(UnavailableError("etcd ended"))


class TestAuthority:
    async def test_makes_servers_and_clients_that_trust_each_other(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path / "pki")
        authority.issue("server", "server", hosts=["localhost", "127.0.0.1"])
        authority.issue("client", "somebody", groups=["friends"])
        ca = str(authority.folder / "ca.crt")
        here = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
        here.verify_mode = ssl.CERT_REQUIRED
        here.load_cert_chain(authority.folder / "server.crt", authority.folder / "server.key")
        there = ssl.create_default_context(cafile=ca)
        there.load_cert_chain(authority.folder / "client.crt", authority.folder / "client.key")
        seen = asyncio.get_running_loop().create_future()

        async def met(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(writer.get_extra_info("peercert")["subject"])
            writer.close()

        async with await asyncio.start_server(met, "127.0.0.1", 0, ssl=here) as server:
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=there)
            subject = await seen
            writer.close()
            await writer.wait_closed()

        assert subject == ((("organizationName", "friends"),), (("commonName", "somebody"),))

    def test_shows_its_keys_to_nobody(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path / "pki")
        authority.issue("client", "somebody")

        modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.rglob("*.key")}

        assert modes == {"ca.key": 0, "client.key": 0}


class TestRelay:
    @pytest.fixture
    async def upper(self) -> AsyncIterator[int]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read()).upper())
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    async def test_carries_both_ways_and_tells_when_one_is_done(self, upper: int) -> None:
        words = [*DIE_WITH_US, *COMMAND, "-", "127.0.0.1:0", "-", f"127.0.0.1:{upper}"]
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, cwd=CHECKOUT
        )
        try:
            assert process.stdout is not None
            port = int(await process.stdout.readline())
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello" * 100_000)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        finally:
            process.kill()
            await process.communicate()

        assert answer == b"HELLO" * 100_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes control groups")
class TestControlGroups:
    def test_are_gone_with_all_that_is_below(self) -> None:
        name = f"botyard-test-{os.getpid()}"
        cgroups.make(name)
        for hierarchy in cgroups.hierarchies():
            (hierarchy / name / "pod" / "container").mkdir(parents=True)

        cgroups.remove(name)

        assert [path for path in cgroups.hierarchies() if (path / name).exists()] == []


class TestImage:
    def test_is_the_same_for_the_same_source(self) -> None:
        first, again = image.pack(CHECKOUT), image.pack(CHECKOUT)

        assert first == again
        with tarfile.open(first.archive) as archive:
            index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
        names = [each["annotations"]["io.containerd.image.name"] for each in index["manifests"]]
        assert first.reference in names

    def test_holds_the_agent_and_nothing_of_the_control_plane(self, tmp_path: Path) -> None:
        packed = image.pack(CHECKOUT)

        inside = set()
        with tarfile.open(packed.archive) as archive:
            for blob in archive.getmembers():
                if blob.size > MANIFEST_BYTES:
                    with tarfile.open(fileobj=archive.extractfile(blob)) as layer:
                        inside |= set(layer.getnames())

        assert {"app/instance_agent/__main__.py", "app/adapters/model.py"} <= inside
        assert {"app/msgspec/__init__.py", "app/httpx2/__init__.py"} <= inside
        unwanted = ("control_plane", "fastapi", "sqlalchemy", "pytest", "kubernetes")
        assert [name for name in unwanted if f"app/{name}/__init__.py" in inside] == []
