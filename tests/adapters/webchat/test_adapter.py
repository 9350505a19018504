import asyncio
import json

import httpx2
import pytest

from adapters import standard_webhooks
from adapters.base import (
    ChannelRefused,
    Control,
    NotAccepted,
    Outgoing,
    SendFailed,
    SendUnknown,
    Sent,
)
from adapters.model import ConversationKey, RawCallback, Text
from adapters.outbound import Door, networks
from adapters.webchat import adapter as webchat
from adapters.webchat import callback
from adapters.webchat.settings import Settings
from instance_agent.client import platform_client
from tests.adapters.sending import send

SETTINGS = Settings(secret="s" * 32)
NOW = 1_700_000_000
BODY = json.dumps(
    {"type": "message", "visitor": {"id": "v1"}, "id": "m1", "text": "您好", "at": NOW}
).encode()
PART = Outgoing(
    idempotency_key="key-1",
    conversation=ConversationKey(type="direct", id="v1"),
    reply_handle={},
    segments=[Text(text="您好")],
)


class Host:
    """An agent that keeps what it hears; `platform` answers the adapter's calls."""

    media = None

    def __init__(self, platform):
        self.http = httpx2.AsyncClient(transport=httpx2.MockTransport(platform))
        self.control = Control(url="http://control", http=self.http)
        self.reported = []
        self.accepts = True
        self.proofs = 0
        self.proven = asyncio.Event()

    async def report(self, messages, *, position=None):
        if not self.accepts:
            raise NotAccepted
        self.reported += messages

    def connected(self):
        self.proofs += 1
        self.proven.set()


def answering(status, body=None, **headers):
    return Host(lambda _: httpx2.Response(status, json=body or {}, headers=headers))


def failing(error):
    def platform(request):
        raise error("cut", request=request)

    return Host(platform)


def made(host, settings=SETTINGS):
    return webchat.Adapter(settings, host)


class TestProbe:
    async def test_a_known_secret_passes(self):
        await made(answering(200)).probe()

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_wrong_secret_is_refused_with_its_path(self, status):
        with pytest.raises(ChannelRefused) as refused:
            await made(answering(status)).probe()
        assert refused.value.path == "/secret"

    async def test_a_platform_that_is_away_says_nothing_about_the_settings(self):
        await made(failing(httpx2.ConnectError)).probe()
        await made(answering(503)).probe()

    async def test_an_address_that_is_none_is_refused(self):
        settings = Settings(secret="s" * 32, base_url="http://a:x")
        with pytest.raises(ChannelRefused) as refused:
            await made(answering(200), settings).probe()
        assert refused.value.path == "/base_url"

    async def test_asks_the_platform_of_its_settings_with_its_secret(self):
        seen = []
        host = Host(lambda request: seen.append(request) or httpx2.Response(200))
        await made(host, Settings(secret="s" * 32, base_url="http://chat/")).probe()
        assert str(seen[0].url) == "http://chat/webchat-platform/account"
        assert seen[0].headers["authorization"] == "Bearer " + "s" * 32


class TestRun:
    async def test_each_look_at_the_account_is_proof_of_life(self, monkeypatch):
        monkeypatch.setattr(webchat, "PROOF_EVERY_S", 0)
        host = answering(200)
        running = asyncio.create_task(made(host).run())
        for _ in range(3):
            host.proven.clear()
            await host.proven.wait()
        running.cancel()
        assert host.proofs >= 3

    async def test_three_misses_in_a_row_are_an_outage(self, monkeypatch):
        monkeypatch.setattr(webchat, "PROOF_EVERY_S", 0)
        answers = iter([200, 503, 503, 200, 503, 503, 503, 200])
        host = Host(lambda _: httpx2.Response(next(answers)))
        with pytest.raises(httpx2.HTTPStatusError):
            await made(host).run()
        assert host.proofs == 2
        assert list(answers) == [200]

    async def test_a_secret_that_became_wrong_ends_it_at_once(self):
        with pytest.raises(ChannelRefused):
            await made(answering(401)).run()


