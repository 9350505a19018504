import pytest

from adapters.platform import Cut, PlatformError, Unreachable
from adapters.qq.client import Client, refused
from adapters.qq.outgoing import Target

USER = Target("/v2/users/U", "users")


@pytest.fixture
def client(qq, host, clock):
    return Client(
        host.http,
        base_url=qq.url,
        login_url=qq.url,
        app_id=qq.app_id,
        secret=qq.secret,
        clock=clock,
    )


async def taken(chunks) -> bytes:
    return b"".join([chunk async for chunk in chunks])


class TestToken:
    async def test_is_shared_until_it_is_nearly_over(self, client, qq, clock):
        await client.look()
        clock.time += 5000
        await client.look()
        assert qq.calls["login"] == 1

    async def test_one_that_is_given_again_is_not_asked_for_with_every_call(
        self, client, qq, clock
    ):
        """The platform gives the same one until a minute before its end."""
        first = await client.ready()
        clock.time += 7000
        for _ in range(10):
            assert await client.ready() == first
        assert qq.calls["login"] == 2
        clock.time += 145
        assert await client.ready() != first

    async def test_a_wrong_secret_is_named_and_not_shown(self, client, qq):
        right, qq.secret = qq.secret, "another"
        with pytest.raises(PlatformError) as error:
            await client.ready()
        assert error.value.error_class == "secret_invalid"
        assert right not in str(error.value)


class TestDownload:
    async def test_brings_what_is_there(self, client, qq):
        qq.media["p"] = b"abc"
        assert await taken(client.download(f"{qq.url}/download/p")) == b"abc"

    async def test_what_is_gone_is_gone(self, client, qq):
        with pytest.raises(PlatformError) as error:
            await taken(client.download(f"{qq.url}/download/p"))
        assert error.value.error_class == "media_failed"

    async def test_only_a_platform_without_https_has_media_without(self, qq, host):
        real = Client(
            host.http,
            base_url="https://api.sgroup.qq.com",
            login_url=qq.url,
            app_id="1",
            secret=qq.secret,
        )
        with pytest.raises(PlatformError, match="https"):
            await taken(real.download(f"{qq.url}/download/p"))

    async def test_too_much_is_not_kept(self, client, qq, monkeypatch):
        monkeypatch.setattr("adapters.qq.client.MAX_MEDIA_BYTES", 2)
        qq.media["p"] = b"abc"
        with pytest.raises(PlatformError, match="too large"):
            await taken(client.download(f"{qq.url}/download/p"))

    async def test_a_platform_that_is_away_may_come_back(self, client):
        with pytest.raises(Unreachable):
            await taken(client.download("http://127.0.0.1:1/p"))


class TestErrors:
    async def test_what_the_platform_quotes_is_not_kept(self, client, qq):
        with pytest.raises(PlatformError) as error:
            await client.send(USER, {"content": "hi", "msg_id": "nobody"})
        assert str(error.value) == "QQ answered 304026"

    async def test_an_answer_that_cannot_be_read_is_no_answer(self, client, qq):
        await client.ready()
        qq.faults.answer_500 = 1
        with pytest.raises(Cut):
            await client.look()

    def test_a_pause_is_kept(self):
        assert refused(429, 20028, retry_after_s=7).retry_after_s == 7
