"""Requests to addresses that tenants chose, against servers and names that mean harm."""

import asyncio
import datetime
import gzip
import re
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters import egress
from adapters import outbound as module
from adapters.outbound import (
    Door,
    Outbound,
    OutboundError,
    Refused,
    Unanswered,
    Unreachable,
    networks,
)
from tests.receivers import read_request, receiving, serving

PATIENCE = timedelta(seconds=20)
SOON = timedelta(milliseconds=300)
LOOPBACK = networks("127.0.0.0/8")
NAME = "hooks.example"
NOT_ON_THE_INTERNET = [
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "127.0.0.1",
    "0.0.0.0",  # noqa: S104 - nobody listens here
    "0",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "127.1",
    "127.0.0.1.",
    "2852039166",
    "0xa9fea9fe",
    "127。0。0。1",
    "[::]",
    "[::1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::8.8.8.8]",
    "[2002:a9fe:a9fe::]",
    "[2002:0a00:0001::1]",
    "[2001:0:7f00:1::]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
]
MALFORMED = [
    "",
    "example.com",
    "//example.com",
    "ftp://example.com",
    "file:///etc/passwd",
    "gopher://example.com",
    "https://",
    "https://user@example.com",
    "https://user:secret@example.com",
    "https://8.8.8.8\\@127.0.0.1/",
    "https://example.com/#part",
    "https://example.com:0",
    "https://example.com:70000",
    "https://exa\r\nmple.com",
    "http://example.com",
    "http://8.8.8.8",
]


