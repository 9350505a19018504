import asyncio
from contextlib import asynccontextmanager

import pytest

from adapters import arrivals
from adapters.base import ChannelDown, ChannelRefused, Outgoing
from adapters.dingtalk import inflow, stream
from adapters.dingtalk.stream import Stream
from adapters.model import At, Image, Reply, Text, Voice
from adapters.simulators.dingtalk import BOT_TOPIC
from adapters.simulators.platform import Line
from adapters.sockets import Closed
from tests.adapters.sending import send

PNG = b"\x89PNG" + bytes(100)


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch):
    monkeypatch.setattr(stream, "MIN_LIFE_S", 0)
    monkeypatch.setattr(inflow, "RETRY_S", 0)
    monkeypatch.setattr(arrivals, "RETRY_S", 0)


def words(host):
    return [[each.text for each in message.segments] for message in host.reported]


class TestIn:
    async def test_what_is_said_is_reported_and_then_acknowledged(self, running, dingtalk, host):
        message = dingtalk.message(Line(user="zhangsan", text="你好"))
        number = await dingtalk.frame("CALLBACK", BOT_TOPIC, message)
        await dingtalk.until(lambda: number in dingtalk.answers)
        assert words(host) == [["你好"]]
        assert (dingtalk.answers[number]["code"], dingtalk.answers[number]["data"]) == (
            200,
            '{"response": null}',
        )

    async def test_a_picture_a_voice_a_quote_and_a_mention(self, running, dingtalk, host):
        for line in (
            Line(user="zhangsan", picture=PNG),
            Line(user="lisi", voice=PNG, text="几点开门"),
            Line(user="wang", text="这个", quotes="msg0"),
            Line(user="zhao", chat="g1", text="在吗"),
            Line(user="qian", picture=PNG, text="看"),
        ):
            assert await dingtalk.bring(line)
        await host.until_reported(5)
        said = {message.sender.id: message for message in host.reported}
        [picture] = said["zhangsan"].segments
        assert host.media.kept[picture.ref.id].body == PNG
        [voice] = said["lisi"].segments
        assert (voice.transcript, voice.duration_ms, voice.ref.via) == ("几点开门", 1200, "media")
        assert said["wang"].segments == [Reply(message_id="msg0"), Text(text="这个")]
        assert (said["zhao"].conversation.type, said["zhao"].mentions_bot) == ("group", True)
        assert [type(each) for each in said["qian"].segments] == [Text, Image]

    async def test_an_answer_goes_out(self, running, adapter, dingtalk, host):
        await dingtalk.bring(Line(user="zhangsan", chat="g1", text="几点开门？"))
        await host.until_reported(1)
        asked = host.reported[0]
        answer = Outgoing(
            idempotency_key="k",
            conversation=asked.conversation,
            reply_handle=asked.reply_handle,
            segments=[At(target=asked.sender.id), Text(text="九点")],
        )
        await send(adapter, answer)
        await dingtalk.until_shown(1, patience_s=10)
        assert [each.text for each in dingtalk.shown(chat="g1")] == ["@zhangsan 九点"]

    async def test_pings_and_events_are_answered_and_say_nothing(self, running, dingtalk, host):
        ping = await dingtalk.frame("SYSTEM", "ping", {"opaque": "7"})
        event = await dingtalk.frame("EVENT", "*", {"UserId": ["1"]}, eventId="e1")
        strange = await dingtalk.frame("CALLBACK", "/v1.0/other", {})
        odd = await dingtalk.frame("CALLBACK", BOT_TOPIC, {"msgId": 7})
        await dingtalk.until(lambda: {ping, event, strange, odd} <= set(dingtalk.answers))
        codes = [dingtalk.answers[number]["code"] for number in (ping, event, strange, odd)]
        assert codes == [200, 200, 404, 200]
        assert dingtalk.answers[ping]["data"] == '{"opaque": "7"}'
        assert host.reported == []

    async def test_bytes_that_are_no_frame_hurt_nobody(self, running, dingtalk, host):
        for raw in ("", "{", "[" * 10_000, '{"type": 7}'):
            await dingtalk._sockets[0].send_text(raw)
        await dingtalk._sockets[0].send_bytes(b"\xff\x00")
        await dingtalk.bring(Line(user="zhangsan", text="还在"))
        await host.until_reported(1)
        assert words(host) == [["还在"]]


