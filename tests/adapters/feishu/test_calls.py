"""The platform calls the adapter, over a socket of its own."""

from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.base import NotAccepted
from adapters.feishu.adapter import Adapter
from adapters.feishu.settings import Settings
from adapters.model import At, Image, RawCallback, Text
from adapters.simulators.feishu import Feishu
from adapters.simulators.feishu_people import BOT
from adapters.simulators.platform import Line
from adapters.simulators.serving import serving
from tests.adapters.hosting import Host, SetClock

PNG = b"\x89PNG" + bytes(100)


@pytest.fixture
async def adapter(calling: Feishu, host: Host, clock: SetClock) -> AsyncIterator[Adapter]:
    """Behind an address, as behind the control plane's."""
    adapter = Adapter(Settings.model_validate(calling.settings), host, clock=clock)

    async def take(request: Request) -> Response:
        raw = RawCallback(
            method=request.method,
            path=request.url.path,
            query=request.url.query,
            headers=dict(request.headers),
            body=await request.body(),
            received_at=clock(),
        )
        try:
            answer = await adapter.callback(raw, verified=False)
        except NotAccepted:
            return Response(status_code=503)
        return Response(answer.body, answer.status, media_type=answer.content_type)

    async with serving(Starlette(routes=[Route("/im", take, methods=["GET", "POST"])])) as url:
        calling.callback_url = f"{url}/im"
        yield adapter
    await adapter._arrivals.close()


class TestCallback:
    async def test_the_check_of_the_address_is_answered(self, adapter, calling):
        assert await calling.check_address()
        assert calling.calls == {}

    async def test_what_was_said_is_reported_and_then_acknowledged(self, adapter, calling, host):
        assert await calling.bring(Line(user="wang", text="你好", id="om_1"))
        assert [message.segments for message in host.reported] == [[Text(text="你好")]]
        assert host.reported[0].dedupe_key == "om_1"

    async def test_a_group_tells_that_the_bot_was_addressed(self, adapter, calling, host):
        await calling.bring(Line(user="wang", text="在吗", chat="oc_g"))
        assert host.reported[0].mentions_bot
        assert host.reported[0].segments[0] == At(target=BOT, name="客服", is_self=True)

    async def test_a_refused_message_comes_again_until_it_is_taken(self, adapter, calling, host):
        host.accepts = False
        assert not await calling.bring(Line(user="wang", text="你好"))
        host.accepts = True
        calling.redeliver_now()
        await host.until_reported(1)

    async def test_media_that_take_long_are_fetched_on_while_the_callback_waits(
        self, adapter, calling, host
    ):
        adapter._arrivals._wait_s = 0.01
        host.media.open.clear()
        assert not await calling.bring(Line(user="wang", picture=PNG))
        assert host.reported == []
        host.media.open.set()
        adapter._arrivals._wait_s = 10
        calling.redeliver_now()
        await host.until_reported(1)
        [picture] = host.reported[0].segments
        assert isinstance(picture, Image)
        assert (picture.ref.via, host.media.tries) == ("media", 1)

    async def test_who_we_are_is_needed_before_anything_is_taken(self, adapter, calling, host):
        calling.faults.answer_500 = 2
        assert not await calling.bring(Line(user="wang", text="你好"))
        assert host.reported == []
        calling.faults.answer_500 = 0
        calling.redeliver_now()
        await host.until_reported(1)

    async def test_a_pressed_card_is_answered_with_nothing(self, adapter, calling, host):
        assert await calling.press("wang", "om_1", {"k": "v"}) == {}
        assert host.reported == []

    async def test_an_event_that_cannot_be_read_is_a_bad_request(self, adapter, calling, host):
        assert not await calling.happen("im.message.receive_v1", {"message": []})
        assert host.reported == []

    async def test_without_an_encrypt_key_the_token_is_enough(self, host, clock):
        async with Feishu(transport="callback", clock=clock, encrypted=False) as plain:
            adapter = Adapter(Settings.model_validate(plain.settings), host, clock=clock)
            body = plain._event("im.message.receive_v1", plain.said(Line(user="a", text="b")), "e")
            raw = RawCallback(
                method="POST", path="/", query="", headers={}, body=body, received_at=clock()
            )
            assert (await adapter.callback(raw, verified=False)).status == 200
            assert len(host.reported) == 1

    async def test_wrong_bytes_are_not_reported_whoever_vouches_for_them(
        self, adapter, calling, host
    ):
        calling.encrypt_key = "another"
        assert not await calling.bring(Line(user="wang", text="x"))
        raw = RawCallback(
            method="POST", path="/", query="", headers={}, body=b"{}", received_at=0.0
        )
        assert (await adapter.callback(raw, verified=True)).status == 401
        assert host.reported == []
