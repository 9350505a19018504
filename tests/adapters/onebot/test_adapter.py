import asyncio
import json

import pytest

from adapters import arrivals
from adapters.base import ChannelRefused, NotAccepted, Outgoing, SendFailed, SendUnknown
from adapters.model import (
    At,
    Card,
    ConversationKey,
    Face,
    File,
    Forward,
    Image,
    Markdown,
    Ref,
    Reply,
    Text,
    Voice,
)
from adapters.onebot import adapter as module
from adapters.onebot import calls, outgoing
from adapters.onebot.adapter import NOBODY, OFFLINE, TAKING_TURNS, Adapter
from adapters.onebot.settings import Settings
from adapters.simulators.platform import Line
from tests.adapters.onebot.conftest import PATIENCE_S
from tests.adapters.sending import send

FRIEND, GROUP = "345678901", "987654321"
PNG = b"\x89PNG" + bytes(100)
BOTH = pytest.mark.parametrize("transport", ["reverse_websocket", "http"])


def part(*segments, to=FRIEND, kind="direct", handle=None):
    return Outgoing(
        idempotency_key="key-1",
        conversation=ConversationKey(type=kind, id=to),
        reply_handle=handle or {},
        segments=list(segments),
    )


async def error_class(call) -> str:
    with pytest.raises(SendFailed) as failed:
        await call
    return failed.value.error_class


