from urllib.parse import urlencode

import pytest

from adapters.model import Challenge, RawCallback, Rejected, Verified
from adapters.simulators.wecom_seal import Seal
from adapters.wecom_kf.callback import verify


@pytest.fixture
def request_of(platform, clock):
    def request_of(plain: bytes, *, method="POST", seal=None):
        seal = seal or platform.seal
        encrypt = seal.close(plain)
        now = str(int(clock()))
        signed = {
            "msg_signature": seal.signature(now, "n", encrypt),
            "timestamp": now,
            "nonce": "n",
        }
        get = method == "GET"
        return RawCallback(
            method=method,
            path="/",
            query=urlencode(signed | ({"echostr": encrypt} if get else {})),
            headers={},
            body=b"" if get else f"<xml><Encrypt>{encrypt}</Encrypt></xml>".encode(),
            received_at=clock(),
        )

    return request_of


class TestVerify:
    def test_a_call_and_the_check_of_the_address_are_the_platforms(
        self, request_of, settings, clock
    ):
        assert isinstance(verify(request_of(b"<xml/>"), settings, now=clock()), Verified)
        found = verify(request_of(b"42", method="GET"), settings, now=clock())
        assert isinstance(found, Challenge)
        assert found.answer.body == b"42"

    def test_another_company_and_an_old_call_are_not(self, request_of, settings, clock):
        other = Seal(settings.token.get_secret_value(), "a" * 42 + "Q", "wwother")
        forged = request_of(b"<xml/>", seal=other)
        assert isinstance(verify(forged, settings, now=clock()), Rejected)
        old = request_of(b"<xml/>")
        assert isinstance(verify(old, settings, now=clock() + 3600), Rejected)


class TestCallback:
    async def test_it_is_answered_before_anything_is_pulled(self, adapter, ring, platform):
        answer = await ring(adapter)
        assert (answer.status, answer.body) == (200, b"")
        assert platform.calls == {}

    async def test_one_that_was_checked_on_arrival_may_be_old(self, adapter, ring, platform, clock):
        platform._clock = lambda: clock() - 3600
        assert (await ring(adapter)).status == 401
        assert (await ring(adapter, verified=True)).status == 200

    async def test_the_check_of_the_address_is_answered(self, adapter, request_of):
        answer = await adapter.callback(request_of(b"42", method="GET"), verified=False)
        assert answer.body == b"42"

    async def test_what_is_none_is_a_bad_request(self, adapter, request_of):
        answer = await adapter.callback(request_of(b"<xml/>"), verified=False)
        assert answer.status == 400

    async def test_what_a_member_says_to_the_application_is_acknowledged(self, adapter, ring, host):
        answer = await ring(
            adapter, MsgType="text", FromUserName="zhangsan", MsgId="1", Content="hi"
        )
        assert answer.status == 200
        assert host.reported == []
