"""What a provider may say, and what an ID token has to be."""

import base64
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OctKey, RSAKey

from control_plane.access import openid
from control_plane.access.openid import ALGORITHMS, Party, UnknownKey, Untrusted
from control_plane.kit.ids import new_id

ISSUER = "https://login.tea.example"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = int(NOW.timestamp())
NONCE = "the nonce of this sign-on"
PARTY = Party(
    tenant_id=new_id(),
    issuer=ISSUER,
    client_id="botyard",
    client_secret="of no use to anybody else",
    redirect_uri="https://botyard.example/back",
)
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
    "id_token_signing_alg_values_supported": ["HS256", "RS256"],
}


def published(*keys: Key) -> KeySet:
    """The keys as everybody can read them."""
    listed = [key.as_dict(private=False) for key in keys]
    return openid.read_keys(json.dumps({"keys": listed}).encode())


def claims(**more: Any) -> dict[str, Any]:
    plain = {
        "iss": ISSUER,
        "sub": "lin",
        "aud": "botyard",
        "exp": AT + 300,
        "iat": AT,
        "nonce": NONCE,
    }
    return {name: value for name, value in (plain | more).items() if value is not None}


def signed(key: Key = RSA, alg: str = "RS256", kid: str = "rsa", **more: Any) -> str:
    return jwt.encode({"alg": alg, "kid": kid}, claims(**more), key, algorithms=[alg])


def read(token: str, keys: KeySet | None = None, **more: Any) -> dict[str, Any]:
    about = {"party": PARTY, "nonce": NONCE, "access_token": None, "now": NOW} | more
    return openid.read_id_token(token, keys or published(RSA), **about)


class TestIdToken:
    @pytest.mark.parametrize("alg", ALGORITHMS)
    def test_is_read_with_each_algorithm_of_the_list(self, alg: str) -> None:
        key: Key = ECKey.generate_key(CURVES[alg], {"kid": "ec"}) if alg in CURVES else RSA

        assert read(signed(key, alg, key.kid or ""), published(key))["sub"] == "lin"

    def test_without_a_signature_is_refused(self) -> None:
        parts = signed().split(".")
        for alg in ("none", "None", "NONE", ""):
            header = _text(json.dumps({"alg": alg, "kid": "rsa"}).encode())
            for token in (f"{header}.{parts[1]}.", f"{header}.{parts[1]}.{parts[2]}"):
                with pytest.raises(Untrusted):
                    read(token)

    @pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
    def test_signed_with_the_public_key_as_a_secret_is_refused(self, alg: str) -> None:
        signed_part = signed(alg="RS256").rpartition(".")[0].partition(".")[2]
        header = _text(json.dumps({"alg": alg, "kid": "rsa"}).encode())
        for public in (RSA.as_pem(private=False), json.dumps(RSA.as_dict(private=False)).encode()):
            content = f"{header}.{signed_part}"
            # By hand: a good library refuses to sign with it.
            mac = hmac.digest(public, content.encode(), f"sha{alg[2:]}")
            with pytest.raises(Untrusted):
                read(f"{content}.{_text(mac)}")

    def test_signed_with_our_own_secret_is_refused(self) -> None:
        secret = OctKey.import_key(PARTY.client_secret.encode().ljust(64, b"="))

        with pytest.raises(Untrusted):
            read(signed(secret, "HS256"))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"iss": "https://other.example"},
            {"iss": f"{ISSUER}/"},
            {"iss": None},
            {"aud": "another"},
            {"aud": None},
            {"aud": ["another", "others"]},
            {"aud": ["botyard", "another"]},
            {"aud": ["botyard", "another"], "azp": "another"},
            {"azp": "another"},
            {"nonce": "of an earlier sign-on"},
            {"nonce": None},
            {"exp": AT - 61},
            {"exp": None},
            {"exp": "tomorrow"},
            {"exp": float("nan")},
            {"iat": AT + 120},
            {"iat": None},
            {"nbf": AT + 120},
            {"sub": None},
            {"sub": ""},
            {"sub": 7},
            {"sub": ["lin"]},
            {"sub": "x" * 256},
        ],
        ids=str,
    )
    def test_made_for_something_else_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(Untrusted):
            read(signed(**wrong))

    def test_for_several_is_read_when_it_was_made_for_us(self) -> None:
        assert read(signed(aud=["botyard", "another"], azp="botyard"))["sub"] == "lin"

    def test_with_another_access_tokens_hash_is_refused(self) -> None:
        with pytest.raises(Untrusted):
            read(signed(at_hash="c29tZXRoaW5nIGVsc2U"), access_token="the one that came along")

    def test_by_an_unknown_key_says_so(self) -> None:
        with pytest.raises(UnknownKey):
            read(signed(kid="new"))

    def test_by_somebody_elses_key_under_a_known_name_is_refused(self) -> None:
        theirs = RSAKey.generate_key(2048, {"kid": "rsa"})

        with pytest.raises(Untrusted):
            read(signed(theirs))

    @pytest.mark.parametrize("junk", ["", ".", "..", "a.b.c", "é.é.é", "e30.e30.e30", "x" * 9999])
    def test_that_is_none_is_refused(self, junk: str) -> None:
        with pytest.raises(Untrusted):
            read(junk)


