import asyncio
import json

import pytest

from adapters.base import ChannelRefused, Outgoing, SendFailed, SendUnknown
from adapters.feishu import connection, outgoing
from adapters.feishu.codec import MESSAGE, RESOURCE, STICKER
from adapters.model import (
    At,
    BusinessCard,
    Card,
    ConversationKey,
    File,
    Forward,
    Image,
    Link,
    Markdown,
    Ref,
    Reply,
    Sticker,
    Text,
    Video,
    Voice,
)
from adapters.outbound import Door
from adapters.simulators.feishu_people import BOT
from adapters.simulators.platform import Line
from instance_agent.client import platform_client
from tests.adapters.feishu.conftest import PATIENCE_S
from tests.adapters.sending import send

PNG = b"\x89PNG" + bytes(100)
OPUS = b"OggS" + bytes(24) + b"OpusHead" + bytes(64)


def part(*segments, to, key="m-1:0", **handle):
    return Outgoing(
        idempotency_key=key, conversation=to, reply_handle=handle, segments=list(segments)
    )


async def error_class(call) -> str:
    with pytest.raises(SendFailed) as failed:
        await call
    return failed.value.error_class


class TestProbe:
    async def test_good_settings_pass(self, adapter, feishu):
        await adapter.probe()
        assert feishu.calls["callback/ws/endpoint"] == 1

    async def test_a_wrong_secret_is_refused_without_showing_it(self, made, feishu):
        right, feishu.app_secret = feishu.app_secret, "another"
        with pytest.raises(ChannelRefused, match="does not know") as refused:
            await made().probe()
        assert refused.value.path == "/app_secret"
        assert right not in f"{refused.value}{refused.value.__cause__}"

    async def test_an_unknown_application_is_refused(self, made):
        with pytest.raises(ChannelRefused, match="App ID"):
            await made(app_id="cli_other").probe()

    async def test_an_application_without_a_bot_is_told_where_to_add_it(self, adapter, feishu):
        feishu.faults.no_bot = True
        with pytest.raises(ChannelRefused, match="机器人"):
            await adapter.probe()

    @pytest.mark.parametrize(
        ("code", "words"), [(1000040350, "50 long connections"), (403, "self-built")]
    )
    async def test_an_application_without_a_connection_is_told_why(
        self, adapter, feishu, code, words
    ):
        feishu.faults.endpoint_code = code
        with pytest.raises(ChannelRefused, match=words):
            await adapter.probe()

    async def test_a_platform_that_is_away_says_nothing_about_the_settings(self, made, feishu):
        await made(base_url="http://127.0.0.1:1").probe()
        feishu.faults.answer_500 = 9
        await made().probe()
        feishu.faults.answer_500, feishu.faults.endpoint_code = 0, 1
        await made().probe()


