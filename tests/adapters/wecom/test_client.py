import asyncio
import logging

import httpx2
import pytest

from adapters import platform
from adapters.base import Content
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.simulators.wecom_company import MEDIA_LIFE_S, TOKEN_LIFE_S
from adapters.wecom.client import Client

PNG = b"\x89PNG" + bytes(100)
PICTURE = Content(body=PNG, name="价格 表.PNG", content_type="image/png", sha256="ab" * 32)

SEND = "message/send"


@pytest.fixture
def client(wecom, host, clock):
    return made(wecom, host.http, clock)


def made(wecom, http, clock, **changes):
    settings = {"base_url": wecom.url, "corp_id": wecom.corp_id, "secret": wecom.secret}
    return Client(http, clock=clock, **settings | changes)


class Body(httpx2.AsyncByteStream):
    """A body that comes over the line, not one that is there at once."""

    def __init__(self, content):
        self._content = content

    async def __aiter__(self):
        yield self._content


def answering(*bodies, status=200, **headers):
    """A platform that gives one body after the other; `asked` counts."""
    left = iter(bodies)

    def platform(_request):
        platform.asked += 1
        return httpx2.Response(status, headers=headers, stream=Body(next(left)))

    platform.asked = 0
    return platform


def text(wecom, content="您好", to="zhangsan"):
    return {
        "touser": to,
        "agentid": wecom.agent_id,
        "msgtype": "text",
        "text": {"content": content},
    }


async def refused(call) -> PlatformError:
    with pytest.raises(PlatformError) as error:
        await call
    return error.value


async def downloaded(client, media_id) -> bytes:
    return b"".join([chunk async for chunk in client.download(media_id)])


class TestToken:
    async def test_is_fetched_once_for_many_callers(self, client, wecom):
        await asyncio.gather(*(client.look(wecom.agent_id) for _ in range(8)))
        assert wecom.calls["gettoken"] == 1

    async def test_is_renewed_before_it_ends(self, client, wecom, clock):
        await client.look(wecom.agent_id)
        clock.time += TOKEN_LIFE_S * 0.8 - 1
        await client.look(wecom.agent_id)
        assert wecom.calls["gettoken"] == 1
        clock.time += 1
        await client.look(wecom.agent_id)
        assert wecom.calls["gettoken"] == 2

    async def test_that_ended_early_is_renewed_once_and_the_call_repeated(self, client, wecom):
        await client.send(SEND, text(wecom))
        wecom.expire_tokens()
        await asyncio.gather(*(client.send(SEND, text(wecom, str(n))) for n in range(5)))
        assert wecom.calls["gettoken"] == 2
        assert sorted(wecom.told("zhangsan")) == ["0", "1", "2", "3", "4", "您好"]

    async def test_that_is_never_good_is_not_asked_for_for_ever(self, client, wecom, monkeypatch):
        monkeypatch.setattr("adapters.simulators.wecom_company.TOKEN_LIFE_S", 0)
        error = await refused(client.look(wecom.agent_id))
        assert error.error_class == "token_expired"
        assert wecom.calls["gettoken"] == 2

    async def test_a_failed_renewal_is_tried_by_the_next_caller(self, client, wecom):
        wecom.faults.answer_500 = 1
        with pytest.raises(Unreachable):
            await client.send(SEND, text(wecom))
        await client.send(SEND, text(wecom))
        assert wecom.told("zhangsan") == ["您好"]