class TestIn:
    @BOTH
    async def test_what_a_friend_says_is_reported(self, open_client, host, transport):
        async with open_client(transport=transport) as client:
            assert await client.bring(Line(user=FRIEND, text="你好"))
            await host.until_reported(1)

        [message] = host.reported
        assert message.segments == [Text(text="你好")]
        assert message.conversation == ConversationKey(type="direct", id=FRIEND)
        assert message.dedupe_key.startswith("10001000:")

    async def test_codes_are_read_where_the_client_writes_them(self, open_client, host):
        async with open_client(as_strings=True) as client:
            await client.bring(Line(user=FRIEND, chat=GROUP, text="[1] & 2", picture=PNG))
            await host.until_reported(1)

        at, text, picture = host.reported[0].segments
        assert (at.is_self, text) == (True, Text(text="[1] & 2"))
        assert host.media.kept[picture.ref.id].body == PNG

    async def test_a_group_talks_to_the_bot_when_it_names_it(self, client, host):
        await client.bring(Line(user=FRIEND, chat=GROUP, text="闲聊", mentions=False))
        await client.bring(Line(user=FRIEND, chat=GROUP, text=" 几点？"))
        await host.until_reported(2)

        assert [each.mentions_bot for each in host.reported] == [False, True]
        assert {each.conversation for each in host.reported} == {
            ConversationKey(type="group", id=GROUP)
        }

    @BOTH
    async def test_media_are_in_our_store(self, open_client, host, transport):
        async with open_client(transport=transport) as client:
            await client.bring(
                Line(user=FRIEND, picture=PNG, voice=b"#!AMR", file=b"%PDF-1", name="a.pdf")
            )
            await host.until_reported(1)

        bodies = [host.media.kept[each.ref.id].body for each in host.reported[0].segments]
        assert bodies == [PNG, b"#!AMR", b"%PDF-1"]
        assert host.reported[0].segments[2].name == "a.pdf"

    @BOTH
    async def test_nothing_is_fetched_or_asked_for_who_is_not_heard(
        self, open_client, host, transport
    ):
        async with open_client(transport=transport) as client:
            client.friends.add("2")
            host.blocked.add(FRIEND)
            before = client.calls.copy()
            assert await client.bring(Line(user=FRIEND, picture=PNG, quotes="1"))
            await client.bring(Line(user="2", text="behind it"))
            await host.until_reported(1)

        assert [each.sender.id for each in host.reported] == ["2"]
        assert (client.calls["media"], client.calls["get_msg"]) == (0, before["get_msg"])

    async def test_a_groups_file_is_asked_for_in_the_group(self, client, host):
        await client.bring(Line(user=FRIEND, chat=GROUP, file=b"%PDF-1", name="a.pdf"))
        await host.until_reported(1)

        assert host.reported[0].segments[-1].ref.via == "media"
        assert client.calls["get_group_file_url"] == 1

    async def test_a_quote_says_what_is_quoted(self, client, host):
        await client.bring(Line(user=FRIEND, text="玫瑰", id="77"))
        await client.bring(Line(user=FRIEND, text="还有吗？", quotes="77"))
        await host.until_reported(2)

        assert host.reported[1].segments == [
            Reply(message_id="77", quoted=[Text(text="玫瑰")]),
            Text(text="还有吗？"),
        ]

    async def test_who_quotes_the_bot_talks_to_it(self, client, host, bench):
        sent = await send(bench.adapter, part(Text(text="九点"), to=GROUP, kind="group"))
        said = Line(
            user=FRIEND,
            chat=GROUP,
            text="真的？",
            quotes=sent.platform_message_id,
            mentions=False,
        )
        await client.bring(said)
        await host.until_reported(1)

        assert host.reported[0].mentions_bot

    async def test_a_quote_that_the_client_has_forgotten_is_named(self, client, host):
        await client.bring(Line(user=FRIEND, text="嗯", quotes="404"))
        await host.until_reported(1)

        assert host.reported[0].segments == [Reply(message_id="404"), Text(text="嗯")]

    async def test_a_forwarded_talk_can_be_read(self, client, host):
        talk = client.forward([("小明", "几点？"), ("小红", "九点")])
        await client.say(FRIEND, [{"type": "forward", "data": {"id": talk}}])
        await client.say(FRIEND, [{"type": "forward", "data": {"id": "gone"}}])
        await host.until_reported(2)

        [card], [gone] = (each.segments for each in host.reported)
        assert (card.text, type(gone)) == ("小明: 几点？\n小红: 九点", Forward)

    async def test_what_the_account_itself_and_other_accounts_say_is_not_reported(
        self, client, host
    ):
        await client.say("10001000", [{"type": "text", "data": {"text": "echo"}}])
        await client.say(FRIEND, [{"type": "text", "data": {"text": "x"}}], self_id=7)
        await client.emit("no JSON")
        await client.emit(json.dumps({"post_type": "message", "time": "x"}))
        await client.bring(Line(user=FRIEND, text="last"))
        await host.until_reported(1)

        assert [each.segments for each in host.reported] == [[Text(text="last")]]

    async def test_a_conversation_stays_in_order_and_holds_up_no_other(self, client, host):
        host.media.open.clear()
        client.friends.add("2")
        await client.bring(Line(user=FRIEND, picture=PNG))
        await client.bring(Line(user=FRIEND, text="behind it"))
        await client.bring(Line(user="2", text="another"))
        await host.until_reported(1)
        assert host.reported[0].segments == [Text(text="another")]

        host.media.open.set()
        await host.until_reported(3)
        assert [type(each.segments[0]) for each in host.reported[1:]] == [Image, Text]

    async def test_an_end_loses_nothing_that_was_read(self, client, host, bench):
        host.media.open.clear()
        await client.bring(Line(user=FRIEND, picture=PNG))
        await client.bring(Line(user=FRIEND, text="behind it"))
        await client.bring(Line(user="2", text="another"))
        await host.until_reported(1)

        await bench.stop()

        [_, picture, words] = host.reported
        assert (picture.segments[0].ref.via, words.segments) == (
            "onebot.file",
            [Text(text="behind it")],
        )
        assert not picture.segments[0].ref.more

    async def test_what_the_disk_does_not_take_is_tried_again(self, client, host, monkeypatch):
        monkeypatch.setattr("adapters.onebot.inbox.RETRY_S", 0)
        refused = asyncio.Event()
        report = host.report

        async def report_later(messages, *, position=None):
            if not refused.is_set():
                refused.set()
                raise NotAccepted("full")
            await report(messages, position=position)

        host.report = report_later
        await client.bring(Line(user=FRIEND, text="你好"))
        await host.until_reported(1)
        assert refused.is_set()

    async def test_what_is_posted_and_not_accepted_is_not_acknowledged(self, open_client, host):
        async with open_client(transport="http") as client:
            host.accepts = False
            assert not await client.bring(Line(user=FRIEND, text="你好"))
            host.accepts = True
            assert await client.bring(Line(user=FRIEND, text="你好"))
        assert len(host.reported) == 1

    async def test_a_file_that_cannot_be_had_is_named(self, client, host, monkeypatch):
        monkeypatch.setattr(arrivals, "RETRY_S", 0)
        lost = {"file": "a.pdf", "file_id": "nobody-has-it"}
        await client.say(FRIEND, [{"type": "file", "data": lost}])
        await host.until_reported(1)

        assert host.reported[0].segments == [
            File(ref=Ref(via="onebot.file", id="nobody-has-it"), name="a.pdf")
        ]


