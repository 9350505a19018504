import asyncio

import pytest

from adapters import arrivals
from adapters.base import NotAccepted, Outgoing, SendFailed, SendUnknown
from adapters.model import ConversationKey, File, Image, Ref, Reply, Text, Voice
from adapters.platform import Cut
from adapters.simulators.platform import Line
from adapters.wecom_aibot import codec, passive
from adapters.wecom_aibot.adapter import Adapter
from adapters.wecom_aibot.messages import MEDIA
from adapters.wecom_aibot.streams import BELOW, LIFE_S, MAX_OPEN
from tests.adapters.sending import send

PNG = b"\x89PNG" + bytes(100)


def answer(message, *segments, **handle):
    return Outgoing(
        idempotency_key="key-1",
        conversation=message.conversation,
        reply_handle=message.reply_handle | handle,
        segments=list(segments),
    )


@pytest.fixture
def ask(asking, front, host):
    """A question, and the message that it became."""

    async def ask(text="几点开门？", **more):
        known = len(host.reported)
        assert await asking.bring(Line(user="zhangsan", text=text, **more))
        return host.reported[known]

    return ask


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(passive, "ASKED_WITHIN_S", 0.2)


async def told(asking, count=1) -> list[str]:
    """What was shown once that many messages have their ends, in the order of their places."""
    await asking.until_shown(count, patience_s=20)
    return [each.text for each in asking.shown()]


async def error_class(call) -> str:
    with pytest.raises(SendFailed) as failed:
        await call
    return failed.value.error_class


class TestQuestion:
    async def test_is_heard_and_shows_at_once_that_it_was(self, ask, asking):
        message = await ask()
        assert message.segments == [Text(text="几点开门？")]
        [bubble] = asking.bubbles
        assert (bubble.text, bubble.ended, bubble.user) == ("…", False, "zhangsan")

    async def test_a_group_a_quote_and_a_voice(self, ask, asking, front):
        first = await ask(chat="wr1")
        assert (first.conversation.type, first.segments) == (
            "group",
            [Text(text="@Bot 几点开门？")],
        )
        await send(front.adapter, answer(first, Text(text="九点")))
        await told(asking)
        [shown] = asking.shown(chat="wr1")
        quoting = await ask("真的？", quotes=shown.id, chat="wr1")
        assert quoting.segments[0] == Reply(quoted=[Text(text="九点")])
        assert (await ask("在吗", voice=b"#!AMR")).segments == [Voice(transcript="在吗")]

    async def test_a_repeat_is_the_same_message_and_the_same_stream(self, ask, asking, host):
        asking.faults.drop_callbacks = 1
        await ask(id="m1")
        assert [message.dedupe_key for message in host.reported] == ["m1", "m1"]
        assert len(asking.bubbles) == 1
        assert asking.tries == [2]

    async def test_the_check_of_the_address(self, asking, front):
        assert await asking.check_address()
        front.adapter = None
        assert await asking.check_address()

    async def test_another_bots_question_is_refused(self, asking, front, host):
        body = asking._body(Line(user="u", text="x")) | {"aibotid": "aib-other"}
        assert not await asking.deliver(body)
        assert host.reported == []

    async def test_somebody_who_comes_is_greeted(self, asking, host, front):
        changed = front.settings.model_copy(update={"greeting": "您好"})
        front.adapter = Adapter(changed, host)
        assert await asking.enter("zhangsan")
        assert [(each.type, each.text) for each in asking.shown()] == [("text", "您好")]
        assert host.reported == []

    async def test_who_is_not_heard_sees_and_costs_nothing(self, asking, host, front):
        changed = front.settings.model_copy(update={"greeting": "您好"})
        front.adapter = Adapter(changed, host)
        host.blocked.add("zhangsan")
        assert await asking.enter("zhangsan")
        assert await asking.bring(Line(user="zhangsan", picture=PNG))
        assert (asking.shown(), host.reported) == ([], [])
        assert (asking.calls["media"], asking.calls["poll"]) == (0, 0)

    async def test_who_was_kept_waiting_while_we_were_away_waits_no_longer(
        self, asking, host, front
    ):
        adapter, front.adapter = front.adapter, None
        assert await asking.bring(Line(user="zhangsan", text="几点开门？"))
        host.blocked.add("zhangsan")
        front.adapter = adapter
        await front.pass_on()
        assert await told(asking) == [front.settings.waiting_text]
        assert host.reported == []