class TestNothingIsLetGo:
    async def test_while_it_cannot_be_made_safe_it_is_kept_and_not_acknowledged(
        self, running, dingtalk, host
    ):
        host.accepts = False
        numbers = [
            await dingtalk.frame("CALLBACK", BOT_TOPIC, dingtalk.message(line))
            for line in (Line(user="zhangsan", text=str(n)) for n in range(20))
        ]
        ping = await dingtalk.frame("SYSTEM", "ping", {})
        await dingtalk.until(lambda: ping in dingtalk.answers)
        assert not set(numbers) & set(dingtalk.answers)
        host.accepts = True
        await host.until_reported(20)
        assert words(host) == [[str(n)] for n in range(20)]
        await dingtalk.until(lambda: set(numbers) <= set(dingtalk.answers))
        assert len({message.dedupe_key for message in host.reported}) == 20

    async def test_beyond_what_fits_in_hand_the_connection_is_read_no_further(
        self, made, dingtalk, host, monkeypatch
    ):
        monkeypatch.setattr(stream, "MAX_IN_HAND", 2)
        host.accepts = False
        task = asyncio.create_task(made().run())
        await dingtalk.until(lambda: dingtalk.connections == 1)
        for n in range(10):
            await dingtalk.bring(Line(user=f"u{n}", text=str(n)))
        ping = await dingtalk.frame("SYSTEM", "ping", {})
        host.accepts = True
        await host.until_reported(10)
        await dingtalk.until(lambda: ping in dingtalk.answers)
        assert sorted(words(host)) == [[str(n)] for n in range(10)]
        task.cancel()
        await asyncio.wait({task})

    async def test_words_behind_a_picture_wait_and_other_talks_do_not(
        self, running, dingtalk, host
    ):
        host.media.open.clear()
        await dingtalk.bring(Line(user="zhangsan", picture=PNG))
        await dingtalk.bring(Line(user="zhangsan", text="这个多少钱"))
        await dingtalk.bring(Line(user="lisi", text="你好"))
        await host.until_reported(1)
        assert words(host) == [["你好"]]
        host.media.open.set()
        await host.until_reported(3)
        kinds = [type(message.segments[0]) for message in host.reported]
        assert kinds == [Text, Image, Text]

    async def test_at_the_end_nothing_waits_for_its_media(self, running, dingtalk, host):
        host.media.open.clear()
        await dingtalk.bring(Line(user="zhangsan", voice=PNG, text="几点开门"))
        await dingtalk.bring(Line(user="zhangsan", text="在吗"))
        ping = await dingtalk.frame("SYSTEM", "ping", {})
        await dingtalk.until(lambda: ping in dingtalk.answers)
        running.cancel()
        await asyncio.wait({running})
        [voice], [text] = (message.segments for message in host.reported)
        assert isinstance(voice, Voice)
        assert (voice.transcript, voice.ref.via) == ("几点开门", "dingtalk.downloadCode")
        assert text == Text(text="在吗")

    async def test_what_is_lost_at_the_end_is_counted(self, running, dingtalk, host):
        host.accepts = False
        await dingtalk.bring(Line(user="zhangsan", text="a"))
        await dingtalk.bring(Line(user="lisi", text="b"))
        ping = await dingtalk.frame("SYSTEM", "ping", {})
        await dingtalk.until(lambda: ping in dingtalk.answers)
        counted = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                stream.log, "error", lambda said, **more: counted.append((said, more["count"]))
            )
            running.cancel()
            await asyncio.wait({running})
        assert counted == [("messages lost at the end of the channel", 2)]


