import base64
from datetime import UTC, datetime
from hashlib import sha256

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from adapters import standard_webhooks
from adapters.standard_webhooks import ID, SIGNATURE, TIMESTAMP, SignatureError

NOW = 1_700_000_000
SECRET = standard_webhooks.make_secret(bytes(range(24)))
OTHER = standard_webhooks.make_secret(b"other" * 5)
BODY = '{"text":"你好"}'.encode()


def signed(secret=SECRET, *, body=BODY, timestamp=NOW):
    return standard_webhooks.sign(secret, message_id="msg_1", timestamp=timestamp, body=body)


class TestIdOf:
    def test_is_the_same_for_the_same_body_and_for_no_other(self):
        first, other = (standard_webhooks.id_of(sha256(body).digest()) for body in (BODY, b"{}"))

        assert first == standard_webhooks.id_of(sha256(BODY).digest()) != other
        assert standard_webhooks.is_id_of_a_body(first)

    @pytest.mark.parametrize(
        "other", ["", "msg_1", "w1", "msg_0198c0de-0000-7000-8000-000000000000", f"msg_{'A' * 64}"]
    )
    def test_other_ids_are_none_of_a_body(self, other):
        assert not standard_webhooks.is_id_of_a_body(other)


class TestVerify:
    def test_what_we_sign_is_ours(self):
        assert standard_webhooks.verify([SECRET], signed(), BODY, now=NOW) == "msg_1"

    def test_during_rotation_either_secret_and_either_signature_will_do(self):
        headers = signed()
        headers[SIGNATURE] = f"v1a,none {signed(OTHER)[SIGNATURE]} {headers[SIGNATURE]}"
        assert standard_webhooks.verify([OTHER], headers, BODY, now=NOW) == "msg_1"
        assert standard_webhooks.verify([OTHER, SECRET], signed(), BODY, now=NOW) == "msg_1"

    @pytest.mark.parametrize("off", [-301, 301])
    def test_a_stale_signature_is_refused_unless_it_was_checked_on_arrival(self, off):
        with pytest.raises(SignatureError, match="timestamp"):
            standard_webhooks.verify([SECRET], signed(), BODY, now=NOW + off)
        assert standard_webhooks.verify([SECRET], signed(), BODY, now=None) == "msg_1"

    @pytest.mark.parametrize("off", [-300, 300])
    def test_five_minutes_are_tolerated(self, off):
        assert standard_webhooks.verify([SECRET], signed(), BODY, now=NOW + off) == "msg_1"

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {**signed(), ID: ""},
            {**signed(), ID: "msg_2"},
            {**signed(), TIMESTAMP: f"{NOW + 1}"},
            {**signed(), TIMESTAMP: "soon"},
            {**signed(), TIMESTAMP: f"{NOW}.0"},
            {**signed(), TIMESTAMP: "٣"},
            {**signed(), SIGNATURE: ""},
            {**signed(), SIGNATURE: "v1,"},
            {**signed(), SIGNATURE: signed()[SIGNATURE].replace("v1,", "v2,")},
            {**signed(), SIGNATURE: "x " * 4 + signed()[SIGNATURE]},
            signed(OTHER),
            signed(body=b"another"),
        ],
    )
    def test_anything_else_is_refused(self, headers):
        with pytest.raises(SignatureError):
            standard_webhooks.verify([SECRET], headers, BODY, now=NOW)

    @given(
        headers=st.fixed_dictionaries(
            {}, optional=dict.fromkeys([ID, TIMESTAMP, SIGNATURE], st.text())
        ),
        body=st.binary(),
    )
    def test_never_raises_anything_else(self, headers, body):
        with pytest.raises(SignatureError):
            standard_webhooks.verify([SECRET], headers, body, now=NOW)


class TestInteroperability:
    """Both ways with the reference library."""

    @given(key=st.binary(min_size=24, max_size=64), text=st.text())
    def test_it_signs_as_we_do(self, key, text):
        secret = standard_webhooks.make_secret(key)
        theirs = standardwebhooks.Webhook(secret).sign(
            "msg_1", datetime.fromtimestamp(NOW, UTC), text
        )
        ours = standard_webhooks.sign(secret, message_id="msg_1", timestamp=NOW, body=text.encode())
        assert ours[SIGNATURE] == theirs

    def test_it_verifies_what_we_sign_now(self):
        headers = signed(timestamp=int(datetime.now(UTC).timestamp()))
        webhook = standardwebhooks.Webhook(SECRET)
        assert webhook.verify(BODY, headers) == {"text": "你好"}
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            webhook.verify(BODY + b" ", headers)

    def test_a_secret_without_its_prefix_is_the_same_secret(self):
        bare = base64.b64encode(bytes(range(24))).decode()
        assert signed(bare) == signed(SECRET)
