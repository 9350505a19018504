import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.feishu.callback import MAX_BYTES, WINDOW_S, Opened, unseal, verify
from adapters.feishu.sealing import SealError, decrypt, sign_card
from adapters.feishu.settings import Settings
from adapters.model import Challenge, RawCallback, Rejected, Verified
from adapters.simulators import feishu_wire as wire

NOW = 1_755_850_000
KEY, TOKEN, APP = "kudryavka", "the-token", "cli_a1"
GIVEN = {"transport": "callback", "app_id": APP, "app_secret": "s", "verification_token": TOKEN}
PLAIN = Settings.model_validate(GIVEN)
SEALED = Settings.model_validate(GIVEN | {"encrypt_key": KEY})


def event(**header) -> bytes:
    known = {"event_id": "e", "token": TOKEN, "app_id": APP, "create_time": f"{NOW}000"}
    return json.dumps({"schema": "2.0", "header": known | header, "event": {}}).encode()


def check(token: str = TOKEN) -> bytes:
    given = {"challenge": 'a"b\\', "token": token, "type": "url_verification"}
    return json.dumps(given).encode()


def request(body: bytes, headers: dict[str, str] | None = None, method: str = "POST"):
    return RawCallback(
        method=method, path="/", query="", headers=headers or {}, body=body, received_at=NOW
    )


def sealed(message: bytes, *, key: str = KEY, at: object = NOW, signed: bool = True, **headers):
    body = json.dumps({"encrypt": wire.close(key, message)}).encode()
    known = {
        "x-lark-request-timestamp": str(at),
        "x-lark-request-nonce": "n",
        "x-lark-signature": wire.signature(str(at), "n", key, body),
    }
    return request(body, (known if signed else {}) | headers)


def reason(found) -> str:
    assert isinstance(found, Rejected), found
    return found.reason


