import asyncio

import pytest
from pydantic import SecretStr

from adapters import arrivals
from adapters.base import ChannelDown, ChannelRefused, Outgoing, SendFailed, SendUnknown
from adapters.model import Card, ConversationKey, File, Image, RawCallback, Ref, Reply, Text, Video
from adapters.simulators.platform import Line
from adapters.wecom_aibot import codec, connection
from adapters.wecom_aibot import long_connection as module
from adapters.wecom_aibot.streams import BELOW, LIFE_S, MAX_OPEN
from tests.adapters.sending import send
from tests.adapters.wecom_aibot.conftest import run

PNG = b"\x89PNG" + bytes(100)
MB = 1024 * 1024


def part(*segments, to="zhangsan", kind="direct", **handle):
    return Outgoing(
        idempotency_key="key-1",
        conversation=ConversationKey(type=kind, id=to),
        reply_handle=handle,
        segments=list(segments),
    )


def answer(message, *segments):
    conversation = message.conversation
    return part(*segments, to=conversation.id, kind=conversation.type, **message.reply_handle)


@pytest.fixture
def ask(bot, host):
    """A question, and the message that it became, once its stream is on the screen."""

    async def ask(text="几点开门？", *, user="zhangsan", **more):
        heard, shown = len(host.reported), len(bot.bubbles)
        assert await bot.bring(Line(user=user, text=text, **more))
        await host.until_reported(heard + 1)
        await bot.until(lambda: len(bot.bubbles) > shown)
        return host.reported[heard]

    return ask


async def ended(running) -> Exception:
    with pytest.raises((ChannelDown, ChannelRefused)) as why:
        await asyncio.wait_for(running, 20)
    return why.value


async def error_class(call) -> str:
    with pytest.raises(SendFailed) as failed:
        await call
    return failed.value.error_class


def told(bot):
    return [each.text for each in bot.shown()]


class TestConnect:
    async def test_is_proof_of_life_and_each_answered_ping_is(self, made, bot, host, monkeypatch):
        monkeypatch.setattr(module, "PING_EVERY_S", 0)
        async with run(made(), host):
            for _ in range(3):
                host.proven.clear()
                await host.proven.wait()
        assert bot.calls["ping"] >= 2
        assert bot.calls["aibot_subscribe"] == 1

    async def test_a_wrong_secret_is_named_and_not_shown(self, made, host):
        async with run(made(secret=SecretStr("another")), host) as running:
            why = await ended(running)
        assert isinstance(why, ChannelRefused)
        assert why.path == "/secret"
        assert "another" not in str(why)

    async def test_who_is_thrown_out_says_why_and_does_not_come_back(self, made, bot, host):
        first, second = made(), made()
        async with run(first, host) as running, run(second, host):
            why = await ended(running)
            assert isinstance(why, ChannelDown)
            assert "another program" in str(why)
            assert (bot.kicked, bot.calls["aibot_subscribe"]) == (1, 2)
            assert await bot.bring(Line(user="zhangsan", text="在吗"))
            await host.until_reported(1)

    async def test_silence_is_found(self, made, bot, host, monkeypatch):
        monkeypatch.setattr(module, "PING_EVERY_S", 0)
        monkeypatch.setattr(module, "PONG_WITHIN_S", 0.05)
        async with run(made(), host) as running:
            bot.faults.deaf = True
            assert "stopped answering" in str(await ended(running))

    async def test_a_cut_soon_after_connecting_ends_it(self, made, bot, host):
        async with run(made(), host) as running:
            await bot.disconnect()
            assert isinstance(await ended(running), ChannelDown)

    async def test_a_cut_after_a_good_while_is_mended_and_streams_live_on(
        self, made, bot, host, steady, ask
    ):
        adapter = made()
        async with run(adapter, host):
            message = await ask()
            steady.ahead = module.STEADY_S
            host.proven.clear()
            await bot.disconnect()
            await host.proven.wait()
            await send(adapter, answer(message, Text(text="九点")))
            assert [each.text for each in bot.bubbles] == ["九点"]
            # Nobody heard what was said between.
            assert host.cuts == 1

    async def test_an_address_that_is_none(self, made, host, bot):
        async with run(made(websocket_url="ws://127.0.0.1:1"), host) as running:
            assert "cannot be reached" in str(await ended(running))
        async with run(made(websocket_url="ws://10.0.0.1/"), host) as running:
            why = await ended(running)
        assert (type(why), why.path) == (ChannelRefused, "/websocket_url")
        other = f"ws{bot.url.removeprefix('http')}/other"
        async with run(made(websocket_url=other), host) as running:
            assert "instead of connecting" in str(await ended(running))

    async def test_a_probe_throws_nobody_out(self, adapter, made, bot):
        await made().probe()
        assert bot.connected
        assert (bot.kicked, bot.calls["aibot_subscribe"]) == (0, 1)
        await made(websocket_url="ws://127.0.0.1:1").probe()
        for wrong in ("ws://10.0.0.1", f"ws{bot.url.removeprefix('http')}/other"):
            with pytest.raises(ChannelRefused):
                await made(websocket_url=wrong).probe()

    async def test_it_is_exclusive_by_its_credential(self, adapter, made):
        assert adapter.exclusive
        assert adapter.account() == made().account()
        assert adapter.account() != made(secret=SecretStr("x")).account()

    async def test_it_takes_no_callbacks(self, adapter):
        raw = RawCallback(method="POST", path="/", query="", headers={}, body=b"{}", received_at=0)
        assert (await adapter.callback(raw, verified=True)).status == 401


