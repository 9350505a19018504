import asyncio

import pytest

from adapters.base import ChannelRefused, NotAccepted, Outgoing, SendFailed, SendUnknown
from adapters.model import (
    At,
    Card,
    ConversationKey,
    File,
    Image,
    Markdown,
    Ref,
    Reply,
    Text,
    Voice,
)
from adapters.outbound import Door
from adapters.qq import adapter as module
from adapters.qq import outgoing
from adapters.qq.adapter import Adapter
from adapters.simulators.platform import Line
from adapters.simulators.qq_messages import Anchor
from instance_agent.client import platform_client
from tests.adapters.sending import send

PNG = b"\x89PNG" + bytes(100)


@pytest.fixture
def made(host, clock, settings):
    """The adapter with some settings changed."""

    def make(**changes):
        return Adapter(settings.model_copy(update=changes), host, clock=clock)

    return make


@pytest.fixture
def answering(qq, clock):
    """A part that answers a message which was said just now."""

    def part(*segments, to="U1", kind="direct", key="key-1:0", msg="m1"):
        scenes = {"direct": "users", "group": "groups"}
        scene = scenes.get(kind, "dms" if to.startswith("dms:") else "channels")
        path = f"{scene}/{to.removeprefix('dms:')}"
        qq.anchors.setdefault(msg, Anchor(path=path, at=clock()))
        return Outgoing(
            idempotency_key=key,
            conversation=ConversationKey(type=kind, id=to),
            reply_handle={"msg_id": msg},
            segments=list(segments),
        )

    return part


async def refusal(call) -> SendFailed:
    with pytest.raises(SendFailed) as failed:
        await call
    return failed.value


class TestProbe:
    async def test_good_settings_pass(self, adapter, made):
        await adapter.probe()
        await made(transport="gateway").probe()

    async def test_a_wrong_secret_is_refused_without_showing_it(self, made, qq):
        right, qq.secret = qq.secret, "another"
        with pytest.raises(ChannelRefused, match="AppSecret") as refused:
            await made().probe()
        assert refused.value.path == "/secret"
        assert right not in f"{refused.value}{refused.value.__cause__}"

    async def test_a_banned_bot_is_refused(self, adapter, qq):
        qq.faults.banned = True
        with pytest.raises(ChannelRefused, match="banned"):
            await adapter.probe()

    async def test_a_platform_that_is_away_says_nothing_about_the_settings(self, made, qq):
        await made(base_url="http://127.0.0.1:1").probe()
        qq.faults.answer_500 = 9
        await made().probe()

    async def test_the_address_may_be_entered_later(self, adapter, qq):
        qq.faults.refused_address = True
        await adapter.probe()

    async def test_an_address_inside_our_network_is_the_settings_fault(self, host, made):
        door = Door()
        async with platform_client(door) as host.http:
            with pytest.raises(ChannelRefused) as refused:
                await made(base_url="https://10.0.0.1", login_url="https://10.0.0.1").probe()
        door.close()
        assert refused.value.path == "/base_url"