class TestErrors:
    async def test_a_wrong_secret_and_a_wrong_company(self, wecom, host, clock):
        for changes, errcode in (({"secret": "wrong"}, 40001), ({"corp_id": "wwother"}, 40013)):
            error = await refused(made(wecom, host.http, clock, **changes).look(wecom.agent_id))
            assert (error.code, error.error_class) == (errcode, "secret_invalid")

    async def test_an_address_that_is_not_trusted_is_named(self, client, wecom):
        wecom.faults.refused_address = "203.0.113.7"
        error = await refused(client.look(wecom.agent_id))
        assert (error.error_class, error.address) == ("ip_not_allowed", "203.0.113.7")

    async def test_somebody_who_is_no_member(self, client, wecom):
        error = await refused(client.send(SEND, text(wecom, to="nobody")))
        assert error.error_class == "recipient_invalid"

    async def test_taken_for_nobody_is_a_refusal(self, wecom, clock):
        platform = answering(
            b'{"access_token": "t", "expires_in": 7200}',
            b'{"errcode": 0, "invaliduser": "zhangsan"}',
            b'{"errcode": 0, "unlicenseduser": "zhangsan"}',
        )
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(platform)) as http:
            client = made(wecom, http, clock)
            classes = [
                (await refused(client.send(SEND, text(wecom)))).error_class for _ in range(2)
            ]
        assert classes == ["recipient_invalid", "no_permission"]

    async def test_too_often_is_said_in_two_ways(self, client, wecom, clock):
        wecom.faults.rate_limit = 1
        assert (await refused(client.send(SEND, text(wecom)))).error_class == "rate_limited"
        platform = answering(b"", status=429)
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(platform)) as http:
            error = await refused(made(wecom, http, clock).look(1))
        assert error.error_class == "rate_limited"

    async def test_a_send_that_got_no_readable_answer_has_no_known_end(self, client, wecom):
        await client.look(wecom.agent_id)
        wecom.faults.drop_reply = 1
        with pytest.raises(Cut):
            await client.send(SEND, text(wecom))
        wecom.faults.answer_500 = 1
        with pytest.raises(Cut):
            await client.send(SEND, text(wecom))
        assert wecom.told("zhangsan") == ["您好"]

    async def test_without_a_connection_nothing_was_done(self, wecom, host, clock):
        client = made(wecom, host.http, clock, base_url="http://127.0.0.1:1")
        with pytest.raises(Unreachable):
            await client.send(SEND, text(wecom))

    @pytest.mark.parametrize(
        "platform",
        [
            answering(b"<html>"),
            answering(b"[" * 100_000),
            answering(b" " * (platform.MAX_ANSWER_BYTES + 1)),
            answering(b'{"errcode": "0"}'),
            answering(b"", status=302, location="http://169.254.169.254/"),
        ],
        ids=["no JSON", "deep", "long", "another type", "a redirect"],
    )
    async def test_an_answer_that_is_none_is_no_crash(self, platform, wecom, clock):
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(platform)) as http:
            with pytest.raises((Unreachable, PlatformError)):
                await made(wecom, http, clock).look(1)
        assert platform.asked == 1

    async def test_no_error_and_no_log_shows_secret_or_token(self, client, wecom, caplog):
        await client.look(wecom.agent_id)
        token = client._token._value
        errors = []
        with caplog.at_level(logging.WARNING):
            for fault in ("answer_500", "drop_reply", "rate_limit"):
                setattr(wecom.faults, fault, 1)
                with pytest.raises((Cut, PlatformError)) as error:
                    await client.send(SEND, text(wecom))
                errors.append(error.value)
        chained = [repr((e, str(e), e.__cause__, e.__suppress_context__)) for e in errors]
        said = caplog.text + "".join(chained)
        assert token not in said
        assert wecom.secret not in said
        assert [e.__suppress_context__ or e.__context__ is None for e in errors] == [True] * 3


class TestMedia:
    async def test_what_is_uploaded_can_be_fetched_again(self, client, wecom):
        media_id = await client.upload("image", PICTURE)
        kept = wecom.media[media_id]
        # The platform reads other names wrongly.
        assert (kept.kind, kept.name, kept.body) == ("image", "file.PNG", PNG)
        assert await downloaded(client, media_id) == PNG

    @pytest.mark.parametrize(
        ("name", "safe"),
        [
            ("a.pdf", "a.pdf"),
            ("../../etc/passwd", "file.etc_passwd"),
            ('a"\r\nx: y.pdf', "a_x_y.pdf"),
            ("价格.pdf", "file.pdf"),
            ("", "file"),
            ("...", "file"),
            ("x" * 300 + ".pdf", "x" * 80 + ".pdf"),
            ("a." + "x" * 300, "a." + "x" * 20),
        ],
    )
    async def test_a_name_can_do_no_harm(self, client, wecom, name, safe):
        content = Content(body=PNG, name=name, content_type="image/png", sha256="0" * 64)
        media_id = await client.upload("file", content)
        assert wecom.media[media_id].name == safe

    async def test_bytes_that_look_like_the_frame_around_them_stay_bytes(self, client, wecom):
        body = b"\r\n--botyard\r\nContent-Disposition: x\r\n\r\n" + bytes(range(256))
        content = Content(body=body, name="a", content_type="x/y", sha256="1" * 64)
        assert wecom.media[await client.upload("file", content)].body == body

    async def test_what_the_platform_has_forgotten_is_said(self, client, wecom, clock):
        media_id = wecom.keep("image", PNG)
        clock.time += MEDIA_LIFE_S + 1
        with pytest.raises(PlatformError) as error:
            await downloaded(client, media_id)
        assert error.value.error_class == "media_failed"

    async def test_a_token_that_ended_does_not_stop_a_download(self, client, wecom):
        await client.look(wecom.agent_id)
        wecom.expire_tokens()
        assert await downloaded(client, wecom.keep("image", PNG)) == PNG

    async def test_no_more_is_read_than_a_file_may_have(self, client, wecom, monkeypatch):
        monkeypatch.setattr("adapters.wecom.codec.MAX_FILE_BYTES", 50)
        with pytest.raises(PlatformError):
            await downloaded(client, wecom.keep("image", PNG))