class TestMedia:
    async def test_are_opened_and_keep_their_names(self, ask, host):
        message = await ask("", file=PNG, name="价格.pdf")
        [file] = message.segments
        assert (file.ref.via, file.name) == ("media", "价格.pdf")
        assert host.media.kept[file.ref.id].body == PNG

    async def test_words_and_a_picture_in_one(self, ask, host):
        [words, picture] = (await ask("看", picture=PNG)).segments
        assert words == Text(text="看")
        assert host.media.kept[picture.ref.id].body == PNG

    async def test_what_takes_long_is_kept_meanwhile_and_the_person_sees_it(
        self, asking, front, host
    ):
        front.adapter._way._arrivals._wait_s = 0.01
        host.media.open.clear()
        assert await asking.bring(Line(user="zhangsan", picture=PNG))
        assert host.reported == []
        assert [bubble.text for bubble in asking.bubbles] == ["…"]
        with pytest.raises(NotAccepted):
            await front.pass_on()
        host.media.open.set()
        front.adapter._way._arrivals._wait_s = 20
        await front.pass_on()
        [message] = host.reported
        await send(front.adapter, answer(message, Text(text="好")))
        assert await told(asking) == ["好"]

    async def test_what_cannot_be_had_keeps_its_address_and_no_key(
        self, ask, asking, monkeypatch, host
    ):
        monkeypatch.setattr(arrivals, "GIVE_UP_S", 0)
        [picture] = (await ask("", picture=PNG)).segments
        assert picture.ref.via == MEDIA
        assert picture.ref.more == {}

    async def test_another_host_without_tls_is_not_asked(self, front):
        ref = Ref(via=MEDIA, id="http://127.0.0.1:1/x")
        with pytest.raises(Exception, match="not safe"):
            await anext(front.adapter._way._client.download(ref))


