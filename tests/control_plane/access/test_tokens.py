"""Access tokens: what is believed and what is not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from control_plane.access import tokens
from control_plane.access.tokens import ACCESS_LIFE, make_access, read_access
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Unauthorized
from control_plane.kit.ids import new_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = Keyring(["old-key-" + "o" * 32])
NEW = Keyring(["new-key-" + "n" * 32])
BOTH = Keyring(["new-key-" + "n" * 32, "old-key-" + "o" * 32])
SECOND = timedelta(seconds=1)


def make(keys: Keyring = NEW, now: datetime = NOW) -> str:
    return make_access(keys, identity_id=new_id(), tenant_id=new_id(), family_id=new_id(), now=now)


def forged(key: Any = None, algorithm: str = "HS256", **changes: Any) -> str:
    claims = jwt.decode(make(), options={"verify_signature": False}) | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key or NEW.derive("jwt.access.v1")[0], algorithm=algorithm)


def refusal(token: str, *, keys: Keyring = NEW, now: datetime = NOW) -> str:
    with pytest.raises(Unauthorized) as refused:
        read_access(keys, token, now=now)
    return refused.value.code


class TestReadAccess:
    def test_gives_who_was_signed_in(self) -> None:
        identity, tenant, family = new_id(), new_id(), new_id()
        token = make_access(NEW, identity_id=identity, tenant_id=tenant, family_id=family, now=NOW)

        claims = read_access(NEW, token, now=NOW)

        assert (claims["sub"], claims["tid"], claims["sid"]) == (
            str(identity),
            str(tenant),
            str(family),
        )

    def test_lasts_a_quarter_of_an_hour(self) -> None:
        token = make()

        assert timedelta(minutes=15) == ACCESS_LIFE
        assert read_access(NEW, token, now=NOW + ACCESS_LIFE - SECOND)
        assert refusal(token, now=NOW + ACCESS_LIFE) == "token_expired"

    def test_a_new_key_takes_over_while_old_tokens_live(self) -> None:
        assert read_access(BOTH, make(OLD), now=NOW)
        assert read_access(NEW, make(BOTH), now=NOW)

    def test_a_key_that_left_the_list_signs_nothing(self) -> None:
        assert refusal(make(OLD)) == "invalid_token"

    def test_an_unsigned_token_is_refused(self) -> None:
        claims = jwt.decode(make(), options={"verify_signature": False})

        assert refusal(jwt.encode(claims, None, algorithm="none")) == "invalid_token"

    def test_another_algorithm_is_refused(self) -> None:
        key = NEW.derive("jwt.access.v1")[0]

        assert refusal(forged(key * 2, algorithm="HS512")) == "invalid_token"

    def test_a_key_for_another_purpose_is_refused(self) -> None:
        assert refusal(forged(NEW.derive("seal.v1")[0])) == "invalid_token"

    def test_a_changed_payload_is_refused(self) -> None:
        head, _, signature = make().split(".")
        body = make().split(".")[1]

        assert refusal(f"{head}.{body}.{signature}") == "invalid_token"

    @pytest.mark.parametrize("missing", ["exp", "iat", "sub", "sid", "iss"])
    def test_every_claim_is_needed(self, missing: str) -> None:
        assert refusal(forged(**{missing: None})) == "invalid_token"

    def test_another_issuer_is_refused(self) -> None:
        assert refusal(forged(iss="somebody")) == "invalid_token"

    @pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "eyJhbGciOiJub25lIn0.e30."])
    def test_rubbish_is_refused(self, token: str) -> None:
        assert refusal(token) == "invalid_token"


class TestRefreshReused:
    def test_is_an_error_whose_changes_are_kept(self) -> None:
        assert tokens.RefreshReused.keeps_changes
        assert issubclass(tokens.RefreshReused, Unauthorized)