class Names:
    """A resolver that gives the next of its answers for each question."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


@asynccontextmanager
async def door(*allow, names: Names | None = None, **more) -> AsyncIterator[Outbound]:
    outbound = Outbound(allow or LOOPBACK, resolve=names, **more)
    try:
        yield outbound
    finally:
        await outbound.close()


class TestCheck:
    @pytest.mark.parametrize("host", NOT_ON_THE_INTERNET)
    async def test_refuses_what_is_not_on_the_internet_in_every_notation(self, host: str) -> None:
        outbound = Outbound()
        with pytest.raises(Refused, match="not on the internet"):
            outbound.check(f"https://{host}/")
        await outbound.close()

    @pytest.mark.parametrize("url", MALFORMED)
    async def test_refuses_what_is_no_address_for_us(self, url: str) -> None:
        outbound = Outbound()
        with pytest.raises(Refused):
            outbound.check(url)
        await outbound.close()

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com/hook?token=1",
            "https://example.com:8443",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]/",
            "https://[64:ff9b::8.8.8.8]/",
        ],
    )
    async def test_lets_the_internet_pass(self, url: str) -> None:
        outbound = Outbound()
        assert str(outbound.check(url)) == url
        await outbound.close()

    async def test_an_allowed_network_opens_itself_only(self) -> None:
        async with door(*networks("10.2.0.0/16, 127.0.0.1/32")) as outbound:
            for url in ("http://10.2.3.4", "http://127.0.0.1", "https://[::ffff:10.2.3.4]"):
                outbound.check(url)
            for host in ("10.3.0.1", "127.0.0.2", "169.254.169.254", "[::1]"):
                with pytest.raises(Refused):
                    outbound.check(f"https://{host}")
            with pytest.raises(Refused, match="https"):
                outbound.check("http://8.8.8.8")

    async def test_no_setting_opens_where_clouds_keep_credentials(self) -> None:
        async with door(*networks("0.0.0.0/0,::/0")) as outbound:
            for host in ("169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]"):
                with pytest.raises(Refused):
                    outbound.check(f"https://{host}")


class TestEgress:
    async def test_of_a_plan_opens_its_networks_and_names_only(self) -> None:
        opened = egress.read(["10.2.0.0/16", "Erp.Example", "*.corp.example"])
        names = Names(["10.9.9.9"], ["10.9.9.9"], ["10.9.9.9"], ["10.9.9.9"])
        shut = Door(resolve=names)
        wide = shut.opened_to(opened)
        assert str(wide.check("http://10.2.3.4")) == "http://10.2.3.4"
        for host in ("erp.example", "erp.example.", "a.b.corp.example"):
            assert str(await wide.resolve("http", host, 80)) == "10.9.9.9"
        with pytest.raises(Refused):
            await wide.resolve("https", "corp.example", 443)
        for host in ("10.3.0.1", "[::1]"):
            with pytest.raises(Refused):
                wide.check(f"https://{host}")
        with pytest.raises(Refused):
            shut.check("http://10.2.3.4")
        shut.close()

    async def test_may_change_at_any_time(self) -> None:
        door = Door()
        outbound = Outbound(door=door)
        with pytest.raises(Refused):
            outbound.check("http://10.2.3.4")

        door.egress = egress.read(["10.2.0.0/16"])

        assert str(outbound.check("http://10.2.3.4")) == "http://10.2.3.4"
        await outbound.close()

    async def test_opens_never_where_clouds_keep_credentials(self) -> None:
        door = Door(resolve=Names(["169.254.169.254"]))
        door.egress = egress.read(["0.0.0.0/0", "metadata.example"])
        with pytest.raises(Refused):
            await door.resolve("https", "metadata.example", 443)
        door.close()

    @pytest.mark.parametrize(
        "entry", ["10.2.0.1/16", "1.2.3", "a..b", "*", "*.", "a.*.b", "-a.example", "x:1", "a/b"]
    )
    def test_refuses_what_is_neither_name_nor_network(self, entry: str) -> None:
        with pytest.raises(ValueError, match=re.escape(entry)):
            egress.read([entry])


class TestNames:
    @pytest.mark.parametrize(
        "addresses",
        [
            ["127.0.0.1"],
            ["8.8.8.8", "10.0.0.1"],
            ["2606:4700::1111", "::ffff:169.254.169.254"],
            ["169.254.169.254"],
        ],
    )
    async def test_every_address_of_a_name_must_pass(self, addresses: list[str]) -> None:
        outbound = Outbound(resolve=Names(addresses))
        # To connect anywhere else than to this machine would fail the test.
        with pytest.raises(Refused, match=r"^This address is not on the internet\.$"):
            await outbound.send("POST", f"https://{NAME}/", within=PATIENCE)
        await outbound.close()

    async def test_the_checked_address_is_called_whatever_the_name_says_next(self) -> None:
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        async with receiving() as receiver, door(names=names) as outbound:
            url = f"http://{NAME}:{receiver.port}/"
            answer = await outbound.send("POST", url, within=PATIENCE)
            with pytest.raises(Refused):
                await outbound.send("POST", url, within=PATIENCE)

        assert answer.status == 204
        assert names.asked == [NAME, NAME]
        [request] = receiver.requests
        assert request.headers["host"] == f"{NAME}:{receiver.port}"

    async def test_an_unknown_name_is_unreachable(self) -> None:
        for names in (Names([]), _unknown, _too_long):
            outbound = Outbound(resolve=names)
            with pytest.raises(Unreachable, match=r"^The name of this address is unknown\.$"):
                await outbound.send("GET", f"https://{NAME}/", within=PATIENCE)
            await outbound.close()

    async def test_by_default_the_system_is_asked(self) -> None:
        async with receiving() as receiver, door(*networks("127.0.0.1/32,::1/128")) as outbound:
            # Where localhost is ::1 as well, nobody may be listening there.
            try:
                status = (await outbound.send("GET", local(receiver), within=PATIENCE)).status
            except Unreachable as error:
                status = str(error)

        assert status in (204, "There was no connection to this address.")


class TestAnswers:
    async def test_a_redirect_is_an_answer_and_is_not_followed(self) -> None:
        async with receiving() as receiver, door() as outbound:
            receiver.default = (307, {"location": "http://169.254.169.254/latest/meta-data/"})
            answer = await outbound.send("POST", receiver.url, content=b"x", within=PATIENCE)

        assert answer.status == 307
        assert len(receiver.requests) == 1

    async def test_compression_is_neither_asked_for_nor_undone(self) -> None:
        bomb = gzip.compress(bytes(20 * 1024 * 1024))
        assert len(bomb) < module.MAX_ANSWER_BYTES

        async def answer_with_bomb(reader, writer) -> None:
            requests.append(await read_request(reader))
            head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(bomb)}"
            writer.write(head.encode() + b"\r\n\r\n" + bomb)
            await writer.drain()

        requests = []
        async with serving(answer_with_bomb) as port, door() as outbound:
            answer = await outbound.send("GET", f"http://127.0.0.1:{port}/", within=PATIENCE)

        assert answer.body == bomb
        assert requests[0].headers["accept-encoding"] == "identity"

    async def test_an_endless_answer_is_cut(self) -> None:
        cut = asyncio.Event()

        async def never_end(reader, writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            try:
                while True:
                    writer.write(bytes(65536))
                    await writer.drain()
            except ConnectionError:
                cut.set()

        async with serving(never_end) as port, door() as outbound:
            with pytest.raises(Unanswered, match=r"more than 1000 bytes"):
                await outbound.send(
                    "GET", f"http://127.0.0.1:{port}/", within=PATIENCE, max_bytes=1000
                )
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await cut.wait()

    async def test_an_endless_header_is_cut(self) -> None:
        async def never_end(reader, writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"x-more: " + b"a" * 8000 + b"\r\n")
                await writer.drain()

        async with serving(never_end) as port, door() as outbound:
            with pytest.raises(Unanswered):
                await outbound.send("GET", f"http://127.0.0.1:{port}/", within=PATIENCE)

    async def test_an_answer_that_drips_is_cut_when_the_time_is_over(self) -> None:
        dripped = asyncio.Event()

        async def drip(reader, writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while True:
                writer.write(b".")
                await writer.drain()
                dripped.set()
                await asyncio.sleep(0.01)  # slower than no time at all, faster than any pause

        async with serving(drip) as port, door() as outbound:
            with pytest.raises(Unanswered, match=r"^There was no answer in time\.$"):
                await outbound.send("GET", f"http://127.0.0.1:{port}/", within=SOON)
            assert dripped.is_set()

    async def test_silence_is_cut_when_the_time_is_over(self) -> None:
        async def be_silent(reader, writer) -> None:
            await reader.read()

        async with serving(be_silent) as port, door() as outbound:
            with pytest.raises(Unanswered, match=r"^There was no answer in time\.$"):
                await outbound.send("GET", f"http://127.0.0.1:{port}/", within=SOON)

    @pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\ncont"])
    async def test_nonsense_is_no_answer_and_is_not_repeated(self, said: bytes) -> None:
        async def talk(reader, writer) -> None:
            await read_request(reader)
            writer.write(said)
            await writer.drain()

        async with serving(talk) as port, door() as outbound:
            with pytest.raises(Unanswered) as caught:
                await outbound.send("GET", f"http://127.0.0.1:{port}/", within=PATIENCE)

        assert "SSH" not in str(caught.value)

    async def test_a_closed_port_is_unreachable_and_nothing_more_is_told(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            async with door() as outbound:
                with pytest.raises(Unreachable) as caught:
                    await outbound.send("GET", f"http://127.0.0.1:{port}/", within=PATIENCE)

        assert str(caught.value) == "There was no connection to this address."
        assert caught.value.__cause__ is None


class TestRequests:
    async def test_a_cookie_is_not_kept_for_the_next_tenant(self) -> None:
        async with receiving() as receiver, door() as outbound:
            receiver.default = (200, {"set-cookie": "who=tenant-one; Path=/"})
            for _ in range(2):
                await outbound.send("GET", receiver.url, within=PATIENCE)

        assert ["cookie" in request.headers for request in receiver.requests] == [False, False]

    async def test_settings_of_the_environment_are_not_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        async with receiving() as receiver, door() as outbound:
            answer = await outbound.send("GET", receiver.url, within=PATIENCE)

        assert answer.status == 204
        assert receiver.requests[0].target == "/hook?from=botyard"

    async def test_nobody_names_another_host(self) -> None:
        async with receiving() as receiver, door() as outbound:
            await outbound.send(
                "GET", receiver.url, headers={"host": "admin.internal"}, within=PATIENCE
            )

        assert receiver.requests[0].headers["host"] == f"127.0.0.1:{receiver.port}"


class TestTls:
    async def test_the_certificate_is_for_the_name_though_an_address_is_called(
        self, tmp_path: Path
    ) -> None:
        seen: list[str | None] = []
        server, trusted = make_contexts(tmp_path, NAME, seen)
        async with receiving() as receiver, serving(receiver.serve, server) as port:
            names = Names(["127.0.0.1"], ["127.0.0.1"])
            async with door(names=names, verify=trusted) as outbound:
                answer = await outbound.send("POST", f"https://{NAME}:{port}/", within=PATIENCE)
                with pytest.raises(Unreachable):
                    await outbound.send("POST", f"https://other.example:{port}/", within=PATIENCE)

        assert answer.status == 204
        assert seen == [NAME, "other.example"]
        assert len(receiver.requests) == 1

    async def test_a_certificate_of_an_unknown_authority_is_refused(self, tmp_path: Path) -> None:
        server, _trusted = make_contexts(tmp_path, NAME, [])
        async with (
            receiving() as receiver,
            serving(receiver.serve, server) as port,
            door(names=Names(["127.0.0.1"])) as outbound,
        ):
            with pytest.raises(Unreachable) as caught:
                await outbound.send("POST", f"https://{NAME}:{port}/", within=PATIENCE)

        assert str(caught.value) == "There was no connection to this address."
        assert receiver.requests == []


class TestNetworks:
    def test_are_read_by_comma(self) -> None:
        assert [str(each) for each in networks(" 10.0.0.0/8,::1/128, ")] == [
            "10.0.0.0/8",
            "::1/128",
        ]

    @pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "10.0.0.0/33"])
    def test_nonsense_is_an_error(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            networks(text)


class TestStream:
    @pytest.fixture
    async def outbound(self) -> AsyncIterator[Outbound]:
        outbound = Outbound(LOOPBACK, resolve=lambda _host, _port: ["127.0.0.1"])
        yield outbound
        await outbound.close()

    async def test_is_read_while_it_comes(self, outbound: Outbound) -> None:
        heard = asyncio.Event()

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\none")
            await writer.drain()
            await heard.wait()
            writer.write(b"two")
            await writer.drain()

        async with (
            serving(speak) as port,
            outbound.stream("GET", f"http://{NAME}:{port}/", within=PATIENCE) as answer,
        ):
            assert answer.status == 200
            chunks = aiter(answer.chunks)
            assert await anext(chunks) == b"one"
            heard.set()
            assert await anext(chunks) == b"two"
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)

    async def test_that_breaks_is_no_whole_answer(self, outbound: Outbound) -> None:
        async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\none")
            await writer.drain()

        async with (
            serving(break_off) as port,
            outbound.stream("GET", f"http://{NAME}:{port}/", within=PATIENCE) as answer,
        ):
            with pytest.raises(Unanswered):
                _ = [chunk async for chunk in answer.chunks]

    async def test_whose_head_does_not_come_ends_in_time(self, outbound: Outbound) -> None:
        gone = asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            await reader.read()
            gone.set()

        async with serving(say_nothing) as port:
            with pytest.raises(Unanswered):
                async with outbound.stream("GET", f"http://{NAME}:{port}/", within=SOON):
                    pass
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await gone.wait()

    async def test_goes_into_no_network_of_ours(self) -> None:
        outbound = Outbound(resolve=lambda _host, _port: ["10.0.0.1"])
        with pytest.raises(Refused):
            async with outbound.stream("GET", f"https://{NAME}/", within=PATIENCE):
                pass
        await outbound.close()


def test_every_error_is_for_the_tenant() -> None:
    assert {Refused, Unreachable, Unanswered} == set(OutboundError.__subclasses__())


def _unknown(host: str, port: int) -> Sequence[str]:
    raise socket.gaierror(-2, "10.0.0.53 says no")


def _too_long(host: str, port: int) -> Sequence[str]:
    raise UnicodeError("label too long")


def local(receiver) -> str:
    return f"http://localhost:{receiver.port}/"


def make_contexts(
    folder: Path, name: str, seen: list[str | None]
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for `name`, and a client's that knows its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Authority")])
    now = datetime.datetime.now(datetime.UTC)
    authority = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(subject)
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(authority.public_bytes(pem))
    (folder / "leaf.pem").write_bytes(
        leaf.public_bytes(pem)
        + leaf_key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "leaf.pem")
    server.sni_callback = lambda _socket, asked, _context: seen.append(asked)
    return server, ssl.create_default_context(cafile=folder / "authority.pem")