class TestOut:
    @BOTH
    async def test_words_and_names_and_quotes_go_out_together(self, open_client, bench, transport):
        async with open_client(transport=transport) as client:
            sent = await send(
                bench.adapter,
                part(
                    Reply(message_id="9"), At(target="7"), Text(text=" 早"), to=GROUP, kind="group"
                ),
            )

        [seen] = client.shown(chat=GROUP)
        assert (seen.text, seen.quotes, seen.id) == ("@7 早", "9", sent.platform_message_id)

    async def test_what_looks_like_a_code_stays_text(self, client, bench):
        await send(bench.adapter, part(Text(text="[CQ:at,qq=all]")))
        assert [seen.text for seen in client.shown(FRIEND)] == ["[CQ:at,qq=all]"]

    async def test_media_go_inside_the_call(self, client, bench, host):
        ref = host.media.put(PNG)
        for segment in (Image(ref=ref), Voice(ref=ref), File(ref=ref, name="a.pdf")):
            await send(bench.adapter, part(segment))

        assert [seen.type for seen in client.seen] == ["image", "record", "file"]
        assert client.received == [PNG] * 3

    @pytest.mark.parametrize("why", ["too large", "gone", "refused"])
    async def test_a_medium_that_cannot_go_is_named_in_words(
        self, client, bench, host, monkeypatch, why
    ):
        ref = host.media.put(PNG)
        if why == "too large":
            monkeypatch.setattr(outgoing, "MAX_MEDIUM_BYTES", 10)
        elif why == "gone":
            host.media.kept.clear()
        else:
            client.faults.refuse_media = 1

        await send(bench.adapter, part(File(ref=ref, name="价目表.pdf")))

        assert [(seen.type, seen.text) for seen in client.seen] == [("text", "[file 价目表.pdf]")]

    async def test_a_store_that_is_away_is_no_loss(self, client, bench, host):
        host.media.away = 1
        assert await error_class(send(bench.adapter, part(Image(ref=host.media.put(PNG))))) == (
            "server_busy"
        )

    async def test_who_is_no_friend_is_answered_by_way_of_the_group(self, client, bench, host):
        text = [{"type": "text", "data": {"text": "你好"}}]
        await client.say("5", text, sub_type="group", group_id=int(GROUP))
        await host.until_reported(1)
        [message] = host.reported

        await send(bench.adapter, part(Text(text="早"), to="5", handle=message.reply_handle))

        assert [seen.user for seen in client.seen] == ["5"]

    @BOTH
    async def test_a_refusal_is_told_by_its_class(self, open_client, bench, transport):
        async with open_client(transport=transport) as client:
            client.limit(1)
            assert await error_class(send(bench.adapter, part(Text(text="x")))) == "rate_limited"
            stranger = part(Text(text="x"), to="1")
            assert await error_class(send(bench.adapter, stranger)) == "recipient_refuses"
            nowhere = part(Text(text="x"), to="1", kind="group")
            assert await error_class(send(bench.adapter, nowhere)) == "chat_gone"
        assert client.seen == []

    @pytest.mark.parametrize(("to", "kind"), [("zhangsan", "direct"), ("1", "channel")])
    async def test_who_has_no_number_is_nobody(self, client, bench, to, kind):
        nobody = part(Text(text="x"), to=to, kind=kind)
        assert await error_class(send(bench.adapter, nobody)) == "recipient_invalid"

    @BOTH
    @pytest.mark.parametrize("fault", ["drop_reply", "late"])
    async def test_nobody_knows_when_no_answer_comes(self, open_client, bench, transport, fault):
        async with open_client(transport=transport) as client:
            setattr(client.faults, fault, 1)
            with pytest.raises(SendUnknown):
                await send(bench.adapter, part(Text(text="x")))
        assert len(client.seen) == 1

    async def test_a_silent_client_leaves_a_send_open(self, client, bench, monkeypatch):
        attempt = await bench.adapter.prepare(part(Text(text="x")))
        monkeypatch.setattr(calls.Line.ask, "__kwdefaults__", {"timeout_s": 0.01})
        client.faults.mute = True
        with pytest.raises(SendUnknown):
            await attempt()

    async def test_without_a_client_nothing_is_tried(self, host):
        settings = Settings(self_id="1", access_token="t")
        with pytest.raises(SendFailed, match="no QQ client") as failed:
            await Adapter(settings, host).prepare(part(Text(text="x")))
        assert failed.value.retry_after_s

    async def test_an_account_writes_at_its_own_pace(self, client, bench):
        await bench.stop()
        bench.start(client.settings | {"spacing_s": 60})
        bench.host.proven.clear()
        await client.disconnect()
        await bench.host.proven.wait()
        await bench.adapter.prepare(part(Text(text="x")))
        with pytest.raises(SendFailed) as failed:
            await bench.adapter.prepare(part(Text(text="x"), to="2"))
        assert failed.value.error_class == "rate_limited"
        assert failed.value.retry_after_s > module.MAX_TURN_S

    async def test_a_direct_talk_has_no_names_to_call(self, client, bench):
        await send(bench.adapter, part(At(target="7", name="小红"), Face(id="1"), Text(text="早")))
        assert [seen.text for seen in client.seen] == ["@小红早"]

    async def test_a_card_goes_as_it_is_and_markdown_as_words(self, client, bench):
        segments = [Card(format="onebot.json", data='{"app":"x"}'), Markdown(text="**早**")]
        for segments_of_part in bench.adapter.split(segments):
            await send(bench.adapter, part(*segments_of_part))
        assert [(seen.type, seen.text) for seen in client.seen] == [
            ("json", ""),
            ("text", "**早**"),
        ]


