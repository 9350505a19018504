import asyncio
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import serve

from adapters.outbound import Door, Refused, networks
from adapters.platform import Unreachable
from adapters.sockets import Closed, HandshakeRefused, dial

LOOPBACK = Door(networks("127.0.0.0/8"))


@asynccontextmanager
async def server(handler, **options):
    async with serve(handler, "127.0.0.1", 0, **options) as running:
        port = running.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/gateway?ticket=1"


async def echo(connection):
    async for frame in connection:
        await connection.send(frame)


class TestDial:
    async def test_whole_messages_go_both_ways(self):
        async with server(echo) as url, dial(LOOPBACK, url) as socket:
            for frame in ("您好", b"\x00\x01"):
                await socket.send(frame)
                assert await socket.receive() == frame

    async def test_the_platforms_close_code_is_told(self):
        async def leave(connection):
            await connection.close(4009, "session timed out")

        async with server(leave) as url, dial(LOOPBACK, url) as socket:
            with pytest.raises(Closed) as closed:
                await socket.receive()
            assert closed.value.code == 4009
            with pytest.raises(Closed):
                await socket.send("too late")

    async def test_a_cut_connection_has_no_code_of_the_platform(self):
        async def cut(connection):
            connection.transport.abort()

        async with server(cut) as url, dial(LOOPBACK, url) as socket:
            with pytest.raises(Closed) as closed:
                await socket.receive()
            assert closed.value.code == 1006

    async def test_a_message_beyond_the_limit_ends_it(self):
        async def flood(connection):
            await connection.send("x" * 101)
            await connection.wait_closed()

        async with server(flood) as url, dial(LOOPBACK, url, max_bytes=100) as socket:
            with pytest.raises(Closed):
                await socket.receive()

    async def test_a_ping_returns_with_its_answer_and_ends_with_the_connection(self):
        async with server(echo) as url, dial(LOOPBACK, url, ping_every_s=None) as socket:
            await socket.ping()
            await socket.close()
            with pytest.raises(Closed):
                await socket.ping()

    async def test_who_may_not_talk_any_more_sends_nothing(self):
        heard, allowed = [], [True]

        async def listen(connection):
            async for frame in connection:
                heard.append(frame)
                await connection.send(frame)

        async with (
            server(listen) as url,
            dial(LOOPBACK, url, may_talk=lambda: allowed[-1]) as socket,
        ):
            await socket.send("one")
            await socket.receive()
            allowed.append(False)
            with pytest.raises(Closed):
                await socket.send("two")
        assert heard == ["one"]

    async def test_headers_are_those_that_were_given(self):
        seen = asyncio.get_running_loop().create_future()

        async def look(connection):
            seen.set_result(connection.request.headers)

        headers = {"Authorization": "Bearer x"}
        async with server(look) as url, dial(LOOPBACK, url, headers=headers):
            assert (await seen)["authorization"] == "Bearer x"
            assert "user-agent" not in seen.result()

    async def test_a_refused_handshake_says_so(self):
        def refuse(connection, _request):
            return connection.respond(403, "")

        async with server(echo, process_request=refuse) as url:
            with pytest.raises(HandshakeRefused) as refused:
                async with dial(LOOPBACK, url):
                    pass
        assert refused.value.status == 403

    async def test_a_redirect_is_not_followed_to_another_place(self):
        async with server(echo) as other:

            def elsewhere(connection, _request):
                answer = connection.respond(302, "")
                answer.headers["Location"] = other
                return answer

            async with server(echo, process_request=elsewhere) as url:
                with pytest.raises(Refused):
                    async with dial(LOOPBACK, url):
                        pass

    async def test_nobody_there_is_unreachable(self):
        async with server(echo) as url:
            pass
        with pytest.raises(Unreachable):
            async with dial(LOOPBACK, url):
                pass

    @pytest.mark.parametrize(
        "url", ["ws://127.0.0.1:1/", "wss://10.0.0.1/", "https://example.com/", "wss://", ""]
    )
    async def test_the_door_is_the_same_as_for_calls(self, url):
        with pytest.raises(Refused):
            async with dial(Door(()), url):
                pass
