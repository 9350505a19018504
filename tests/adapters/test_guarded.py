"""Connections that are kept, to addresses that were checked."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx2
import pytest

from adapters.guarded import Guarded
from adapters.outbound import Door, Refused, networks

NAME = "platform.example"
LIMITS = httpx2.Limits(max_keepalive_connections=5)


class Names:
    """A resolver that gives the next of its answers for each question."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


@asynccontextmanager
async def client(
    scheme: str = "http", *, names: Names | None = None, allow: str = "127.0.0.0/8"
) -> AsyncIterator[httpx2.AsyncClient]:
    door = Door(networks(allow), resolve=names)
    async with httpx2.AsyncClient(transport=Guarded(door, scheme, limits=LIMITS)) as http:
        yield http
    door.close()


@asynccontextmanager
async def answering() -> AsyncIterator[tuple[int, asyncio.Queue[str]]]:
    """A server that keeps its connections: (port, which hosts each was asked for)."""
    connections: asyncio.Queue[str] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hosts: list[str] = []
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                [host] = [
                    line.split(b": ")[1] for line in head.split(b"\r\n") if line[:4] == b"Host"
                ]
                hosts.append(host.decode())
                writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            pass
        connections.put_nowait(",".join(hosts))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        yield server.sockets[0].getsockname()[1], connections


class TestGuarded:
    @pytest.mark.parametrize(
        "address", ["10.0.0.1", "169.254.169.254", "127.0.0.1", "::1", "192.168.0.9"]
    )
    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_a_name_that_leads_into_our_network_is_refused(self, scheme, address):
        async with client(scheme, names=Names([address, "8.8.8.8"]), allow="172.16.0.0/12") as http:
            with pytest.raises(Refused):
                await http.get(f"{scheme}://{NAME}/")

    @pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://[::1]/", "http://0x7f.1/"])
    async def test_an_address_is_refused_in_every_notation(self, url):
        async with client(allow="172.16.0.0/12") as http:
            with pytest.raises(Refused):
                await http.get(url)

    async def test_plain_http_leads_to_allowed_networks_alone(self):
        async with client(names=Names(["8.8.8.8"])) as http:
            with pytest.raises(Refused, match="https"):
                await http.get(f"http://{NAME}/")

    async def test_an_unknown_name_is_no_connection(self):
        async with client(names=Names([])) as http:
            with pytest.raises(httpx2.ConnectError):
                await http.get(f"http://{NAME}/")

    async def test_a_connection_is_kept_for_its_name_and_for_no_other(self):
        names = Names(["127.0.0.1"], ["127.0.0.1"])
        async with answering() as (port, connections):
            async with client(names=names) as http:
                for name in (NAME, NAME, "other.example", NAME):
                    await http.get(f"http://{name}:{port}/")
            closed = [await connections.get(), await connections.get()]
        assert names.asked == [NAME, "other.example"]
        kept = f"{NAME}:{port}"
        assert sorted(closed) == sorted([",".join([kept] * 3), f"other.example:{port}"])

    async def test_what_the_name_says_later_changes_nothing(self):
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        async with answering() as (port, _), client(names=names) as http:
            answer = await http.get(f"http://{NAME}:{port}/")
            assert answer.status_code == 200
            answer = await http.get(f"http://{NAME}:{port}/", headers={"connection": "close"})
            assert answer.status_code == 200
            with pytest.raises(Refused):
                await http.get(f"http://{NAME}:{port}/")
