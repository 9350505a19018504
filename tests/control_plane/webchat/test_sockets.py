"""Visitors' pages on real sockets."""

import asyncio
import json

import asyncpg
import pytest

from adapters.model import Text
from control_plane.bus.hints import Wake
from control_plane.channels import callbacks
from control_plane.conversations.segments import encode
from control_plane.webchat import sockets, store
from control_plane.webchat.frames import MAX_FRAME_BYTES, MAX_TEXT
from control_plane.webchat.store import Place
from tests.control_plane.conversations.scene import Bot, make_bot, until, until_blocked
from tests.control_plane.delivery.stand_in import StandIn
from tests.control_plane.webchat.conftest import GREETING, TITLE, Open, Platform, words

# Returns when they are gone, so that nobody gets one that is about to die.
KILL = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'botyard'
"""
MESSAGES = "SELECT count(*) FROM webchat_messages"


async def fill(bot: Bot, count: int) -> list[str]:
    """Show the one visitor that many messages at once; their texts."""
    place = Place(tenant_id=bot.tenant_id, instance_id=bot.instance_id, channel_id=bot.channel_id)
    texts = [f"第{number}条" for number in range(count)]
    async with bot.session() as session:
        connection = await (await session.connection()).get_raw_connection()
        visitor = await connection.driver_connection.fetchval("SELECT id FROM webchat_visitors")
        for text in texts:
            await store.add(
                session,
                place,
                visitor,
                key=store.to_visitor(text),
                sender=("bot", "小花"),
                segments=encode([Text(text=text)]),
                now=bot.parts.house.clock.now(),
            )
    return texts


class TestWelcome:
    async def test_gives_a_new_visitor_a_secret_and_the_shop_window(self, page: Open) -> None:
        async with page() as tab:
            welcome = await tab.resume()

        assert len(welcome.pop("visitor")) == 43
        assert welcome == {
            "type": "welcome",
            "messages": [],
            "reset": True,
            "title": TITLE,
            "greeting": GREETING,
            "accent": None,
        }

    async def test_is_another_for_every_visitor(self, page: Open) -> None:
        async with page() as one, page() as other:
            await one.resume()
            await other.resume()

        assert one.secret != other.secret

    async def test_comes_before_the_answer_to_a_page_that_writes_at_once(
        self, page: Open, agent: StandIn
    ) -> None:
        async with page() as tab:
            await tab.send({"type": "message", "id": "1", "text": "你好"})
            kinds = [(await tab.next())["type"] for _ in range(2)]

        assert kinds == ["welcome", "ack"]

    async def test_says_nothing_about_the_secret_of_a_visitor_who_never_wrote(
        self, page: Open, superuser: asyncpg.Connection
    ) -> None:
        async with page() as tab:
            welcome = await tab.resume("x" * 43)

        assert (welcome["visitor"], welcome["messages"]) == ("x" * 43, [])
        assert await superuser.fetchval("SELECT count(*) FROM webchat_visitors") == 0


class TestWrite:
    async def test_goes_up_signed_and_is_acknowledged(
        self, page: Open, agent: StandIn, visitor_id
    ) -> None:
        async with page() as tab:
            await tab.resume()
            ack = await tab.write("m-1", "几点开门")

        assert (ack["type"], ack["id"]) == ("ack", "m-1")
        [body] = map(json.loads, agent.callbacks)
        assert (body["id"], body["text"]) == ("m-1", "几点开门")
        assert body["visitor"] == {"id": str(await visitor_id())}

    async def test_repeated_is_one_message_and_acknowledged_each_time(
        self, page: Open, agent: StandIn, superuser: asyncpg.Connection
    ) -> None:
        async with page() as tab:
            await tab.resume()
            acks = [await tab.write("m-1") for _ in range(3)]
        async with page() as tab_again:
            await tab_again.resume(tab.secret)
            acks.append(await tab_again.write("m-1"))

        assert acks == [acks[0]] * 4
        assert acks[0]["type"] == "ack"
        assert await superuser.fetchval(MESSAGES) == 1
        assert len({json.loads(body)["id"] for body in agent.callbacks}) == 1

    async def test_is_not_echoed_to_the_page_that_wrote_it(
        self, page: Open, agent: StandIn, platform: Platform, visitor_id
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.send({"type": "message", "id": "m-1", "text": "问"})
            ack = await tab.next()
            await platform.post(await visitor_id(), "1", "答")
            answer = await tab.next()

        assert (ack["type"], words(answer)) == ("ack", "答")

    async def test_while_the_agent_is_away_is_kept_and_acknowledged(
        self, page: Open, superuser: asyncpg.Connection
    ) -> None:
        async with page() as tab:
            await tab.resume()
            acks = [await tab.write(f"m-{number}") for number in range(2)]

        assert [ack["type"] for ack in acks] == ["ack", "ack"]
        kept = await superuser.fetch("SELECT body FROM callbacks ORDER BY id")
        assert [json.loads(row["body"])["id"] for row in kept] == ["m-0", "m-1"]

    async def test_of_a_nul_character_keeps_the_rest(
        self, page: Open, agent: StandIn, superuser: asyncpg.Connection
    ) -> None:
        async with page() as tab:
            await tab.resume()
            ack = await tab.write("m-1", "a\0b")

        assert ack["type"] == "ack"
        assert json.loads(agent.callbacks[0])["text"] == "a\ufffdb"
        kept = await superuser.fetchval("SELECT segments->0->>'text' FROM webchat_messages")
        assert kept == "a\ufffdb"

    async def test_that_the_adapter_refuses_is_not_acknowledged_and_the_socket_lives(
        self, page: Open, agent: StandIn
    ) -> None:
        agent.callback_status = 400
        async with page() as tab:
            await tab.resume()
            refused = await tab.write("m-1")
            agent.callback_status = 200
            taken = await tab.write("m-2")

        assert (refused["type"], refused["id"], refused["code"]) == ("error", "m-1", "refused")
        assert (taken["type"], taken["id"]) == ("ack", "m-2")

    async def test_that_cannot_be_kept_closes_the_socket_without_an_acknowledgement(
        self, page: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callbacks, "MAX_WAITING", 0)
        async with page() as tab:
            await tab.resume()
            await tab.send({"type": "message", "id": "m-1", "text": "你好"})

            assert await tab.end() == 1013


class TestResume:
    async def test_by_the_last_id_gives_what_was_missed_exactly_once(
        self, page: Open, agent: StandIn, platform: Platform, visitor_id
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.write("m-1", "问")
            visitor = await visitor_id()
            await platform.post(visitor, "1", "答一")
            last = await tab.next("message")
        for key in ("2", "3"):
            await platform.post(visitor, key, f"答{key}")
        async with page() as tab_again:
            welcome = await tab_again.resume(tab.secret, last["id"])
            await platform.post(visitor, "4", "答4")
            later = await tab_again.hears(1)

        assert words(last) == "答一"
        assert welcome["reset"] is False
        assert [words(message) for message in welcome["messages"]] == ["答2", "答3"]
        assert later == ["答4"]

    async def test_shows_own_and_others_messages_as_such(
        self, page: Open, agent: StandIn, platform: Platform, visitor_id
    ) -> None:
        async with page() as tab:
            await tab.resume()
            ack = await tab.write("m-1", "问")
            await platform.post(await visitor_id(), "1", "答")
            await tab.next("message")
        async with page() as tab_again:
            own, answer = (await tab_again.resume(tab.secret))["messages"]

        assert (own["id"], own["client_id"]) == (ack["message_id"], "m-1")
        assert (own["sender"]["kind"], words(own)) == ("visitor", "问")
        assert answer["client_id"] is None
        assert answer["sender"] == {"kind": "bot", "name": "小花"}

    async def test_from_far_behind_gives_everything_in_order_without_waiting_for_more(
        self, page: Open, agent: StandIn, bot: Bot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def hints_only(wake: Wake, _timeout_s: float = 0) -> bool:
            await wake._event.wait()
            wake._event.clear()
            return True

        monkeypatch.setattr(Wake, "wait", hints_only)
        async with page() as tab:
            await tab.resume()
            first = await tab.write("m-1")
        texts = await fill(bot, store.PAGE * 2 + 30)
        async with page() as tab_again:
            welcome = await tab_again.resume(tab.secret, first["message_id"])
            shown = [words(message) for message in welcome["messages"]]
            shown += await tab_again.hears(len(texts) - len(shown))

        assert shown == texts

    @pytest.mark.parametrize("last_id", [None, "0190a0a0-0000-7000-8000-000000000000"])
    async def test_from_nowhere_starts_over_with_the_most_recent(
        self, page: Open, agent: StandIn, bot: Bot, last_id: str | None
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.write("m-1")
        texts = await fill(bot, store.RECENT + 10)
        async with page() as tab_again:
            welcome = await tab_again.resume(tab.secret, last_id)

        assert welcome["reset"] is True
        assert [words(message) for message in welcome["messages"]] == texts[-store.RECENT :]

    async def test_by_another_visitors_message_shows_nothing_of_theirs(
        self, page: Open, agent: StandIn
    ) -> None:
        async with page() as one, page() as other:
            await one.resume()
            foreign = await one.write("m-1", "秘密")
            await other.resume()
            await other.write("m-2", "我的")
        async with page() as tab:
            welcome = await tab.resume(other.secret, foreign["message_id"])

        assert welcome["reset"] is True
        assert [words(message) for message in welcome["messages"]] == ["我的"]

    async def test_a_second_time_on_one_socket_is_an_error(
        self, page: Open, agent: StandIn
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.send({"type": "resume"})

            assert (await tab.next())["code"] == "resume_twice"
            assert (await tab.write("m-1"))["type"] == "ack"


class TestTwoTabs:
    async def test_of_one_visitor_show_the_same_conversation(
        self, page: Open, agent: StandIn, platform: Platform, visitor_id
    ) -> None:
        async with page() as one, page() as other:
            await one.resume()
            await one.write("m-1", "一")
            await other.resume(one.secret)
            await other.write("m-2", "二")
            seen = await one.next("message")
            await platform.post(await visitor_id(), "1", "答")

            assert (words(seen), seen["client_id"]) == ("二", "m-2")
            assert await one.hears(1) == await other.hears(1) == ["答"]

    async def test_opened_before_the_first_word_show_the_same_conversation(
        self, page: Open, agent: StandIn, platform: Platform, visitor_id
    ) -> None:
        async with page() as one, page() as other:
            await one.resume()
            await other.resume(one.secret)
            await one.write("m-1", "一")

            assert await other.hears(1) == ["一"]

    async def test_of_two_visitors_show_each_their_own(
        self, page: Open, agent: StandIn, platform: Platform, superuser: asyncpg.Connection
    ) -> None:
        async with page() as one, page() as other:
            for tab in (one, other):
                await tab.resume()
                await tab.write("same-id", "你好")
            visitors = [
                row["id"]
                for row in await superuser.fetch("SELECT id FROM webchat_visitors ORDER BY id")
            ]
            for visitor, text in zip(visitors, ("给一", "给二"), strict=True):
                await platform.post(visitor, "same-key", text)

            assert await one.hears(1) == ["给一"]
            assert await other.hears(1) == ["给二"]


class TestState:
    async def test_tells_the_page_who_answers(
        self, page: Open, agent: StandIn, bot: Bot, visitor_id
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.write("m-1")
            conversation = await bot.hears("你好", key=str(await visitor_id()))
            owners = [(await tab.next("state"))["owner"]]
            for action in ("take-over", "hand-back", "close"):
                await bot.owner.post(f"/conversations/{conversation}/{action}")
                owners.append((await tab.next("state"))["owner"])

        assert owners == ["bot", "human", "bot", "closed"]

    async def test_is_told_to_a_page_that_comes_back(
        self, page: Open, agent: StandIn, bot: Bot, visitor_id
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.write("m-1")
        conversation = await bot.hears("你好", key=str(await visitor_id()))
        await bot.owner.post(f"/conversations/{conversation}/take-over")
        async with page() as tab_again:
            await tab_again.resume(tab.secret)

            assert await tab_again.next("state") == {"type": "state", "owner": "human"}


class TestBadFrame:
    @pytest.mark.parametrize(
        ("frame", "code", "about"),
        [
            ("nonsense", "malformed_frame", None),
            (b"\xff\x00", "malformed_frame", None),
            ({"type": "shout"}, "malformed_frame", None),
            ({"type": "message", "id": "a\0b", "text": "x"}, "invalid_id", None),
            ({"type": "message", "id": "m-0", "text": "  "}, "empty_message", "m-0"),
            (
                {"type": "message", "id": "m-0", "text": "x" * (MAX_TEXT + 1)},
                "message_too_long",
                "m-0",
            ),
        ],
    )
    async def test_is_answered_and_the_socket_lives(
        self, page: Open, agent: StandIn, frame, code: str, about: str | None
    ) -> None:
        async with page() as tab:
            await tab.send(frame)
            early = await tab.next()
            await tab.resume()
            await tab.send(frame)
            late = await tab.next()

            assert early == late
            assert (late["type"], late["code"], late.get("id")) == ("error", code, about)
            assert (await tab.write("m-1"))["type"] == "ack"

    async def test_of_absurd_size_ends_the_socket(self, page: Open) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.send("x" * (MAX_FRAME_BYTES + 1))

            assert await tab.end() == 1009


class TestChannel:
    async def test_that_nobody_has_is_refused(self, page: Open) -> None:
        async with page("no-such-token") as tab:
            assert await tab.end() == 4404

    async def test_that_was_deleted_is_refused(self, page: Open, bot: Bot) -> None:
        await bot.owner.delete(f"/channels/{bot.channel_id}")

        async with page() as tab:
            assert await tab.end() == 4404

    async def test_that_is_deleted_under_a_page_ends_it(
        self, page: Open, agent: StandIn, bot: Bot
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await bot.owner.delete(f"/channels/{bot.channel_id}")
            assert await tab.end() == 4410
        async with page() as tab_again:
            assert await tab_again.end() == 4404
        assert agent.callbacks == []

    async def test_whose_tenant_is_deleted_ends_and_is_refused(
        self, page: Open, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        async with page() as tab, page() as other:
            await tab.resume()
            await other.resume()
            await bot.owner.delete(f"/tenants/{bot.tenant_id}")
            assert [await tab.end(), await other.end()] == [4410, 4410]
        assert await superuser.fetchval("SELECT state FROM tenants") == "deleting"
        async with page() as tab_again:
            assert await tab_again.end() == 4404

    async def test_whose_tenant_is_suspended_stays_keeps_messages_and_says_so(
        self, page: Open, bot: Bot, people, superuser: asyncpg.Connection
    ) -> None:
        operator = await people.operator()
        async with page() as tab:
            await tab.resume()
            await operator.post(f"/tenants/{bot.tenant_id}/suspend")
            assert await tab.next("service") == {"type": "service", "paused": True}
            assert (await tab.write("m-1", "还在吗？"))["type"] == "ack"
            await operator.post(f"/tenants/{bot.tenant_id}/resume")
            assert await tab.next("service") == {"type": "service", "paused": False}
        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 1

    async def test_of_a_suspended_tenant_says_so_to_who_comes_later(
        self, page: Open, bot: Bot, people
    ) -> None:
        operator = await people.operator()
        await operator.post(f"/tenants/{bot.tenant_id}/suspend")
        async with page() as tab:
            await tab.resume()
            assert await tab.next("service") == {"type": "service", "paused": True}

    async def test_of_another_tenant_is_left_alone(
        self, page: Open, parts, people, bot: Bot
    ) -> None:
        other = await make_bot(parts, await people.owner())
        async with page(other.token) as theirs, page() as tab:
            await theirs.resume()
            await tab.resume()
            await bot.owner.delete(f"/tenants/{bot.tenant_id}")
            assert await tab.end() == 4410
            assert (await theirs.write("m-1"))["type"] == "ack"


class TestDatabase:
    async def test_that_goes_away_in_the_middle_costs_a_reconnect_and_no_message(
        self,
        page: Open,
        agent: StandIn,
        superuser: asyncpg.Connection,
        ground,
        database_name: str,
    ) -> None:
        async with page() as tab:
            await tab.resume()
            async with ground.connection(None, database_name) as locker, locker.transaction():
                await locker.execute("LOCK TABLE webchat_messages IN ACCESS EXCLUSIVE MODE")
                await tab.send({"type": "message", "id": "m-1", "text": "你好"})
                await until_blocked(superuser)
                assert await superuser.fetchval(KILL) > 0
                assert await tab.end() == 1013
        async with page() as tab_again:
            await tab_again.resume(tab.secret)
            assert (await tab_again.write("m-1"))["type"] == "ack"

        assert await superuser.fetchval(MESSAGES) == 1


class TestStop:
    async def test_sends_every_page_elsewhere(self, page: Open, agent: StandIn, parts) -> None:
        async with page() as new, page() as known:
            await new.resume()
            await known.resume()
            await known.write("m-1")
            parts.sockets.stop()

            assert await asyncio.gather(new.end(), known.end()) == [1012, 1012]
        async with page() as late:
            assert await late.end() == 1012

    async def test_of_room_is_said(
        self, page: Open, parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def is_empty() -> bool:
            return bool(parts.sockets._open == 0)

        monkeypatch.setattr(sockets, "MAX_SOCKETS", 1)
        async with page() as first:
            await first.resume()
            async with page() as second:
                assert await second.end() == 1013
            await first.send({"type": "resume"})
            assert (await first.next())["code"] == "resume_twice"
        await until(is_empty, "the first page's end")
        async with page() as third:
            await third.resume()
