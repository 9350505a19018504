"""The circuit breaker, alone and in the client that calls agents."""

import asyncio
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from control_plane.instances import breaker
from control_plane.instances.breaker import FAILURES, OPEN_FOR, Breaker
from control_plane.instances.client import AgentAway, AgentClient
from control_plane.instances.sessions import AgentAddress
from control_plane.kit.ids import new_id

AGENT, OTHER = new_id(), new_id()


class Time:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def fail(breaker: Breaker, times: int, agent: UUID = AGENT) -> None:
    for _ in range(times):
        breaker.unreachable(agent)


class TestBreaker:
    def test_a_few_failures_change_nothing(self, time: Time) -> None:
        breaker = Breaker(time)
        fail(breaker, FAILURES - 1)

        assert breaker.allows(AGENT)

    def test_failures_in_a_row_open_the_circuit_of_that_agent_only(self, time: Time) -> None:
        breaker = Breaker(time)
        fail(breaker, FAILURES)

        assert not breaker.allows(AGENT)
        assert breaker.allows(OTHER)

    def test_a_call_that_arrived_starts_the_count_anew(self, time: Time) -> None:
        breaker = Breaker(time)
        fail(breaker, FAILURES - 1)
        breaker.reachable(AGENT)
        fail(breaker, FAILURES - 1)

        assert breaker.allows(AGENT)

    def test_after_a_pause_one_call_is_the_probe(self, time: Time) -> None:
        breaker = Breaker(time)
        fail(breaker, FAILURES)
        time.now += OPEN_FOR.total_seconds()

        assert [breaker.allows(AGENT) for _ in range(3)] == [True, False, False]

    def test_a_probe_that_fails_opens_it_again(self, time: Time) -> None:
        breaker = Breaker(time)
        fail(breaker, FAILURES)
        time.now += OPEN_FOR.total_seconds()
        assert breaker.allows(AGENT)
        time.now += 1
        fail(breaker, 1)
        time.now += OPEN_FOR.total_seconds() - 0.5
        assert not breaker.allows(AGENT)
        time.now += 0.5

        assert breaker.allows(AGENT)

    def test_a_probe_that_succeeds_closes_it(self, time: Time) -> None:
        breaker = Breaker(time)
        fail(breaker, FAILURES)
        time.now += OPEN_FOR.total_seconds()
        assert breaker.allows(AGENT)
        breaker.reachable(AGENT)

        assert [breaker.allows(AGENT) for _ in range(3)] == [True, True, True]

    def test_a_probe_that_never_tells_is_followed_by_another(self, time: Time) -> None:
        breaker = Breaker(time)
        fail(breaker, FAILURES)
        for _ in range(2):
            time.now += OPEN_FOR.total_seconds()
            assert breaker.allows(AGENT)

    def test_open_circuits_are_counted(self, time: Time) -> None:
        breaker = Breaker(time)
        fail(breaker, FAILURES)
        fail(breaker, FAILURES, OTHER)
        assert REGISTRY.get_sample_value("botyard_agent_circuits_open") == 2
        breaker.reachable(AGENT)

        assert REGISTRY.get_sample_value("botyard_agent_circuits_open") == 1

    def test_what_is_remembered_is_bounded(
        self, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(breaker, "MAX_CIRCUITS", 10)
        many = Breaker(time)
        for _ in range(100):
            fail(many, 1, new_id())

        assert len(many._circuits) == 10


class TestAgentClient:
    async def test_stops_knocking_and_knocks_again(self, time: Time) -> None:
        knocks = 0

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal knocks
            knocks += 1
            body = b'{"title":"Conflict","status":409,"code":"no"}'
            writer.write(b"HTTP/1.1 409 Conflict\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        agent = AgentAddress(
            session_id=AGENT,
            endpoint=f"http://127.0.0.1:{port}",
            api_token="t",
            epoch=1,
            journal_id=new_id(),
        )
        client = AgentClient(Breaker(time))
        for _ in range(FAILURES):
            with pytest.raises(AgentAway, match="ConnectError"):
                await client.health(agent)
        with pytest.raises(AgentAway, match="not called"):
            await client.health(agent)

        async with await asyncio.start_server(answer, "127.0.0.1", port):
            with pytest.raises(AgentAway, match="not called"):
                await client.health(agent)
            time.now += OPEN_FOR.total_seconds()
            for _ in range(2):
                with pytest.raises(Exception, match="409"):
                    await client.health(agent)
        await client.close()

        assert knocks == 2
