import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.dingtalk.callback import RECEIVED, WINDOW_MS, Opened, sign, unseal, verify
from adapters.dingtalk.settings import Settings
from adapters.model import Challenge, RawCallback, Rejected, Verified
from adapters.simulators.dingtalk import DingTalk

NOW = 1_755_850_000
PLATFORM = DingTalk(transport="callback")
GIVEN = {
    "transport": "callback",
    "client_id": PLATFORM.client_id,
    "client_secret": PLATFORM.client_secret,
    "token": PLATFORM.token,
    "encoding_aes_key": PLATFORM.encoding_aes_key,
}
SETTINGS = Settings.model_validate(GIVEN)


def request(*, headers=None, query="", body=b"{}", method="POST") -> RawCallback:
    return RawCallback(
        method=method, path="/", query=query, headers=headers or {}, body=body, received_at=NOW
    )


def signed(*, at_ms=NOW * 1000, secret=PLATFORM.client_secret, body=b'{"msgtype": "text"}'):
    headers = {"timestamp": str(at_ms), "sign": sign(secret, str(at_ms))}
    return request(headers=headers, body=body)


def sealed(message: object, *, at_ms=NOW * 1000, seal=PLATFORM.seal, stamp="timestamp"):
    encrypt = seal.close(json.dumps(message).encode())
    query = {"signature": seal.signature(str(at_ms), "n", encrypt), stamp: at_ms, "nonce": "n"}
    return request(query=urlencode(query), body=json.dumps({"encrypt": encrypt}).encode())


class TestSigned:
    def test_is_taken(self):
        assert verify(signed(), SETTINGS, now=NOW) == Verified(answer=RECEIVED)

    @pytest.mark.parametrize("off", [WINDOW_MS + 1, -WINDOW_MS - 1])
    def test_within_the_hour(self, off):
        late = signed(at_ms=NOW * 1000 + off)
        assert isinstance(verify(late, SETTINGS, now=NOW), Rejected)
        assert isinstance(unseal(late, SETTINGS, now=None), Opened)
        on_time = signed(at_ms=NOW * 1000 + off - (1 if off > 0 else -1))
        assert isinstance(verify(on_time, SETTINGS, now=NOW), Verified)

    @pytest.mark.parametrize(
        "headers",
        [
            {"sign": "x"},
            {"sign": "x", "timestamp": str(NOW * 1000)},
            {"sign": "", "timestamp": str(NOW * 1000)},
            {"sign": "é", "timestamp": str(NOW * 1000)},
            {"sign": "x", "timestamp": "1e9"},
            {"sign": "x", "timestamp": "9" * 400},
            {"timestamp": str(NOW * 1000)},
            {},
        ],
    )
    def test_without_a_good_signature_is_refused(self, headers):
        assert isinstance(verify(request(headers=headers), SETTINGS, now=NOW), Rejected)

    def test_after_a_change_of_the_secret_both_are_taken(self):
        changed = Settings.model_validate(
            GIVEN | {"client_secret": "new", "previous_client_secret": PLATFORM.client_secret}
        )
        for secret in ("new", PLATFORM.client_secret):
            assert isinstance(verify(signed(secret=secret), changed, now=NOW), Verified)
        assert isinstance(verify(signed(secret="other"), changed, now=NOW), Rejected)

    def test_a_channel_with_the_stream_takes_none(self):
        streams = Settings.model_validate(GIVEN | {"transport": "stream"})
        assert isinstance(verify(signed(), streams, now=NOW), Rejected)

    def test_another_method_and_a_huge_body_are_refused(self):
        big = signed(body=b" " * (2**20 + 1))
        for wrong in (request(method="GET"), big):
            assert isinstance(verify(wrong, SETTINGS, now=NOW), Rejected)


class TestSealed:
    @pytest.mark.parametrize("stamp", ["timestamp", "timeStamp"])
    def test_the_check_of_the_address_and_events_are_answered_with_the_word(self, stamp):
        for event in ({"EventType": "check_url"}, {"EventType": "user_add_org", "UserId": ["1"]}):
            found = verify(sealed(event, stamp=stamp), SETTINGS, now=NOW)
            assert isinstance(found, Challenge)
            assert PLATFORM.is_success(found.answer.body)

    def test_a_message_is_kept_and_answered_alike(self):
        found = verify(sealed({"msgtype": "text", "msgId": "1"}), SETTINGS, now=NOW)
        assert isinstance(found, Verified)
        assert PLATFORM.is_success(found.answer.body)

    def test_two_answers_are_never_sealed_alike(self):
        answers = [unseal(sealed({"EventType": "x"}), SETTINGS, now=NOW).answer for _ in range(2)]
        assert answers[0].body != answers[1].body

    def test_sealed_for_another_or_too_old_is_refused(self):
        stranger = DingTalk(transport="callback")
        stranger.seal._token, stranger.seal._key = PLATFORM.seal._token, PLATFORM.seal._key
        event = {"EventType": "check_url"}
        found = verify(sealed(event, seal=stranger.seal), SETTINGS, now=NOW)
        assert found == Rejected(reason="the envelope is not for us: receiveid")
        old = sealed(event, at_ms=NOW * 1000 - WINDOW_MS - 1)
        assert isinstance(verify(old, SETTINGS, now=NOW), Rejected)

    def test_without_keys_nothing_can_be_opened(self):
        plain = {"client_id": PLATFORM.client_id, "client_secret": "s", "transport": "callback"}
        bare = Settings.model_validate(plain)
        assert isinstance(verify(sealed({}), bare, now=NOW), Rejected)

    def test_after_a_change_of_keys_the_former_are_taken(self):
        changed = Settings.model_validate(
            GIVEN
            | {
                "token": "new",
                "encoding_aes_key": "a" * 42 + "Q",
                "previous_token": PLATFORM.token,
                "previous_encoding_aes_key": PLATFORM.encoding_aes_key,
            }
        )
        found = verify(sealed({"EventType": "check_url"}), changed, now=NOW)
        assert isinstance(found, Challenge)
        assert PLATFORM.is_success(found.answer.body)

    @given(
        st.text(), st.binary(), st.dictionaries(st.sampled_from(["sign", "timestamp"]), st.text())
    )
    def test_never_crashes(self, query, body, headers):
        given = request(headers=headers, query=query, body=body)
        assert isinstance(verify(given, SETTINGS, now=NOW), Rejected)

    @given(st.binary())
    def test_whatever_the_platform_seals_does_not_make_it_crash(self, message):
        encrypt = PLATFORM.seal.close(message)
        stamp = str(NOW * 1000)
        signature = PLATFORM.seal.signature(stamp, "n", encrypt)
        query = urlencode({"msg_signature": signature, "timestamp": stamp, "nonce": "n"})
        raw = request(query=query, body=json.dumps({"encrypt": encrypt}).encode())
        assert isinstance(verify(raw, SETTINGS, now=NOW), Rejected | Challenge)


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"token": None},
            {"encoding_aes_key": None},
            {"encoding_aes_key": "short"},
            {"transport": "mail"},
            {"api_url": "https://user@host"},
            {"oapi_url": "https://host:0"},
            {"robot_code": ""},
        ],
    )
    def test_what_cannot_be_is_refused(self, wrong):
        with pytest.raises(ValueError):  # noqa: PT011 - each says something else
            Settings.model_validate(GIVEN | wrong)

    def test_a_robot_is_its_application_unless_it_says_otherwise(self):
        assert SETTINGS.robot == PLATFORM.client_id
        assert Settings.model_validate(GIVEN | {"robot_code": "r1"}).robot == "r1"