class TestHearing:
    async def test_what_was_said_is_reported_and_then_acknowledged(self, connected, feishu, host):
        assert await feishu.bring(Line(user="wang", text="你好", id="om_1"))
        [message] = host.reported
        assert (message.dedupe_key, message.conversation.type) == ("om_1", "direct")
        assert (message.sender.id, message.segments) == ("ou_wang", [Text(text="你好")])
        assert feishu.unacknowledged == 0

    async def test_a_group_tells_whether_the_bot_was_addressed(self, connected, feishu, host):
        await feishu.bring(Line(user="wang", text="在吗", chat="oc_group"))
        await feishu.bring(Line(user="wang", text="hm", chat="oc_group", mentions=False))
        first, second = host.reported
        at = At(target=BOT, name="客服", is_self=True)
        assert (first.mentions_bot, first.segments) == (True, [at, Text(text=" 在吗")])
        assert (second.mentions_bot, second.conversation.id) == (False, "oc_group")

    async def test_a_quote_names_what_it_answers(self, connected, feishu, host):
        await feishu.bring(Line(user="wang", text="这个", quotes="om_before"))
        assert host.reported[0].segments == [Reply(message_id="om_before"), Text(text="这个")]

    @pytest.mark.parametrize(
        ("line", "kind"),
        [
            (Line(user="wang", picture=PNG), Image),
            (Line(user="wang", voice=OPUS), Voice),
            (Line(user="wang", file=PNG, name="价格.pdf"), File),
        ],
    )
    async def test_bytes_are_in_our_store_before_the_message_is_reported(
        self, connected, feishu, host, line, kind
    ):
        assert await feishu.bring(line)
        [[segment]] = [message.segments for message in host.reported]
        assert isinstance(segment, kind)
        assert segment.ref.via == "media"
        assert host.media.kept[segment.ref.id].body == line.picture + line.voice + line.file

    async def test_nothing_is_fetched_for_who_is_not_heard(self, connected, feishu, host):
        host.blocked.add("ou_wang")
        assert await feishu.bring(Line(user="wang", picture=PNG))
        assert (host.reported, feishu.calls["media"], feishu.unacknowledged) == ([], 0, 0)

    async def test_what_takes_long_holds_up_its_own_chat_only(self, connected, feishu, host):
        host.media.open.clear()
        slow = asyncio.create_task(feishu.bring(Line(user="wang", picture=PNG)))
        await feishu.bring(Line(user="li", text="快"))
        behind = asyncio.create_task(feishu.bring(Line(user="wang", text="看")))
        await feishu.bring(Line(user="li", text="更快"))
        assert [message.sender.id for message in host.reported] == ["ou_li", "ou_li"]
        host.media.open.set()
        assert await asyncio.gather(slow, behind) == [True, True]
        kinds = [type(message.segments[0]) for message in host.reported[2:]]
        assert kinds == [Image, Text]

    async def test_what_cannot_be_had_keeps_the_platforms_reference(self, connected, feishu, host):
        host.media.max_bytes = 1
        await feishu.bring(Line(user="wang", picture=PNG))
        [[picture]] = [message.segments for message in host.reported]
        assert (picture.ref.via, picture.ref.more) == (RESOURCE, {})

    async def test_a_sticker_is_not_asked_for(self, connected, feishu, host):
        kept = feishu.remember(
            chat=feishu.chat_of("wang"), sender="ou_wang", type="sticker", content={"file_key": "s"}
        )
        await feishu.happen("im.message.receive_v1", feishu.event_of(kept))
        assert host.reported[0].segments == [Sticker(ref=Ref(via=STICKER, id="s"))]

    async def test_forwarded_messages_are_fetched_and_said(self, connected, feishu, host):
        chat = feishu.chat_of("wang")
        kept = feishu.remember(chat=chat, sender="ou_wang", type="merge_forward", content={})
        for text in ("第一", "第二"):
            feishu.remember(
                chat="", sender="ou_li", type="text", content={"text": text}, upper=kept.id
            )
        await feishu.happen("im.message.receive_v1", feishu.event_of(kept))
        assert host.reported[0].segments == [
            Forward(ref=Ref(via=MESSAGE, id=kept.id)),
            Text(text="ou_li: 第一\nou_li: 第二"),
        ]

    async def test_forwarded_messages_that_cannot_be_had_are_still_named(
        self, connected, feishu, host
    ):
        kept = feishu.remember(
            chat=feishu.chat_of("wang"), sender="ou_wang", type="merge_forward", content={}
        )
        del feishu.messages[kept.id]
        await feishu.happen("im.message.receive_v1", feishu.event_of(kept))
        assert [type(each) for each in host.reported[0].segments] == [Forward]

    async def test_other_applications_are_not_answered(self, connected, feishu, host):
        kept = feishu.remember(
            chat="oc_group", sender="ou_robot", type="text", content={"text": "beep"}
        )
        event = feishu.event_of(kept, group=True, sender="app")
        assert await feishu.happen("im.message.receive_v1", event)
        assert host.reported == []

    async def test_other_events_and_cards_are_acknowledged_and_say_nothing(
        self, connected, feishu, host
    ):
        assert await feishu.happen("im.message.message_read_v1", {"reader": {}})
        assert await feishu.happen("im.message.receive_v1", {"message": []})
        assert await feishu.press("wang", "om_1", {"k": "v"}) == {}
        assert host.reported == []

    async def test_an_event_in_parts_is_one(self, connected, feishu, host):
        feishu.faults.parts = 7
        assert await feishu.bring(Line(user="wang", text="很长" * 50))
        assert host.reported[0].segments == [Text(text="很长" * 50)]

    async def test_a_refused_message_comes_again_until_it_is_taken(self, connected, feishu, host):
        host.accepts = False
        assert not await feishu.bring(Line(user="wang", text="你好", id="om_1"))
        assert (feishu.unacknowledged, host.reported) == (1, [])
        host.accepts = True
        feishu.redeliver_now()
        await host.until_reported(1)
        assert [message.dedupe_key for message in host.reported] == ["om_1"]

    async def test_a_lost_acknowledgement_repeats_the_same_key(self, connected, feishu, host):
        feishu.faults.drop_acks = 1
        assert not await feishu.bring(Line(user="wang", text="你好", id="om_1"))
        feishu.redeliver_now()
        await host.until_reported(2)
        assert {message.dedupe_key for message in host.reported} == {"om_1"}

    async def test_too_much_at_once_is_left_to_the_platform(
        self, connected, feishu, host, monkeypatch
    ):
        monkeypatch.setattr(connection, "MAX_IN_HAND", 1)
        host.media.open.clear()
        slow = asyncio.create_task(feishu.bring(Line(user="wang", picture=PNG)))
        async with asyncio.timeout(PATIENCE_S):
            await host.media.asked.wait()
        assert not await feishu.bring(Line(user="li", text="满"))
        host.media.open.set()
        assert await slow
        feishu.redeliver_now()
        await host.until_reported(2)


