"""Ids and opaque secrets."""

import hashlib

from control_plane.kit.ids import fingerprint, new_id, new_token


class TestNewId:
    def test_sorts_by_the_moment_of_making(self) -> None:
        made = [new_id() for _ in range(1000)]

        assert made == sorted(made)
        assert len(set(made)) == 1000
        assert {one.version for one in made} == {7}


class TestNewToken:
    def test_has_32_random_bytes_that_fit_into_an_address(self) -> None:
        made = {new_token() for _ in range(100)}

        assert len(made) == 100
        assert {len(token) for token in made} == {43}
        assert all(token.replace("-", "").replace("_", "").isalnum() for token in made)


class TestFingerprint:
    def test_is_the_sha_256(self) -> None:
        assert fingerprint("secret") == hashlib.sha256(b"secret").digest()
