import asyncio
import json
from urllib.parse import urlencode

import httpx2
import pytest
from pydantic import SecretStr

from adapters import arrivals, uploads
from adapters.base import ChannelRefused, NotAccepted, Outgoing, SendFailed, SendUnknown
from adapters.model import (
    Card,
    ConversationKey,
    File,
    Image,
    Link,
    Markdown,
    RawCallback,
    Ref,
    Text,
    Video,
    Voice,
)
from adapters.outbound import Door, networks
from adapters.wecom import adapter as module
from adapters.wecom import codec, sending
from adapters.wecom.adapter import Adapter
from adapters.wecom.callback import RECEIVED
from adapters.wecom.codec import MEDIA
from instance_agent.client import platform_client
from tests.adapters.sending import send

PNG = b"\x89PNG" + bytes(100)
AMR = b"#!AMR\n" + bytes(100)


@pytest.fixture
def made(host, clock, settings):
    """The adapter with some settings changed."""

    def make(**changes):
        return Adapter(settings.model_copy(update=changes), host, clock=clock)

    return make


@pytest.fixture
def bring(wecom, adapter, clock):
    """A callback of the platform, taken by the adapter."""

    async def bring(kind="text", *, by=adapter, verified=False, signed=True, **fields):
        values = {
            "ToUserName": wecom.corp_id,
            "FromUserName": "zhangsan",
            "CreateTime": str(int(clock())),
            "MsgType": kind,
            "MsgId": "1",
            **fields,
        }
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
        encrypt = wecom.seal.close(f"<xml>{inner}</xml>".encode())
        query = wecom._query(encrypt) | ({} if signed else {"msg_signature": "0" * 40})
        raw = RawCallback(
            method="POST",
            path="/",
            query=urlencode(query),
            headers={},
            body=f"<xml><Encrypt>{encrypt}</Encrypt></xml>".encode(),
            received_at=clock(),
        )
        return await by.callback(raw, verified=verified)

    return bring


def part(*segments, to="zhangsan", kind="direct"):
    return Outgoing(
        idempotency_key="key-1",
        conversation=ConversationKey(type=kind, id=to),
        reply_handle={},
        segments=list(segments),
    )


async def error_class(call) -> str:
    with pytest.raises(SendFailed) as failed:
        await call
    return failed.value.error_class


class TestProbe:
    async def test_good_settings_pass(self, adapter):
        await adapter.probe()

    @pytest.mark.parametrize(
        ("wrong", "path"),
        [
            ({"corp_id": "wwother"}, "/corp_id"),
            ({"agent_id": 7}, "/agent_id"),
        ],
    )
    async def test_says_which_setting_is_wrong(self, made, wrong, path):
        with pytest.raises(ChannelRefused) as refused:
            await made(**wrong).probe()
        assert refused.value.path == path

    async def test_a_wrong_secret_is_refused_without_showing_it(self, made, wecom):
        right, wecom.secret = wecom.secret, "another"
        with pytest.raises(ChannelRefused) as refused:
            await made().probe()
        assert refused.value.path == "/secret"
        assert right not in f"{refused.value}{refused.value.__cause__}"

    async def test_a_platform_that_is_away_says_nothing_about_the_settings(self, made, wecom):
        await made(base_url="http://127.0.0.1:1").probe()
        wecom.faults.answer_500 = 9
        await made().probe()

    async def test_the_address_may_be_entered_later(self, adapter, wecom):
        wecom.faults.refused_address = "203.0.113.7"
        await adapter.probe()


