import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import standard_webhooks
from adapters.model import CallbackAnswer, RawCallback, Rejected, Verified
from adapters.webchat import callback
from adapters.webchat.settings import Settings

NOW = 1_700_000_000
BODY = b'{"type":"message"}'


def request(body=BODY, **headers):
    return RawCallback(
        method="POST", path="/", query="", headers=headers, body=body, received_at=NOW
    )


def signed(settings):
    return standard_webhooks.sign(
        callback.key(settings), message_id="msg_1", timestamp=NOW, body=BODY
    )


class TestVerify:
    @pytest.mark.parametrize("secret", ["s" * 32, "密" * 32, "with = signs and spaces, not base64"])
    def test_any_text_serves_as_secret(self, secret):
        settings = Settings(secret=secret)
        checked = callback.verify(request(**signed(settings)), settings, now=NOW)
        assert checked == Verified(answer=CallbackAnswer(body=b"{}"))

    def test_another_secret_is_not_ours(self):
        headers = signed(Settings(secret="o" * 32))
        checked = callback.verify(request(**headers), Settings(secret="s" * 32), now=NOW)
        assert checked == Rejected(reason="no signature matches")

    def test_old_bytes_are_rejected(self):
        settings = Settings(secret="s" * 32)
        checked = callback.verify(request(**signed(settings)), settings, now=NOW + 301)
        assert isinstance(checked, Rejected)

    @given(
        body=st.binary(),
        headers=st.dictionaries(
            st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()
        ),
    )
    def test_arbitrary_bytes_are_rejected_and_never_raise(self, body, headers):
        settings = Settings(secret="s" * 32)
        assert isinstance(callback.verify(request(body, **headers), settings, now=NOW), Rejected)