class TestVerify:
    def test_an_event_is_answered_with_nothing(self):
        for given_request, settings in ((sealed(event()), SEALED), (request(event()), PLAIN)):
            found = verify(given_request, settings, now=NOW)
            assert isinstance(found, Verified)
            assert (found.answer.status, found.answer.body) == (200, b"{}")

    @pytest.mark.parametrize(
        ("asked", "settings"),
        [
            (sealed(check(), signed=False), SEALED),
            (sealed(check()), SEALED),
            (request(check()), PLAIN),
        ],
    )
    def test_a_check_of_the_address_is_answered_in_plain_json(self, asked, settings):
        found = verify(asked, settings, now=NOW)
        assert isinstance(found, Challenge)
        assert json.loads(found.answer.body) == {"challenge": 'a"b\\'}

    def test_what_was_said_comes_out(self):
        assert unseal(sealed(event()), SEALED, now=NOW) == Opened(message=event())

    @pytest.mark.parametrize(
        ("asked", "settings", "words"),
        [
            (request(check("bad")), PLAIN, "Token"),
            (request(event(token="bad")), PLAIN, "Token"),
            (request(event(token=None)), PLAIN, "Token"),
            (request(event(app_id="cli_other")), PLAIN, "another application"),
            (request(event(create_time="x")), PLAIN, "time"),
            (request(event(create_time=NOW)), PLAIN, "time"),
            (request(event()), SEALED, "not encrypted"),
            (request(check()), SEALED, "not encrypted"),
            (sealed(event()), PLAIN, "no Encrypt Key"),
            (sealed(event(), key="another"), SEALED, "another signature"),
            (sealed(event(), signed=False), SEALED, "no signature"),
            (sealed(event(token="bad")), SEALED, "Token"),
            (sealed(event(), **{"x-lark-signature": "\xe4"}), SEALED, "another signature"),
            (sealed(event(), **{"x-lark-request-nonce": "m"}), SEALED, "another signature"),
            (sealed(event(), at="1e9"), SEALED, "time"),
            (sealed(event(), at=f"{NOW}7f"), SEALED, "time"),
            (sealed(event(), at="9" * 16), SEALED, "time"),
            (sealed(b"[]"), SEALED, "object"),
            (sealed(b"\xff"), SEALED, "JSON"),
            (request(b"[" * 100_000), PLAIN, "JSON"),
            (request(b'{"token": "\\ud800"}'), PLAIN, "JSON"),
            (request(b'{"token": "a", "token": "%s"}' % TOKEN.encode()), PLAIN, "JSON"),
            (request(b" " * (MAX_BYTES + 1)), PLAIN, "large"),
            (request(event(), method="GET"), PLAIN, "method"),
            (request(b'{"type": "url_verification", "token": "the-token"}'), PLAIN, "challenge"),
        ],
    )
    def test_anything_else_is_refused_and_says_why(self, asked, settings, words):
        found = reason(verify(asked, settings, now=NOW))
        assert words in found
        assert TOKEN not in found

    @pytest.mark.parametrize("off", [WINDOW_S + 1, -WINDOW_S - 1])
    def test_what_is_too_old_or_from_the_future_is_refused(self, off):
        late = sealed(event(), at=NOW - off)
        assert "clock" in reason(verify(late, SEALED, now=NOW))
        assert isinstance(unseal(late, SEALED, now=None), Opened)
        plain = request(event(create_time=str((NOW - off) * 1000)))
        assert "clock" in reason(verify(plain, PLAIN, now=NOW))

    def test_a_redelivery_after_six_hours_is_taken(self):
        assert isinstance(verify(sealed(event(), at=NOW - 25_900), SEALED, now=NOW), Verified)

    def test_keys_of_before_a_change_are_taken(self):
        changed = Settings.model_validate(
            GIVEN
            | {"verification_token": "new", "encrypt_key": "new"}
            | {"previous_verification_token": TOKEN, "previous_encrypt_key": KEY}
        )
        assert isinstance(verify(sealed(event()), changed, now=NOW), Verified)
        new = sealed(event(token="new"), key="new")
        assert isinstance(verify(new, changed, now=NOW), Verified)

    def test_a_channel_with_a_connection_takes_none(self):
        settings = SEALED.model_copy(update={"transport": "long_connection"})
        assert "long connection" in reason(verify(sealed(event()), settings, now=NOW))

    def test_the_cards_of_old_are_signed_with_the_token(self):
        body = b'{"open_id": "ou_1", "action": {}}'
        headers = {
            "x-lark-request-timestamp": str(NOW),
            "x-lark-request-nonce": "n",
            "x-lark-signature": sign_card(TOKEN, str(NOW), "n", body),
        }
        for settings in (PLAIN, SEALED):
            assert isinstance(verify(request(body, headers), settings, now=NOW), Verified)
        wrong = headers | {"x-lark-signature": "0" * 40}
        assert "signature" in reason(verify(request(body, wrong), PLAIN, now=NOW))
        # An event does not come by this door.
        assert "encrypted" in reason(verify(request(event(), wrong), SEALED, now=NOW))

    def test_events_of_version_one_are_verified_by_their_token(self):
        old = {"uuid": "u", "token": TOKEN, "ts": f"{NOW}.123", "type": "event_callback"}
        assert isinstance(verify(request(json.dumps(old).encode()), PLAIN, now=NOW), Verified)
        bad = json.dumps(old | {"ts": None}).encode()
        assert "time" in reason(verify(request(bad), PLAIN, now=NOW))

    @given(
        st.binary(max_size=300),
        st.dictionaries(
            st.sampled_from(
                ["x-lark-signature", "x-lark-request-timestamp", "x-lark-request-nonce"]
            ),
            st.text(),
        ),
    )
    def test_any_bytes_are_answered(self, body, headers):
        for settings in (PLAIN, SEALED):
            assert isinstance(verify(request(body, headers), settings, now=NOW), Rejected)

    @given(st.data())
    def test_no_changed_byte_is_taken(self, data):
        asked = sealed(event())
        at = data.draw(st.integers(0, len(asked.body) - 1))
        body = bytearray(asked.body)
        body[at] ^= data.draw(st.integers(1, 255))
        assert isinstance(verify(request(bytes(body), asked.headers), SEALED, now=NOW), Rejected)


class TestDecrypt:
    @given(st.binary(max_size=100), st.text(min_size=1))
    def test_what_the_platform_closed_opens(self, message, key):
        assert decrypt(key, wire.close(key, message)) == message

    @pytest.mark.parametrize(
        "given_text",
        [
            "",
            "AAAA",
            "=",
            "é",
            "A" * 21 + "=",
            # Closed with another key.
            "mZ6TCwRwkMILMzdCAxbQDk6Q8n8mgVso03W87f5l4Jf78cXNsGDkc8aa0utD3bfqSIVBERNlmTbPqZTzjiiaWA==",
        ],
    )
    def test_anything_else_is_refused(self, given_text):
        with pytest.raises(SealError):
            decrypt(KEY, given_text)


class TestSettings:
    def test_callbacks_need_a_token_and_connections_do_not(self):
        without = {name: value for name, value in GIVEN.items() if name != "verification_token"}
        with pytest.raises(ValidationError) as error:
            Settings.model_validate(without)
        assert error.value.errors()[0]["loc"] == ("verification_token",)
        Settings.model_validate(without | {"transport": "long_connection"})

    def test_nothing_shows_a_secret(self):
        shown = f"{SEALED!r} {SEALED.keys!r}"
        assert TOKEN not in shown
        assert KEY not in shown