class TestQuestion:
    async def test_is_reported_and_shows_that_it_was_heard(self, adapter, ask, bot):
        message = await ask()
        assert message.segments == [Text(text="几点开门？")]
        [bubble] = bot.bubbles
        assert (bubble.text, bubble.ended) == ("…", False)

    async def test_without_words_for_it_nothing_is_shown(self, made, bot, host):
        adapter = made(waiting_text="")
        async with run(adapter, host):
            await bot.bring(Line(user="zhangsan", text="在吗"))
            await host.until_reported(1)
            await send(adapter, answer(host.reported[0], Text(text="在")))
        assert [(each.type, each.text) for each in bot.bubbles] == [("stream", "在")]

    async def test_a_group_and_a_quote(self, adapter, ask, bot, host):
        first = await ask(chat="wr1")
        assert first.conversation == ConversationKey(type="group", id="wr1")
        await send(adapter, answer(first, Text(text="九点")))
        [shown] = bot.shown(chat="wr1")
        quoting = await ask("真的？", chat="wr1", quotes=shown.id)
        assert quoting.segments == [
            Reply(quoted=[Text(text="九点")]),
            Text(text="@Bot 真的？"),
        ]

    async def test_media_are_fetched_and_opened(self, adapter, ask, host):
        message = await ask("看", picture=PNG)
        [words, picture] = message.segments
        assert words == Text(text="看")
        assert host.media.kept[picture.ref.id].body == PNG
        large = bytes(range(256)) * 12_000
        host.media.max_bytes = 4 * MB
        [file] = (await ask("", file=large, name="价格.pdf")).segments
        assert (host.media.kept[file.ref.id].body, file.name) == (large, "价格.pdf")

    async def test_a_film_holds_up_its_own_talk_alone(self, adapter, bot, host):
        host.media.open.clear()
        await bot.bring(Line(user="zhangsan", picture=PNG))
        await bot.bring(Line(user="zhangsan", text="看"))
        await bot.bring(Line(user="lisi", text="在吗"))
        await host.until_reported(1)
        assert [message.sender.id for message in host.reported] == ["lisi"]
        host.media.open.set()
        await host.until_reported(3)
        later = [message.segments[0] for message in host.reported[1:]]
        assert [type(segment) for segment in later] == [Image, Text]

    @pytest.mark.parametrize("why", ["too long", "dead", "another key"])
    async def test_what_cannot_be_had_keeps_its_address(self, adapter, ask, bot, monkeypatch, why):
        keep = bot.keep

        def spoilt(content, *, name=""):
            found = keep(content, name=name)
            if why == "dead":
                bot.media.forget()
            return found | ({"aeskey": "A" * 43} if why == "another key" else {})

        monkeypatch.setattr(bot, "keep", spoilt)
        if why == "too long":
            monkeypatch.setattr(arrivals, "GIVE_UP_S", 0)
        [picture] = (await ask("", picture=PNG)).segments
        assert (picture.ref.via, picture.ref.more) == ("wecom.aibot_url", {})

    async def test_a_platform_that_is_away_for_a_moment_is_asked_again(
        self, adapter, ask, bot, host, monkeypatch
    ):
        monkeypatch.setattr(arrivals, "RETRY_S", 0)
        bot.faults.busy = 1
        [picture] = (await ask("", picture=PNG)).segments
        assert picture.ref.via == "media"

    async def test_what_is_not_taken_is_offered_again_and_in_order(
        self, adapter, bot, host, monkeypatch
    ):
        monkeypatch.setattr(module, "RETRY_S", 0)
        host.accepts = False
        for text in ("一", "二"):
            await bot.bring(Line(user="zhangsan", text=text))
        # The platform has heard us answer this, so it has sent all that came before.
        await adapter._way._connection.ask("ping")
        assert host.reported == []
        host.accepts = True
        await host.until_reported(2)
        assert [message.segments[0].text for message in host.reported] == ["一", "二"]

    async def test_a_message_that_breaks_us_holds_up_nobody(self, adapter, bot, host):
        report, broken = host.report, []

        async def once(messages, position=None):
            if not broken:
                broken.append(messages)
                raise ValueError("a bug")
            await report(messages)

        host.report = once
        for text in ("一", "二"):
            await bot.bring(Line(user="zhangsan", text=text))
        await host.until_reported(1)
        assert host.reported[0].segments == [Text(text="二")]

    async def test_frames_that_cannot_be_read_end_nothing(self, adapter, bot, host):
        socket = bot._socket
        for raw in ("", "[]", '{"cmd":"aibot_msg_callback","body":7}', '{"cmd":"new"}', "x" * 99):
            await socket.send_text(raw)
        other = bot._frame("aibot_msg_callback", msgtype="text") | {}
        other["body"]["aibotid"] = "aib-other"
        await bot._send(socket, other)
        await bot.bring(Line(user="zhangsan", text="在吗"))
        await host.until_reported(1)
        assert len(host.reported) == 1

    async def test_somebody_who_comes_is_greeted(self, made, bot, host):
        async with run(made(greeting="您好"), host):
            await bot.enter("zhangsan")
            await bot.until_shown(1, patience_s=20)
        assert [(each.type, each.text) for each in bot.shown()] == [("text", "您好")]
        assert host.reported == []

    async def test_who_is_not_heard_sees_and_costs_nothing(self, made, bot, host):
        host.blocked.add("zhangsan")
        async with run(made(greeting="您好"), host):
            await bot.enter("zhangsan")
            await bot.bring(Line(user="zhangsan", picture=PNG))
            await bot.bring(Line(user="lisi", text="几点开门？"))
            await bot.until(lambda: len(bot.bubbles) == 1, patience_s=20)
        assert bot.shown() == []
        assert [each.sender.id for each in host.reported] == ["lisi"]
        assert bot.calls["media"] == 0

    async def test_a_burst_arrives_whole_and_in_order(self, adapter, bot, host):
        for number in range(200):
            await bot.bring(Line(user="zhangsan", text=str(number)))
        await host.until_reported(200)
        said = [message.segments[0].text for message in host.reported]
        assert said == [str(number) for number in range(200)]
        assert len({message.dedupe_key for message in host.reported}) == 200
        await adapter._way._connection.ask("ping")
        assert len(bot.bubbles) <= MAX_OPEN

    async def test_what_is_on_its_way_is_taken_before_the_channel_ends(self, made, bot, host):
        report, begun, ending = host.report, asyncio.Event(), asyncio.Event()

        async def slow(messages, position=None):
            begun.set()
            await ending.wait()
            await report(messages)

        host.report = slow
        async with run(made(), host) as running:
            await bot.bring(Line(user="zhangsan", text="在吗"))
            await begun.wait()
            running.cancel()
            # The connection goes first.
            await bot.until(lambda: not bot.connected)
            ending.set()
            await asyncio.wait({running})
        assert len(host.reported) == 1