class TestDoor:
    async def test_an_address_inside_our_network_is_the_settings_fault(self, host, made, talk):
        door = Door()
        async with platform_client(door) as host.http:
            inside = made(base_url="https://10.0.0.1")
            for begin in (inside.probe(), inside.run()):
                with pytest.raises(ChannelRefused) as refused:
                    await begin
                assert refused.value.path == "/base_url"
            call = send(inside, part(Text(text="hi"), to=talk))
            assert await error_class(call) == "no_permission"
        door.close()


class TestSend:
    async def test_a_text_reaches_the_customer(self, adapter, feishu, talk):
        sent = await send(adapter, part(Text(text="您好"), to=talk))
        [shown] = feishu.shown("wang")
        assert (shown.id, shown.text) == (sent.platform_message_id, "您好")

    async def test_a_group_and_a_person_can_be_written_to(self, adapter, feishu, talk):
        feishu.groups.add("oc_group")
        await send(adapter, part(Text(text="g"), to=ConversationKey(type="group", id="oc_group")))
        person = ConversationKey(type="direct", id="ou_wang")
        await send(adapter, part(Text(text="p"), to=person, key="m-2:0"))
        assert [shown.text for shown in feishu.shown(chat="oc_group")] == ["g"]
        assert [shown.text for shown in feishu.shown("wang")] == ["p"]

    @pytest.mark.parametrize("to", ["", "wang", "oc_a/b", "oc_../x", "@all"])
    async def test_nobody_else_can_be(self, adapter, feishu, to):
        call = send(adapter, part(Text(text="x"), to=ConversationKey(type="direct", id=to)))
        assert await error_class(call) == "recipient_invalid"
        assert not feishu.calls

    async def test_every_part_of_a_long_text_reaches_the_customer_whole(
        self, adapter, feishu, talk, clock
    ):
        text = '"\n花' * 40_000
        for index, segments in enumerate(adapter.split([Text(text=text)])):
            await send(adapter, part(*segments, to=talk, key=f"m:{index}"))
            clock.time += 1
        assert len(feishu.seen) > 1
        assert "".join(shown.text for shown in feishu.shown("wang")) == text

    async def test_a_long_text_that_would_be_interpreted_is_whole_too(
        self, adapter, feishu, talk, clock
    ):
        text = "<b>花</b>\n\n" * 3000
        parts = adapter.split([Text(text=text)])
        for index, segments in enumerate(parts):
            await send(adapter, part(*segments, to=talk, key=f"m:{index}"))
            clock.time += 1
        assert {shown.type for shown in feishu.seen} == {"post"}
        assert "".join(shown.text for shown in feishu.shown("wang")) == text

    @pytest.mark.parametrize(
        ("segment", "kind", "words"),
        [
            (Markdown(text="**a**", title="t"), "interactive", "**a**"),
            (Link(url="https://a", title="t"), "post", "t"),
            (Link(url="tel:1", title="t"), "text", "t tel:1"),
            (Card(format="feishu", data='{"elements": [{"tag": "hr"}]}'), "interactive", ""),
            (Card(format="other", data="{}", text="订单"), "text", "订单"),
            (BusinessCard(contact_type="user", id="ou_li"), "share_user", ""),
            (BusinessCard(contact_type="group", id="oc_g"), "share_chat", ""),
            (Voice(transcript="您好"), "text", "您好"),
            (Markdown(text="a" * 40_000), "text", "a" * 40_000),
        ],
    )
    async def test_each_goes_out_as_what_the_platform_has_for_it(
        self, adapter, feishu, talk, segment, kind, words
    ):
        [segments] = adapter.split([segment])
        await send(adapter, part(*segments, to=talk))
        [shown] = feishu.shown("wang")
        assert (shown.type, shown.text) == (kind, words)

    async def test_what_looks_like_a_mention_stays_words(self, adapter, feishu, talk):
        text = '<at user_id="all"></at> 您好'
        await send(adapter, part(Text(text=text), to=talk))
        [shown] = feishu.shown("wang")
        assert (shown.type, shown.text) == ("post", text)

    async def test_a_mention_and_a_quote_are_the_platforms_own(self, adapter, feishu, host, talk):
        event = feishu.said(Line(user="wang", text="?", id="om_q"))
        assert event["message"]["message_id"] == "om_q"
        segments = [Reply(message_id="om_q"), At(target="ou_wang", name="<王>"), Text(text=" 好")]
        [segments] = adapter.split(segments)
        await send(adapter, part(*segments, to=talk))
        [shown] = feishu.shown("wang")
        assert (shown.quotes, shown.text) == ("om_q", '<at user_id="ou_wang">王</at> 好')

    async def test_a_quote_that_is_gone_costs_the_quote_alone(self, adapter, feishu, talk):
        feishu.said(Line(user="wang", text="?", id="om_q"))
        feishu.recalled.add("om_q")
        await send(adapter, part(Reply(message_id="om_q"), Text(text="好"), to=talk))
        [shown] = feishu.shown("wang")
        assert (shown.quotes, shown.text) == ("", "好")

    async def test_a_talk_in_a_thread_goes_on_there(self, adapter, feishu, talk):
        feishu.said(Line(user="wang", text="?", id="om_q"))
        handle = {"message_id": "om_q", "thread_id": "omt_1"}
        await send(adapter, part(Text(text="好"), to=talk, **handle))
        assert [(seen.parent, seen.in_thread) for seen in feishu.seen] == [("om_q", True)]
        await send(adapter, part(Text(text="好"), to=talk, key="m-2:0", message_id="om_q"))
        assert feishu.seen[1].parent == ""

    async def test_a_card_that_is_refused_is_said_in_words(self, adapter, feishu, talk):
        card = Card(format="feishu", data='{"nothing": 1}', text="订单已发货")
        await send(adapter, part(card, to=talk))
        assert [shown.text for shown in feishu.shown("wang")] == ["订单已发货"]

    async def test_a_long_card_that_is_refused_is_said_to_its_end(
        self, adapter, feishu, talk, monkeypatch
    ):
        text = "- <at user_id=all> **a**\n" * 600 + "end"
        card = Markdown(text=text)
        monkeypatch.setattr(
            outgoing, "_markdown", lambda _: outgoing._made("interactive", {"a": 1})
        )
        await send(adapter, part(card, to=talk))
        [shown] = feishu.shown("wang")
        assert (shown.type, shown.text) == ("text", text.replace("<at", "< at"))

    async def test_token_and_upload_come_before_the_attempt(self, adapter, feishu, host, talk):
        attempt = await adapter.prepare(part(Image(ref=host.media.put(PNG)), to=talk))
        assert feishu.seen == []
        before = feishu.calls.copy()
        await attempt()
        assert feishu.calls - before == {"im/v1/messages": 1}

    async def test_the_same_key_is_shown_once(self, adapter, feishu, talk):
        feishu.faults.drop_reply = 1
        with pytest.raises(SendUnknown):
            await send(adapter, part(Text(text="好的"), to=talk))
        again = await send(adapter, part(Text(text="好的"), to=talk))
        assert [shown.id for shown in feishu.shown("wang")] == [again.platform_message_id]

    async def test_the_same_words_with_another_key_are_shown_twice(self, adapter, feishu, talk):
        for key in ("m-1:0", "m-2:0"):
            await send(adapter, part(Text(text="好的"), to=talk, key=key))
        assert len(feishu.shown("wang")) == 2

    async def test_a_token_that_ends_early_costs_nothing(self, adapter, feishu, talk):
        await adapter.probe()
        feishu.expire_tokens()
        await send(adapter, part(Text(text="好"), to=talk))
        assert len(feishu.seen) == 1

    async def test_too_often_says_how_long_to_wait(self, adapter, feishu, talk):
        feishu.limit(1)
        with pytest.raises(SendFailed) as failed:
            await send(adapter, part(Text(text="x"), to=talk))
        assert (failed.value.error_class, failed.value.retry_after_s) == ("rate_limited", 7.0)

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (230002, "bot_not_in_chat"),
            (230053, "recipient_refuses"),
            (232009, "chat_gone"),
            (99991672, "no_permission"),
            (230099, "bad_markup"),
            (4711, "content_invalid"),
        ],
    )
    async def test_a_refusal_has_a_class(self, adapter, feishu, talk, code, expected):
        feishu.faults.refuse = code
        assert await error_class(send(adapter, part(Text(text="x"), to=talk))) == expected

    async def test_one_that_is_on_its_way_already_is_asked_for_again_later(
        self, adapter, feishu, talk
    ):
        feishu.faults.refuse = 230049
        with pytest.raises(SendUnknown):
            await send(adapter, part(Text(text="x"), to=talk))

    async def test_a_platform_that_is_away_took_nothing(self, made, talk):
        call = send(made(base_url="http://127.0.0.1:1"), part(Text(text="x"), to=talk))
        assert await error_class(call) == "server_busy"