class TestPerson:
    @pytest.mark.parametrize("said", [None, False, "true", 1, [True]])
    def test_has_a_verified_address_only_where_it_says_true(self, said: Any) -> None:
        told = {"sub": "lin", "email": "lin@tea.example", "email_verified": said}

        assert not openid.read_person(told).email_verified

    def test_may_say_nothing_of_use(self) -> None:
        person = openid.read_person({"sub": "lin", "email": ["x"], "name": {"first": "Lin"}})

        assert (person.email, person.email_verified, person.name) == ("", False, "")


class TestKeys:
    def test_that_cannot_be_used_are_left_out(self) -> None:
        usable = RSA.as_dict(private=False)
        listed = [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
            usable | {"use": "enc", "kid": "enc"},
            {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "broken"},
            {"kty": "RSA", "kid": "empty"},
            {"kty": "post-quantum"},
            "no key",
            usable,
        ]

        assert [key.kid for key in openid.read_keys(json.dumps({"keys": listed}).encode())] == [
            "rsa"
        ]

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": []}', b"\xff"])
    def test_that_are_none_are_refused(self, body: bytes) -> None:
        with pytest.raises(Untrusted):
            openid.read_keys(body)


class TestMetadata:
    def test_is_read_as_far_as_it_is_used(self) -> None:
        body = json.dumps(METADATA | {"something": "new"}).encode()

        assert openid.read_metadata(body, ISSUER).token_endpoint == f"{ISSUER}/token"

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"issuer": "https://other.example"}, "another issuer"),
            ({"id_token_signing_alg_values_supported": ["none", "HS256"]}, "no algorithm"),
            ({"code_challenge_methods_supported": ["plain"]}, "PKCE"),
            ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, "client secret"),
            ({"token_endpoint": None}, "no OpenID provider"),
        ],
    )
    def test_that_would_not_do_is_refused_in_plain_words(self, more, words: str) -> None:
        with pytest.raises(Untrusted, match=words):
            openid.read_metadata(json.dumps(METADATA | more).encode(), ISSUER)

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff\xfe", b"1"])
    def test_that_is_none_is_refused(self, body: bytes) -> None:
        with pytest.raises(Untrusted, match="no OpenID provider"):
            openid.read_metadata(body, ISSUER)


class TestSender:
    def test_need_not_be_named_by_who_never_does(self) -> None:
        openid.check_sender(openid.read_metadata(json.dumps(METADATA).encode(), ISSUER), None)

    def test_that_is_another_is_refused_in_any_case(self) -> None:
        for promised in (True, False):
            more = {"authorization_response_iss_parameter_supported": promised}
            metadata = openid.read_metadata(json.dumps(METADATA | more).encode(), ISSUER)
            with pytest.raises(Untrusted, match="another provider"):
                openid.check_sender(metadata, "https://other.example")


def _text(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
