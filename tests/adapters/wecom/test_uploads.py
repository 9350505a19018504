from collections import deque

import pytest

from adapters.base import Content, SendFailed
from adapters.platform import PlatformError
from adapters.uploads import Uploads
from adapters.wecom.client import Client


def picture(number):
    body = b"\x89PNG" + bytes(100)
    return Content(body=body, name="a.png", content_type="image/png", sha256=f"{number:064x}")


@pytest.fixture
def client(wecom, host, clock):
    return Client(
        host.http,
        base_url=wecom.url,
        corp_id=wecom.corp_id,
        secret=wecom.secret,
        clock=clock,
    )


@pytest.fixture
def uploads(client, clock):
    return Uploads(client.upload, kept_s=3 * 86_400 - 3_600, clock=clock)


async def too_early(call) -> float:
    with pytest.raises(SendFailed) as failed:
        await call
    assert failed.value.error_class == "rate_limited"
    return failed.value.retry_after_s


class TestPace:
    async def test_so_many_within_a_minute_and_the_same_bytes_count_once(
        self, uploads, wecom, clock
    ):
        uploads._begun = deque(maxlen=2)
        for number in (1, 1, 2):
            await uploads.media_id("image", picture(number))
            clock.time += 10
        assert await too_early(uploads.media_id("image", picture(3))) == 30
        assert await uploads.media_id("image", picture(1))
        clock.time += 30
        await uploads.media_id("image", picture(3))
        assert wecom.calls["media/upload"] == 3

    async def test_when_the_platform_says_too_often_only_uploads_pause(
        self, uploads, client, wecom, clock
    ):
        await client.ready()
        wecom.faults.rate_limit = 1
        with pytest.raises(PlatformError):
            await uploads.media_id("image", picture(1))
        assert await too_early(uploads.media_id("image", picture(1))) == 60
        assert wecom.calls["media/upload"] == 1
        clock.time += 60
        await uploads.media_id("image", picture(1))
