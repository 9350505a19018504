"""Lock-out, through the whole application: whoever fails too often waits, account or not."""

import asyncio
from datetime import timedelta

import asyncpg
import httpx2
import pytest

from control_plane.access import lockout
from control_plane.access.lockout import FIRST_WAIT, FORGET_AFTER, FREE_FAILURES, LONGEST_WAIT

PASSWORD = "correct horse battery staple"
NOBODY = "nobody@example.com"
COUNTS = "SELECT email, failed_logins FROM identities WHERE failed_logins > 0 ORDER BY email"
SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.usefixtures("computed")


def heard(answer: httpx2.Response) -> tuple[int, str, str | None]:
    return answer.status_code, answer.json()["code"], answer.headers.get("retry-after")


async def fail(browser, email: str, times: int = FREE_FAILURES) -> list[tuple]:
    return [heard(await browser.login(email, "not the password")) for _ in range(times)]


WRONG = (401, "wrong_credentials", None)
LOCKED = (429, "sign_in_locked", "60")


class TestLockOut:
    async def test_five_failures_are_heard_and_the_sixth_has_to_wait(self, browser, people) -> None:
        owner = await people.owner()

        assert await fail(browser, owner.email, 6) == [WRONG] * 5 + [LOCKED]

    async def test_the_right_password_has_to_wait_too(self, browser, people, clock) -> None:
        owner = await people.owner()
        await fail(browser, owner.email)

        assert heard(await browser.login(owner.email, PASSWORD)) == LOCKED
        clock.advance(FIRST_WAIT - SECOND)
        assert heard(await browser.login(owner.email, PASSWORD))[2] == "1"
        clock.advance(SECOND)
        assert (await browser.login(owner.email, PASSWORD)).status_code == 200

    async def test_the_wait_doubles_up_to_an_hour(self, browser, people, clock) -> None:
        owner = await people.owner()
        await fail(browser, owner.email, FREE_FAILURES - 1)
        minutes = []
        for _ in range(9):
            assert await fail(browser, owner.email, 1) == [WRONG]
            wait = int(heard(await browser.login(owner.email, PASSWORD))[2])
            minutes.append(wait // 60)
            clock.advance(timedelta(seconds=wait))

        assert minutes == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    async def test_tries_while_locked_do_not_make_it_longer(self, browser, people, clock) -> None:
        owner = await people.owner()
        await fail(browser, owner.email, FREE_FAILURES + 10)
        clock.advance(FIRST_WAIT)

        assert (await browser.login(owner.email, PASSWORD)).status_code == 200

    async def test_a_success_forgives_all_failures(self, browser, people) -> None:
        owner = await people.owner()
        for _ in range(3):
            await fail(browser, owner.email, FREE_FAILURES - 1)
            assert (await browser.login(owner.email, PASSWORD)).status_code == 200

    async def test_failures_of_yesterday_do_not_count(self, browser, people, clock) -> None:
        owner = await people.owner()
        await fail(browser, owner.email, FREE_FAILURES - 1)
        clock.advance(FORGET_AFTER)

        assert await fail(browser, owner.email, FREE_FAILURES) == [WRONG] * FREE_FAILURES

    async def test_it_does_not_matter_how_an_address_is_written(self, browser, people) -> None:
        owner = await people.owner()
        await fail(browser, owner.email.upper())

        assert heard(await browser.login(owner.email, PASSWORD)) == LOCKED

    async def test_one_persons_failures_are_not_anothers(self, browser, people) -> None:
        one, other = await people.owner(), await people.owner()
        await fail(browser, one.email)
        await fail(browser, NOBODY)

        assert (await browser.login(other.email, PASSWORD)).status_code == 200

    async def test_guesses_at_the_same_moment_are_not_heard_at_once(self, browser, people) -> None:
        owner = await people.owner()
        answers = await asyncio.gather(
            *(browser.login(owner.email, f"guess {n}") for n in range(FREE_FAILURES * 4))
        )

        codes = [answer.json()["code"] for answer in answers]
        assert codes.count("wrong_credentials") == FREE_FAILURES

    async def test_signing_in_many_times_at_once_is_no_failure(self, browser, people) -> None:
        owner = await people.owner()
        for _ in range(3):
            answers = await asyncio.gather(
                *(browser.login(owner.email, PASSWORD) for _ in range(FREE_FAILURES))
            )
            assert {answer.status_code for answer in answers} == {200}

    async def test_registering_again_tells_nothing_about_a_password(self, browser, people) -> None:
        owner = await people.owner("Tea House")
        body = {"company": "Tea House", "email": owner.email}
        answers = [
            await browser.post("/register", body | {"password": password})
            for password in ("a guess of mine", PASSWORD)
        ]

        assert {(answer.status_code, answer.text) for answer in answers} == {
            (201, '{"state":"pending"}')
        }
        assert (await browser.login(owner.email, PASSWORD)).status_code == 200


class TestAddressWithoutAccount:
    async def test_hears_the_same_as_one_with(self, browser, people, clock) -> None:
        owner = await people.owner()
        for _ in range(3):
            assert await fail(browser, NOBODY, 7) == await fail(browser, owner.email, 7)
            clock.advance(timedelta(minutes=3))

    async def test_leaves_nothing_that_names_it(
        self, browser, superuser: asyncpg.Connection
    ) -> None:
        await fail(browser, NOBODY, 2)

        [(name, count)] = await superuser.fetch(COUNTS)
        assert (name[:8], len(name), count) == ("unknown:", 8 + 64, 2)
        assert not any(
            NOBODY in row[0] for row in await superuser.fetch("SELECT i::text FROM identities i")
        )

    async def test_can_still_be_registered_and_then_used(self, browser) -> None:
        await fail(browser, NOBODY)
        body = {"company": "Noodle Bar", "email": NOBODY, "password": PASSWORD}

        assert (await browser.post("/register", body)).status_code == 201
        assert (await browser.login(NOBODY, PASSWORD)).status_code == 200

    async def test_nobody_signs_in_or_registers_as_its_count(
        self, browser, superuser: asyncpg.Connection
    ) -> None:
        await fail(browser, NOBODY, 1)
        [(name, _)] = await superuser.fetch(COUNTS)

        assert (await browser.login(name, "")).status_code == 422


class TestForget:
    async def test_drops_what_has_lapsed_and_no_account(
        self, browser, people, database, clock, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        await fail(browser, owner.email, 2)
        await fail(browser, NOBODY, 2)
        clock.advance(FORGET_AFTER - SECOND)
        await fail(browser, "later@example.com", 1)
        clock.advance(SECOND)
        async with database.session() as session:
            await lockout.forget(session, now=clock.now())

        [(name, _)] = await superuser.fetch(COUNTS)
        assert name.startswith("unknown:")
        assert await superuser.fetchval("SELECT count(*) FROM identities") == 2
        assert (await browser.login(owner.email, PASSWORD)).status_code == 200

    async def test_keeps_the_newest_whoever_they_belong_to(
        self, browser, people, database, clock, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        emails = ["a@example.com", owner.email, "b@example.com", "c@example.com"]
        for email in emails:
            await fail(browser, email)
            clock.advance(SECOND)
        async with database.session() as session:
            await lockout.forget(session, now=clock.now(), keep=2)

        told = [(await fail(browser, email, 1))[0][1] for email in emails]
        assert told == ["wrong_credentials"] * 2 + ["sign_in_locked"] * 2

    def test_the_longest_wait_is_over_before_it_is_forgotten(self) -> None:
        assert LONGEST_WAIT < FORGET_AFTER