class TestConnection:
    async def test_a_goodbye_is_followed_by_another_connection_without_a_gap(
        self, running, dingtalk, host, clock
    ):
        [former] = dingtalk._sockets
        await dingtalk.goodbye()
        await dingtalk.until(lambda: dingtalk.connections == 2)
        assert "disconnect" not in str(dingtalk.answers)
        for n in range(20):
            await dingtalk.bring(Line(user="zhangsan", text=str(n)))
        await host.until_reported(20)
        dingtalk._sockets.remove(former)
        await former.close()
        await dingtalk.bring(Line(user="zhangsan", text="last"))
        await host.until_reported(21)
        assert not running.done()
        assert host.note is None

    async def test_goodbye_after_goodbye_is_an_outage(self, running, dingtalk, monkeypatch):
        monkeypatch.setattr(stream, "MIN_LIFE_S", 60)
        await dingtalk.goodbye()
        with pytest.raises(ChannelDown, match="takes no connection now"):
            await running

    async def test_a_cut_connection_is_said_and_what_was_missed_is_told(
        self, running, dingtalk, host, made, clock
    ):
        assert host.position == str(int(clock()))
        clock.time += 5
        await dingtalk.disconnect()
        with pytest.raises(ChannelDown, match="was lost"):
            await running
        assert host.cuts == 1
        clock.time += 150
        assert not await dingtalk.bring(Line(user="zhangsan", text="到了吗"))
        assert len(dingtalk.unheard) == 1
        again = asyncio.create_task(made().run())
        await dingtalk.until(lambda: dingtalk.connections == 1)
        await dingtalk.bring(Line(user="zhangsan", text="现在呢"))
        await host.until_reported(1)
        assert words(host) == [["现在呢"]]
        assert "from 2025-08-22 08:06:45 UTC to 2025-08-22 08:09:15 UTC" in host.note
        again.cancel()
        await asyncio.wait({again})

    async def test_a_first_connection_has_missed_nothing(self, running, host):
        await host.proven.wait()
        assert host.note is None

    async def test_a_ticket_is_new_for_each_connection(self, running, dingtalk, made):
        other = asyncio.create_task(made().run())
        await dingtalk.until(lambda: dingtalk.connections == 2)
        assert dingtalk.calls["open"] == 2
        other.cancel()
        await asyncio.wait({other})

    async def test_a_refused_handshake_and_a_platform_that_is_away_pass(self, made, dingtalk):
        dingtalk.faults.refuse_stream = 1
        with pytest.raises(ChannelDown, match="cannot be reached"):
            await made().run()
        dingtalk.faults.answer_500 = 1
        with pytest.raises(ChannelDown, match="cannot be reached"):
            await made().run()

    async def test_a_wrong_secret_is_the_settings_fault(self, made, dingtalk):
        dingtalk.client_secret = "another"
        with pytest.raises(ChannelRefused) as refused:
            await made().run()
        assert refused.value.path == "/client_secret"


class Wire:
    """A connection whose other side is under the test's hand."""

    def __init__(self, *, answers: bool):
        self.answers = answers
        self.pings = 0
        self.closed = asyncio.Event()

    async def send(self, frame): ...

    async def receive(self):
        await self.closed.wait()
        raise Closed(1006)

    async def ping(self):
        self.pings += 1
        if not self.answers:
            await asyncio.Event().wait()

    async def close(self, code=1000):
        self.closed.set()


class TestHeartbeat:
    @pytest.fixture
    def kept(self, host, adapter, clock, monkeypatch):
        """A stream over such a connection."""
        monkeypatch.setattr(stream, "PROOF_EVERY_S", 0)
        monkeypatch.setattr(stream, "PONG_WITHIN_S", 0.01)

        async def keep(line):
            @asynccontextmanager
            async def dial(url, *, ping_every_s):
                assert ping_every_s is None
                yield line

            host.dial = dial
            way_in = inflow.Inflow(host, adapter._arrivals)
            await Stream(adapter._client, host, way_in, clock=clock).keep()

        return keep

    async def test_a_platform_that_goes_silent_is_noticed(self, kept, host, clock):
        with pytest.raises(ChannelDown, match="gone silent"):
            await kept(Wire(answers=False))
        # It is not known until when it was there.
        assert host.position == str(int(clock()))

    async def test_each_answer_is_a_proof(self, kept, host):
        line = Wire(answers=True)
        task = asyncio.create_task(kept(line))
        for _ in range(3):
            host.proven.clear()
            await host.proven.wait()
        assert line.pings >= 2
        await line.close()
        with pytest.raises(ChannelDown, match="was lost"):
            await task
        assert host.position.endswith("!")


class TestWhatWasMissed:
    @pytest.mark.parametrize(
        ("position", "since"),
        [
            (None, None),
            ("900!", 900.0),
            ("1000!", 1000.0),
            ("900", 900.0),
            ("990", None),
            ("", None),
            ("x", None),
            ("9" * 20, None),
        ],
    )
    def test_is_known_by_the_last_proof(self, position, since):
        assert stream._missed(position, 1000.5) == since