class TestAnswer:
    async def test_takes_the_place_of_what_was_shown(self, ask, asking, front):
        message = await ask()
        sent = await send(front.adapter, answer(message, Text(text="**九点**")))
        await told(asking)
        [shown] = asking.shown("zhangsan")
        assert (shown.text, shown.id) == ("**九点**", sent.platform_message_id)
        assert asking.calls["late_answer"] == 0

    async def test_an_answer_that_was_there_first_needs_no_poll(self, asking, front, host):
        replies = []

        async def report(messages, position=None):
            replies.append(
                asyncio.create_task(send(front.adapter, answer(messages[0], Text(text="九点"))))
            )
            await asyncio.sleep(0)

        host.report = report
        asking.faults.no_polls = True
        assert await asking.bring(Line(user="zhangsan", text="几点？"))
        await replies[0]
        assert await told(asking) == ["九点"]

    async def test_pictures_come_with_it(self, ask, asking, front, host):
        message = await ask()
        picture = Image(ref=host.media.put(PNG))
        gone = Image(ref=Ref(via="media", id="gone"), name="b.png")
        [part] = front.adapter.split([Text(text="看"), picture, gone])
        await send(front.adapter, answer(message, *part))
        await told(asking)
        [bubble] = asking.bubbles
        assert (bubble.text, bubble.pictures) == ("看\n[image b.png]", [PNG])

    async def test_pictures_that_an_answer_cannot_carry_are_said_in_words(
        self, ask, asking, front, host
    ):
        message = await ask()
        large = PNG + bytes(codec.MAX_IMAGES_BYTES // 2)
        first, second = (
            Image(ref=host.media.put(large + end), name=f"{end.decode()}.png")
            for end in (b"1", b"2")
        )
        [part] = front.adapter.split([first, second])
        await send(front.adapter, answer(message, *part))
        await told(asking)
        [bubble] = asking.bubbles
        assert (bubble.text, bubble.pictures) == ("[image 2.png]", [large + b"1"])

    async def test_a_file_is_said_in_words(self, ask, asking, front, host):
        message = await ask()
        [part] = front.adapter.split([File(ref=host.media.put(PNG), name="a.pdf")])
        await send(front.adapter, answer(message, *part))
        assert await told(asking) == ["[file a.pdf]"]

    async def test_a_second_answer_goes_to_the_address_and_a_third_nowhere(
        self, ask, asking, front
    ):
        message = await ask()
        for text in ("一", "二"):
            await send(front.adapter, answer(message, Text(text=text)))
        assert await told(asking, 2) == ["一", "二"]
        third = send(front.adapter, answer(message, Text(text="三")))
        assert await error_class(third) == "window_count_exceeded"

    async def test_when_nobody_polls_it_goes_to_the_address(self, ask, asking, front, impatient):
        asking.faults.no_polls = True
        message = await ask()
        await send(front.adapter, answer(message, Text(text="九点")))
        assert await told(asking) == ["九点"]
        assert asking.calls["late_answer"] == 1
        # A poll that comes after all finds nothing twice.
        asking.faults.no_polls = False
        assert sorted(await told(asking, 2)) == [BELOW, "九点"]

    async def test_a_late_answer_goes_to_the_address_at_once(self, ask, asking, front, steady):
        asking.faults.no_polls = True
        message = await ask()
        steady.ahead = LIFE_S
        await send(front.adapter, answer(message, Text(text="九点")))
        assert asking.calls["late_answer"] == 1
        asking.faults.no_polls = False
        await asking.until_shown(2, patience_s=20)

    async def test_a_question_without_an_answer_ends_in_good_order(self, ask, asking, steady):
        await ask()
        steady.ahead = LIFE_S
        assert await told(asking) == ["…"]

    async def test_one_answer_to_two_questions_ends_both(self, ask, asking, front):
        await ask("在吗")
        message = await ask("几点？")
        await send(front.adapter, answer(message, Text(text="九点")))
        await asking.until_shown(2, patience_s=20)
        assert [each.text for each in asking.bubbles] == [BELOW, "九点"]

    async def test_more_questions_than_the_platform_follows_wait_for_the_address(
        self, ask, asking, front
    ):
        for _ in range(MAX_OPEN):
            await ask()
        message = await ask()
        assert len(asking.bubbles) == MAX_OPEN
        await send(front.adapter, answer(message, Text(text="九点")))
        assert asking.calls["late_answer"] == 1

    async def test_after_a_restart_the_stream_that_is_polled_is_filled(
        self, ask, asking, front, host, steady
    ):
        message = await ask()
        front.adapter = Adapter(front.settings, host, clock=steady)
        await send(front.adapter, answer(message, Text(text="九点")))
        assert await told(asking) == ["九点"]
        assert asking.calls["late_answer"] == 0

    async def test_while_the_agent_is_away_the_person_goes_on_waiting(
        self, asking, front, host, steady
    ):
        front.adapter = None
        assert await asking.bring(Line(user="zhangsan", text="几点？"))
        polls = asking.calls["poll"]
        await asking.bring(Line(user="lisi", text="在吗？"))
        await asking.until(lambda: asking.calls["poll"] > polls + 2)
        assert [each.text for each in asking.bubbles] == ["…", "…"]
        assert len(front.kept) == 2
        front.adapter = Adapter(front.settings, host, clock=steady)
        await front.pass_on()
        await send(front.adapter, answer(host.reported[0], Text(text="九点")))
        assert await told(asking) == ["九点"]


class TestRefusals:
    async def test_nobody_is_spoken_to_first(self, front):
        part = Outgoing(
            idempotency_key="k",
            conversation=ConversationKey(type="direct", id="zhangsan"),
            reply_handle={},
            segments=[Text(text="x")],
        )
        assert await error_class(send(front.adapter, part)) == "window_expired"

    async def test_an_address_that_is_not_the_platforms_gets_nothing(self, ask, front, steady):
        message = await ask()
        steady.ahead = LIFE_S
        for url in ("http://127.0.0.1:1/x", f"{front.settings.base_url}.evil/x"):
            part = answer(message, Text(text="x"), response_url=url)
            assert await error_class(send(front.adapter, part)) == "reply_handle_invalid"
        part = answer(message, Text(text="x"), response_url="")
        assert await error_class(send(front.adapter, part)) == "window_expired"

    async def test_the_platforms_no_has_a_class(self, ask, asking, front, steady):
        message = await ask()
        steady.ahead = LIFE_S
        asking.limit(1)
        part = answer(message, Text(text="九点"))
        assert await error_class(send(front.adapter, part)) == "rate_limited"
        await send(front.adapter, part)
        front.adapter._way._streams.get(message.reply_handle["stream"]).spent = False
        assert await error_class(send(front.adapter, part)) == "reply_handle_invalid"

    async def test_a_late_answer_whose_end_is_unknown_is_not_sent_again(
        self, ask, front, steady, host, monkeypatch
    ):
        async def cut(*_):
            raise Cut

        message = await ask()
        steady.ahead = LIFE_S
        monkeypatch.setattr(front.adapter._way._client, "answer", cut)
        part = answer(message, Text(text="九点"))
        with pytest.raises(SendUnknown):
            await send(front.adapter, part)
        assert await error_class(send(front.adapter, part)) == "window_count_exceeded"

    async def test_a_store_that_is_away_is_waited_for(self, ask, front, host):
        message = await ask()
        picture = Image(ref=host.media.put(PNG))
        host.media.away = 1
        part = answer(message, picture)
        assert await error_class(send(front.adapter, part)) == "server_busy"


class TestLife:
    async def test_it_listens_and_says_so(self, front, host):
        assert not front.adapter.exclusive
        await front.adapter.probe()
        host.proven.clear()
        running = asyncio.create_task(front.adapter.run())
        await host.proven.wait()
        running.cancel()
        await asyncio.wait({running})
