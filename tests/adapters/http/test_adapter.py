import asyncio
import base64

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters import arrivals
from adapters.base import (
    ChannelDown,
    ChannelRefused,
    NotAccepted,
    Outgoing,
    SendFailed,
    SendUnknown,
)
from adapters.http import adapter as module
from adapters.http.adapter import retry_after
from adapters.model import (
    ConversationKey,
    File,
    Image,
    RawCallback,
    Ref,
    Reply,
    Text,
)
from adapters.outbound import Door
from adapters.simulators.http import KEPT_S, System
from adapters.simulators.platform import Line
from adapters.simulators.serving import serving
from instance_agent.client import platform_client
from tests.adapters.sending import send

PNG = b"\x89PNG" + bytes(100)
HELLO = Text(text="您好")


@pytest.fixture
async def behind(system, adapter, clock):
    """The system's callbacks reach the adapter, as the control plane passes them on."""

    async def take(request: Request) -> Response:
        raw = RawCallback(
            method=request.method,
            path="/",
            query="",
            headers=dict(request.headers),
            body=await request.body(),
            received_at=clock(),
        )
        try:
            answer = await adapter.callback(raw, verified=False)
        except NotAccepted:
            return Response("", 503)
        return Response(answer.body, answer.status)

    async with serving(Starlette(routes=[Route("/", take, methods=["POST"])])) as url:
        system.callback_url = url
        yield


def part(*segments, key="key:0", kind="direct", to="u1"):
    return Outgoing(
        idempotency_key=key,
        conversation=ConversationKey(type=kind, id=to),
        reply_handle={"message_id": "m1"},
        segments=list(segments),
    )


async def failure(call) -> SendFailed:
    with pytest.raises(SendFailed) as failed:
        await call
    return failed.value


@pytest.mark.usefixtures("behind")
class TestIn:
    async def test_text_media_quotes_and_groups(self, system, host):
        assert await system.bring(Line(user="u1", text="hi", quotes="m0"))
        assert await system.bring(Line(user="u1", picture=PNG, name="a.png"))
        assert await system.bring(Line(user="u1", voice=PNG))
        assert await system.bring(Line(user="u2", chat="g1", text="在吗", mentions=False))
        text, picture, voice, group = host.reported
        assert text.segments == [Reply(message_id="m0"), Text(text="hi")]
        assert host.media.kept[picture.segments[0].ref.id].body == PNG
        assert voice.segments[0].ref.via == "media"
        assert (group.conversation.type, group.mentions_bot) == ("group", False)

    async def test_what_is_not_accepted_comes_again_and_is_the_same(self, system, host):
        host.accepts = False
        for n in range(20):
            assert not await system.bring(Line(user="u1", text=str(n)))
        assert system.unacknowledged == 20
        host.accepts = True
        await system.say_again()
        await system.post(system.message(Line(user="u1", text="0", id="said-1")))
        assert system.unacknowledged == 0
        assert [each.segments[0].text for each in host.reported[:20]] == [str(n) for n in range(20)]
        assert len({each.dedupe_key for each in host.reported}) == 20

    async def test_a_ping_says_nothing(self, system, host):
        assert await system.check_address()
        assert host.reported == []

    async def test_a_mistake_is_explained_to_whoever_made_it(self, system):
        await system.post({"type": "message.received", "id": "m1"})
        assert "required field `conversation`" in system.reasons[0]
        system.key = b"x" * 32
        await system.post({"type": "message.received", "id": "m1"})
        assert "no signature matches" in system.reasons[-1]

    async def test_what_we_said_ourselves_does_not_come_in(self, system, adapter, host):
        await send(adapter, part(HELLO))
        assert not await system.post(system.bodies[0])
        assert host.reported == []

    async def test_only_the_age_is_taken_on_trust(self, system, adapter, clock):
        body = b'{"type": "ping"}'
        headers = system.headers("m1", body)
        clock.time += 3600
        raw = RawCallback(
            method="POST", path="/", query="", headers=headers, body=body, received_at=clock()
        )
        assert (await adapter.callback(raw, verified=False)).status == 401
        assert (await adapter.callback(raw, verified=True)).status == 200

    async def test_an_address_that_has_nothing_keeps_the_message(self, system, host, monkeypatch):
        monkeypatch.setattr(arrivals, "RETRY_S", 0)
        message = system.message(Line(user="u1", file=PNG, name="a.pdf"))
        system._files.clear()
        assert await system.post(message)
        [segment] = host.reported[0].segments
        assert (segment.name, segment.ref.via, segment.ref.more) == ("a.pdf", "http.url", {})
        assert system.url not in segment.ref.id

    async def test_addresses_inside_our_network_are_not_fetched(self, system, host):
        door = Door()
        inside = {
            "type": "message.received",
            "id": "m1",
            "conversation": {"id": "u1"},
            "sender": {"id": "u1"},
            "segments": [{"type": "image", "url": "https://169.254.169.254/latest"}],
        }
        async with platform_client(door) as host.http:
            assert await system.post(inside)
        door.close()
        assert host.reported[0].segments[0].ref.via == "http.url"