class TestRun:
    async def test_each_look_is_proof_of_life(self, adapter, host, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        running = asyncio.create_task(adapter.run())
        for _ in range(3):
            host.proven.clear()
            await host.proven.wait()
        running.cancel()
        await asyncio.wait({running})

    async def test_an_address_that_is_not_trusted_is_told_in_plain_words(self, adapter, qq):
        qq.faults.refused_address = True
        with pytest.raises(ChannelRefused, match="IP 白名单"):
            await adapter.run()

    async def test_three_misses_in_a_row_are_an_outage(self, adapter, qq, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        qq.faults.answer_500 = 3
        with pytest.raises(ChannelRefused, match="cannot be reached"):
            await adapter.run()
        assert qq.faults.answer_500 == 0

    def test_an_account_is_the_credential(self, made):
        assert made().account() != made(app_id="7").account()


@pytest.fixture
async def address(qq, calls):
    """The adapter's own address on a socket, as if it were public."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    from adapters.simulators.serving import serving

    async def take(request):
        try:
            answer = await calls.take(await request.body(), dict(request.headers))
        except NotAccepted:
            return Response(status_code=503)
        return Response(answer.body, answer.status, media_type=answer.content_type)

    async with serving(Starlette(routes=[Route("/", take, methods=["POST"])])) as url:
        qq.callback_url = url
        yield calls


class TestWebhook:
    async def test_what_was_said_is_reported_before_the_platform_is_answered(
        self, address, qq, host
    ):
        assert await qq.bring(Line(user="U1", text="你好"))
        assert qq.tries == [1]
        assert [message.segments for message in host.reported] == [[Text(text="你好")]]

    async def test_it_comes_again_while_we_refuse_and_counts_once(self, address, qq, host):
        host.accepts = False
        assert not await qq.bring(Line(user="U1", text="你好", id="m1"))
        host.accepts = True
        qq.faults.redeliver = 2
        assert await qq.bring(Line(user="U1", text="你好", id="m1"))
        assert qq.tries == [3, 3]
        assert {message.dedupe_key for message in host.reported} == {"m1"}

    async def test_the_check_of_the_address_is_answered(self, address, qq):
        assert await qq.check_address()
        assert await qq.check_address(signed=True)

    async def test_somebody_elses_words_are_not_taken(self, address, qq, host):
        right, qq.secret = qq.secret, "another"
        assert not await qq.bring(Line(user="U1", text="你好"))
        assert not await qq.check_address(signed=True)
        qq.secret = right
        assert host.reported == []

    async def test_only_the_age_is_taken_on_trust(self, address, qq, host, clock):
        qq._clock = lambda: clock() - 3600
        assert not await qq.bring(Line(user="U1", text="你好"))
        address.verified = True
        assert await qq.bring(Line(user="U1", text="你好"))
        assert len(host.reported) == 1

    async def test_media_are_stored_before_they_are_reported(self, address, qq, host):
        assert await qq.bring(Line(user="M1", chat="G1", picture=PNG))
        assert await qq.bring(Line(user="U1", file=b"%PDF", name="价格.pdf"))
        [picture], [file] = (message.segments for message in host.reported)
        assert host.media.kept[picture.ref.id].body == PNG
        assert (file.ref.via, file.name) == ("media", "价格.pdf")

    async def test_what_is_gone_is_reported_with_the_platforms_address(self, address, qq, host):
        picture = {"content_type": "image/png", "url": f"{qq.url}/download/gone"}
        said = {"id": "m1", "author": {"user_openid": "U1"}, "content": "", "timestamp": "1"}
        assert await qq.dispatch("C2C_MESSAGE_CREATE", said | {"attachments": [picture]})
        [[segment]] = [message.segments for message in host.reported]
        assert segment.ref.via == "qq.url"

    async def test_what_is_no_message_is_a_bad_request(self, address, qq, host):
        assert not await qq.dispatch("C2C_MESSAGE_CREATE", {"id": "m1"})
        assert host.reported == []

    async def test_other_events_are_acknowledged_and_say_nothing(self, address, qq, host):
        assert await qq.dispatch("GUILD_CREATE", {"id": "1"})
        assert await qq.press("U1", "order")
        await qq.until(lambda: len(qq.pressed) == 1, patience_s=20)
        assert host.reported == []

    async def test_a_new_friend_is_greeted_once_though_the_call_comes_again(
        self, qq, made, calls, address
    ):
        calls.adapter = made(greeting="欢迎 <@all>")
        qq.faults.redeliver = 2
        assert await qq.befriend("U1")
        await qq.until_shown(1, patience_s=20)
        assert [each.text for each in qq.shown("U1")] == ["欢迎 \uff1c@all>"]

    async def test_who_is_not_heard_sees_and_costs_nothing(self, calls, address, made, qq, host):
        calls.adapter = made(greeting="欢迎")
        host.blocked.add("U1")
        assert await qq.befriend("U1")
        assert await qq.bring(Line(user="U1", picture=PNG))
        assert calls.adapter._reactions == set()
        assert (host.reported, qq.shown(), qq.calls["media"]) == ([], [], 0)


class TestAnswers:
    @pytest.mark.parametrize(
        ("kind", "to"), [("direct", "U1"), ("group", "G1"), ("channel", "1"), ("channel", "dms:1")]
    )
    async def test_words_reach_every_kind_of_conversation(self, adapter, qq, answering, kind, to):
        sent = await send(adapter, answering(Text(text="早上九点"), kind=kind, to=to))
        [shown] = qq.seen
        assert (shown.text, shown.id) == ("早上九点", sent.platform_message_id)

    async def test_a_mention_and_a_quote_where_the_platform_has_them(self, adapter, qq, answering):
        parts = adapter.split([Reply(message_id="m0"), At(target="M1"), Text(text=" 好")])
        await send(adapter, answering(*parts[0], kind="group", to="G1"))
        await send(adapter, answering(*parts[0], kind="channel", to="7", msg="m2"))
        group, channel = qq.seen
        assert (group.text, group.quotes) == ('<qqbot-at-user id="M1" /> 好', "")
        assert channel.quotes == "m0"

    async def test_markdown_is_text_where_the_bot_may_not(self, adapter, qq, answering):
        await send(adapter, answering(Markdown(text="**a**")))
        qq.faults.forbid_markdown = True
        await send(adapter, answering(Markdown(text="**b**"), key="key-2:0"))
        assert [(each.type, each.text) for each in qq.seen] == [
            ("markdown", "**a**"),
            ("text", "**b**"),
        ]

    async def test_a_card_of_the_platforms_own_form(self, adapter, qq, answering):
        card = Card(format=outgoing.ARK, data='{"ark":{"template_id":23}}', text="words")
        await send(adapter, answering(card))
        assert qq.seen[0].type == "ark"

    async def test_people_may_look_at_it_first(self, adapter, qq, answering):
        qq.faults.audit = 1
        assert (await send(adapter, answering(Text(text="a")))).platform_message_id == ""

    async def test_a_token_that_ended_early_costs_nothing(self, adapter, qq, answering):
        await send(adapter, answering(Text(text="a")))
        qq.expire_tokens()
        await send(adapter, answering(Text(text="b"), key="key-2:0"))
        assert [each.text for each in qq.seen] == ["a", "b"]
        assert qq.calls["login"] == 2

    async def test_a_long_text_uses_no_more_than_the_answers_there_are(
        self, adapter, qq, answering
    ):
        parts = adapter.split([Text(text="好" * (outgoing.MAX_TEXT * 5 + 7))])
        for index, part in enumerate(parts):
            await send(adapter, answering(*part, key=f"key-1:{index}"))
        assert len(qq.seen) == outgoing.MAX_REPLIES
        assert sum(len(each.text) for each in qq.seen) == outgoing.MAX_TEXT * 5 + 7


class TestMedia:
    async def test_a_picture_takes_its_words_along(self, adapter, qq, host, answering):
        picture = Image(ref=host.media.put(PNG))
        await send(adapter, answering(Text(text="看"), picture))
        [shown] = qq.seen
        assert (shown.type, shown.text) == ("media", "看")
        assert PNG in qq.media.values()

    async def test_the_same_bytes_are_uploaded_once_for_all_people(
        self, adapter, qq, host, answering
    ):
        picture = Image(ref=host.media.put(PNG))
        for to in ("U1", "U2"):
            await send(adapter, answering(picture, to=to, key=to, msg=to))
        await send(adapter, answering(picture, kind="group", to="G1", key="g", msg="g"))
        assert len(qq.uploads) == 2
        assert len(qq.seen) == 3

    async def test_an_upload_that_is_forgotten_is_made_again(self, adapter, qq, host, answering):
        picture = Image(ref=host.media.put(PNG))
        await send(adapter, answering(picture))
        qq.uploads.clear()
        await send(adapter, answering(picture, key="key-2:0"))
        assert [each.type for each in qq.seen] == ["media", "media"]

    async def test_an_upload_ends_when_the_platform_says(self, adapter, qq, host, answering, clock):
        picture = Image(ref=host.media.put(PNG))
        await send(adapter, answering(picture))
        clock.time += 3600
        await send(adapter, answering(picture, key="key-2:0", msg="m2"))
        assert len(qq.uploads) == 2

    async def test_what_the_platform_does_not_take_is_said(self, adapter, qq, host, answering):
        file = File(ref=host.media.put(b"%PDF", content_type="application/pdf"), name="价格.pdf")
        voice = Voice(ref=host.media.put(b"amr", content_type="audio/amr"), transcript="在吗")
        broken = Image(ref=host.media.put(b"GIF89a"))
        gone = Image(ref=Ref(via="media", id="gone"), name="a.png")
        for number, segment in enumerate((file, voice, broken, gone)):
            await send(
                adapter,
                answering(segment, kind="group", to="G1", key=str(number), msg=str(number)),
            )
        assert [each.text for each in qq.seen] == [
            "[file 价格.pdf]",
            "在吗",
            "[image]",
            "[image a.png]",
        ]

    async def test_files_reach_people(self, adapter, qq, host, answering):
        file = File(ref=host.media.put(b"%PDF", content_type="application/pdf"), name="价格.pdf")
        await send(adapter, answering(file))
        assert qq.seen[0].type == "media"

    async def test_a_channel_gets_its_picture_within_the_message(
        self, adapter, qq, host, answering
    ):
        picture = Image(ref=host.media.put(PNG))
        part = answering(Reply(message_id="m0"), Text(text="看"), picture, kind="channel", to="7")
        await send(adapter, part)
        [shown] = qq.seen
        assert (shown.type, shown.text, shown.quotes) == ("image", "看", "m0")

    async def test_what_a_customer_sent_goes_back_by_its_address(self, adapter, qq, answering):
        qq.media["p"] = PNG
        picture = Image(ref=Ref(via="qq.url", id=f"{qq.url}/download/p"))
        await send(adapter, answering(picture))
        assert qq.seen[0].type == "media"

    async def test_a_store_that_is_away_is_waited_for(self, adapter, host, answering):
        picture = Image(ref=host.media.put(PNG))
        host.media.away = 1
        failed = await refusal(send(adapter, answering(picture)))
        assert failed.error_class == "server_busy"


class TestWindows:
    async def test_nothing_is_said_that_answers_nothing(self, adapter, qq):
        part = Outgoing(
            idempotency_key="k",
            conversation=ConversationKey(type="direct", id="U1"),
            reply_handle={},
            segments=[Text(text="hi")],
        )
        failed = await refusal(send(adapter, part))
        assert failed.error_class == "window_expired"
        assert "60 minutes" in failed.detail
        assert not [path for path in qq.calls if "messages" in path]

    @pytest.mark.parametrize(
        ("kind", "to", "within_s"), [("direct", "U1", 3600), ("group", "G1", 300)]
    )
    async def test_too_late_is_told_in_plain_words(
        self, adapter, answering, clock, kind, to, within_s
    ):
        await send(adapter, answering(Text(text="a"), kind=kind, to=to))
        clock.time += within_s + 1
        failed = await refusal(
            send(adapter, answering(Text(text="b"), kind=kind, to=to, key="key-2:0"))
        )
        assert failed.error_class == "window_expired"
        assert "only answer" in failed.detail

    async def test_the_sixth_answer_is_not_tried(self, adapter, qq, answering):
        for number in range(5):
            await send(adapter, answering(Text(text="a"), key=str(number)))
        failed = await refusal(send(adapter, answering(Text(text="a"), key="6")))
        assert failed.error_class == "window_count_exceeded"
        assert qq.calls["/v2/users/U1/messages"] == 5

    async def test_another_bots_message_cannot_be_answered(self, adapter, qq, answering):
        part = answering(Text(text="a"))
        qq.anchors.clear()
        assert (await refusal(send(adapter, part))).error_class == "reply_handle_invalid"

    async def test_where_there_is_nobody(self, adapter, answering):
        failed = await refusal(send(adapter, answering(Text(text="a"), to="../me")))
        assert failed.error_class == "recipient_invalid"


class TestRepeats:
    async def test_an_answer_that_was_shown_is_not_shown_again(self, adapter, qq, answering):
        qq.faults.drop_reply = 1
        part = answering(Text(text="a"))
        with pytest.raises(SendUnknown):
            await send(adapter, part)
        assert (await send(adapter, part)).platform_message_id == ""
        assert [each.text for each in qq.seen] == ["a"]

    async def test_nor_by_another_process(self, adapter, made, qq, answering):
        qq.faults.drop_reply = 1
        part = answering(Text(text="a"))
        with pytest.raises(SendUnknown):
            await send(adapter, part)
        await send(made(), part)
        assert [each.text for each in qq.seen] == ["a"]

    async def test_a_fallback_that_was_shown_is_not_shown_again(self, adapter, qq, answering):
        qq.faults.forbid_markdown = True
        qq.faults.drop_reply = 1
        part = answering(Markdown(text="a"))
        with pytest.raises(SendUnknown):
            await send(adapter, part)
        await send(adapter, part)
        assert [each.text for each in qq.seen] == ["a"]

    async def test_the_same_words_that_are_meant_twice_are_shown_twice(
        self, adapter, qq, answering
    ):
        for key in ("m1:0", "m2:0"):
            await send(adapter, answering(Text(text="好的"), key=key))
        assert [each.text for each in qq.seen] == ["好的", "好的"]

    async def test_after_a_refusal_the_next_try_has_another_number(self, adapter, qq, answering):
        part = answering(Text(text="a"))
        numbers = qq.anchors["m1"].numbers
        qq.limit(1)
        assert (await refusal(send(adapter, part))).error_class == "rate_limited"
        # As if the refusal had used the number up.
        numbers.add(module.Sequences().of(outgoing.Anchor("msg_id", "m1"), "key-1:0:text"))
        await send(adapter, part)
        assert [each.text for each in qq.seen] == ["a"]


class TestRefusals:
    async def test_an_address_that_the_console_does_not_know(self, adapter, qq, answering):
        part = answering(Text(text="https://shop.example/1"))
        failed = await refusal(send(adapter, part))
        assert failed.error_class == "content_invalid"
        assert "消息 URL 配置" in failed.detail
        qq.registered.add("shop.example")
        await send(adapter, part)
        assert len(qq.seen) == 1

    async def test_a_platform_that_is_away_has_sent_nothing(self, made, answering):
        away = made(base_url="http://127.0.0.1:1", login_url="http://127.0.0.1:1")
        assert (await refusal(send(away, answering(Text(text="a"))))).error_class == "server_busy"

    async def test_a_gateway_error_is_an_unknown_outcome(self, adapter, qq, answering):
        attempt = await adapter.prepare(answering(Text(text="a")))
        qq.faults.answer_500 = 1
        with pytest.raises(SendUnknown):
            await attempt()

    async def test_nothing_that_is_prepared_is_shown(self, adapter, qq, host, answering):
        await adapter.prepare(answering(Image(ref=host.media.put(PNG))))
        assert qq.seen == []