class TestAnswer:
    async def test_takes_the_place_of_what_was_shown(self, adapter, ask, bot):
        message = await ask()
        sent = await send(adapter, answer(message, Text(text="**九点**")))
        [bubble] = bot.bubbles
        assert (bubble.text, bubble.ended, bubble.id) == (
            "**九点**",
            True,
            sent.platform_message_id,
        )

    async def test_a_second_one_is_a_message_of_its_own(self, adapter, ask, bot):
        message = await ask()
        for text in ("一", "二"):
            await send(adapter, answer(message, Text(text=text)))
        assert [(each.type, each.text) for each in bot.bubbles] == [
            ("stream", "一"),
            ("markdown", "二"),
        ]

    async def test_a_long_text_arrives_whole(self, adapter, ask, bot):
        message = await ask()
        text = "花" * 10_000
        for segments in adapter.split([Text(text=text)]):
            await send(adapter, answer(message, *segments))
        assert "".join(told(bot)) == text

    async def test_a_late_one_is_a_message_of_its_own(self, adapter, ask, bot, steady):
        message = await ask()
        steady.ahead = LIFE_S
        await send(adapter, answer(message, Text(text="九点")))
        assert [(each.type, each.text) for each in bot.shown()] == [("markdown", "九点")]

    async def test_a_question_without_an_answer_ends_in_good_order(
        self, made, bot, host, ask, steady, monkeypatch
    ):
        monkeypatch.setattr(module, "PING_EVERY_S", 0.01)
        async with run(made(), host):
            await ask()
            steady.ahead = LIFE_S
            await bot.until_shown(1, patience_s=20)
        assert told(bot) == ["…"]

    async def test_one_answer_to_two_questions_ends_both(self, adapter, ask, bot):
        await ask("在吗")
        message = await ask("几点？")
        await send(adapter, answer(message, Text(text="九点")))
        await bot.until_shown(2, patience_s=20)
        assert [each.text for each in bot.bubbles] == [BELOW, "九点"]

    async def test_a_question_that_showed_nothing_is_answered_in_its_place_too(
        self, adapter, ask, bot, host
    ):
        for _ in range(MAX_OPEN):
            await ask()
        await bot.bring(Line(user="zhangsan", text="几点？"))
        await host.until_reported(MAX_OPEN + 1)
        await send(adapter, answer(host.reported[-1], Text(text="九点")))
        await bot.until_shown(MAX_OPEN + 1, patience_s=20)
        assert [(each.type, each.text) for each in bot.bubbles] == [
            *[("stream", BELOW)] * MAX_OPEN,
            ("stream", "九点"),
        ]

    async def test_after_a_restart_it_is_a_message_of_its_own(self, made, ask, bot, host):
        async with run(made(), host):
            message = await ask()
        adapter = made()
        async with run(adapter, host):
            await send(adapter, answer(message, Text(text="九点")))
        assert [(each.text, each.ended) for each in bot.bubbles] == [("…", False), ("九点", True)]

    @pytest.mark.parametrize("why", ["forgotten", "expired"])
    async def test_where_the_platform_takes_it_no_more_it_is_pushed(self, adapter, ask, bot, why):
        message = await ask()
        if why == "forgotten":
            bot.faults.forget_requests = True
        else:
            bot.bubbles[0].ended = True
        await send(adapter, answer(message, Text(text="九点")))
        assert bot.shown()[-1].type == "markdown"

    async def test_the_platforms_no_has_a_class_and_the_stream_waits(self, adapter, ask, bot):
        message = await ask()
        bot.limit(1)
        assert await error_class(send(adapter, answer(message, Text(text="x")))) == "rate_limited"
        bot.faults.busy = 1
        assert await error_class(send(adapter, answer(message, Text(text="x")))) == "server_busy"
        await send(adapter, answer(message, Text(text="九点")))
        assert told(bot) == ["九点"]

    async def test_an_answer_without_an_end_is_unknown_and_never_filled_twice(
        self, adapter, ask, bot, monkeypatch
    ):
        message = await ask()
        bot.faults.silent = 1
        monkeypatch.setattr(connection, "ANSWER_S", 0.05)
        way = adapter._way._connection
        plain = way.ask

        async def hasty(cmd, body=None, **more):
            return await plain(cmd, body, **more | {"within_s": 0.1})

        monkeypatch.setattr(way, "ask", hasty)
        with pytest.raises(SendUnknown):
            await send(adapter, answer(message, Text(text="一")))
        monkeypatch.setattr(way, "ask", plain)
        await send(adapter, answer(message, Text(text="二")))
        assert told(bot) == ["一", "二"]

    async def test_a_cut_while_waiting_is_unknown(self, adapter, ask, bot):
        message = await ask()
        bot.faults.deaf = True
        sending = asyncio.create_task(send(adapter, answer(message, Text(text="一"))))
        await bot.until(lambda: bot.calls["aibot_respond_msg"] == 2)
        await bot.disconnect()
        with pytest.raises(SendUnknown):
            await sending


