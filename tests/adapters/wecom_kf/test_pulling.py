import asyncio

import pytest
from structlog.testing import capture_logs

from adapters import arrivals
from adapters.base import ChannelRefused, NotAccepted
from adapters.model import (
    BusinessCard,
    Card,
    File,
    Image,
    Link,
    Location,
    Text,
    Unsupported,
    Voice,
)
from adapters.simulators.platform import Line
from adapters.wecom_kf import adapter as running
from adapters.wecom_kf import positions, pulling
from tests.adapters.hosting import Host
from tests.adapters.wecom_kf.conftest import at_work

PNG = b"\x89PNG" + bytes(100)
AMR = b"#!AMR\n" + bytes(100)
# A burst, and how many of it come in a page.
BURST, PAGE = 200, 30


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Tries follow each other without a pause."""
    monkeypatch.setattr(running, "REFUSED_PAUSE_S", 0)
    monkeypatch.setattr(running, "MISS_PAUSE_S", 0)


def said(host):
    return [message.segments[0].text for message in host.reported]


def once(host):
    """What was reported, by its key: the first time of each."""
    return list(dict.fromkeys(message.dedupe_key for message in host.reported))


class Refusing(Host):
    """A host that takes only every other report, and dies with what it did not say."""

    turns = 0

    async def report(self, messages, *, position=None):
        self.turns += 1
        self.accepts = bool(self.turns % 2)
        await super().report(messages, position=position)


class Forgetful(Host):
    """A host that keeps messages and loses where they ended: it died between the two."""

    async def report(self, messages, *, position=None):
        await super().report(messages, position=position if self.position is None else None)


class TestBurst:
    @pytest.fixture
    def burst(self, platform):
        platform.faults.page_rows = PAGE
        platform.faults.unasked_per_minute = 1000
        keys = [
            platform.put(f"wm{number % 7}", "text", {"content": str(number)})
            for number in range(BURST)
        ]
        assert len(set(keys)) == BURST
        return keys

    async def test_all_of_it_is_reported_in_order_behind_one_call(
        self, adapter, platform, host, ring
    ):
        platform.faults.page_rows = PAGE
        async with at_work(adapter):
            await host.proven.wait()
            keys = [platform.put("wm1", "text", {"content": str(n)}) for n in range(BURST)]
            assert (await ring(adapter)).status == 200
            await host.until_reported(BURST)
        assert [message.dedupe_key for message in host.reported] == keys
        assert said(host) == [str(number) for number in range(BURST)]

    @pytest.mark.parametrize("killed_at", [1, PAGE, 3 * PAGE, BURST - 1])
    async def test_killed_in_the_middle_it_goes_on_where_it_was(self, made, host, burst, killed_at):
        async with at_work(made()):
            await host.until_reported(killed_at)
        assert host.position is not None
        async with at_work(made()):
            await host.until_reported(BURST)
        assert [message.dedupe_key for message in host.reported] == burst

    async def test_killed_before_the_position_is_kept_it_repeats_and_skips_nothing(
        self, made, host, burst
    ):
        forgetful = Forgetful(host.http)
        async with at_work(made(forgetful)):
            await forgetful.until_reported(3 * PAGE)
        host.position, host.reported = forgetful.position, list(forgetful.reported)
        async with at_work(made()):
            await host.until_reported(len(forgetful.reported) + BURST)
        assert once(host) == burst

    async def test_what_is_not_accepted_comes_again_before_what_follows(self, made, host, burst):
        refusing = Refusing(host.http)
        async with at_work(made(refusing)):
            await refusing.until_reported(BURST)
        assert [message.dedupe_key for message in refusing.reported] == burst

    async def test_the_platform_answers_badly_in_between(self, made, host, burst, platform):
        for _ in range(3):
            platform.faults.answer_500 = 1
            async with at_work(made()):
                await host.until_reported(len(host.reported) + 1)
            platform.expire_tokens()
        async with at_work(made()):
            await host.until_reported(BURST)
        assert [message.dedupe_key for message in host.reported] == burst

    async def test_two_at_once_for_one_channel_repeat_and_skip_nothing(
        self, made, host, burst, platform
    ):
        async with at_work(made()), at_work(made()):
            await host.until_reported(2 * BURST)
        assert once(host) == burst
        platform.put("wm1", "text", {"content": "new"})
        async with at_work(made()):
            await host.until_reported(2 * BURST + 1)
        assert said(host)[-1] == "new"

    async def test_a_cursor_that_the_platform_does_not_know_costs_repeats_and_no_message(
        self, made, host, burst, platform
    ):
        async with at_work(made()):
            await host.until_reported(3 * PAGE)
        platform.forget_cursors()
        done = len(host.reported)
        async with at_work(made()):
            await host.until_reported(done + BURST)
        assert once(host) == burst

    async def test_another_cursor_after_that_is_good_again(self, made, host, burst, platform):
        async with at_work(made()):
            await host.until_reported(BURST)
        platform.forget_cursors()
        async with at_work(made()):
            await host.until_reported(2 * BURST)
        platform.put("wm1", "text", {"content": "new"})
        async with at_work(made()):
            await host.until_reported(2 * BURST + 1)
        assert said(host)[-1] == "new"


class TestBell:
    async def test_a_call_while_pulling_makes_one_more_pull(self, adapter, platform, host, ring):
        platform.put("wm1", "image", {"media_id": platform.keep("image", PNG)})
        host.media.open.clear()
        async with at_work(adapter):
            await host.proven.wait()
            platform.put("wm1", "text", {"content": "later"})
            await ring(adapter)
            host.media.open.set()
            await host.until_reported(2)
        assert [type(message.segments[0]) for message in host.reported] == [Image, Text]

    async def test_a_call_that_gets_lost_is_made_good_by_the_clock(
        self, adapter, platform, host, monkeypatch
    ):
        monkeypatch.setattr(pulling, "PULL_EVERY_S", 0.01)
        async with at_work(adapter):
            await host.proven.wait()
            platform.put("wm1", "text", {"content": "hi"})
            await host.until_reported(1)
        assert said(host) == ["hi"]

    async def test_what_was_said_while_nobody_was_there_is_pulled_at_the_start(
        self, made, platform, host
    ):
        async with at_work(made()):
            await host.proven.wait()
        platform.put("wm1", "text", {"content": "hi"})
        async with at_work(made()):
            await host.until_reported(1)

    async def test_the_token_of_the_call_is_used_for_every_page(
        self, adapter, platform, host, ring
    ):
        platform.faults.page_rows = 2
        platform.faults.unasked_per_minute = 0
        for number in range(9):
            platform.put("wm1", "text", {"content": str(number)})
        await ring(adapter)
        async with at_work(adapter):
            await host.until_reported(9)

    async def test_an_old_token_is_dropped_and_does_no_harm(
        self, adapter, platform, host, ring, clock
    ):
        await ring(adapter)
        clock.time += 3000
        platform.put("wm1", "text", {"content": "hi"})
        async with at_work(adapter):
            await host.until_reported(1)
        assert said(host) == ["hi"]

    async def test_a_call_for_another_account_rings_nothing(self, adapter, platform, host, ring):
        platform.faults.unasked_per_minute = 0
        assert (await ring(adapter, OpenKfId="wkOther")).status == 200
        assert adapter._pulling._token == ""

    async def test_pulled_too_often_it_proves_life_in_another_way_until_it_is_called(
        self, adapter, platform, host, ring, monkeypatch
    ):
        monkeypatch.setattr(pulling, "PULL_EVERY_S", 0)
        platform.faults.unasked_per_minute = 1
        async with at_work(adapter):
            await host.proven.wait()
            while not platform.calls["kf/account/list"]:
                host.proven.clear()
                await host.proven.wait()
            pulls = platform.calls["kf/sync_msg"]
            for _ in range(3):
                host.proven.clear()
                await host.proven.wait()
            assert platform.calls["kf/sync_msg"] == pulls
            platform.put("wm1", "text", {"content": "hi"})
            await ring(adapter)
            await host.until_reported(1)

    async def test_too_often_is_a_sign_of_life_whatever_was_asked(
        self, adapter, platform, host, monkeypatch
    ):
        monkeypatch.setattr(pulling, "PULL_EVERY_S", 0)
        platform.faults.rate_limit = 5
        async with at_work(adapter):
            while platform.faults.rate_limit:
                host.proven.clear()
                await host.proven.wait()

    async def test_a_page_that_does_not_go_on_is_not_pulled_for_ever(
        self, adapter, platform, host, monkeypatch
    ):
        monkeypatch.setattr(pulling, "PULL_EVERY_S", 0.01)
        async with at_work(adapter):
            await host.proven.wait()
            platform.faults.stuck = 2
            platform.put("wm1", "text", {"content": "hi"})
            await host.until_reported(3)
        assert len(once(host)) == 1


class TestBeginning:
    async def test_what_was_said_long_before_is_not_answered(self, made, platform, host, clock):
        platform.put("wm1", "text", {"content": "yesterday"})
        clock.time += positions.GRACE_S + 1
        platform.put("wm1", "text", {"content": "just now"})
        async with at_work(made()):
            await host.until_reported(1)
        assert said(host) == ["just now"]

    async def test_the_beginning_stays_where_it_was(self, made, platform, host, clock):
        async with at_work(made()):
            await host.proven.wait()
        platform.put("wm1", "text", {"content": "hi"})
        clock.time += 2 * 86_400
        platform.forget_cursors()
        async with at_work(made()):
            await host.until_reported(1)

    async def test_it_is_kept_before_anything_is_asked(self, made, platform, host, clock):
        host.accepts = False
        async with at_work(made()) as task:
            await asyncio.wait({task}, timeout=0.05)
        assert platform.calls["kf/sync_msg"] == 0

    async def test_a_position_of_another_account_is_none(self, made, platform, host, clock):
        host.position = "wkOther:5:abc"
        platform.put("wm1", "text", {"content": "hi"})
        async with at_work(made()):
            await host.until_reported(1)
        assert host.position.startswith(platform.open_kfid)


class TestWhatCame:
    async def bring(self, adapter, platform, host, *lines):
        for line in lines:
            await platform.bring(line)
        async with at_work(adapter):
            await host.until_reported(len(lines))
        return [message.segments for message in host.reported]

    async def test_pictures_and_voices_are_in_our_store_before_they_are_reported(
        self, adapter, platform, host
    ):
        [[picture], [voice], [file]] = await self.bring(
            adapter,
            platform,
            host,
            Line(user="wm1", picture=PNG),
            Line(user="wm1", voice=AMR),
            Line(user="wm2", file=b"%PDF-", name="a.pdf"),
        )
        assert (type(picture), type(voice), type(file)) == (Image, Voice, File)
        assert {each.ref.via for each in (picture, voice, file)} == {"media"}
        assert host.media.kept[voice.ref.id].body == AMR
        assert voice.format == "amr"

    async def test_slow_media_hold_the_page_and_are_fetched_once(
        self, adapter, platform, host, monkeypatch
    ):
        adapter._pulling._arrivals._wait_s = 0.01
        host.media.open.clear()
        await platform.bring(Line(user="wm1", picture=PNG))
        async with at_work(adapter):
            while platform.calls["kf/sync_msg"] < 3:
                host.proven.clear()
                await host.proven.wait()
            assert host.reported == []
            host.media.open.set()
            await host.until_reported(1)
        assert host.media.tries == 1

    async def test_media_that_are_gone_keep_the_platforms_reference(self, adapter, platform, host):
        platform.put("wm1", "image", {"media_id": "gone"})
        async with at_work(adapter):
            await host.until_reported(1)
        assert host.reported[0].segments[0].ref.id == "gone"

    async def test_every_type_has_its_segment(self, adapter, platform, host):
        put = platform.put
        put("wm1", "location", {"latitude": 23.1, "longitude": "113.3", "name": "n"})
        put("wm1", "link", {"url": "https://a", "title": "t"})
        put("wm1", "business_card", {"userid": "zhangsan"})
        put("wm1", "miniprogram", {"title": "shop", "appid": "wx1"})
        put("wm1", "merged_msg", {"title": "聊天记录"})
        async with at_work(adapter):
            await host.until_reported(5)
        found = [message.segments[0] for message in host.reported]
        assert found[0] == Location(lat=23.1, lon=113.3, title="n")
        assert found[1] == Link(url="https://a", title="t")
        assert found[2] == BusinessCard(contact_type="user", id="zhangsan")
        assert isinstance(found[3], Card)
        assert found[4] == Unsupported(platform_type="merged_msg", text="聊天记录")

    async def test_only_customers_of_this_account_are_heard(self, adapter, platform, host):
        platform.put("wm1", "text", {"content": "a colleague"}, origin=5)
        platform.put("wm1", "text", {"content": "the system"}, origin=4)
        platform.add({"origin": 3, "msgtype": "text"}, open_kfid="wkOther")
        platform.event("user_recall_msg", "wm1", recall_msgid="m")
        platform.put("wm1", "text", {"content": "hi"})
        async with at_work(adapter):
            await host.until_reported(1)
        assert said(host) == ["hi"]

    async def test_a_row_that_cannot_be_read_stops_nobody(self, adapter, platform, host):
        platform.add({"msgtype": "text", "origin": 3, "text": 5}, message_id=" ")
        platform.put("wm1", "text", {"content": "half \ud83d"})
        platform.put("wm1", "text", {"content": "hi"})
        with capture_logs() as logs:
            async with at_work(adapter):
                await host.until_reported(2)
        assert said(host) == ["half ?", "hi"]
        assert [log["event"] for log in logs] == ["row not understood"]

    @pytest.mark.parametrize(
        ("fail_type", "error_class", "words"),
        [
            (10, "recipient_refuses", "the customer refuses messages"),
            (4, "window_expired", "48 hours"),
            (77, "undelivered", "does not say why"),
        ],
    )
    async def test_what_could_not_be_shown_is_told(
        self, adapter, platform, host, fail_type, error_class, words
    ):
        platform.event("msg_send_fail", "wm1", fail_msgid="abc", fail_type=fail_type)
        platform.event("msg_send_fail", "wm1", fail_msgid="")
        platform.put("wm1", "text", {"content": "hi"})
        async with at_work(adapter):
            await host.until_reported(1)
        [failure] = host.failures
        assert failure.conversation == host.reported[0].conversation
        assert (failure.platform_message_id, failure.error_class) == ("abc", error_class)
        assert words in failure.detail

    async def test_what_was_not_kept_of_that_is_told_again(
        self, adapter, platform, host, monkeypatch
    ):
        monkeypatch.setattr("adapters.wecom_kf.adapter.REFUSED_PAUSE_S", 0)
        platform.event("msg_send_fail", "wm1", fail_msgid="abc", fail_type=10)
        platform.put("wm1", "text", {"content": "hi"})
        refused, keep = [], host.undelivered

        async def full(failure):
            if refused:
                return await keep(failure)
            refused.append(list(host.reported))
            raise NotAccepted("the disk is full")

        host.undelivered = full
        async with at_work(adapter):
            await host.until_reported(1)
        assert refused == [[]]
        assert [each.platform_message_id for each in host.failures] == ["abc"]


class TestGreeting:
    async def test_who_opens_the_talk_is_greeted_once(self, made, platform, host):
        await platform.enter("wm1")
        greeting = made(greeting="您好")
        async with at_work(greeting):
            await platform.until_shown(1, patience_s=20)
        async with at_work(greeting):
            await host.proven.wait()
        assert platform.told("wm1") == ["您好"]
        assert platform.calls["kf/send_msg_on_event"] == 1

    async def test_who_is_not_heard_is_not_greeted_and_holds_nothing_up(self, made, platform, host):
        host.blocked.add("wm1")
        await platform.enter("wm1")
        platform.put("wm1", "image", {"media_id": platform.keep("image", b"picture")})
        platform.put("wm2", "text", {"content": "hi"})
        async with at_work(made(greeting="您好")):
            await host.until_reported(1)
        assert [each.sender.id for each in host.reported] == ["wm2"]
        assert (platform.calls["media"], platform.calls["kf/send_msg_on_event"]) == (0, 0)

    async def test_without_a_greeting_nothing_is_said(self, made, platform, host):
        await platform.enter("wm1")
        platform.put("wm1", "text", {"content": "hi"})
        async with at_work(made()):
            await host.until_reported(1)
        assert platform.calls["kf/send_msg_on_event"] == 0

    @pytest.mark.parametrize(("late_s", "tried"), [(21, 1), (3000, 0)])
    async def test_too_late_it_holds_nothing_up(self, made, platform, host, clock, late_s, tried):
        await platform.enter("wm1")
        clock.time += late_s
        platform.put("wm1", "text", {"content": "hi"})
        async with at_work(made(greeting="您好")):
            await host.until_reported(1)
        assert platform.told("wm1") == []
        assert platform.calls["kf/send_msg_on_event"] == tried


class TestRun:
    async def test_an_address_that_is_not_trusted_is_told_in_plain_words(self, adapter, platform):
        platform.faults.refused_address = "203.0.113.7"
        with pytest.raises(ChannelRefused, match=r"203\.0\.113\.7.*企业可信IP"):
            await adapter.run()

    async def test_an_account_that_is_gone_is_the_settings_fault(self, made):
        with pytest.raises(ChannelRefused) as refused:
            await made(open_kfid="wkGone").run()
        assert refused.value.path == "/open_kfid"

    async def test_two_misses_in_a_row_are_an_outage(self, adapter, platform):
        platform.faults.answer_500 = running.MAX_MISSES
        with pytest.raises(ChannelRefused, match="cannot be reached"):
            await adapter.run()
        assert platform.faults.answer_500 == 0

    async def test_one_miss_is_a_bad_moment(self, adapter, platform, host):
        platform.faults.answer_500 = running.MAX_MISSES - 1
        async with at_work(adapter):
            await host.proven.wait()

    async def test_tokens_that_end_early_cost_nothing(self, made, platform, host):
        adapter = made()
        async with at_work(adapter):
            await host.proven.wait()
        platform.expire_tokens()
        platform.put("wm1", "text", {"content": "hi"})
        async with at_work(adapter):
            await host.until_reported(1)
        assert platform.calls["gettoken"] == 2

    async def test_media_are_given_up_in_the_end(self, adapter, platform, host, monkeypatch):
        monkeypatch.setattr(arrivals, "GIVE_UP_S", 0)
        await platform.bring(Line(user="wm1", picture=PNG))
        async with at_work(adapter):
            await host.until_reported(1)
        assert host.reported[0].segments[0].ref.via == "wecom.media_id"
