import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.model import Challenge, RawCallback, Rejected, Verified
from adapters.simulators.wecom_seal import Seal
from adapters.wecom_aibot import messages
from adapters.wecom_aibot.callback import WINDOW_S, verify
from adapters.wecom_aibot.settings import Settings

NOW = 1_755_850_000
KEY = "vkPF26jfiKRWqTuNsK7W0U6O8UG5+gCTbOo5hf5G78g"
SETTINGS = Settings(transport="callback", bot_id="aib1", token="aibotTokenA", encoding_aes_key=KEY)
PLATFORM = Seal("aibotTokenA", KEY, "")
COMMON = {"msgid": "m1", "aibotid": "aib1", "chattype": "single", "from": {"userid": "u"}}
TEXT = COMMON | {"msgtype": "text", "text": {"content": "hi"}}
POLL = COMMON | {"msgtype": "stream", "stream": {"id": "s1"}}


def query(sealed: str, *, at: int = NOW, name: str = "msg_signature", **more: str) -> str:
    signature = PLATFORM.signature(str(at), "9369307987", sealed)
    return urlencode({name: signature, "timestamp": str(at), "nonce": "9369307987", **more})


def request(method: str, parameters: str, body: bytes = b"") -> RawCallback:
    return RawCallback(
        method=method, path="/", query=parameters, headers={}, body=body, received_at=NOW
    )


def call(message: dict, *, seal: Seal = PLATFORM, field: str = "encrypt", **more) -> RawCallback:
    sealed = seal.close(json.dumps(message).encode())
    return request("POST", query(sealed, **more), json.dumps({field: sealed}).encode())


def said(answer) -> dict:
    """The message in an answer, as the platform opens it."""
    outer = json.loads(answer.body)
    assert outer["nonce"] == "9369307987"
    assert isinstance(outer["timestamp"], int)
    expected = PLATFORM.signature(str(outer["timestamp"]), outer["nonce"], outer["encrypt"])
    assert outer["msgsignature"] == expected
    return json.loads(PLATFORM.open(outer["encrypt"]))


class TestVerify:
    def test_the_check_of_the_address_is_answered_with_exactly_what_was_asked(self):
        sealed = PLATFORM.close(b"1616140317555161061")
        found = verify(request("GET", query(sealed, echostr=sealed)), SETTINGS, now=NOW)
        assert isinstance(found, Challenge)
        assert (found.answer.status, found.answer.body) == (200, b"1616140317555161061")

    def test_a_question_that_is_kept_shows_at_once_that_it_was_heard(self):
        found = verify(call(TEXT), SETTINGS, now=NOW)
        assert isinstance(found, Verified)
        assert said(found.answer) == {
            "msgtype": "stream",
            "stream": {"id": messages.stream_id("m1"), "finish": False, "content": "…"},
        }
        assert found.answer.content_type == "text/plain"

    def test_without_words_for_that_nothing_is_shown(self):
        silent = SETTINGS.model_copy(update={"waiting_text": ""})
        found = verify(call(TEXT), silent, now=NOW)
        assert isinstance(found, Verified)
        assert found.answer.body == b""

    def test_a_poll_is_answered_and_never_kept(self):
        found = verify(call(POLL), SETTINGS, now=NOW)
        assert isinstance(found, Challenge)
        assert said(found.answer)["stream"] == {"id": "s1", "finish": False, "content": "…"}

    def test_an_answer_is_sealed_differently_each_time_and_alike_for_the_same_call(self):
        first, second = call(POLL), call(POLL)
        [one, again, other] = [
            verify(each, SETTINGS, now=NOW).answer.body for each in (first, first, second)
        ]
        assert one == again
        assert one != other

    def test_an_event_is_answered_with_nothing(self):
        event = COMMON | {"msgtype": "event", "event": {"eventtype": "feedback_event"}}
        found = verify(call(event), SETTINGS, now=NOW)
        assert isinstance(found, Verified)
        assert found.answer.body == b""

    def test_the_platforms_other_spellings_are_read(self):
        for more in ({"name": "signature"}, {"name": "msgsignature"}, {"field": "Encrypt"}):
            assert isinstance(verify(call(TEXT, **more), SETTINGS, now=NOW), Verified)

    def test_another_bots_message_is_refused_whatever_its_signature(self):
        found = verify(call(TEXT | {"aibotid": "aib2"}), SETTINGS, now=NOW)
        assert found == Rejected(reason=messages.FOREIGN)
        unknown = SETTINGS.model_copy(update={"bot_id": ""})
        assert isinstance(verify(call(TEXT | {"aibotid": "aib2"}), unknown, now=NOW), Verified)

    @pytest.mark.parametrize("off", [WINDOW_S + 1, -WINDOW_S - 1])
    def test_what_is_too_old_or_from_the_future_is_refused(self, off):
        assert isinstance(verify(call(TEXT, at=NOW - off), SETTINGS, now=NOW), Rejected)

    def test_an_envelope_with_a_company_inside_is_not_ours(self):
        theirs = Seal("aibotTokenA", KEY, "ww1")
        found = verify(call(TEXT, seal=theirs), SETTINGS, now=NOW)
        assert found == Rejected(reason="the envelope is not for us: receiveid")

    def test_keys_of_before_are_still_taken(self):
        changed = SETTINGS.model_copy(
            update={
                "token": SETTINGS.token.__class__("new"),
                "previous_token": SETTINGS.token,
            }
        )
        assert isinstance(verify(call(TEXT), changed, now=NOW), Verified)

    def test_the_long_connection_takes_no_callbacks(self):
        other = Settings(bot_id="aib1", secret="s")
        assert isinstance(verify(call(TEXT), other, now=NOW), Rejected)

    @given(st.sampled_from(["GET", "POST", "PUT"]), st.text(), st.binary())
    def test_never_crashes(self, method, parameters, body):
        assert isinstance(verify(request(method, parameters, body), SETTINGS, now=NOW), Rejected)

    @given(st.text(), st.binary(), st.binary())
    def test_signed_parameters_do_not_make_it_crash(self, echo, body, message):
        sealed = PLATFORM.close(message)
        for raw in (
            request("GET", query(echo, echostr=echo)),
            request("POST", query(echo), body),
            request("POST", query(sealed), json.dumps({"encrypt": sealed}).encode()),
        ):
            verify(raw, SETTINGS, now=NOW)


class TestSettings:
    @pytest.mark.parametrize(
        ("given", "path"),
        [
            ({"secret": "s"}, "bot_id"),
            ({"bot_id": "b"}, "secret"),
            ({"transport": "callback", "encoding_aes_key": KEY}, "token"),
            ({"transport": "callback", "token": "t"}, "encoding_aes_key"),
            ({"transport": "callback", "token": "t", "encoding_aes_key": "x"}, "encoding_aes_key"),
            ({"bot_id": "b", "secret": "s", "websocket_url": "https://a"}, "websocket_url"),
            ({"bot_id": "b", "secret": "s", "base_url": "https://a:0"}, "base_url"),
            ({"transport": "pigeon"}, "transport"),
        ],
    )
    def test_each_transport_names_what_it_needs(self, given, path):
        with pytest.raises(ValidationError) as wrong:
            Settings.model_validate(given)
        assert path in {error["loc"][0] for error in wrong.value.errors()}

    def test_what_is_right_is_taken(self):
        assert Settings(bot_id="b", secret="s").envelopes == []
        assert len(SETTINGS.envelopes) == 1