class TestPush:
    async def test_reaches_whoever_has_written_before(self, adapter, ask, bot):
        await ask()
        await ask(user="lisi", chat="wr1")
        await send(adapter, part(Text(text="早")))
        await send(adapter, part(Text(text="各位早"), to="wr1", kind="group"))
        assert [(each.chat, each.user, each.text) for each in bot.shown()] == [
            ("", "zhangsan", "早"),
            ("wr1", "", "各位早"),
        ]

    async def test_and_nobody_else(self, adapter, ask, bot):
        call = send(adapter, part(Text(text="x"), to="nobody"))
        assert await error_class(call) == "recipient_invalid"
        await ask(chat="wr1")
        bot.faults.no_pushes_to = {"wr1"}
        call = send(adapter, part(Text(text="x"), to="wr1", kind="group"))
        assert await error_class(call) == "recipient_refuses"
        assert await error_class(send(adapter, part(Text(text="x"), kind="channel"))) == (
            "recipient_invalid"
        )

    async def test_a_group_that_takes_none_gets_a_second_answer_as_an_answer(
        self, adapter, ask, bot
    ):
        message = await ask(chat="wr1")
        bot.faults.no_pushes_to = {"wr1"}
        for text in ("一", "二"):
            await send(adapter, answer(message, Text(text=text)))
        assert [(each.type, each.text) for each in bot.shown()] == [
            ("stream", "一"),
            ("stream", "二"),
        ]
        bot.faults.forget_requests = True
        call = send(adapter, answer(message, Text(text="三")))
        assert await error_class(call) == "window_expired"

    async def test_without_a_connection_nothing_is_tried(self, made):
        call = made().prepare(part(Text(text="x")))
        assert await error_class(call) == "server_busy"

    async def test_more_than_a_chat_may_get_is_refused(self, adapter, ask, bot):
        message = await ask()
        for _ in range(29):
            await send(adapter, answer(message, Text(text="x")))
        call = send(adapter, answer(message, Text(text="x")))
        assert await error_class(call) == "rate_limited"

    async def test_a_card_of_the_platforms_own(self, adapter, ask, bot):
        await ask()
        card = Card(format=codec.TEMPLATE_CARD, data='{"card_type": "text_notice"}')
        await send(adapter, part(card))
        assert [each.type for each in bot.shown()] == ["template_card"]


