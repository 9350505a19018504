import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.callback import MAX_BYTES, RECEIVED, verify
from adapters.http.settings import Settings
from adapters.model import Challenge, RawCallback, Rejected, Verified
from adapters.simulators.http import System

NOW = 1_755_850_000
SYSTEM = System(clock=lambda: NOW)
GIVEN = {"url": "https://crm.example/bot", "secret": SYSTEM.secret}
SETTINGS = Settings.model_validate(GIVEN)


def signed(body=b'{"type": "message.received"}', *, by=SYSTEM, method="POST", **headers):
    return RawCallback(
        method=method,
        path="/",
        query="",
        headers=by.headers("m1", body) | headers,
        body=body,
        received_at=NOW,
    )


class TestVerify:
    def test_what_is_signed_is_taken(self):
        assert verify(signed(), SETTINGS, now=NOW) == Verified(answer=RECEIVED)

    def test_a_ping_is_answered_and_nothing_is_kept(self):
        assert verify(signed(b'{"type": "ping"}'), SETTINGS, now=NOW) == Challenge(answer=RECEIVED)

    @pytest.mark.parametrize("off", [301, -301])
    def test_what_is_too_old_or_from_the_future_is_refused(self, off):
        assert isinstance(verify(signed(), SETTINGS, now=NOW + off), Rejected)
        assert isinstance(verify(signed(), SETTINGS, now=None), Verified)

    def test_another_key_method_body_or_size_is_refused(self):
        stranger = System(clock=lambda: NOW)
        changed = signed()
        for wrong in (
            signed(by=stranger),
            signed(method="GET"),
            signed(b" " * (MAX_BYTES + 1)),
            RawCallback(
                method="POST",
                path="/",
                query="",
                headers=changed.headers,
                body=b"{}",
                received_at=NOW,
            ),
            signed(**{"webhook-id": "other"}),
            signed(**{"webhook-signature": "v1"}),
            signed(**{"webhook-signature": ""}),
        ):
            assert isinstance(verify(wrong, SETTINGS, now=NOW), Rejected)

    def test_after_a_change_of_the_secret_both_are_taken(self):
        other = System(clock=lambda: NOW)
        changed = Settings.model_validate(
            GIVEN | {"secret": other.secret, "previous_secret": SYSTEM.secret}
        )
        for by in (SYSTEM, other):
            assert isinstance(verify(signed(by=by), changed, now=NOW), Verified)

    @given(
        st.binary(),
        st.dictionaries(
            st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()
        ),
    )
    def test_never_crashes(self, body, headers):
        raw = RawCallback(
            method="POST", path="/", query="", headers=headers, body=body, received_at=NOW
        )
        assert isinstance(verify(raw, SETTINGS, now=NOW), Rejected)

    @given(st.binary())
    def test_whatever_is_signed_does_not_make_it_crash(self, body):
        assert isinstance(verify(signed(body), SETTINGS, now=NOW), Verified)


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"secret": "plain"},
            {"secret": "whsec_" + "A" * 8},
            {"secret": "whsec_" + "A" * 100},
            {"secret": "whsec_é"},
            {"url": "ftp://x"},
            {"url": "https://user@host/"},
            {"url": "https://host:0/"},
        ],
    )
    def test_what_cannot_be_is_refused(self, wrong):
        with pytest.raises(ValueError):  # noqa: PT011 - each says something else
            Settings.model_validate(GIVEN | wrong)

    def test_no_secret_is_shown(self):
        assert json.dumps(SYSTEM.secret) not in repr(SETTINGS)