class TestRun:
    async def test_each_look_is_proof_of_life(self, adapter, host, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        running = asyncio.create_task(adapter.run())
        for _ in range(3):
            host.proven.clear()
            await host.proven.wait()
        running.cancel()
        await asyncio.wait({running})

    async def test_an_address_that_is_not_trusted_is_told_in_plain_words(self, adapter, wecom):
        wecom.faults.refused_address = "203.0.113.7"
        with pytest.raises(ChannelRefused, match=r"203\.0\.113\.7.*企业可信IP"):
            await adapter.run()

    async def test_three_misses_in_a_row_are_an_outage(self, adapter, wecom, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        wecom.faults.answer_500 = 3
        with pytest.raises(ChannelRefused, match="cannot be reached"):
            await adapter.run()
        assert wecom.faults.answer_500 == 0

    async def test_a_refusal_that_blames_no_setting_is_named_when_it_stays(
        self, adapter, wecom, monkeypatch
    ):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        wecom.faults.rate_limit = 3
        with pytest.raises(ChannelRefused, match="45009"):
            await adapter.run()


class TestCallback:
    async def test_what_was_said_is_reported_before_the_platform_is_answered(self, bring, host):
        answer = await bring(Content="你好")
        assert (answer.status, answer.body) == (200, b"")
        assert [message.segments for message in host.reported] == [[Text(text="你好")]]

    async def test_it_is_not_acknowledged_when_not_accepted(self, bring, host):
        host.accepts = False
        with pytest.raises(NotAccepted):
            await bring(Content="你好")

    async def test_wrong_bytes_are_not_reported_whoever_vouches_for_them(self, bring, host):
        for verified in (False, True):
            assert (await bring(Content="x", signed=False, verified=verified)).status == 401
        assert host.reported == []

    async def test_only_the_age_is_taken_on_trust(self, bring, host, clock, wecom):
        wecom._clock = lambda: clock() - 3600
        assert (await bring(Content="x")).status == 401
        assert (await bring(Content="x", verified=True)).status == 200
        assert len(host.reported) == 1

    async def test_what_is_no_message_is_a_bad_request(self, bring, host):
        assert (await bring(MsgId="")).status == 400
        assert host.reported == []

    async def test_an_event_is_acknowledged_and_says_nothing(self, bring, host):
        assert (await bring("event", Event="enter_agent")).body == b""
        assert host.reported == []

    async def test_somebody_new_is_greeted_in_the_answer_itself(self, bring, made, wecom):
        answer = await bring("event", Event="subscribe", by=made(greeting="欢迎 ]]> 您"))
        wecom._passive(answer.body)
        assert [(seen.user, seen.id) for seen in wecom.seen] == [("zhangsan", "passive")]
        assert (await bring("event", Event="subscribe")).body == b""

    async def test_who_is_not_heard_is_not_greeted(self, bring, made, host):
        host.blocked.add("zhangsan")
        answer = await bring("event", Event="subscribe", by=made(greeting="您好"))
        assert answer == RECEIVED

    async def test_json_is_answered_in_json(self, made, wecom, clock):
        event = {
            "FromUserName": "zhangsan",
            "CreateTime": int(clock()),
            "MsgType": "event",
            "Event": "subscribe",
        }
        encrypt = wecom.seal.close(json.dumps(event).encode())
        raw = RawCallback(
            method="POST",
            path="/",
            query=urlencode(wecom._query(encrypt)),
            headers={},
            body=json.dumps({"encrypt": encrypt}).encode(),
            received_at=clock(),
        )
        answer = await made(greeting="您好").callback(raw, verified=False)
        closed = json.loads(answer.body)
        expected = wecom.seal.signature(
            str(closed["timestamp"]), closed["nonce"], closed["encrypt"]
        )
        assert closed["msgsignature"] == expected
        said = json.loads(wecom.seal.open(closed["encrypt"]))
        assert (said["ToUserName"], said["Content"]) == ("zhangsan", "您好")

    async def test_the_check_of_the_address_is_answered(self, adapter, wecom, clock):
        encrypt = wecom.seal.close(b"42")
        query = urlencode(wecom._query(encrypt) | {"echostr": encrypt})
        raw = RawCallback(
            method="GET", path="/", query=query, headers={}, body=b"", received_at=clock()
        )
        assert (await adapter.callback(raw, verified=False)).body == b"42"


class TestDoor:
    async def test_an_address_inside_our_network_is_the_settings_fault(self, host, made):
        door = Door()
        async with platform_client(door) as host.http:
            inside = made(base_url="https://10.0.0.1")
            for begin in (inside.probe(), inside.run()):
                with pytest.raises(ChannelRefused) as refused:
                    await begin
                assert refused.value.path == "/base_url"
            assert await error_class(send(inside, part(Text(text="hi")))) == "no_permission"
            picture = Image(ref=host.media.put(PNG))
            assert await error_class(send(inside, part(picture))) == "no_permission"
        door.close()

    async def test_an_allowed_network_is_called(self, host, made, wecom):
        door = Door(networks("127.0.0.0/8"))
        async with platform_client(door) as host.http:
            await send(made(), part(Text(text="hi")))
        door.close()
        assert [seen.text for seen in wecom.seen] == ["hi"]


class TestArrivals:
    async def test_bytes_are_in_our_store_before_the_message_is_reported(self, bring, host, wecom):
        await bring("image", MediaId=wecom.keep("image", PNG), PicUrl="http://pic")
        [[picture]] = [message.segments for message in host.reported]
        assert picture.ref.via == "media"
        assert host.media.kept[picture.ref.id].body == PNG

    async def test_what_takes_long_is_fetched_on_while_the_callback_waits(
        self, bring, adapter, host, wecom
    ):
        adapter._arrivals._wait_s = 0.01
        media_id = wecom.keep("video", PNG)
        host.media.open.clear()
        for _ in range(2):
            with pytest.raises(NotAccepted):
                await bring("video", MediaId=media_id)
        assert host.reported == []
        host.media.open.set()
        adapter._arrivals._wait_s = 10
        await bring("video", MediaId=media_id)
        assert host.media.tries == 1
        assert host.reported[0].segments[0].ref.via == "media"

    async def test_a_store_that_is_away_for_a_moment_is_tried_again(
        self, bring, host, wecom, monkeypatch
    ):
        monkeypatch.setattr(arrivals, "RETRY_S", 0)
        host.media.away = 2
        wecom.faults.busy = 1
        await bring("file", MediaId=wecom.keep("file", PNG), FileName="a.pdf")
        [segment] = host.reported[0].segments
        assert (segment.ref.via, segment.name) == ("media", "a.pdf")

    @pytest.mark.parametrize("why", ["refused", "forgotten", "too long", "a bug"])
    async def test_what_cannot_be_had_is_reported_with_the_platforms_reference(
        self, bring, host, wecom, made, monkeypatch, why
    ):
        media_id = wecom.keep("image", PNG)
        if why == "refused":
            host.media.max_bytes = 1
        elif why == "forgotten":
            wecom.media.clear()
        elif why == "too long":
            monkeypatch.setattr(arrivals, "GIVE_UP_S", 0)
        else:
            monkeypatch.setattr(host.media, "put", None)
        await bring("image", by=made(), MediaId=media_id, PicUrl="http://pic")
        # Without what only fetching needs.
        assert host.reported[0].segments == [Image(ref=Ref(via=MEDIA, id=media_id))]

    async def test_nothing_is_fetched_for_who_is_not_heard(self, bring, host, wecom):
        await bring("image", MediaId=wecom.keep("image", PNG), PicUrl="http://pic")
        [heard] = host.reported
        tries = host.media.tries
        host.blocked.add(heard.sender.id)

        answer = await bring("image", MediaId=wecom.keep("image", PNG), PicUrl="http://pic")

        assert answer == RECEIVED
        assert (len(host.reported), host.media.tries) == (1, tries)

    async def test_no_more_fetches_are_begun_than_can_be_kept(
        self, bring, adapter, host, wecom, monkeypatch
    ):
        monkeypatch.setattr(arrivals, "MAX_KEPT", 1)
        adapter._arrivals._wait_s = 0.01
        host.media.open.clear()
        for _ in range(2):
            with pytest.raises(NotAccepted):
                await bring("image", MediaId=wecom.keep("image", PNG))
        host.media.open.set()
        assert host.media.tries == 1


class TestSend:
    async def test_a_text_reaches_the_customer(self, adapter, wecom):
        sent = await send(adapter, part(Text(text="您好")))
        assert [(seen.id, seen.text) for seen in wecom.seen] == [(sent.platform_message_id, "您好")]

    async def test_every_part_of_a_long_text_reaches_the_customer_whole(self, adapter, wecom):
        text = "花" * 2000
        for segments in adapter.split([Text(text=text)]):
            await send(adapter, part(*segments))
        assert "".join(wecom.told("zhangsan")) == text

    @pytest.mark.parametrize(
        ("segment", "msgtype"),
        [
            (Markdown(text="**a**"), "markdown"),
            (Link(url="https://a", title="t"), "textcard"),
        ],
    )
    async def test_what_has_a_form_of_its_own_keeps_it(self, adapter, wecom, segment, msgtype):
        await send(adapter, part(segment))
        assert [seen.msgtype for seen in wecom.seen] == [msgtype]

    @pytest.mark.parametrize(
        ("to", "kind"),
        [("@all", "direct"), ("zhangsan|lisi", "direct"), ("a|b", "group"), ("x", "channel")],
    )
    async def test_nobody_can_be_made_to_speak_to_many(self, adapter, wecom, to, kind):
        wecom.members |= {"lisi", "@all"}
        call = send(adapter, part(Text(text="x"), to=to, kind=kind))
        assert await error_class(call) == "recipient_invalid"
        assert wecom.calls["message/send"] == 0

    async def test_a_group_that_the_application_made_gets_it(self, adapter, wecom, host):
        wecom.groups.add("group1")
        for segment in (Text(text="您好"), Image(ref=host.media.put(PNG))):
            await send(adapter, part(segment, to="group1", kind="group"))
        seen = [(seen.user, seen.msgtype) for seen in wecom.seen]
        assert seen == [("group1", "text"), ("group1", "image")]
        assert wecom.calls["message/send"] == 0

    async def test_a_group_takes_no_card_of_the_platform_and_gets_its_words(self, adapter, wecom):
        wecom.groups.add("group1")
        card = Card(format=codec.TEMPLATE_CARD, data='{"card_type": "x"}', text="订单已发货")
        await send(adapter, part(card, to="group1", kind="group"))
        assert [seen.text for seen in wecom.seen] == ["订单已发货"]

    async def test_another_group_is_gone_for_us(self, adapter):
        call = send(adapter, part(Text(text="x"), to="group2", kind="group"))
        assert await error_class(call) == "chat_gone"

    async def test_token_and_upload_come_before_the_attempt(self, adapter, wecom, host):
        attempt = await adapter.prepare(part(Image(ref=host.media.put(PNG))))
        assert wecom.calls == {"gettoken": 1, "media/upload": 1}
        await attempt()
        assert wecom.calls == {"gettoken": 1, "media/upload": 1, "message/send": 1}

    async def test_without_a_token_there_is_no_attempt(self, made, wecom):
        with pytest.raises(SendFailed) as failed:
            await made(secret=SecretStr("wrong")).prepare(part(Text(text="x")))
        assert failed.value.error_class == "secret_invalid"
        wecom.faults.answer_500 = 1
        with pytest.raises(SendFailed) as failed:
            await made().prepare(part(Text(text="x")))
        assert failed.value.error_class == "server_busy"

    async def test_a_refusal_has_a_class(self, adapter, wecom):
        call = send(adapter, part(Text(text="x"), to="nobody"))
        assert await error_class(call) == "recipient_invalid"
        wecom.faults.rate_limit = 1
        assert await error_class(send(adapter, part(Text(text="x")))) == "rate_limited"
        wecom.faults.busy = 1
        assert await error_class(send(adapter, part(Text(text="x")))) == "server_busy"

    async def test_a_platform_that_is_away_took_nothing(self, made):
        call = send(made(base_url="http://127.0.0.1:1"), part(Text(text="x")))
        assert await error_class(call) == "server_busy"

    async def test_a_reply_that_was_dropped_leaves_the_end_unknown(self, adapter, wecom):
        wecom.faults.drop_reply = 1
        with pytest.raises(SendUnknown):
            await send(adapter, part(Text(text="x")))
        assert wecom.told("zhangsan") == ["x"]

    async def test_the_same_words_said_twice_are_heard_twice(self, adapter, wecom):
        for _ in range(2):
            await send(adapter, part(Text(text="好的")))
        assert wecom.told("zhangsan") == ["好的", "好的"]
        assert wecom.silenced == []


class TestSendMedia:
    @pytest.mark.parametrize(
        ("make", "body", "content_type", "msgtype"),
        [
            (Image, PNG, "image/png", "image"),
            (Image, b"RIFF" + bytes(9), "image/webp", "file"),
            (Voice, AMR, "audio/amr", "voice"),
            (Voice, b"ID3" + bytes(9), "audio/mpeg", "file"),
            (Video, bytes(99), "video/mp4", "video"),
            (File, bytes(99), "application/pdf", "file"),
        ],
    )
    async def test_goes_out_as_what_the_platform_takes(
        self, adapter, host, wecom, make, body, content_type, msgtype
    ):
        ref = host.media.put(body, name="a", content_type=content_type)
        await send(adapter, part(make(ref=ref)))
        [seen] = wecom.seen
        assert seen.msgtype == msgtype
        assert wecom.media[seen.payload["media_id"]].body == body

    async def test_the_same_bytes_are_uploaded_once_while_the_platform_keeps_them(
        self, adapter, host, wecom, clock
    ):
        ref = host.media.put(PNG)
        for _ in range(3):
            await send(adapter, part(Image(ref=ref)))
        assert wecom.calls["media/upload"] == 1
        clock.time += sending.MEDIA_KEPT_S
        await send(adapter, part(Image(ref=ref)))
        assert wecom.calls["media/upload"] == 2
        assert [seen.msgtype for seen in wecom.seen] == ["image"] * 4

    async def test_an_upload_that_was_forgotten_early_is_made_again(self, adapter, host, wecom):
        ref = host.media.put(PNG)
        await send(adapter, part(Image(ref=ref)))
        wecom.media.clear()
        await send(adapter, part(Image(ref=ref)))
        assert [seen.msgtype for seen in wecom.seen] == ["image", "image"]

    async def test_what_cannot_be_sent_is_said(self, adapter, host, wecom):
        tiny = host.media.put(b"12345")
        gone, foreign = Ref(via="media", id="gone"), Ref(via="qq.url", id="x")
        for ref in (tiny, gone, foreign):
            await send(adapter, part(File(ref=ref, name="价格.pdf")))
        assert wecom.told("zhangsan") == ["[file 价格.pdf]"] * 3

    async def test_bytes_that_the_platform_does_not_take_for_what_they_say_are_said(
        self, adapter, host, wecom
    ):
        ref = host.media.put(b"GIF89a" + bytes(9), content_type="image/png")
        call = send(adapter, part(Image(ref=ref)))
        assert await error_class(call) == "content_invalid"
        assert wecom.seen == []

    async def test_a_store_that_is_away_is_waited_for(self, adapter, host):
        ref = host.media.put(PNG)
        host.media.away = 1
        assert await error_class(send(adapter, part(Image(ref=ref)))) == "server_busy"

    async def test_an_upload_without_an_answer_sent_nothing(self, adapter, host, wecom):
        await adapter.probe()
        wecom.faults.answer_500 = 1
        ref = host.media.put(PNG)
        assert await error_class(send(adapter, part(Image(ref=ref)))) == "server_busy"
        assert wecom.seen == []

    async def test_only_so_many_uploads_are_remembered(self, adapter, host, wecom, monkeypatch):
        monkeypatch.setattr(uploads, "MAX_KEPT", 1)
        first, second = host.media.put(PNG), host.media.put(PNG + b"2")
        for ref in (first, second, first):
            await send(adapter, part(Image(ref=ref)))
        assert wecom.calls["media/upload"] == 3


class TestControl:
    async def test_the_platform_is_told_over_http_what_to_do(self, wecom, host, adapter):
        async def tell(order):
            return await host.http.post(f"{wecom.url}/control", json=order)

        await send(adapter, part(Text(text="您好")))
        assert (await tell({"faults": {"rate_limit": 2}})).status_code == 200
        assert wecom.faults.rate_limit == 2
        state: httpx2.Response = await host.http.get(f"{wecom.url}/control")
        assert [seen["payload"] for seen in state.json()["seen"]] == [{"content": "您好"}]
