import asyncio

import pytest

from adapters.base import ChannelDown, ChannelRefused
from adapters.feishu import adapter as module
from adapters.feishu import connection, errors
from adapters.feishu.adapter import Adapter
from adapters.model import Text
from adapters.simulators.platform import Line
from tests.adapters.feishu.conftest import PATIENCE_S, settings_of


class TestConnection:
    async def test_a_cut_ends_it_and_the_next_one_hears_what_was_missed(
        self, connected, feishu, host, made
    ):
        await feishu.disconnect()
        with pytest.raises(ChannelDown, match="1001"):
            await connected
        assert not await feishu.bring(Line(user="wang", text="在吗"))
        again = asyncio.create_task(made().run())
        await feishu.until_connections(1)
        feishu.redeliver_now()
        await host.until_reported(1)
        again.cancel()
        await asyncio.wait({again})
        assert host.reported[0].segments == [Text(text="在吗")]

    async def test_several_share_the_events(self, connected, feishu, host, made):
        second = asyncio.create_task(made().run())
        await feishu.until_connections(2)
        for number in range(8):
            assert await feishu.bring(Line(user="wang", text=str(number)))
        assert len(host.reported) == 8
        second.cancel()
        await asyncio.wait({second})

    async def test_silence_ends_it(self, adapter, feishu, monkeypatch):
        monkeypatch.setattr(connection, "PONG_WITHIN_S", 0.05)
        feishu.faults.mute = True
        with pytest.raises(ChannelDown, match="silent"):
            await adapter.run()

    async def test_every_answered_ping_is_proof_of_life(self, connected, feishu, host, monkeypatch):
        # The pong names a new interval, too.
        monkeypatch.setattr(connection, "_MIN_PING_S", 0.0)
        monkeypatch.setattr(connection, "PING_EVERY_S", 0.0)
        connected.cancel()
        feishu.faults.ping_interval = 0
        host.proven.clear()
        again = asyncio.create_task(Adapter(settings_of(feishu), host).run())
        for _ in range(3):
            async with asyncio.timeout(PATIENCE_S):
                await host.proven.wait()
            host.proven.clear()
        again.cancel()
        await asyncio.wait({again})
        assert feishu.pings >= 3

    async def test_a_handshake_beyond_the_limit_says_what_to_do(self, adapter, feishu):
        feishu.faults.handshake = {
            "Handshake-Status": "514",
            "Handshake-Autherrcode": "1000040350",
        }
        with pytest.raises(ChannelRefused, match="50 long connections"):
            await adapter.run()

    async def test_another_refusal_of_the_handshake_is_tried_again(self, adapter, feishu):
        feishu.faults.handshake = {"Handshake-Status": "500"}
        with pytest.raises(ChannelDown, match="no long connection"):
            await adapter.run()

    async def test_a_refusal_that_blames_no_setting_is_named(self, adapter, feishu, monkeypatch):
        monkeypatch.setitem(errors._CLASSES, 11205, "rate_limited")
        monkeypatch.setattr(module, "_NO_BOT", frozenset())
        feishu.faults.no_bot = True
        with pytest.raises(ChannelDown, match="11205"):
            await adapter.run()

    async def test_a_connection_that_is_not_encrypted_is_refused(self, made, feishu, monkeypatch):
        adapter = made()
        monkeypatch.setattr(
            adapter, "_settings", adapter._settings.model_copy(update={"base_url": "https://a"})
        )
        with pytest.raises(ChannelRefused, match="not encrypted"):
            await adapter.run()

    async def test_a_busy_platform_is_asked_again_later(self, adapter, feishu):
        feishu.faults.endpoint_code = 1
        with pytest.raises(ChannelDown, match="cannot be reached"):
            await adapter.run()

    async def test_a_wrong_secret_ends_it_in_plain_words(self, adapter, feishu):
        feishu.app_secret = "another"
        with pytest.raises(ChannelRefused, match="App Secret"):
            await adapter.run()


class TestLooks:
    """Where the platform calls us there is no connection to prove that all is well."""

    @pytest.fixture
    def adapter(self, calling, host, clock):
        return Adapter(settings_of(calling), host, clock=clock)

    async def test_each_look_is_proof_of_life_and_asks_for_a_token_only(
        self, adapter, calling, host, monkeypatch
    ):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        running = asyncio.create_task(adapter.run())
        for _ in range(3):
            host.proven.clear()
            await host.proven.wait()
        running.cancel()
        await asyncio.wait({running})
        # What else is called counts against the tenant's quota.
        assert calling.calls["bot/v3/info"] == 1

    async def test_three_misses_in_a_row_are_an_outage(self, adapter, calling, monkeypatch):
        monkeypatch.setattr(module, "PROOF_EVERY_S", 0)
        calling.faults.answer_500 = 3
        with pytest.raises(ChannelRefused, match="cannot be reached"):
            await adapter.run()

    async def test_a_secret_that_was_changed_ends_it(self, adapter, calling):
        calling.app_secret = "another"
        with pytest.raises(ChannelRefused, match="App Secret"):
            await adapter.run()


class TestBurst:
    async def test_two_hundred_at_once_are_all_heard_and_in_order(self, connected, feishu, host):
        people = [f"p{number}" for number in range(10)]
        said = [Line(user=user, text=str(number)) for number in range(20) for user in people]
        taken = await asyncio.gather(*map(feishu.bring, said))
        assert all(taken)
        for user in people:
            heard = [m.segments[0].text for m in host.reported if m.sender.id == f"ou_{user}"]
            assert heard == [str(number) for number in range(20)]
