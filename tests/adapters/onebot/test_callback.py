import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.model import Challenge, RawCallback, Rejected, Verified
from adapters.onebot.callback import admit, signature, verify
from adapters.onebot.settings import Settings

TOKEN, BEFORE = "token-of-now", "token-of-before"
SOCKET = Settings(self_id="7", access_token=TOKEN, previous_access_token=BEFORE)
HTTP = Settings(
    self_id="7",
    access_token=TOKEN,
    previous_access_token=BEFORE,
    transport="http",
    api_url="https://client.example",
)


def handshake(query="", **headers):
    given = {"x-self-id": "7", "authorization": f"Bearer {TOKEN}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return RawCallback(method="GET", path="/", query=query, headers=given, body=b"", received_at=0)


def posted(body=b"{}", *, secret=TOKEN, signed=b"{}", method="POST", **headers):
    given = {"x-self-id": "7", "x-signature": signature(secret, signed)}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return RawCallback(method=method, path="/", query="", headers=given, body=body, received_at=0)


def status(found):
    return found.status if isinstance(found, Rejected) else 0


class TestAdmit:
    @pytest.mark.parametrize(
        ("request_", "expected"),
        [
            (handshake(), 0),
            (handshake(authorization=f"bearer {BEFORE}"), 0),
            (handshake(authorization=f"Token {TOKEN}"), 0),
            (handshake(f"access_token={TOKEN}", authorization=""), 0),
            (handshake(f"access_token={TOKEN}&access_token={TOKEN}", authorization=""), 401),
            (handshake("a=1&" * 100, authorization=""), 401),
            (handshake(authorization=""), 401),
            (handshake(authorization="Bearer "), 401),
            (handshake(authorization="Basic dTpw"), 401),
            (handshake(authorization=f"Bearer {TOKEN}x"), 403),
            (handshake(authorization="Bearer \udcff"), 403),
            (handshake(x_self_id="8"), 403),
            (handshake(x_self_id=""), 403),
            (handshake(x_client_role="Universal"), 0),
            (handshake(x_client_role="Event"), 403),
        ],
    )
    def test_lets_in_who_proves_it(self, request_, expected):
        assert status(admit(request_, SOCKET)) == expected

    def test_a_channel_by_http_takes_no_socket(self):
        assert status(admit(handshake(), HTTP)) == 403

    @given(st.text(), st.text(), st.text())
    def test_never_fails(self, proof, query, role):
        assert admit(handshake(query, authorization=f"Bearer {proof}", x_client_role=role), SOCKET)


class TestVerify:
    @pytest.mark.parametrize(
        ("request_", "expected"),
        [
            (posted(), 0),
            (posted(secret=BEFORE), 0),
            (posted(secret="another"), 403),
            (posted(b"{ }"), 403),
            (posted(b""), 403),
            (posted(x_signature=""), 401),
            (posted(x_signature="sha1="), 403),
            (posted(x_signature="md5=00"), 403),
            (posted(x_self_id="8"), 403),
            (posted(method="GET"), 403),
        ],
    )
    def test_takes_what_the_client_signed(self, request_, expected):
        found = verify(request_, HTTP, now=0)
        assert status(found) == expected
        assert isinstance(found, Verified) == (expected == 0)

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b'{"post_type": "meta_event", "meta_event_type": "heartbeat"}', False),
            (b'{"post_type": "message", "message": "meta_event"}', True),
            (b'{"post_type": ["meta_event"]}', True),
            (b"\xff", True),
            (b"[" * 100_000, True),
        ],
    )
    def test_keeps_no_call_that_only_says_that_the_client_is_there(self, body, says):
        found = verify(posted(body, signed=body), HTTP, now=0)
        assert type(found) is (Verified if says else Challenge)

    def test_answers_nothing_that_a_client_could_take_for_an_order(self):
        assert verify(posted(), HTTP, now=0).answer.body == b""

    def test_a_secret_of_its_own_signs_in_place_of_the_token(self):
        settings = HTTP.model_copy(update={"signature_secret": HTTP.access_token})
        assert status(verify(posted(), settings, now=0)) == 0
        assert status(verify(posted(secret=BEFORE), settings, now=0)) == 403

    def test_a_channel_by_socket_takes_no_posts(self):
        assert status(verify(posted(), SOCKET, now=0)) == 403


class TestSettings:
    def test_http_needs_somebody_to_call(self):
        with pytest.raises(ValidationError, match="api_url"):
            Settings(self_id="7", access_token=TOKEN, transport="http")
