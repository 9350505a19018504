"""Passwords: what is kept of them."""

import bcrypt
import pytest

from control_plane.access import passwords

REAL_COST = 12


class TestPasswords:
    async def test_the_right_one_matches_and_no_other(self) -> None:
        kept = await passwords.hash_password("密码 with some words")

        assert await passwords.matches("密码 with some words", kept)
        assert not await passwords.matches("密码 with some word", kept)

    async def test_all_of_a_long_one_counts(self) -> None:
        kept = await passwords.hash_password("x" * 199 + "1")

        assert not await passwords.matches("x" * 199 + "2", kept)

    async def test_a_zero_byte_ends_nothing(self) -> None:
        kept = await passwords.hash_password("same\0one")

        assert not await passwords.matches("same\0other", kept)

    async def test_nobody_has_none(self) -> None:
        assert not await passwords.matches("nobody", None)

    async def test_the_same_twice_is_kept_differently(self) -> None:
        kept = {await passwords.hash_password("one and the same") for _ in range(2)}

        assert len(kept) == 2

    async def test_they_cost_what_they_should(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        assert passwords.COST == REAL_COST
        kept = await passwords.hash_password("a password to keep")

        assert kept.startswith("$2b$12$")
        assert bcrypt.checkpw(passwords._fold("a password to keep"), kept.encode())
        assert passwords._NOBODY.startswith(b"$2b$12$")