class TestOut:
    async def test_a_message_is_signed_and_its_id_told(self, adapter, system):
        sent = await send(adapter, part(HELLO, kind="group", to="g1"))
        assert sent.platform_message_id == "shown-1"
        [shown] = system.shown(chat="g1")
        assert (shown.text, shown.quotes) == ("您好", "m1")

    async def test_media_go_along(self, adapter, host, system):
        ref = host.media.put(PNG, name="a.png")
        gone = Ref(via="media", id="gone")
        await send(adapter, part(Image(ref=ref), File(ref=gone, name="b.pdf")))
        image, words = system.bodies[0]["segments"]
        assert base64.b64decode(image["content"]) == PNG
        assert words == {"type": "text", "text": "[file b.pdf]"}

    async def test_a_repeat_is_known_by_its_id(self, adapter, system):
        system.faults.drop_reply = 1
        with pytest.raises(SendUnknown):
            await send(adapter, part(HELLO))
        assert (await send(adapter, part(HELLO))).platform_message_id == "shown-1"
        assert (len(system.seen), system.repeats) == (1, 1)

    async def test_it_is_known_for_as_long_as_we_count_on_it(self):
        assert module.__package__ == "adapters.http"
        from adapters.http.kind import KIND

        assert KIND.resend_safe_s == KEPT_S

    async def test_a_change_of_the_secret_interrupts_nothing(self, system, made):
        former = system.secret
        system.former_key, system.key = system.key, b"n" * 32
        await send(made(previous_secret=former), part(HELLO))
        await send(made(secret=former), part(HELLO, key="key:1"))
        system.former_key = b""
        await send(made(previous_secret=former), part(HELLO, key="key:2"))
        assert len(system.seen) == 3

    async def test_a_pause_that_was_asked_for_is_kept(self, adapter, system):
        system.faults.retry_after = "7"
        system.limit(1)
        failed = await failure(send(adapter, part(HELLO)))
        assert (failed.error_class, failed.retry_after_s) == ("rate_limited", 7)
        system.faults.busy, system.faults.retry_after = 1, "Fri, 22 Aug 2025 08:07:00 GMT"
        failed = await failure(send(adapter, part(HELLO)))
        assert (failed.error_class, failed.retry_after_s) == ("server_busy", 20)
        assert system.seen == []

    async def test_a_server_that_broke_down_may_have_taken_it(self, adapter, system):
        system.faults.answer_500 = 1
        with pytest.raises(SendUnknown):
            await send(adapter, part(HELLO))

    async def test_other_refusals(self, adapter, made, system, host):
        system.faults.redirect = 1
        assert "leads elsewhere" in (await failure(send(adapter, part(HELLO)))).detail
        wrong = made(secret="whsec_" + base64.b64encode(b"x" * 32).decode())
        failed = await failure(send(wrong, part(HELLO)))
        assert failed.error_class == "secret_invalid"
        nowhere = made(url="http://127.0.0.1:1/")
        assert (await failure(send(nowhere, part(HELLO)))).error_class == "server_busy"
        ref = host.media.put(PNG)
        host.media.away = 1
        failed = await failure(send(adapter, part(Image(ref=ref))))
        assert failed.error_class == "server_busy"

    async def test_a_chat_that_moved_says_where_to(self, adapter, system):
        message = part(HELLO)
        system.moved[message.conversation.id] = "customer-8"
        failed = await failure(send(adapter, message))
        assert (failed.error_class, failed.moved_to) == ("chat_moved", "customer-8")
        system.moved[message.conversation.id] = "x" * 201
        failed = await failure(send(adapter, message))
        assert (failed.error_class, failed.moved_to) == ("content_invalid", None)

    async def test_gone_stops_the_channel_in_plain_words(self, adapter, system):
        system.faults.gone = True
        failed = await failure(send(adapter, part(HELLO)))
        assert failed.error_class == "no_permission"
        for begin in (adapter.probe(), adapter.run()):
            with pytest.raises(ChannelRefused, match="410 Gone") as refused:
                await begin
            assert refused.value.path == "/url"


class TestProof:
    async def test_good_settings_pass(self, adapter, system):
        await adapter.probe()
        assert system.calls == {"ping": 1}

    async def test_a_wrong_secret_is_the_settings_fault(self, made):
        wrong = made(secret="whsec_" + base64.b64encode(b"x" * 32).decode())
        with pytest.raises(ChannelRefused, match="compare the secret") as refused:
            await wrong.probe()
        assert refused.value.path == "/secret"

    async def test_a_system_that_is_away_says_nothing_about_the_settings(self, made, system):
        await made(url="http://127.0.0.1:1/").probe()
        system.faults.answer_500 = 1
        await made().probe()

    async def test_an_address_inside_our_network_is_the_settings_fault(self, host, made):
        door = Door()
        async with platform_client(door) as host.http:
            inside = made(url="https://10.0.0.1/bot")
            for begin in (inside.probe(), inside.run()):
                with pytest.raises(ChannelRefused) as refused:
                    await begin
                assert refused.value.path == "/url"
        door.close()

    async def test_each_ping_is_proof_of_life(self, adapter, host, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        running = asyncio.create_task(adapter.run())
        for _ in range(3):
            host.proven.clear()
            await host.proven.wait()
        running.cancel()
        await asyncio.wait({running})

    async def test_three_misses_in_a_row_are_an_outage(self, adapter, system, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        system.faults.answer_500 = 3
        with pytest.raises(ChannelDown, match="cannot be reached"):
            await adapter.run()
        assert system.faults.answer_500 == 0


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("7", 7),
            ("999999", 3600),
            ("Thu, 01 Jan 1970 00:00:30 GMT", 20),
            ("Thu, 01 Jan 1970 00:00:01 GMT", 0),
            ("", None),
            ("soon", None),
            ("-1", None),
            ("1" * 400, None),
        ],
    )
    def test_both_forms(self, text, seconds):
        assert retry_after(text, now=10.0) == seconds


def test_a_stand_in_is_made_without_arguments():
    assert System().secret.startswith("whsec_")
