import pytest
from pydantic import SecretStr

from adapters.base import ChannelRefused, Outgoing, SendFailed, SendUnknown
from adapters.model import (
    Author,
    Card,
    ConversationKey,
    File,
    Image,
    Link,
    Location,
    Markdown,
    Ref,
    Text,
    Voice,
)
from adapters.outbound import Door
from adapters.simulators import wecom_kf as simulator
from adapters.simulators.wecom_kf import (
    ASSISTANT,
    MAX_REPLIES,
    PERSON,
    REPLY_WITHIN_S,
    UNTREATED,
    WAITING,
)
from adapters.wecom_kf import codec
from adapters.wecom_kf.sessions import KNOWN_S
from instance_agent.client import platform_client
from tests.adapters.sending import send
from tests.adapters.wecom_kf.conftest import at_work

PNG = b"\x89PNG" + bytes(100)
AMR = b"#!AMR\n" + bytes(100)
PERSON_OF_OURS = Author(kind="human", name="Li")


@pytest.fixture
def customer(platform):
    """One who has just written."""
    platform.put("wm1", "text", {"content": "hi"})
    return platform.customers["wm1"]


@pytest.fixture
def part(platform):
    """A message for a customer; each has a key of its own."""
    count = 0

    def part(segment, *, to="wm1", author=None, kind="direct", account=platform.open_kfid):
        nonlocal count
        count += 1
        return Outgoing(
            idempotency_key=f"key-{count}",
            conversation=ConversationKey(type=kind, id=f"{account}:{to}"),
            reply_handle={},
            segments=[segment],
            author=author or Author(),
        )

    return part


@pytest.fixture
def lets_go(monkeypatch):
    """A platform that gives sessions back to the API, which ours is not said to do."""
    for state in (WAITING, PERSON):
        monkeypatch.setitem(simulator._MOVES, state, {ASSISTANT})


async def refused(call) -> SendFailed:
    with pytest.raises(SendFailed) as failed:
        await call
    return failed.value


class TestProbe:
    async def test_good_settings_pass(self, adapter, platform):
        await adapter.probe()
        assert platform.calls["kf/sync_msg"] == 0

    async def test_an_unknown_account_is_answered_with_those_there_are(self, made, platform):
        with pytest.raises(ChannelRefused) as found:
            await made(open_kfid="wk").probe()
        assert found.value.path == "/open_kfid"
        assert platform.open_kfid in found.value.detail

    async def test_one_of_many_accounts_is_found(self, made, platform):
        platform.others = [f"wk{number}" for number in range(250)]
        await made(open_kfid="wk249").probe()

    async def test_company_and_secret_are_told_apart(self, made, platform):
        for wrong, path in (
            ({"corp_id": "wwother"}, "/corp_id"),
            ({"secret": SecretStr("another")}, "/secret"),
        ):
            with pytest.raises(ChannelRefused) as found:
                await made(**wrong).probe()
            assert found.value.path == path
            assert platform.secret not in found.value.detail

    async def test_the_address_may_be_entered_later(self, adapter, platform):
        platform.faults.refused_address = "203.0.113.7"
        await adapter.probe()

    async def test_a_platform_that_is_away_says_nothing_about_the_settings(self, made, platform):
        await made(base_url="http://127.0.0.1:1").probe()
        platform.faults.answer_500 = 9
        await made().probe()

    async def test_an_address_inside_our_network_is_the_settings_fault(self, host, made):
        door = Door()
        async with platform_client(door) as host.http:
            inside = made(base_url="https://10.0.0.1")
            for begin in (inside.probe(), inside.run()):
                with pytest.raises(ChannelRefused) as found:
                    await begin
                assert found.value.path == "/base_url"
        door.close()


