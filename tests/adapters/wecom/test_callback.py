import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters.model import Challenge, RawCallback, Rejected, Verified
from adapters.simulators.wecom_seal import Seal
from adapters.wecom.callback import WINDOW_S, Opened, unseal, verify
from adapters.wecom.settings import Settings
from adapters.wx_xml import MAX_BYTES

NOW = 1_755_850_000
KEY = "NkFJSACJrnUk/Qq2wBZArzSACcQOpxdWZbeURqgtGtk"
SETTINGS = Settings(
    corp_id="ww0123456789abcdef",
    agent_id=1000002,
    secret="the-secret",
    token="Tk9xYz",
    encoding_aes_key=KEY,
)
PLATFORM = Seal("Tk9xYz", KEY, "ww0123456789abcdef")


def query(encrypt: str, *, at: int = NOW, **more: str) -> dict[str, str]:
    signature = PLATFORM.signature(str(at), "263014780", encrypt)
    return {"msg_signature": signature, "timestamp": str(at), "nonce": "263014780", **more}


def request(method: str, parameters: str, body: bytes = b"") -> RawCallback:
    return RawCallback(
        method=method, path="/", query=parameters, headers={}, body=body, received_at=NOW
    )


def delivery(message: bytes = b"<xml/>", *, at: int = NOW) -> RawCallback:
    encrypt = PLATFORM.close(message)
    body = f"<xml><ToUserName>ww</ToUserName><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"
    return request("POST", urlencode(query(encrypt, at=at)), body.encode())


def check(echo: bytes) -> RawCallback:
    encrypt = PLATFORM.close(echo)
    return request("GET", urlencode(query(encrypt, echostr=encrypt)))


def opened(given: RawCallback, settings: Settings = SETTINGS, *, now: float | None = NOW) -> bytes:
    found = unseal(given, settings, now=now)
    assert isinstance(found, Opened), found
    return found.message


class TestVerify:
    def test_a_delivery_is_answered_with_nothing(self):
        found = verify(delivery(), SETTINGS, now=NOW)
        assert isinstance(found, Verified)
        assert (found.answer.status, found.answer.body) == (200, b"")

    def test_a_check_of_the_address_is_answered_with_exactly_what_was_asked(self):
        found = verify(check(b"1616140317555161061"), SETTINGS, now=NOW)
        assert isinstance(found, Challenge)
        assert (found.answer.status, found.answer.body) == (200, b"1616140317555161061")
        assert found.answer.content_type == "text/plain"

    def test_a_plus_sign_that_became_a_space_on_the_way_is_one_again(self):
        # A ciphertext with a plus sign turns up after a few tries.
        encrypt = next(e for e in iter(lambda: PLATFORM.close(b"echo"), "") if "+" in e)
        raw = "&".join(f"{name}={value}" for name, value in query(encrypt).items())
        found = verify(request("GET", f"{raw}&echostr={encrypt}"), SETTINGS, now=NOW)
        assert isinstance(found, Challenge)

    @pytest.mark.parametrize("off", [WINDOW_S + 1, -WINDOW_S - 1])
    def test_what_is_too_old_or_from_the_future_is_refused(self, off):
        assert isinstance(verify(delivery(at=NOW - off), SETTINGS, now=NOW), Rejected)
        assert opened(delivery(at=NOW - off), now=None) == b"<xml/>"

    @pytest.mark.parametrize("off", [WINDOW_S, -WINDOW_S])
    def test_the_window_has_its_edges(self, off):
        assert isinstance(verify(delivery(at=NOW - off), SETTINGS, now=NOW), Verified)

    @pytest.mark.parametrize("missing", ["msg_signature", "timestamp", "nonce", "echostr"])
    def test_each_parameter_is_needed_once(self, missing):
        encrypt = PLATFORM.close(b"echo")
        asked = query(encrypt, echostr=encrypt)
        less = urlencode({name: value for name, value in asked.items() if name != missing})
        twice = urlencode([*asked.items(), (missing, asked[missing])])
        for parameters in (less, twice):
            assert isinstance(verify(request("GET", parameters), SETTINGS, now=NOW), Rejected)

    def test_another_method_is_refused(self):
        assert isinstance(verify(request("PUT", ""), SETTINGS, now=NOW), Rejected)

    def test_a_document_type_is_refused(self):
        encrypt = PLATFORM.close(b"x")
        body = f'<!DOCTYPE x [<!ENTITY e "{encrypt}">]><xml><Encrypt>&e;</Encrypt></xml>'
        found = verify(request("POST", urlencode(query(encrypt)), body.encode()), SETTINGS, now=NOW)
        assert isinstance(found, Rejected)

    def test_a_body_without_a_ciphertext_and_one_too_large_are_refused(self):
        parameters = urlencode(query("x"))
        for body in (b"<xml/>", b"<xml>" + b" " * MAX_BYTES + b"</xml>"):
            assert isinstance(
                verify(request("POST", parameters, body), SETTINGS, now=NOW), Rejected
            )

    def test_a_reason_tells_no_secret(self):
        other = SETTINGS.model_copy(update={"corp_id": "wwother"})
        found = verify(delivery(), other, now=NOW)
        assert found == Rejected(reason="the envelope is not for us: receiveid")

    @given(st.sampled_from(["GET", "POST", "PUT"]), st.text(), st.binary())
    def test_never_crashes(self, method, parameters, body):
        assert isinstance(verify(request(method, parameters, body), SETTINGS, now=NOW), Rejected)

    @given(st.text(), st.binary())
    def test_signed_parameters_do_not_make_it_crash(self, echo, body):
        for raw in (
            request("GET", urlencode(query(echo, echostr=echo))),
            request("POST", urlencode(query(echo)), body),
        ):
            assert isinstance(verify(raw, SETTINGS, now=NOW), Rejected)

    @given(st.binary(max_size=100))
    def test_whatever_the_platform_seals_is_read(self, message):
        assert opened(delivery(message)) == message

    def test_a_body_in_json_is_read_as_one_in_xml(self):
        encrypt = PLATFORM.close(b"{}")
        body = json.dumps({"tousername": "ww", "encrypt": encrypt, "agentid": 218}).encode()
        found = unseal(request("POST", urlencode(query(encrypt)), body), SETTINGS, now=NOW)
        assert isinstance(found, Opened)
        assert (found.message, found.is_json) == (b"{}", True)

    def test_json_without_a_ciphertext_is_refused(self):
        for body in (b"{}", b'{"encrypt": ["x"]}', b"{", b'{"encrypt":' + b"[" * 100_000):
            assert isinstance(
                verify(request("POST", urlencode(query("x")), body), SETTINGS, now=NOW), Rejected
            )


