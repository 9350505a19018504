"""Calls to an agent over a network: by TLS, to the session that is meant and to no other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from control_plane.instances.authority import Authority, NotAKey
from control_plane.instances.client import AgentAway, AgentClient, AgentRefused
from control_plane.instances.sessions import AgentAddress
from control_plane.kit.crypto import Keyring
from instance_agent.tls import Identity

OLD, NEW, FOREIGN = ("k" * 40, "n" * 40, "f" * 40)
REFUSAL = b'{"title":"no","status":404,"code":"reached","detail":"here"}'


@dataclass
class Agent:
    """Says no to every call, and so that it was reached."""

    identity: Identity
    address: AgentAddress

    async def reached(self, *keys: str, session_id: UUID | None = None) -> bool:
        address = replace(self.address, session_id=session_id or self.address.session_id)
        client = AgentClient(trust=Authority(Keyring(keys)).trust())
        try:
            await client.health(address)
        except AgentRefused as refused:
            return refused.code == "reached"
        except AgentAway:
            return False
        finally:
            await client.close()
        raise AssertionError

    async def reached_by_socket(self, *keys: str) -> bool:
        client = AgentClient(trust=Authority(Keyring(keys)).trust())
        try:
            async with client.socket(self.address, uuid4()):
                raise AssertionError
        except AgentRefused as refused:
            return refused.status == 404
        except AgentAway:
            return False
        finally:
            await client.close()

    def certified(self, *keys: str, session_id: UUID | None = None) -> None:
        session_id = session_id or self.address.session_id
        made = Authority(Keyring(keys)).certify(session_id, self.identity.public_key)
        self.identity.take(made)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    head = f"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: {len(REFUSAL)}\r\n\r\n"
    writer.write(head.encode() + REFUSAL)
    await writer.drain()
    writer.close()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    identity = Identity(tmp_path)
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=identity.context)
    port = server.sockets[0].getsockname()[1]
    address = AgentAddress(
        session_id=uuid4(),
        endpoint=f"https://127.0.0.1:{port}",
        api_token="secret",
        epoch=1,
        journal_id=uuid4(),
    )
    yield Agent(identity, address)
    server.close()


class TestTrust:
    async def test_an_agent_is_called_once_it_has_its_certificate(self, agent: Agent) -> None:
        assert not await agent.reached(NEW)
        agent.certified(NEW)
        assert await agent.reached(NEW)

    async def test_every_process_with_the_same_keys_is_the_same_authority(
        self, agent: Agent
    ) -> None:
        agent.certified(OLD)
        assert await agent.reached(NEW, OLD)

    async def test_another_control_planes_certificate_is_not_believed(self, agent: Agent) -> None:
        agent.certified(FOREIGN)
        assert not await agent.reached(NEW, OLD)

    async def test_another_sessions_certificate_is_not_believed(self, agent: Agent) -> None:
        agent.certified(NEW, session_id=uuid4())
        assert not await agent.reached(NEW)

    async def test_a_socket_is_opened_to_nobody_else_either(self, agent: Agent) -> None:
        agent.certified(NEW)
        assert await agent.reached_by_socket(NEW)
        assert not await agent.reached_by_socket(FOREIGN)
        agent.certified(NEW, session_id=uuid4())
        assert not await agent.reached_by_socket(NEW)

    async def test_without_an_authority_nobody_is_called(self, agent: Agent) -> None:
        agent.certified(NEW)
        client = AgentClient()
        with pytest.raises(AgentAway):
            await client.health(agent.address)
        await client.close()

    def test_the_key_lies_in_no_file(self, tmp_path: Path) -> None:
        Identity(tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestCertify:
    @pytest.mark.parametrize(
        "key", ["x", "-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n"]
    )
    def test_refuses_what_is_no_key(self, key: str) -> None:
        with pytest.raises(NotAKey):
            Authority(Keyring([NEW])).certify(uuid4(), key)
