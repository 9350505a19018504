"""The bot at the gateway of the stand-in platform, over real sockets."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import ChannelRefused
from adapters.model import At, Image, Reply, Text, Voice
from adapters.qq import gateway, link
from adapters.qq.callback import Call
from adapters.qq.gateway import Conversation, Session, after_close
from adapters.simulators.platform import Line

PNG = b"\x89PNG" + bytes(100)


def texts(host):
    return [
        segment.text
        for message in host.reported
        for segment in message.segments
        if isinstance(segment, Text)
    ]


class TestMessages:
    async def test_what_is_said_is_reported(self, bot, gate, host):
        await bot.start()
        assert await gate.bring(Line(user="U1", text="你好"))
        assert await gate.bring(Line(user="M1", chat="G1", text="在吗"))
        await host.until_reported(2)
        direct, group = host.reported
        assert (direct.conversation.type, direct.conversation.id) == ("direct", "U1")
        assert (group.conversation.type, group.conversation.id) == ("group", "G1")
        assert (group.sender.id, group.mentions_bot) == ("M1", True)
        assert texts(host) == ["你好", "在吗"]

    async def test_what_a_group_says_among_itself_is_not_meant_for_the_bot(self, bot, gate, host):
        await bot.start()
        await gate.bring(Line(user="M1", chat="G1", text="hi", mentions=False))
        await host.until_reported(1)
        assert host.reported[0].mentions_bot is False

    async def test_media_are_in_our_store_before_their_message_is_reported(self, bot, gate, host):
        await bot.start()
        await gate.bring(Line(user="U1", text="看", picture=PNG))
        await gate.bring(Line(user="U1", text="听", voice=b"RIFF1234"))
        await host.until_reported(2)
        [_, picture], [_, voice] = (message.segments for message in host.reported)
        assert isinstance(picture, Image)
        assert host.media.kept[picture.ref.id].body == PNG
        assert isinstance(voice, Voice)
        assert (voice.transcript, voice.ref.via) == ("听", "media")

    async def test_what_takes_long_is_not_overtaken(self, bot, gate, host):
        await bot.start()
        host.media.open.clear()
        await gate.bring(Line(user="U1", text="一", picture=PNG))
        await gate.bring(Line(user="U1", text="二"))
        host.media.open.set()
        await host.until_reported(2)
        assert texts(host) == ["一", "二"]

    async def test_a_quote_is_shown(self, bot, gate, host):
        await bot.start(guilds=False)
        await gate.bring(Line(user="U1", text="那个", quotes="REF1"))
        await host.until_reported(1)
        quote = host.reported[0].segments[0]
        assert isinstance(quote, Reply)
        assert quote.message_id == "REF1"

    async def test_a_guild_is_heard_where_the_bot_may(self, bot, gate, host):
        gate.gateway.allowed |= (1 << 30) | (1 << 12)
        gate.guild_channels.add("1001")
        await bot.start(guilds=True)
        await gate.bring(Line(user="77", chat="1001", text="<@!9001> 价格", quotes="m0"))
        await host.until_reported(1)
        [message] = host.reported
        assert (message.conversation.type, message.conversation.id) == ("channel", "1001")
        assert message.segments == [
            Reply(message_id="m0"),
            At(target="9001", is_self=True),
            Text(text=" 价格"),
        ]

    async def test_a_button_is_acknowledged(self, bot, gate, host):
        await bot.start()
        await gate.press("U1", "order")
        await gate.until(lambda: len(gate.pressed) == 1, patience_s=20)
        assert host.reported == []

    async def test_a_new_friend_is_greeted_once(self, bot, gate):
        await bot.start(greeting="欢迎")
        await gate.befriend("U1")
        await gate.until_shown(1, patience_s=20)
        assert [each.text for each in gate.shown("U1")] == ["欢迎"]

    async def test_nothing_is_fetched_for_who_is_not_heard(self, bot, gate, host):
        host.blocked.add("U1")
        await bot.start()
        await gate.bring(Line(user="U1", picture=PNG))
        await gate.bring(Line(user="U2", text="二"))
        await host.until_reported(1)
        assert texts(host) == ["二"]
        assert gate.calls["media"] == 0


class TestSession:
    async def test_what_was_said_meanwhile_comes_after_a_cut(self, bot, gate, host):
        await bot.start()
        await gate.bring(Line(user="U1", text="一"))
        await host.until_reported(1)
        await gate.disconnect()
        assert not await gate.bring(Line(user="U1", text="二"))
        await host.until_reported(2)
        assert texts(host) == ["一", "二"]
        assert len(gate.gateway.identified) == 1

    async def test_another_process_goes_on_where_this_one_ended(self, bot, gate, host):
        await bot.start()
        await gate.bring(Line(user="U1", text="一"))
        await host.until_reported(1)
        await bot.stop()
        await gate.bring(Line(user="U1", text="二"))
        await bot.start()
        await host.until_reported(2)
        assert texts(host) == ["一", "二"]
        assert len(gate.gateway.identified) == 1

    async def test_a_burst_is_neither_lost_nor_doubled(self, bot, gate, host):
        await bot.start()
        for number in range(200):
            await gate.bring(Line(user="U1", text=str(number)))
            if number == 100:
                await gate.disconnect()
        await host.until_reported(200)
        keys = dict.fromkeys(message.dedupe_key for message in host.reported)
        said = {message.dedupe_key: message.segments[0].text for message in host.reported}
        assert [said[key] for key in keys] == [str(number) for number in range(200)]

    async def test_while_the_host_refuses_nothing_is_named_as_heard(self, bot, gate, host):
        await bot.start()
        host.accepts = False
        await gate.bring(Line(user="U1", text="一"))
        await gate.gateway.until(lambda: len(gate.gateway.resumed) >= 1)
        assert gate.unacknowledged == 1
        host.accepts = True
        await host.until_reported(1)
        assert texts(host) == ["一"]

    async def test_heartbeats_name_what_is_safe_and_no_more(self, bot, gate, host, monkeypatch):
        monkeypatch.setattr(link, "BEAT_EVERY_S", 0.01)
        await bot.start()
        await gate.bring(Line(user="U1", text="一"))
        await host.until_reported(1)
        await gate.gateway.until(lambda: 2 in gate.gateway.beats)
        assert gate.unacknowledged == 0
        host.media.open.clear()
        await gate.bring(Line(user="U1", text="二", picture=PNG))
        seen = len(gate.gateway.beats)
        await gate.gateway.until(lambda: len(gate.gateway.beats) > seen + 3)
        assert max(each or 0 for each in gate.gateway.beats) == 2
        host.media.open.set()
        await gate.gateway.until(lambda: 3 in gate.gateway.beats)

    async def test_what_is_on_its_way_into_our_store_is_not_named(
        self, bot, gate, host, monkeypatch
    ):
        monkeypatch.setattr(link, "BEAT_EVERY_S", 0.01)
        report, stored = host.report, asyncio.Event()

        async def slow(messages, *, position=None):
            await stored.wait()
            await report(messages, position=position)

        await bot.start()
        await gate.gateway.until(lambda: 1 in gate.gateway.beats)
        host.report = slow
        await gate.bring(Line(user="U1", text="一"))
        seen = len(gate.gateway.beats)
        await gate.gateway.until(lambda: len(gate.gateway.beats) > seen + 3)
        assert 2 not in gate.gateway.beats
        stored.set()
        await gate.gateway.until(lambda: 2 in gate.gateway.beats)

    async def test_asked_to_connect_again_it_resumes(self, bot, gate, host):
        await bot.start()
        await gate.gateway.ask(7)
        await gate.gateway.until(lambda: len(gate.gateway.resumed) == 1)
        assert gate.gateway.resumed == [1]
        assert len(gate.gateway.identified) == 1

    async def test_a_session_that_is_over_is_followed_by_a_new_one(self, bot, gate, host):
        await bot.start()
        gate.gateway.forget()
        await gate.disconnect()
        await gate.gateway.until(lambda: len(gate.gateway.identified) == 2)
        await gate.bring(Line(user="U1", text="一"))
        await host.until_reported(1)

    @pytest.mark.parametrize("code", [4006, 4007, 4900])
    async def test_codes_that_end_a_session_are_followed_by_a_new_one(self, bot, gate, code):
        await bot.start()
        await gate.gateway.close(code)
        await gate.gateway.until(lambda: len(gate.gateway.identified) == 2)
        assert gate.gateway.resumed == []

    async def test_a_token_that_ended_early_is_fetched_again(self, bot, gate, host):
        await bot.start()
        gate.expire_tokens()
        await gate.disconnect()
        await gate.gateway.until(lambda: gate.gateway.connected)
        assert gate.calls["login"] == 2

    async def test_a_token_that_the_gateway_refuses_costs_no_session(self, bot, gate, host):
        await bot.start()
        await gate.gateway.close(4004)
        await gate.gateway.until(lambda: len(gate.gateway.resumed) == 1)
        assert gate.calls["login"] == 2
        assert len(gate.gateway.identified) == 1

    async def test_a_session_that_timed_out_is_tried_once_more(self, bot, gate, host):
        await bot.start()
        await gate.gateway.close(4009)
        await gate.gateway.until(lambda: len(gate.gateway.resumed) == 1)
        assert len(gate.gateway.identified) == 1

    async def test_the_position_of_another_bot_is_not_used(self, bot, gate, host):
        host.position = gateway.position("999", Session("S", 5))
        await bot.start()
        assert gate.gateway.resumed == []
        assert len(gate.gateway.identified) == 1


class TestSilence:
    async def test_heartbeats_without_an_answer_end_the_connection(
        self, bot, gate, host, monkeypatch
    ):
        monkeypatch.setattr(link, "BEAT_EVERY_S", 0.05)
        await bot.start()
        gate.gateway.silent = True
        await gate.gateway.until(lambda: len(gate.gateway.resumed) >= 1)
        gate.gateway.silent = False
        await gate.bring(Line(user="U1", text="一"))
        await host.until_reported(1)

    async def test_a_gateway_that_says_nothing_is_named(self, bot, gate, monkeypatch):
        monkeypatch.setattr(link, "HELLO_WITHIN_S", 0.05)
        gate.gateway.greets = False
        with pytest.raises(ChannelRefused, match="did not begin a session"):
            await bot.start()

    async def test_heartbeats_are_proof_of_life(self, bot, gate, host, monkeypatch):
        monkeypatch.setattr(link, "BEAT_EVERY_S", 0.01)
        await bot.start()
        for _ in range(3):
            host.proven.clear()
            await host.proven.wait()


class TestRefusals:
    async def test_more_than_the_bot_may_hear(self, bot, gate):
        with pytest.raises(ChannelRefused, match="switch guilds and buttons off") as refused:
            await bot.start(guilds=True)
        assert refused.value.path == "/guilds"

    async def test_a_ban_ends_it(self, bot, gate):
        await bot.start()
        await gate.gateway.close(4915)
        assert "banned" in str(await bot.ends())

    async def test_a_bot_without_logins_says_so_and_uses_none(self, bot, gate):
        gate.gateway.logins_left = 0
        with pytest.raises(ChannelRefused, match=r"no more logins.*10 minutes"):
            await bot.start()
        assert gate.gateway.identified == []

    async def test_a_resume_needs_no_login(self, bot, gate, host):
        await bot.start()
        gate.gateway.logins_left = 0
        await gate.disconnect()
        await gate.gateway.until(lambda: len(gate.gateway.resumed) == 1)

    async def test_too_fast_is_followed_by_a_rest(self, bot, gate, monkeypatch):
        rests = []
        sleep = asyncio.sleep

        async def rest(seconds):
            rests.append(seconds)
            await sleep(0)

        await bot.start()
        monkeypatch.setattr(link.asyncio, "sleep", rest)
        await gate.gateway.close(4008)
        await gate.gateway.until(lambda: len(gate.gateway.resumed) == 1)
        assert link.TOO_FAST_S in rests

    async def test_a_platform_that_is_away_is_named(self, bot, gate):
        with pytest.raises(ChannelRefused, match="cannot be reached"):
            await bot.start(base_url="http://127.0.0.1:1", login_url="http://127.0.0.1:1")

    async def test_a_wrong_secret_is_the_settings_fault(self, bot, gate):
        with pytest.raises(ChannelRefused) as refused:
            await bot.start(secret="another")
        assert refused.value.path == "/secret"

    async def test_connections_that_never_last_end_in_plain_words(self, bot, gate):
        await bot.start()
        for _ in range(link.MAX_TRIES):
            await gate.gateway.until(lambda: gate.gateway.connected)
            if bot.running.done():
                break
            await gate.gateway.close(4009)
            await asyncio.sleep(0)
        assert "closed the connection with 4009" in str(await bot.ends())


class TestConversation:
    def made(self, session=None):
        return Conversation(token="T", intents=1, session=session)

    def test_hello_comes_first(self):
        talk = self.made()
        assert talk.take(Call(op=0, t="READY", d={"session_id": "S"})).heard is None
        assert talk.take(Call(op=10, d={"heartbeat_interval": 45_000})).send["op"] == 2
        assert talk.interval_s == 45
        assert talk.take(Call(op=10, d={"heartbeat_interval": 1})).send is None

    @pytest.mark.parametrize("d", [None, [], {}, {"heartbeat_interval": "1"}])
    def test_a_hello_without_an_interval_ends_it(self, d):
        assert self.made().take(Call(op=10, d=d)).ends == "resume"

    def test_an_absurd_interval_is_bounded(self):
        for asked, used in ((0, 1), (-5, 1), (10**12, 300)):
            talk = self.made()
            talk.take(Call(op=10, d={"heartbeat_interval": asked}))
            assert talk.interval_s == used

    def test_a_session_without_an_id_is_none(self):
        talk = self.made()
        talk.take(Call(op=10, d={"heartbeat_interval": 45_000}))
        assert talk.take(Call(op=0, t="READY", d={})).ends == "identify"

    def test_the_number_never_goes_back(self):
        talk = self.made(Session("S", 7))
        talk.settle(3)
        assert talk.beat() == {"op": 1, "d": 7}

    @pytest.mark.parametrize(
        ("d", "ends"), [(True, "resume"), (False, "identify"), (1, "identify")]
    )
    def test_an_invalid_session(self, d, ends):
        assert self.made().take(Call(op=9, d=d)).ends == ends

    def test_the_platform_may_ask_for_a_heartbeat(self):
        assert self.made(Session("S", 7)).take(Call(op=1)).send == {"op": 1, "d": 7}

    @given(
        st.lists(
            st.builds(
                Call,
                op=st.sampled_from([0, 1, 7, 9, 10, 11, 12]),
                t=st.sampled_from([None, "READY", "RESUMED", "C2C_MESSAGE_CREATE"]),
                s=st.none() | st.integers(0, 2**53),
                d=st.none()
                | st.booleans()
                | st.dictionaries(
                    st.sampled_from(["heartbeat_interval", "session_id", "user"]),
                    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
                ),
            ),
            max_size=8,
        )
    )
    def test_no_order_of_frames_makes_it_crash(self, calls):
        talk = self.made(Session("S", 7))
        for call in calls:
            talk.take(call)
            msgspec.json.encode(talk.beat())

    def test_what_is_unknown_calls_for_nothing(self):
        assert self.made().take(Call(op=99)) == gateway.Step()


class TestPosition:
    def test_there_and_back(self):
        text = gateway.position("1", Session("S", 7))
        assert gateway.read_position(text, "1") == Session("S", 7)

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "{",
            "[]",
            "7",
            '{"app":"1","session":"","seq":1}',
            '{"app":"1"}',
            '{"app":"1","session":"S","seq":-1}',
            '{"app":"1","session":"S","seq":"1"}',
        ],
    )
    def test_what_cannot_be_read_is_the_beginning(self, text):
        assert gateway.read_position(text, "1") is None


class TestAfterClose:
    @pytest.mark.parametrize(
        ("code", "action"),
        [
            (4004, "refresh_then_resume"),
            (1006, "resume"),
            (1000, "resume"),
            (4913, "identify"),
            (4014, "stop"),
            (4999, "resume"),
        ],
    )
    def test_what_follows(self, code, action):
        assert after_close(code) == action
