"""The second factor: turning it on, signing in with it, turning it off."""

import asyncio
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx2
import pyotp
import pytest

from control_plane.access.lockout import FREE_FAILURES
from control_plane.kit.ids import fingerprint

PASSWORD = "correct horse battery staple"
STEP = timedelta(seconds=30)

pytestmark = pytest.mark.usefixtures("computed")


class Authenticator:
    """Somebody's telephone."""

    def __init__(self, secret: str, clock) -> None:
        self._totp = pyotp.TOTP(secret)
        self._clock = clock

    def code(self, off: timedelta = timedelta(0)) -> str:
        return self._totp.at(self._clock.now() + off)

    def wrong(self) -> str:
        near = {self.code(STEP * n) for n in range(-2, 3)}
        return next(code for code in map("{:06}".format, range(9)) if code not in near)


def heard(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def begin(person, clock) -> Authenticator:
    return Authenticator((await person.post("/auth/totp/begin")).json()["secret"], clock)


async def turn_on(person, clock) -> tuple[Authenticator, list[str]]:
    """The telephone, a step later, so that its next code is a new one; and the recovery codes."""
    phone = await begin(person, clock)
    answer = await person.post("/auth/totp/confirm", {"code": phone.code()})
    assert answer.status_code == 200
    clock.advance(STEP)
    return phone, answer.json()["recovery_codes"]


async def turn_off(person, **body) -> httpx2.Response:
    return await person.call("DELETE", "/auth/totp", json={"password": PASSWORD} | body)


class TestTurningOn:
    async def test_gives_a_secret_that_an_authenticator_reads(self, people) -> None:
        owner = await people.owner()

        begun = (await owner.post("/auth/totp/begin")).json()

        url = urlsplit(begun["otpauth_url"])
        assert (url.scheme, url.netloc) == ("otpauth", "totp")
        assert parse_qs(url.query) == {"secret": [begun["secret"]], "issuer": ["Botyard"]}
        assert pyotp.parse_uri(begun["otpauth_url"]).name == owner.email

    async def test_asks_for_nothing_before_it_is_confirmed(self, browser, people) -> None:
        owner = await people.owner()
        await owner.post("/auth/totp/begin")

        assert (await browser.login(owner.email, PASSWORD)).status_code == 200

    async def test_needs_a_right_code(self, browser, people, clock) -> None:
        owner = await people.owner()
        phone = await begin(owner, clock)

        answer = await owner.post("/auth/totp/confirm", {"code": phone.wrong()})

        assert heard(answer) == (403, "wrong_code")
        assert (await browser.login(owner.email, PASSWORD)).status_code == 200

    async def test_needs_a_beginning(self, people) -> None:
        owner = await people.owner()

        answer = await owner.post("/auth/totp/confirm", {"code": "123456"})

        assert heard(answer) == (400, "totp_not_begun")

    async def test_twice_is_refused_and_changes_nothing(self, browser, people, clock) -> None:
        owner = await people.owner()
        phone, _ = await turn_on(owner, clock)

        assert heard(await owner.post("/auth/totp/begin")) == (409, "totp_on")
        again = await owner.post("/auth/totp/confirm", {"code": phone.code()})
        assert heard(again) == (409, "totp_on")
        assert (await browser.login(owner.email, PASSWORD, code=phone.code())).status_code == 200

    async def test_keeps_neither_the_secret_nor_the_codes_in_the_open(
        self, people, clock, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        secret = (await owner.post("/auth/totp/begin")).json()["secret"]
        phone = Authenticator(secret, clock)
        answer = await owner.post("/auth/totp/confirm", {"code": phone.code()})
        codes = answer.json()["recovery_codes"]

        assert len(set(codes)) == 10
        sealed = await superuser.fetchval(
            "SELECT totp_secret FROM identities WHERE id = $1", owner.identity_id
        )
        assert secret.encode() not in sealed
        kept = await superuser.fetch("SELECT sha256 FROM credentials WHERE kind = 'recovery'")
        assert len(kept) == 10
        assert not {row[0] for row in kept} & {fingerprint(code) for code in codes}

    async def test_is_written_in_the_audit(
        self, people, clock, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        phone, _ = await turn_on(owner, clock)
        assert (await turn_off(owner, code=phone.code())).status_code == 204

        rows = await superuser.fetch(
            "SELECT action, actor_id FROM audit WHERE target_kind = 'identity' ORDER BY id"
        )
        assert [tuple(row) for row in rows] == [
            ("second_factor.on", owner.identity_id),
            ("second_factor.off", owner.identity_id),
        ]


class TestSigningIn:
    async def test_needs_the_code_too(self, browser, people, clock) -> None:
        owner = await people.owner()
        phone, _ = await turn_on(owner, clock)

        without = await browser.login(owner.email, PASSWORD)
        assert heard(without) == (401, "second_factor_required")
        assert "set-cookie" not in without.headers
        wrong = await browser.login(owner.email, PASSWORD, code=phone.wrong())
        assert heard(wrong) == (401, "wrong_code")
        right = await browser.login(owner.email, PASSWORD, code=phone.code())
        assert right.status_code == 200

    async def test_a_wrong_password_does_not_tell_that_it_is_on(
        self, browser, people, clock
    ) -> None:
        owner = await people.owner()
        phone, codes = await turn_on(owner, clock)

        for more in ({}, {"code": phone.code()}, {"recovery_code": codes[0]}):
            answer = await browser.login(owner.email, "not the password", **more)
            assert heard(answer) == (401, "wrong_credentials")
        assert (await browser.login(owner.email, PASSWORD, code=phone.code())).status_code == 200

    @pytest.mark.parametrize(
        ("steps", "status"), [(-2, 401), (-1, 401), (0, 200), (1, 200), (2, 401)]
    )
    async def test_a_clock_may_be_one_step_off(
        self, browser, people, clock, steps: int, status: int
    ) -> None:
        # One step behind is the code that was shown to turn it on: it is used up.
        owner = await people.owner()
        phone, _ = await turn_on(owner, clock)

        answer = await browser.login(owner.email, PASSWORD, code=phone.code(STEP * steps))

        assert answer.status_code == status

    async def test_a_device_one_step_behind_is_heard(self, browser, people, clock) -> None:
        owner = await people.owner()
        phone, _ = await turn_on(owner, clock)
        clock.advance(STEP)

        answer = await browser.login(owner.email, PASSWORD, code=phone.code(-STEP))

        assert answer.status_code == 200

    async def test_asking_for_the_code_is_no_failure(self, browser, people, clock) -> None:
        owner = await people.owner()
        phone, _ = await turn_on(owner, clock)
        for _ in range(FREE_FAILURES * 2):
            answer = await browser.login(owner.email, PASSWORD)
            assert heard(answer) == (401, "second_factor_required")

        assert (await browser.login(owner.email, PASSWORD, code=phone.code())).status_code == 200

    async def test_guessing_codes_locks(self, browser, people, clock) -> None:
        owner = await people.owner()
        phone, _ = await turn_on(owner, clock)
        answers = []
        for _ in range(FREE_FAILURES + 1):
            # What a thief of the password would do between guesses forgives none of them.
            await browser.login(owner.email, PASSWORD)
            answers.append(await browser.login(owner.email, PASSWORD, code=phone.wrong()))

        assert [answer.json()["code"] for answer in answers] == [
            *["wrong_code"] * FREE_FAILURES,
            "sign_in_locked",
        ]

    async def test_an_operator_can_have_one(self, browser, people, clock) -> None:
        operator = await people.operator()
        phone, _ = await turn_on(operator, clock)

        assert heard(await browser.login(operator.email, PASSWORD))[1] == "second_factor_required"
        assert (await browser.login(operator.email, PASSWORD, code=phone.code())).status_code == 200


class TestRecoveryCodes:
    async def test_each_works_once(self, browser, people, clock) -> None:
        owner = await people.owner()
        _, codes = await turn_on(owner, clock)

        for recovery_code in (codes[0], codes[1].upper().replace("-", " ")):
            answer = await browser.login(owner.email, PASSWORD, recovery_code=recovery_code)
            assert answer.status_code == 200
            again = await browser.login(owner.email, PASSWORD, recovery_code=recovery_code)
            assert heard(again) == (401, "wrong_code")

    async def test_twins_at_the_same_moment_sign_in_once(self, browser, people, clock) -> None:
        owner = await people.owner()
        phone, codes = await turn_on(owner, clock)
        for factor in ({"recovery_code": codes[0]}, {"code": phone.code()}):
            answers = await asyncio.gather(
                *(browser.login(owner.email, PASSWORD, **factor) for _ in range(3))
            )
            assert sorted(answer.status_code for answer in answers) == [200, 401, 401]

    async def test_are_nobody_elses(self, browser, people, clock) -> None:
        one, other = await people.owner(), await people.owner()
        _, codes = await turn_on(one, clock)
        await turn_on(other, clock)

        answer = await browser.login(other.email, PASSWORD, recovery_code=codes[0])

        assert heard(answer) == (401, "wrong_code")


class TestTurningOff:
    async def test_needs_the_password_and_a_code(self, browser, people, clock) -> None:
        owner = await people.owner()
        phone, codes = await turn_on(owner, clock)
        refused = (403, "wrong_password_or_code")

        assert heard(await turn_off(owner)) == refused
        assert heard(await turn_off(owner, code=phone.wrong())) == refused
        assert heard(await turn_off(owner, password="no", code=phone.code())) == refused
        assert heard(await browser.login(owner.email, PASSWORD))[1] == "second_factor_required"
        assert (await turn_off(owner, recovery_code=codes[3])).status_code == 204
        assert (await browser.login(owner.email, PASSWORD)).status_code == 200

    async def test_forgets_the_recovery_codes(self, browser, people, clock) -> None:
        owner = await people.owner()
        phone, codes = await turn_on(owner, clock)
        await turn_off(owner, code=phone.code())
        clock.advance(STEP)
        await turn_on(owner, clock)

        answer = await browser.login(owner.email, PASSWORD, recovery_code=codes[0])

        assert heard(answer) == (401, "wrong_code")

    async def test_what_is_off_already_is_off(self, people) -> None:
        owner = await people.owner()

        assert (await turn_off(owner)).status_code == 204