class TestSend:
    async def test_a_text_reaches_the_customer_under_an_id_of_ours(
        self, adapter, platform, customer, part
    ):
        outgoing = part(Text(text="您好"))
        sent = await send(adapter, outgoing)
        assert [(seen.id, seen.text) for seen in platform.seen] == [
            (sent.platform_message_id, "您好")
        ]
        assert sent.platform_message_id == codec.message_id(outgoing.idempotency_key)

    async def test_token_upload_and_session_come_before_the_attempt(
        self, adapter, platform, host, customer, part
    ):
        attempt = await adapter.prepare(part(Image(ref=host.media.put(PNG))))
        before = {
            "gettoken": 1,
            "kf/service_state/get": 1,
            "kf/service_state/trans": 1,
            "media/upload": 1,
        }
        assert platform.calls == before
        await attempt()
        assert platform.calls == before | {"kf/send_msg": 1}

    @pytest.mark.parametrize(
        ("segment", "msgtype"),
        [
            (Markdown(text="**a**"), "text"),
            (Link(url="https://a", title="t"), "text"),
            (Location(lat=23.1, lon=113.3, title="n"), "location"),
            (Card(format=codec.MENU, data='{"head_content": "?"}', text="?"), "msgmenu"),
            (Card(format=codec.MENU, data="[]", text="?"), "text"),
            (Card(format="other", text="?"), "text"),
        ],
    )
    async def test_goes_out_as_what_the_platform_takes(
        self, adapter, platform, customer, part, segment, msgtype
    ):
        for segments in adapter.split([segment]):
            await send(adapter, part(*segments))
        assert [seen.msgtype for seen in platform.seen] == [msgtype]

    @pytest.mark.parametrize(
        ("make", "body", "content_type", "msgtype"),
        [
            (Image, PNG, "image/png", "image"),
            (Voice, AMR, "audio/amr", "voice"),
            (Voice, b"ID3" + bytes(9), "audio/mpeg", "file"),
            (File, bytes(99), "application/pdf", "file"),
        ],
    )
    async def test_media_are_uploaded(
        self, adapter, host, platform, customer, part, make, body, content_type, msgtype
    ):
        ref = host.media.put(body, name="a", content_type=content_type)
        await send(adapter, part(make(ref=ref)))
        [seen] = platform.seen
        assert (seen.msgtype, list(seen.payload)) == (msgtype, ["media_id"])

    async def test_media_that_are_gone_are_said(self, adapter, platform, customer, part):
        await send(adapter, part(File(ref=Ref(via="media", id="gone"), name="价格.pdf")))
        assert platform.told("wm1") == ["[file 价格.pdf]"]

    async def test_an_upload_that_was_forgotten_early_is_made_again(
        self, adapter, host, platform, customer, part
    ):
        ref = host.media.put(PNG)
        await send(adapter, part(Image(ref=ref)))
        platform.media.clear()
        await send(adapter, part(Image(ref=ref)))
        assert [seen.msgtype for seen in platform.seen] == ["image", "image"]

    async def test_every_part_of_a_long_text_arrives_whole(self, adapter, platform, customer, part):
        text = "花" * 2000
        for segments in adapter.split([Text(text=text)]):
            await send(adapter, part(*segments))
        assert "".join(platform.told("wm1")) == text

    @pytest.mark.parametrize(
        "wrong", [{"account": "wkOther"}, {"kind": "group"}, {"to": ""}, {"to": "nobody"}]
    )
    async def test_nobody_else_can_be_spoken_to(self, adapter, platform, customer, part, wrong):
        failed = await refused(send(adapter, part(Text(text="x"), **wrong)))
        assert failed.error_class == "recipient_invalid"
        assert platform.seen == []

    async def test_a_reply_that_was_dropped_leaves_the_end_unknown(
        self, adapter, platform, customer, part
    ):
        platform.faults.drop_reply = 1
        with pytest.raises(SendUnknown):
            await send(adapter, part(Text(text="x")))
        assert platform.told("wm1") == ["x"]

    async def test_a_token_that_ended_costs_nothing(self, adapter, platform, customer, part):
        await send(adapter, part(Text(text="1")))
        platform.expire_tokens()
        await send(adapter, part(Text(text="2")))
        assert platform.told("wm1") == ["1", "2"]

    async def test_too_often_is_told_apart(self, adapter, platform, customer, part):
        platform.limit(1)
        assert (await refused(send(adapter, part(Text(text="x"))))).error_class == "rate_limited"
        await send(adapter, part(Text(text="x")))

    async def test_a_platform_that_is_away_took_nothing(self, made, customer, part):
        away = made(base_url="http://127.0.0.1:1")
        assert (await refused(send(away, part(Text(text="x"))))).error_class == "server_busy"