class TestSocket:
    async def test_a_client_that_was_cut_comes_back_and_goes_on(self, client, bench, host):
        await client.disconnect()
        await client.until(lambda: not client.connected, patience_s=PATIENCE_S)
        await client.until_connected(patience_s=PATIENCE_S)
        await client.bring(Line(user=FRIEND, text="你好"))
        await host.until_reported(1)
        await send(bench.adapter, part(Text(text="早")))

        assert bench.sockets == 2
        assert [seen.text for seen in client.seen] == ["早"]
        assert host.cuts == 1

    async def test_the_newest_socket_is_the_one(self, client, bench, open_client):
        from adapters.simulators.onebot import OneBot

        async with OneBot(reconnect_s=600) as second:
            second.callback_url = bench.url
            await client.until(lambda: client.closed, patience_s=PATIENCE_S)
        assert client.closed[0] == calls.REPLACED

    async def test_two_clients_that_take_turns_are_named(self, client, bench):
        from adapters.simulators.onebot import OneBot

        async with OneBot() as second:
            second.callback_url = bench.url
            with pytest.raises(ChannelRefused, match=TAKING_TURNS):
                await bench.running

    async def test_a_client_that_says_nothing_is_dropped_and_comes_back(
        self, open_client, bench, monkeypatch
    ):
        monkeypatch.setattr(calls, "QUIET_S", 0.01)
        monkeypatch.setattr(calls, "PROBE_S", 0.01)
        async with open_client() as client:
            client.faults.mute = True
            await client.until(lambda: calls.SILENT in client.closed, patience_s=PATIENCE_S)
            client.faults.mute = False
            await client.until_connected(patience_s=PATIENCE_S)

    async def test_heartbeats_are_proof_of_life(self, open_client, host):
        async with open_client(heartbeat_s=0.01):
            for _ in range(2):
                host.proven.clear()
                await host.proven.wait()

    @BOTH
    async def test_an_account_that_qq_threw_out_is_told_in_plain_words(
        self, open_client, bench, monkeypatch, transport
    ):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        async with open_client(transport=transport, heartbeat_s=0.01) as client:
            client.faults.offline = True
            with pytest.raises(ChannelRefused) as refused:
                await bench.running
        assert refused.value.detail == OFFLINE

    async def test_nobody_who_connects_is_told_in_plain_words(self, host, monkeypatch):
        monkeypatch.setattr(module, "WAIT_S", 0.01)
        with pytest.raises(ChannelRefused) as refused:
            await Adapter(Settings(self_id="1", access_token="t"), host).run()
        assert refused.value.detail == NOBODY

    async def test_nothing_is_taken_while_it_does_not_run(self, client, bench):
        await bench.stop()
        await client.disconnect()
        await client.until(lambda: 1013 in client.closed, patience_s=PATIENCE_S)


class TestHttp:
    async def test_good_settings_pass(self, open_client, bench):
        async with open_client(transport="http"):
            await bench.adapter.probe()

    @pytest.mark.parametrize(
        ("wrong", "path"),
        [({"access_token": "another"}, "/access_token"), ({"self_id": "1"}, "/self_id")],
    )
    async def test_says_which_setting_is_wrong(self, open_client, host, wrong, path):
        async with open_client(transport="http") as client:
            settings = Settings.model_validate(client.settings | wrong)
            for begin in (Adapter(settings, host).probe(), Adapter(settings, host).run()):
                with pytest.raises(ChannelRefused) as refused:
                    await begin
                assert refused.value.path == path

    async def test_a_client_that_is_away_says_nothing_about_the_settings(self, host):
        settings = Settings(
            self_id="1",
            access_token="t",
            transport="http",
            api_url="http://127.0.0.1:1",
        )
        await Adapter(settings, host).probe()

    async def test_two_misses_in_a_row_are_an_outage(self, open_client, bench, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        async with open_client(transport="http") as client:
            client.faults.answer_500 = 2
            with pytest.raises(ChannelRefused, match="cannot be reached"):
                await bench.running

    async def test_a_socket_is_not_what_it_waits_for(self, open_client, bench):
        async with open_client(transport="http"):
            with pytest.raises(NotAccepted):
                await bench.adapter.socket(None)
