import asyncio
import json

import pytest

from adapters import arrivals
from adapters.base import (
    ChannelDown,
    ChannelRefused,
    NotAccepted,
    Outgoing,
    SendFailed,
    SendUnknown,
)
from adapters.dingtalk import adapter as module
from adapters.dingtalk import outgoing
from adapters.model import (
    At,
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
from adapters.outbound import Door
from adapters.simulators.dingtalk_mouth import SESSION_LIFE_S, Mouth
from adapters.simulators.platform import Line
from instance_agent.client import platform_client
from tests.adapters.sending import send

PNG = b"\x89PNG" + bytes(100)
HELLO = Text(text="您好")


@pytest.fixture
def heard(dingtalk, adapter, host, clock):
    """Somebody has written, and this is what an answer to it is made of."""

    async def hear(line: Line, *segments):
        callback = adapter._settings.model_copy(update={"transport": "callback"})
        taker = module.Adapter(callback, host, clock=clock, now=clock)
        message = dingtalk.message(line)
        raw = signed(dingtalk, message, clock)
        assert (await taker.callback(raw, verified=False)).status == 200
        return part(host.reported[-1], *segments)

    return hear


def signed(dingtalk, message, clock) -> RawCallback:
    return RawCallback(
        method="POST",
        path="/",
        query="",
        headers=dingtalk.signature(),
        body=json.dumps(message).encode(),
        received_at=clock(),
    )


def part(message, *segments, **changes):
    given = {
        "idempotency_key": "key-1",
        "conversation": message.conversation,
        "reply_handle": message.reply_handle,
        "segments": list(segments),
    }
    return Outgoing(**given | changes)


async def error_class(call) -> str:
    with pytest.raises(SendFailed) as failed:
        await call
    return failed.value.error_class


class TestProbe:
    async def test_good_settings_pass(self, adapter, dingtalk):
        await adapter.probe()
        assert dingtalk.calls == {"accessToken": 1, "open": 1}

    async def test_a_wrong_secret_is_refused_without_showing_it(self, made, dingtalk):
        right, dingtalk.client_secret = dingtalk.client_secret, "another"
        with pytest.raises(ChannelRefused, match="Client ID and Secret") as refused:
            await made().probe()
        assert refused.value.path == "/client_secret"
        assert right not in f"{refused.value}{refused.value.__cause__}"

    async def test_an_address_that_is_not_trusted_is_told_in_plain_words(self, made, dingtalk):
        dingtalk.faults.refused_address = True
        with pytest.raises(ChannelRefused, match="服务器出口 IP"):
            await made().probe()

    async def test_a_platform_that_is_away_says_nothing_about_the_settings(self, made, dingtalk):
        await made(api_url="http://127.0.0.1:1").probe()
        dingtalk.faults.answer_500 = 9
        await made().probe()

    async def test_an_address_inside_our_network_is_the_settings_fault(self, host, made):
        door = Door()
        async with platform_client(door) as host.http:
            inside = made(api_url="https://10.0.0.1")
            for begin in (inside.probe(), inside.run()):
                with pytest.raises(ChannelRefused) as refused:
                    await begin
                assert refused.value.path == "/api_url"
        door.close()


class TestRunWithCallbacks:
    async def test_each_look_is_proof_of_life(self, made, host, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        running = asyncio.create_task(made(transport="callback").run())
        for _ in range(3):
            host.proven.clear()
            await host.proven.wait()
        running.cancel()
        await asyncio.wait({running})

    async def test_three_misses_in_a_row_are_an_outage(self, made, dingtalk, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        dingtalk.faults.answer_500 = 3
        with pytest.raises(ChannelDown, match="cannot be reached"):
            await made(transport="callback").run()
        assert dingtalk.faults.answer_500 == 0

    async def test_a_secret_that_has_changed_is_named(self, made, dingtalk):
        dingtalk.client_secret = "another"
        with pytest.raises(ChannelRefused):
            await made(transport="callback").run()


class TestCallback:
    @pytest.fixture
    def taker(self, made):
        return made(transport="callback")

    async def test_what_was_said_is_reported_before_the_platform_is_answered(
        self, taker, dingtalk, host, clock
    ):
        raw = signed(dingtalk, dingtalk.message(Line(user="zhangsan", text="你好")), clock)
        assert (await taker.callback(raw, verified=False)).status == 200
        assert [each.segments for each in host.reported] == [[Text(text="你好")]]
        host.accepts = False
        with pytest.raises(NotAccepted):
            await taker.callback(raw, verified=False)

    async def test_only_the_age_is_taken_on_trust(self, taker, dingtalk, host, clock):
        raw = signed(dingtalk, dingtalk.message(Line(user="zhangsan", text="你好")), clock)
        clock.time += 2 * 3600
        late = RawCallback(
            method="POST",
            path="/",
            query="",
            headers=raw.headers,
            body=raw.body,
            received_at=clock(),
        )
        assert (await taker.callback(late, verified=False)).status == 401
        assert (await taker.callback(late, verified=True)).status == 200
        forged = {"timestamp": raw.headers["timestamp"], "sign": "no"}
        wrong = RawCallback(
            method="POST", path="/", query="", headers=forged, body=raw.body, received_at=clock()
        )
        assert (await taker.callback(wrong, verified=True)).status == 401
        assert len(host.reported) == 1

    async def test_what_is_no_message_is_a_bad_request(self, taker, dingtalk, host, clock):
        raw = signed(dingtalk, {"msgId": 1}, clock)
        assert (await taker.callback(raw, verified=False)).status == 400
        own = dingtalk.message(Line(user="zhangsan", text="x")) | {"senderId": "b"}
        raw = signed(dingtalk, own | {"chatbotUserId": "b"}, clock)
        assert (await taker.callback(raw, verified=False)).status == 200
        assert host.reported == []

    async def test_media_are_ours_before_the_message_is(self, taker, dingtalk, host, clock):
        line = Line(user="zhangsan", picture=PNG)
        await taker.callback(signed(dingtalk, dingtalk.message(line), clock), verified=False)
        [picture] = host.reported[0].segments
        assert host.media.kept[picture.ref.id].body == PNG

    async def test_nothing_is_fetched_for_who_is_not_heard(self, taker, dingtalk, host, clock):
        line = Line(user="zhangsan", picture=PNG)
        raw = signed(dingtalk, dingtalk.message(line), clock)
        await taker.callback(raw, verified=False)
        host.blocked.add(host.reported[0].sender.id)
        again = signed(dingtalk, dingtalk.message(line), clock)
        assert (await taker.callback(again, verified=False)).status == 200
        assert (len(host.reported), dingtalk.calls["media"]) == (1, 1)


class TestReplies:
    async def test_go_to_the_address_that_came_with_the_message(self, heard, adapter, dingtalk):
        sent = await send(adapter, await heard(Line(user="zhangsan", text="hi"), HELLO))
        assert sent.platform_message_id == ""
        assert [(each.user, each.text, each.type) for each in dingtalk.shown()] == [
            ("zhangsan", "您好", "text")
        ]
        assert dingtalk.calls["sendBySession"] == 1

    async def test_mention_people_in_groups(self, heard, adapter, dingtalk):
        line = Line(user="zhangsan", chat="g1", text="hi")
        await send(adapter, await heard(line, At(target="lisi"), HELLO))
        [shown] = dingtalk.shown(chat="g1")
        assert shown.text == "@lisi 您好"
        assert dingtalk.screen.details[0]["at"] == {"atUserIds": ["lisi"], "isAtAll": False}

    async def test_go_by_the_api_once_that_address_has_ended(self, heard, adapter, dingtalk, clock):
        answers = [
            await heard(Line(user="zhangsan", text="hi"), HELLO),
            await heard(Line(user="zhangsan", chat="g1", text="hi"), HELLO),
        ]
        clock.time += SESSION_LIFE_S
        for answer in answers:
            assert (await send(adapter, answer)).platform_message_id
        assert [(each.user, each.chat) for each in dingtalk.shown()] == [
            ("zhangsan", ""),
            ("", "g1"),
        ]
        assert dingtalk.calls["sendBySession"] == 0

    async def test_go_by_the_api_when_it_has_ended_before_its_time(self, heard, adapter, dingtalk):
        answer = await heard(Line(user="zhangsan", text="hi"), HELLO)
        dingtalk.screen.sessions.clear()
        await send(adapter, answer)
        assert [each.type for each in dingtalk.shown("zhangsan")] == ["sampleText"]

    async def test_to_a_guest_end_with_that_address(self, heard, adapter, dingtalk, clock):
        dingtalk.mouth.guests.add("guest")
        answer = await heard(Line(user="guest", text="hi"), HELLO)
        await send(adapter, answer)
        dingtalk.screen.sessions.clear()
        assert await error_class(send(adapter, answer)) == "window_expired"
        clock.time += SESSION_LIFE_S
        assert await error_class(send(adapter, answer)) == "window_expired"
        assert len(dingtalk.shown()) == 1

    @pytest.mark.parametrize(
        "address",
        [
            "https://evil.example/robot/sendBySession?session=s",
            "http://127.0.0.1:1/robot/sendBySession?session=s",
            "{own}/v1.0/oauth2/accessToken",
            "file:///etc/passwd",
            "http://[",
        ],
    )
    async def test_never_leave_for_another_host(self, heard, adapter, dingtalk, address):
        answer = await heard(Line(user="zhangsan", text="hi"), HELLO)
        answer.reply_handle["session_webhook"] = address.replace("{own}", dingtalk.url)
        await send(adapter, answer)
        assert [each.type for each in dingtalk.shown()] == ["sampleText"]

    async def test_without_any_way_are_refused(self, adapter):
        nowhere = Outgoing(
            idempotency_key="k",
            conversation=ConversationKey(type="direct", id="cid"),
            reply_handle={"session_webhook": "x", "expires_at": "soon"},
            segments=[HELLO],
        )
        assert await error_class(send(adapter, nowhere)) == "window_expired"
        channel = ConversationKey(type="channel", id="c")
        other = Outgoing(
            idempotency_key="k", conversation=channel, reply_handle={}, segments=[HELLO]
        )
        assert await error_class(send(adapter, other)) == "recipient_invalid"


class TestSends:
    @pytest.fixture
    async def answer(self, heard, clock):
        """To somebody whose address for replies has ended."""
        given = await heard(Line(user="zhangsan", text="hi"), HELLO)
        clock.time += SESSION_LIFE_S

        def answer(*segments):
            return Outgoing(
                idempotency_key="k",
                conversation=given.conversation,
                reply_handle=given.reply_handle,
                segments=list(segments),
            )

        return answer

    async def test_all_that_needs_no_upload(self, adapter, answer, dingtalk):
        data = {"title": "t", "text": "x", "singleTitle": "s", "singleURL": "u"}
        card = {"msgKey": "sampleActionCard", "msgParam": data}
        for segment in (
            Markdown(text="**价格**"),
            Link(url="https://a.example", title="价格"),
            Card(format=outgoing.CARD, data=json.dumps(card)),
        ):
            await send(adapter, answer(segment))
        assert [each.type for each in dingtalk.shown()] == [
            "sampleMarkdown",
            "sampleLink",
            "sampleActionCard",
        ]

    async def test_media_are_uploaded_once(self, adapter, answer, host, dingtalk):
        picture = host.media.put(PNG)
        voice = host.media.put(b"#!AMR" + bytes(9), content_type="audio/amr")
        film = host.media.put(b"mp4", content_type="video/mp4")
        for segment in (
            Image(ref=picture),
            Image(ref=picture),
            Voice(ref=voice, duration_ms=900),
            Video(ref=film, duration_ms=1900, thumb=picture),
            Video(ref=film),
            File(ref=film, name="价格.PDF"),
        ):
            await send(adapter, answer(segment))
        assert [each.type for each in dingtalk.shown()] == [
            "sampleImageMsg",
            "sampleImageMsg",
            "sampleAudio",
            "sampleVideo",
            "sampleFile",
            "sampleFile",
        ]
        assert [medium.kind for medium in dingtalk.screen.media.values()] == [
            "image",
            "voice",
            "video",
            "file",
        ]
        assert dingtalk.screen.details[-1]["fileName"] == "价格.PDF"
        assert dingtalk.screen.details[-1]["fileType"] == "pdf"

    async def test_what_the_platform_forgot_or_never_had_is_said(
        self, adapter, answer, host, dingtalk
    ):
        picture = host.media.put(PNG)
        attempt = await adapter.prepare(answer(Image(ref=picture, name="玫瑰.png")))
        dingtalk.screen.media.clear()
        await attempt()
        for ref in (Ref(via="media", id="gone"), Ref(via="qq.url", id="x"), host.media.put(b"")):
            await send(adapter, answer(File(ref=ref, name="价格.pdf")))
        assert [each.text for each in dingtalk.shown()] == ["[image 玫瑰.png]"] + [
            "[file 价格.pdf]"
        ] * 3

    async def test_a_guest_gets_pictures_and_words_for_the_rest(
        self, heard, adapter, host, dingtalk
    ):
        dingtalk.mouth.guests.add("guest")
        answer = await heard(Line(user="guest", text="hi"), Image(ref=host.media.put(PNG)))
        await send(adapter, answer)
        [media_id] = dingtalk.screen.media
        assert dingtalk.shown()[0].text == f"![image]({media_id})"
        answer.segments[:] = [File(ref=host.media.put(b"x"), name="a.pdf")]
        await send(adapter, answer)
        card = {"msgKey": "sampleActionCard", "msgParam": {}}
        answer.segments[:] = [Card(format=outgoing.CARD, data=json.dumps(card), text="看")]
        await send(adapter, answer)
        assert [each.text for each in dingtalk.shown()[1:]] == ["[file a.pdf]", "看"]

    async def test_a_token_that_ended_early_costs_nothing(self, adapter, answer, dingtalk):
        await send(adapter, answer(HELLO))
        dingtalk.expire_tokens()
        await send(adapter, answer(HELLO))
        assert len(dingtalk.shown()) == 2
        assert dingtalk.calls["accessToken"] == 2

    async def test_too_often_is_said_by_both_ways(self, adapter, answer, heard, dingtalk):
        dingtalk.limit(1)
        assert await error_class(send(adapter, answer(HELLO))) == "rate_limited"
        dingtalk.limit(1)
        fresh = await heard(Line(user="zhangsan", text="hi"), HELLO)
        assert await error_class(send(adapter, fresh)) == "rate_limited"
        assert dingtalk.shown() == []

    async def test_an_answer_that_was_cut_has_no_known_end(self, adapter, answer, heard, dingtalk):
        await adapter.probe()
        dingtalk.faults.drop_reply = 1
        with pytest.raises(SendUnknown):
            await send(adapter, answer(HELLO))
        fresh = await heard(Line(user="zhangsan", text="hi"), HELLO)
        attempt = await adapter.prepare(fresh)
        dingtalk.faults.answer_500 = 1
        with pytest.raises(SendUnknown):
            await attempt()
        assert len(dingtalk.shown()) == 1

    async def test_who_has_left_the_company_is_not_reached(self, adapter, answer, dingtalk):
        dingtalk.screen.members.clear()
        assert await error_class(send(adapter, answer(HELLO))) == "recipient_invalid"

    async def test_a_missing_permission_is_told_in_plain_words(self, adapter, answer, dingtalk):
        dingtalk.faults.forbidden = True
        with pytest.raises(SendFailed, match="权限管理") as failed:
            await send(adapter, answer(HELLO))
        assert failed.value.error_class == "no_permission"

    async def test_a_wrong_robot_code_is_named(self, made, answer):
        other = made(robot_code="other")
        with pytest.raises(SendFailed, match="RobotCode"):
            await send(other, answer(HELLO))

    async def test_a_store_that_is_away_is_waited_for(self, adapter, answer, host):
        ref = host.media.put(PNG)
        host.media.away = 1
        assert await error_class(send(adapter, answer(Image(ref=ref)))) == "server_busy"

    async def test_no_refusal_shows_a_secret(self, adapter, answer, heard, dingtalk):
        await adapter.probe()
        said = ""
        for fault in ("rate_limit", "forbidden"):
            setattr(dingtalk.faults, fault, 1)
            with pytest.raises(SendFailed) as failed:
                await send(adapter, answer(HELLO))
            said += repr((failed.value, str(failed.value), failed.value.__cause__))
        assert dingtalk.client_secret not in said
        assert adapter._client._token._value not in said


class TestArrivals:
    async def test_what_cannot_be_had_keeps_the_platforms_reference(
        self, heard, dingtalk, host, monkeypatch
    ):
        monkeypatch.setattr(arrivals, "RETRY_S", 0)
        dingtalk.faults.rate_limit = 1
        await heard(Line(user="zhangsan", file=PNG, name="a.pdf"))
        assert host.reported[0].segments[0].ref.via == "media"
        monkeypatch.setattr(Mouth, "_code", lambda *_: "forgotten")
        await heard(Line(user="zhangsan", file=PNG, name="a.pdf"))
        assert host.reported[1].segments[0].ref == Ref(via="dingtalk.downloadCode", id="forgotten")