class TestWindow:
    async def test_the_sixth_message_is_refused_until_the_customer_writes(
        self, adapter, platform, customer, part
    ):
        for number in range(MAX_REPLIES):
            await send(adapter, part(Text(text=str(number))))
        failed = await refused(send(adapter, part(Text(text="too many"))))
        assert failed.error_class == "window_count_exceeded"
        assert "five" in failed.detail
        platform.put("wm1", "text", {"content": "go on"})
        await send(adapter, part(Text(text="more")))

    async def test_two_days_later_it_is_too_late(self, adapter, customer, part, clock):
        clock.time += REPLY_WITHIN_S + 1
        failed = await refused(send(adapter, part(Text(text="x"))))
        assert failed.error_class == "window_expired"

    async def test_a_session_that_is_over_opens_when_the_customer_writes(
        self, adapter, platform, customer, part
    ):
        platform.end("wm1")
        failed = await refused(send(adapter, part(Text(text="x"))))
        assert (failed.error_class, platform.calls["kf/send_msg"]) == ("window_expired", 0)
        platform.put("wm1", "text", {"content": "again"})
        await send(adapter, part(Text(text="x")))


class TestSessions:
    async def test_one_that_nobody_has_is_ours_from_the_first_answer(self, adapter, customer, part):
        assert customer.state == UNTREATED
        await send(adapter, part(Text(text="x")))
        assert customer.state == ASSISTANT

    async def test_it_is_asked_for_once_in_a_while(self, adapter, platform, customer, part, clock):
        for _ in range(3):
            await send(adapter, part(Text(text="x")))
        assert platform.calls["kf/service_state/get"] == 1
        clock.time += KNOWN_S
        await send(adapter, part(Text(text="x")))
        assert platform.calls["kf/service_state/get"] == 2

    @pytest.mark.parametrize("author", [Author(), PERSON_OF_OURS])
    async def test_where_a_colleague_speaks_we_do_not(
        self, adapter, platform, customer, part, author
    ):
        platform.take("wm1")
        failed = await refused(send(adapter, part(Text(text="x"), author=author)))
        assert failed.error_class == "recipient_unavailable"
        assert "colleague" in failed.detail
        # Our person tries to take over; a bot does not even try.
        tried = platform.calls["kf/service_state/trans"]
        assert tried == (1 if author is PERSON_OF_OURS else 0)
        assert customer.state == PERSON

    async def test_a_person_of_ours_gets_it_where_the_platform_lets_go(
        self, adapter, platform, customer, part, lets_go
    ):
        platform.take("wm1")
        await refused(send(adapter, part(Text(text="a bot"))))
        await send(adapter, part(Text(text="a person"), author=PERSON_OF_OURS))
        assert platform.told("wm1") == ["a person"]

    async def test_one_that_waits_is_answered_where_the_platform_lets_go(
        self, adapter, platform, customer, part, lets_go
    ):
        customer.state = WAITING
        await send(adapter, part(Text(text="x")))
        assert platform.told("wm1") == ["x"]

    async def test_one_that_waits_for_a_person_is_refused_in_plain_words(
        self, adapter, customer, part
    ):
        customer.state = WAITING
        failed = await refused(send(adapter, part(Text(text="x"))))
        assert failed.error_class == "recipient_unavailable"

    async def test_what_changed_hands_unheard_is_found_out_by_the_send(
        self, adapter, platform, customer, part
    ):
        await send(adapter, part(Text(text="1")))
        customer.state = PERSON
        failed = await refused(send(adapter, part(Text(text="2"))))
        assert "colleague" in failed.detail
        customer.state = ASSISTANT
        await send(adapter, part(Text(text="3")))
        assert platform.told("wm1") == ["1", "3"]

    async def test_what_changed_hands_at_the_last_moment_is_taken_back_and_sent_once(
        self, adapter, platform, customer, part, lets_go
    ):
        attempt = await adapter.prepare(part(Text(text="x")))
        customer.state = WAITING
        await attempt()
        assert platform.told("wm1") == ["x"]

    async def test_what_the_platform_tells_is_remembered(
        self, adapter, host, platform, customer, part
    ):
        await send(adapter, part(Text(text="1")))
        platform.take("wm1")
        async with at_work(adapter):
            await host.until_reported(1)
        await refused(send(adapter, part(Text(text="2"))))
        assert platform.calls["kf/send_msg"] == 1

    async def test_a_state_that_cannot_be_had_leaves_it_to_the_send(
        self, adapter, platform, customer, part
    ):
        await adapter.probe()
        platform.faults.rate_limit = 1
        await send(adapter, part(Text(text="x")))
        assert platform.told("wm1") == ["x"]