class TestCallback:
    async def test_signed_bytes_are_reported(self):
        host = answering(200)
        answer = await made(host).callback(self._raw(sign=True), verified=False)
        assert (answer.status, answer.body) == (200, b"{}")
        assert [message.dedupe_key for message in host.reported] == ["v1:m1"]

    async def test_unsigned_bytes_are_reported_only_when_checked_on_arrival(self):
        host = answering(200)
        assert (await made(host).callback(self._raw(), verified=False)).status == 401
        assert host.reported == []
        assert (await made(host).callback(self._raw(), verified=True)).status == 200
        assert len(host.reported) == 1

    async def test_a_body_that_is_no_message_is_a_bad_request(self):
        host = answering(200)
        answer = await made(host).callback(self._raw(b"[]"), verified=True)
        assert (answer.status, host.reported) == (400, [])

    async def test_is_not_acknowledged_when_not_accepted(self):
        host = answering(200)
        host.accepts = False
        with pytest.raises(NotAccepted):
            await made(host).callback(self._raw(), verified=True)

    @staticmethod
    def _raw(body=BODY, *, sign=False):
        headers = {}
        if sign:
            headers = standard_webhooks.sign(
                callback.key(SETTINGS), message_id="msg_1", timestamp=NOW, body=body
            )
        return RawCallback(
            method="POST", path="/", query="", headers=headers, body=body, received_at=NOW
        )


class TestSend:
    async def test_posts_one_part_and_learns_its_id(self):
        seen = []

        def platform(request):
            seen.append(json.loads(request.content))
            return httpx2.Response(200, json={"id": "p1"})

        assert await send(made(Host(platform)), PART) == Sent(platform_message_id="p1")
        assert seen == [
            {
                "to": "v1",
                "key": "key-1",
                "segments": [{"type": "text", "text": "您好"}],
                "sender": {"kind": "bot", "name": ""},
            }
        ]

    @pytest.mark.parametrize(
        ("status", "error_class"),
        [
            (401, "secret_invalid"),
            (403, "secret_invalid"),
            (404, "recipient_invalid"),
            (413, "content_invalid"),
            (429, "rate_limited"),
            (500, "server_busy"),
            (503, "server_busy"),
        ],
    )
    async def test_a_refusal_has_a_class(self, status, error_class):
        with pytest.raises(SendFailed) as failed:
            await send(made(answering(status)), PART)
        assert failed.value.error_class == error_class

    async def test_a_limit_says_how_long_to_wait(self):
        with pytest.raises(SendFailed) as failed:
            await send(made(answering(429, **{"retry-after": "7"})), PART)
        assert failed.value.retry_after_s == 7

    @pytest.mark.parametrize(
        "error", [httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout]
    )
    async def test_without_a_connection_nothing_was_sent(self, error):
        with pytest.raises(SendFailed) as failed:
            await send(made(failing(error)), PART)
        assert failed.value.error_class == "server_busy"

    @pytest.mark.parametrize(
        "error",
        [httpx2.ReadTimeout, httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError],
    )
    async def test_a_call_that_was_cut_has_no_known_end(self, error):
        with pytest.raises(SendUnknown):
            await send(made(failing(error)), PART)

    async def test_an_answer_that_cannot_be_read_has_no_known_end(self):
        with pytest.raises(SendUnknown):
            await send(made(answering(200, {"what": 1})), PART)

    async def test_an_address_inside_our_network_is_the_settings_fault(self):
        host = answering(200)
        settings = Settings(secret="s" * 32, base_url="http://169.254.169.254")
        door = Door(networks("127.0.0.0/8"))
        async with platform_client(door) as host.http:
            with pytest.raises(ChannelRefused) as refused:
                await made(host, settings).probe()
            assert refused.value.path == "/base_url"
            with pytest.raises(SendFailed, match="not on the internet"):
                await send(made(host, settings), PART)
        door.close()

    async def test_our_own_control_plane_needs_no_door(self):
        host = answering(200, {"id": "p1"})
        host.http = None
        assert (await send(made(host), PART)).platform_message_id == "p1"

    async def test_a_platform_that_hangs_up_after_the_request_has_no_known_end(self):
        async def hang_up(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        host = answering(200)
        settings = Settings(secret="s" * 32, base_url=f"http://127.0.0.1:{port}")
        async with server, httpx2.AsyncClient() as host.http:
            with pytest.raises(SendUnknown):
                await send(made(host, settings), PART)