class TestChangeOfKeys:
    OTHER = "a" * 42 + "Q"

    @pytest.mark.parametrize(
        "before",
        [
            {"previous_token": "Tk9xYz", "token": "new"},
            {"previous_encoding_aes_key": KEY, "encoding_aes_key": OTHER},
            {
                "previous_token": "Tk9xYz",
                "token": "new",
                "previous_encoding_aes_key": KEY,
                "encoding_aes_key": OTHER,
            },
        ],
    )
    def test_what_is_still_sealed_as_before_is_taken_and_answered_as_before(self, before):
        plain = {
            "corp_id": SETTINGS.corp_id,
            "agent_id": 1,
            "secret": "s",
            "token": "Tk9xYz",
            "encoding_aes_key": KEY,
        }
        changed = Settings.model_validate(plain | before)
        found = unseal(delivery(), changed, now=NOW)
        assert isinstance(found, Opened)
        assert found.envelope == SETTINGS.envelopes[0]
        assert isinstance(verify(delivery(), changed, now=NOW), Verified)
        now = Seal(
            changed.token.get_secret_value(),
            changed.encoding_aes_key.get_secret_value(),
            changed.corp_id,
        )
        encrypt = now.close(b"new")
        signature = now.signature(str(NOW), "n", encrypt)
        asked = {"msg_signature": signature, "timestamp": str(NOW), "nonce": "n"}
        body = f"<xml><Encrypt>{encrypt}</Encrypt></xml>".encode()
        assert opened(request("POST", urlencode(asked), body), changed) == b"new"

    def test_without_the_previous_keys_it_is_not_ours(self):
        changed = SETTINGS.model_copy(update={"token": SecretStr("new")})
        assert isinstance(verify(delivery(), changed, now=NOW), Rejected)

    def test_a_previous_key_is_a_key(self):
        with pytest.raises(ValueError, match="43 letters"):
            Settings.model_validate(
                {
                    "corp_id": "ww1",
                    "agent_id": 1,
                    "secret": "s",
                    "token": "t",
                    "encoding_aes_key": KEY,
                    "previous_encoding_aes_key": "short",
                }
            )
