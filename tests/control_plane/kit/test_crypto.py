"""Keys: sealing, signing, and taking a new key into use."""

import itsdangerous
import pytest

from control_plane.kit.crypto import CannotOpen, Keyring

OLD = "old-key-" + "o" * 32
NEW = "new-key-" + "n" * 32
HOUR_S = 3600


class TestSeal:
    def test_what_was_sealed_opens(self) -> None:
        keys = Keyring([NEW])

        assert keys.open(keys.seal(b"app secret")) == b"app secret"

    def test_the_value_is_not_to_be_seen_and_never_twice_the_same(self) -> None:
        keys = Keyring([NEW])
        one, other = keys.seal(b"app secret"), keys.seal(b"app secret")

        assert b"app secret" not in one
        assert one != other

    def test_a_value_of_the_old_key_opens_after_rotation(self) -> None:
        sealed = Keyring([OLD]).seal(b"app secret")

        assert Keyring([NEW, OLD]).open(sealed) == b"app secret"

    def test_the_newest_key_seals(self) -> None:
        sealed = Keyring([NEW, OLD]).seal(b"app secret")

        assert Keyring([NEW]).open(sealed) == b"app secret"
        with pytest.raises(CannotOpen):
            Keyring([OLD]).open(sealed)

    def test_a_changed_value_does_not_open(self) -> None:
        keys = Keyring([NEW])
        sealed = bytearray(keys.seal(b"app secret"))
        sealed[-5] ^= 1

        with pytest.raises(CannotOpen):
            keys.open(bytes(sealed))


class TestSign:
    def test_a_token_gives_its_payload_back(self) -> None:
        keys = Keyring([NEW])
        token = keys.sign("session", {"id": 7})

        assert keys.load("session", token, max_age_s=HOUR_S) == {"id": 7}

    def test_a_token_of_the_old_key_is_valid_after_rotation(self) -> None:
        token = Keyring([OLD]).sign("session", 7)

        assert Keyring([NEW, OLD]).load("session", token, max_age_s=HOUR_S) == 7

    def test_the_newest_key_signs(self) -> None:
        token = Keyring([NEW, OLD]).sign("session", 7)

        assert Keyring([NEW]).load("session", token, max_age_s=HOUR_S) == 7
        assert Keyring([OLD]).load("session", token, max_age_s=HOUR_S) is None

    def test_a_token_for_one_purpose_is_not_one_for_another(self) -> None:
        keys = Keyring([NEW])

        assert keys.load("media", keys.sign("session", 7), max_age_s=HOUR_S) is None

    @pytest.mark.parametrize("token", ["", "x", "a.b.c", "ä"])
    def test_rubbish_is_no_token(self, token: str) -> None:
        assert Keyring([NEW]).load("session", token, max_age_s=HOUR_S) is None

    def test_an_old_token_is_no_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys = Keyring([NEW])
        token = keys.sign("session", 7)
        signer = itsdangerous.TimestampSigner
        now = signer(NEW).get_timestamp()
        monkeypatch.setattr(signer, "get_timestamp", lambda _self: now + HOUR_S + 2)

        assert keys.load("session", token, max_age_s=HOUR_S) is None


class TestKeyring:
    @pytest.mark.parametrize("keys", [[], ["short"], [NEW, "short"]])
    def test_refuses_keys_that_can_be_guessed(self, keys: list[str]) -> None:
        with pytest.raises(ValueError, match="at least 32"):
            Keyring(keys)

    def test_each_purpose_has_a_key_of_its_own(self) -> None:
        keys = Keyring([NEW, OLD])

        assert len({*keys.derive("one"), *keys.derive("other")}) == 4