class TestMediaOut:
    async def test_a_picture_stands_below_and_the_stream_ends_first(self, adapter, ask, bot, host):
        message = await ask()
        for segments in adapter.split([Image(ref=host.media.put(PNG)), Text(text="看")]):
            await send(adapter, answer(message, *segments))
        assert [(each.type, each.text) for each in bot.shown()] == [
            ("stream", BELOW),
            ("image", ""),
            ("markdown", "看"),
        ]
        assert bot.bubbles[1].file == PNG

    async def test_a_large_file_goes_up_in_pieces_and_once(self, adapter, ask, bot, host):
        await ask()
        film = bytes(codec.CHUNK_BYTES * 2 + 1)
        ref = host.media.put(film, name="a.mp4", content_type="video/mp4")
        for _ in range(2):
            await send(adapter, part(Video(ref=ref)))
        assert bot.calls["aibot_upload_media_chunk"] == 3
        assert [each.file for each in bot.bubbles if each.type == "video"] == [film, film]

    async def test_what_the_platform_does_not_take_is_said(self, adapter, ask, bot, host):
        message = await ask()
        liar = host.media.put(b"GIF89a" + bytes(9), content_type="image/png")
        for ref in (Ref(via="media", id="gone"), Ref(via="qq.url", id="x")):
            await send(adapter, answer(message, File(ref=ref, name="价格.pdf")))
        assert told(bot) == ["[file 价格.pdf]"] * 2
        await send(adapter, answer(message, Image(ref=liar, name="b.png")))
        assert told(bot)[-1] == "[image b.png]"

    async def test_an_upload_that_was_forgotten_early_is_made_again(self, adapter, ask, bot, host):
        await ask()
        picture = Image(ref=host.media.put(PNG), name="b.png")
        await send(adapter, part(picture))
        bot.forget_uploads()
        await send(adapter, part(picture))
        assert [each.file for each in bot.bubbles if each.type == "image"] == [PNG, PNG]
        attempt = await adapter.prepare(part(picture))
        bot.forget_uploads()
        bot.faults.no_uploads = True
        await attempt()
        assert told(bot)[-1] == "[image b.png]"

    async def test_a_store_that_is_away_is_waited_for(self, adapter, ask, host):
        await ask()
        host.media.away = 1
        call = send(adapter, part(Image(ref=host.media.put(PNG))))
        assert await error_class(call) == "server_busy"

    async def test_too_many_uploads_wait(self, adapter, ask, host, monkeypatch):
        await ask()
        for number in range(module.UPLOADS_PER_MINUTE):
            ref = host.media.put(PNG + bytes([number]))
            await adapter.prepare(part(Image(ref=ref)))
        call = adapter.prepare(part(Image(ref=host.media.put(PNG + b"new"))))
        assert await error_class(call) == "rate_limited"
