import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters.model import Challenge, RawCallback, Rejected, Verified
from adapters.qq import callback, signing
from adapters.qq.callback import RECEIVED, opened, verify
from adapters.qq.settings import Settings

SECRET = "DG5g3B4j9X2KOErG"
SETTINGS = Settings(app_id="11111111", secret=SecretStr(SECRET))
NOW = 1_755_850_000
SAID = {"op": 0, "id": "E", "s": 1, "t": "C2C_MESSAGE_CREATE", "d": {"id": "1"}}


def call(body, *, at=str(NOW), signed=True, secret=SECRET, method="POST", **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = signing.sign(secret, at.encode() + raw).hex()
    proof = {"x-signature-ed25519": signature, "x-signature-timestamp": at}
    return RawCallback(
        method=method,
        path="/",
        query="",
        headers={"x-bot-appid": "11111111"} | (proof if signed else {}) | headers,
        body=raw,
        received_at=NOW,
    )


def looked_at(request):
    return verify(request, SETTINGS, now=NOW)


class TestVerify:
    def test_what_the_platform_signed_is_acknowledged(self):
        assert looked_at(call(SAID)) == Verified(answer=RECEIVED)
        assert json.loads(RECEIVED.body) == {"op": 12, "d": 0}

    @pytest.mark.parametrize(
        "request_",
        [
            call(SAID, signed=False),
            call(SAID, secret="another"),
            call(SAID, method="GET"),
            call(SAID, at=str(NOW - 601)),
            call(SAID, at=str(NOW + 601)),
            call(SAID, at="soon"),
            call(SAID, at="9" * 40),
            call(SAID, at="١٧٥٥٨٥٠٠٠٠"),
            call(SAID, **{"x-bot-appid": "22222222"}),
            call(SAID, **{"x-signature-ed25519": ""}),
            call(SAID, **{"x-signature-ed25519": "zz" * 64}),
            call(SAID, **{"x-signature-ed25519": "00 " * 64}),
            call(SAID, **{"x-signature-timestamp": str(NOW - 1)}),
            call(b"[]"),
            call(b"7"),
            call(b"{"),
            call(b'{"op":"0"}'),
            call(b'{"op":0,"s":-1}'),
            call(b'{"op":0,"s":9007199254740993}'),
            call(b'{"op":0,"d":"\xff"}'),
            call(b'{"op":0,"d":' + b"[" * 100_000),
            call(b'{"op":0,"d":"' + b"x" * callback.MAX_BYTES + b'"}'),
        ],
        ids=range(22),
    )
    def test_anything_else_is_rejected_without_a_secret_in_the_reason(self, request_):
        found = looked_at(request_)
        assert isinstance(found, Rejected)
        assert SECRET not in found.reason

    def test_every_changed_byte_is_seen(self):
        good = call(SAID)
        for at in range(len(good.body)):
            body = bytearray(good.body)
            body[at] ^= 1
            assert isinstance(looked_at(call(bytes(body), **good.headers)), Rejected)

    def test_only_the_age_is_taken_on_trust(self):
        old = call(SAID, at=str(NOW - 86_400))
        assert isinstance(opened(old, SETTINGS, now=None), callback.Call)
        forged = call(SAID, secret="another")
        assert isinstance(opened(forged, SETTINGS, now=None), Rejected)

    @given(st.binary(max_size=300))
    def test_never_raises(self, body):
        for signed in (True, False):
            verify(call(body, signed=signed), SETTINGS, now=NOW)

    @given(st.dictionaries(st.sampled_from(["op", "d", "s", "t", "id"]), st.none() | st.integers()))
    def test_signed_nonsense_is_not_answered_with_a_signature(self, body):
        found = verify(call(body), SETTINGS, now=NOW)
        assert b"signature" not in getattr(getattr(found, "answer", None), "body", b"")


def challenge(said="Arq0D5A61EgUu4OxUvOp", at="1725442341", **more):
    return {"op": 13, "d": {"plain_token": said, "event_ts": at}} | more


class TestChallenge:
    def test_is_answered_whether_it_is_signed_or_not(self):
        for signed in (True, False):
            found = looked_at(call(challenge(), signed=signed))
            assert isinstance(found, Challenge)
            answer = json.loads(found.answer.body)
            assert answer["plain_token"] == "Arq0D5A61EgUu4OxUvOp"
            assert signing.holds(
                signing.public_key(SECRET), b"1725442341Arq0D5A61EgUu4OxUvOp", answer["signature"]
            )

    def test_a_signature_that_is_there_must_fit(self):
        assert isinstance(looked_at(call(challenge(), secret="another")), Rejected)

    def test_of_another_bot_is_not_answered(self):
        other = call(challenge(), signed=False, **{"x-bot-appid": "22222222"})
        assert isinstance(looked_at(other), Rejected)

    @pytest.mark.parametrize(
        "asked",
        [
            # A message that somebody would like to have said.
            challenge(said=json.dumps(SAID), at=str(NOW)),
            challenge(said="{}"),
            challenge(said=""),
            challenge(said="a" * 65),
            challenge(said="a\n"),
            challenge(said="é"),
            challenge(said=7),
            challenge(at=f'{NOW}{{"op":0}}'),
            challenge(at=""),
            challenge(at=NOW),
            challenge(at="1725442341 "),
            challenge(at="9" * 16),
            challenge(d=None),
            challenge(d=[]),
            challenge(d={}),
        ],
        ids=range(15),
    )
    def test_nothing_but_a_challenge_is_signed(self, asked):
        for signed in (True, False):
            assert isinstance(looked_at(call(asked, signed=signed)), Rejected)

    @given(st.from_regex(r"[0-9A-Za-z_-]{1,64}", fullmatch=True), st.integers(0, 10**15 - 1))
    def test_what_is_signed_can_never_be_read_as_a_call(self, token, at):
        """However the time is cut off the signed text, what is left is no object."""
        found = verify(call(challenge(token, str(at)), signed=False), SETTINGS, now=NOW)
        assert isinstance(found, Challenge)
        text, signature = f"{at}{token}", json.loads(found.answer.body)["signature"]
        for cut in range(1, len(str(at)) + 1):
            forged = {"x-signature-ed25519": signature, "x-signature-timestamp": text[:cut]}
            body = text[cut:].encode()
            for now in (NOW, int(text[:cut])):
                result = verify(call(body, **forged), SETTINGS, now=now)
                assert isinstance(result, Rejected)


class TestHeartbeat:
    def test_is_answered_with_its_number_and_kept_nowhere(self):
        found = looked_at(call({"op": 1, "d": 42}))
        assert isinstance(found, Challenge)
        assert json.loads(found.answer.body) == {"op": 11, "d": 42}

    def test_must_be_signed(self):
        assert isinstance(looked_at(call({"op": 1, "d": 42}, signed=False)), Rejected)

    @pytest.mark.parametrize("number", [None, "1", True, -1, 2**60, 1.5])
    def test_of_no_number_is_rejected(self, number):
        assert isinstance(looked_at(call({"op": 1, "d": number})), Rejected)


class TestSigning:
    def test_a_secret_is_needed(self):
        with pytest.raises(ValueError, match="no secret"):
            signing.seed("")

    @given(st.text(min_size=1, max_size=80))
    def test_any_other_makes_a_seed(self, secret):
        seed = signing.seed(secret)
        assert len(seed) == 32
        assert seed == (secret.encode() * 32)[:32]

    def test_a_signature_of_the_other_form_is_not_taken(self):
        """Its last bits are clear in every real one, and the sum may be written in another way."""
        good = signing.sign(SECRET, b"m")
        order = 2**252 + 27742317777372353535851937790883648493
        other = (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little")
        assert signing.holds(signing.public_key(SECRET), b"m", good.hex())
        assert not signing.holds(signing.public_key(SECRET), b"m", (good[:32] + other).hex())
        assert not signing.holds(
            signing.public_key(SECRET), b"m", (good[:63] + bytes([good[63] | 0xE0])).hex()
        )