class TestSendMedia:
    @pytest.mark.parametrize(
        ("make", "body", "content_type", "kind", "upload"),
        [
            (Image, PNG, "image/png", "image", "image"),
            (Image, b"<svg>", "image/svg+xml", "file", "stream"),
            (Voice, OPUS, "audio/ogg", "audio", "opus"),
            (Voice, b"ID3" + bytes(9), "audio/mpeg", "file", "stream"),
            (Video, bytes(99), "video/mp4", "media", "mp4"),
            (Video, bytes(99), "video/webm", "file", "stream"),
            (File, bytes(99), "application/pdf", "file", "pdf"),
        ],
    )
    async def test_goes_out_as_what_the_platform_takes(
        self, adapter, host, feishu, talk, make, body, content_type, kind, upload
    ):
        ref = host.media.put(body, name="价格.pdf", content_type=content_type)
        await send(adapter, part(make(ref=ref), to=talk))
        [seen] = feishu.seen
        [key] = outgoing.keys(outgoing.Message(type="", content=json.dumps(seen.content)))
        found, name, stored = feishu.media[key]
        assert (seen.type, found, stored) == (kind, upload, body)
        assert name in ("", "价格.pdf")

    async def test_the_same_bytes_are_uploaded_once(self, adapter, host, feishu, talk):
        ref = host.media.put(PNG)
        for key in ("m-1:0", "m-2:0"):
            await send(adapter, part(Image(ref=ref), to=talk, key=key))
        assert feishu.calls["im/v1/images"] == 1

    async def test_an_upload_that_was_forgotten_early_is_made_again(
        self, adapter, host, feishu, talk
    ):
        ref = host.media.put(PNG)
        await send(adapter, part(Image(ref=ref), to=talk))
        feishu.media.clear()
        await send(adapter, part(Image(ref=ref), to=talk, key="m-2:0"))
        assert [seen.type for seen in feishu.seen] == ["image", "image"]

    async def test_what_cannot_be_sent_is_said(self, adapter, host, feishu, talk):
        empty, wrong = host.media.put(b""), host.media.put(b"no picture", content_type="image/png")
        gone, foreign = Ref(via="media", id="gone"), Ref(via="qq.url", id="x")
        for index, ref in enumerate((empty, wrong, gone, foreign)):
            await send(adapter, part(Image(ref=ref, name="a"), to=talk, key=f"m:{index}"))
        assert [shown.text for shown in feishu.shown("wang")] == ["[image a]"] * 4

    async def test_what_the_platform_never_takes_is_said_in_the_end(
        self, adapter, host, feishu, talk
    ):
        # It forgets everything at once.
        ref = host.media.put(PNG)
        attempt = await adapter.prepare(part(Image(ref=ref, name="a"), to=talk))
        feishu.keep = lambda *_, **__: "img_gone"
        feishu.media.clear()
        await attempt()
        assert [shown.text for shown in feishu.shown("wang")] == ["[image a]"]

    async def test_a_store_that_is_away_is_waited_for(self, adapter, host, talk):
        ref = host.media.put(PNG)
        host.media.away = 1
        assert await error_class(send(adapter, part(Image(ref=ref), to=talk))) == "server_busy"


class TestControl:
    async def test_the_platform_is_told_over_http_what_to_do(self, feishu, host, adapter, talk):
        async def tell(order):
            return await host.http.post(f"{feishu.url}/control", json=order)

        await send(adapter, part(Text(text="您好"), to=talk))
        assert (await tell({"faults": {"rate_limit": 2}, "expire_tokens": True})).status_code == 200
        assert feishu.faults.rate_limit == 2
        state = (await host.http.get(f"{feishu.url}/control")).json()
        assert [seen["text"] for seen in state["seen"]] == ["您好"]
        said = await tell({"say": {"user": "wang", "text": "x"}})
        assert said.json() == {"acknowledged": False}
