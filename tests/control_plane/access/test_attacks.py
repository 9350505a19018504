"""Published attacks on signing in, by their names; each fails through the whole application."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import httpx2
import jwt
import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control_plane.access.lockout import FREE_FAILURES

PASSWORD = "correct horse battery staple"
COOKIE = "botyard_refresh"
UNKNOWN = "nobody@example.com"
OURS = "http://botyard.test"

pytestmark = pytest.mark.usefixtures("computed")


def heard(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def cookie(answer: httpx2.Response) -> str:
    return answer.cookies[COOKIE]


async def sign_in(browser, people) -> httpx2.Response:
    return await browser.login((await people.owner()).email, PASSWORD)


class TestReplayedRefreshToken:
    async def test_ends_the_sign_in_of_thief_and_owner(self, browser, people) -> None:
        signed_in = await sign_in(browser, people)
        thief = await browser.refresh(cookie(signed_in))

        assert heard(await browser.refresh(cookie(signed_in))) == (401, "refresh_token_reused")

        assert heard(await browser.refresh(cookie(thief))) == (401, "invalid_refresh_token")
        for answer in (signed_in, thief):
            assert not await browser.is_signed_in(answer.json()["access_token"])

    async def test_after_signing_out_is_worth_nothing(self, browser, people) -> None:
        signed_in = await sign_in(browser, people)
        await browser.post("/logout", cookie=cookie(signed_in))

        refused = await browser.refresh(cookie(signed_in))
        assert heard(refused) == (401, "invalid_refresh_token")
        assert not await browser.is_signed_in(signed_in.json()["access_token"])


class TestReorderedRefreshTokens:
    @pytest.mark.parametrize("old", [0, 1])
    async def test_an_older_one_after_a_newer_ends_the_sign_in(
        self, browser, people, old: int
    ) -> None:
        chain = [cookie(await sign_in(browser, people))]
        for _ in range(2):
            chain.append(cookie(await browser.refresh(chain[-1])))

        assert heard(await browser.refresh(chain[old])) == (401, "refresh_token_reused")
        assert heard(await browser.refresh(chain[-1])) == (401, "invalid_refresh_token")


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def with_header(token: str, header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """The same claims under another header and signature, past what a library would refuse."""
    signed = f"{part(header)}.{token.split('.')[1]}"
    return f"{signed}.{part(sign(signed.encode()))}"


class TestForgedAccessToken:
    @pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
    async def test_alg_none(self, browser, people, name: str) -> None:
        owner = await people.owner()
        header = {"alg": name, "typ": "JWT"}
        signature = owner.token.rpartition(".")[2]
        kept = base64.urlsafe_b64decode(signature + "=")

        assert await browser.is_signed_in(owner.token)
        assert not await browser.is_signed_in(with_header(owner.token, header, lambda _: b""))
        assert not await browser.is_signed_in(with_header(owner.token, header, lambda _: kept))

    async def test_key_confusion_between_a_public_key_and_a_secret(self, browser, people) -> None:
        owner = await people.owner()
        pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

        def by_public_key(signed: bytes) -> bytes:
            return hmac.digest(public, signed, hashlib.sha256)

        claims = jwt.decode(owner.token, options={"verify_signature": False})
        jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(pair.public_key()))
        for forged in (
            jwt.encode(claims, pair, algorithm="RS256"),
            jwt.encode(claims, pair, algorithm="RS256", headers={"jwk": jwk, "kid": "../../dev"}),
            with_header(owner.token, {"alg": "HS256", "typ": "JWT"}, by_public_key),
            with_header(owner.token, {"alg": "RS256", "typ": "JWT"}, by_public_key),
        ):
            assert not await browser.is_signed_in(forged)

    async def test_a_secret_that_is_empty_or_guessed(self, browser, people) -> None:
        owner = await people.owner()
        for key in (b"", b"secret", b"\0" * 32):
            forged = with_header(
                owner.token,
                {"alg": "HS256", "typ": "JWT"},
                lambda signed, key=key: hmac.digest(key, signed, hashlib.sha256),
            )
            assert not await browser.is_signed_in(forged)

    async def test_another_tenant_written_into_the_claims(self, browser, people) -> None:
        mine, theirs = await people.owner(), await people.owner()
        head, body, signature = mine.token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=="))
        assert claims["tid"] == str(mine.tenant_id)
        claims["tid"] = str(theirs.tenant_id)

        assert not await browser.is_signed_in(f"{head}.{part(claims)}.{signature}")


class TestSessionFixation:
    async def test_a_cookie_from_before_is_not_the_one_afterwards(self, browser, people) -> None:
        attacker, victim = await people.owner(), await people.owner()
        planted = await browser.login(attacker.email, PASSWORD)
        body = {"email": victim.email, "password": PASSWORD}

        signed_in = await browser.post("/login", body, cookie=cookie(planted))

        assert cookie(signed_in) != cookie(planted)
        assert (await victim.get("/auth/sessions")).status_code == 200
        renewed = await browser.refresh(cookie(planted))
        assert renewed.json()["tenant_id"] == str(attacker.tenant_id)

    async def test_a_made_up_cookie_never_becomes_a_sign_in(self, browser, people) -> None:
        owner = await people.owner()
        body = {"email": owner.email, "password": PASSWORD}
        await browser.post("/login", body, cookie="chosen-by-an-attacker")

        refused = await browser.refresh("chosen-by-an-attacker")
        assert heard(refused) == (401, "invalid_refresh_token")

    async def test_each_sign_in_is_a_family_of_its_own(
        self, browser, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        for _ in range(2):
            await browser.login(owner.email, PASSWORD)

        families = await superuser.fetch("SELECT DISTINCT family_id FROM credentials")
        assert len(families) == 3


class TestEnumeration:
    async def test_by_error(self, browser, people) -> None:
        owner = await people.owner()
        for _ in range(FREE_FAILURES + 2):
            known = await browser.login(owner.email, "not the password")
            unknown = await browser.login(UNKNOWN, "not the password")
            assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
            # Each request has its own id, and spends of the same address's bucket.
            own = {"x-request-id": "", "ratelimit": ""}
            assert dict(known.headers) | own == dict(unknown.headers) | own
        assert known.status_code == 429

    async def test_by_error_of_a_reset(self, browser, people, mailbox) -> None:
        owner = await people.owner()
        known = await browser.post("/reset/request", {"email": owner.email})
        unknown = await browser.post("/reset/request", {"email": UNKNOWN})

        assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
        assert [mail["to"] for mail in mailbox.mails] == [owner.email]

    async def test_by_time(self, browser, people, computed: list[bytes]) -> None:
        """What takes the time is bcrypt: one computation at the same cost, whatever is wrong."""
        owner = await people.owner()
        costs = []
        for email in (owner.email, UNKNOWN):
            for _ in range(FREE_FAILURES + 2):
                computed.clear()
                await browser.login(email, "not the password")
                costs.append([expected[:7] for expected in computed])
        computed.clear()
        assert heard(await browser.login(owner.email, PASSWORD)) == (429, "sign_in_locked")
        costs.append([expected[:7] for expected in computed])

        assert costs == [[b"$2b$04$"]] * (2 * (FREE_FAILURES + 2) + 1)

    async def test_by_time_of_a_reset(
        self, app, people, mailbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The answer leaves before anybody looks whether there is an account."""
        owner = await people.owner()
        order: list[str] = []
        house = app.app.state.house
        session = house.database.session

        def watched(*scope: Any) -> Any:
            order.append("looked")
            return session(*scope)

        monkeypatch.setattr(house.database, "session", watched)
        for email in (owner.email, UNKNOWN):
            order.clear()
            await raw_post(app, "/api/v1/auth/reset/request", {"email": email}, order)
            assert order == ["answered", "looked"]
        assert len(mailbox.mails) == 1


async def raw_post(app, path: str, body: dict[str, Any], order: list[str]) -> None:
    """A request whose answer is noted when it is complete, not when the application returns."""
    raw = json.dumps(body).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            order.append("answered")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"botyard.test"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("botyard.test", 80),
    }
    await app(scope, receive, send)


class TestTotpReplay:
    async def test_a_code_that_was_seen_is_worth_nothing(self, browser, people, clock) -> None:
        owner = await people.owner()
        totp = pyotp.TOTP((await owner.post("/auth/totp/begin")).json()["secret"])
        shown = totp.at(clock.now())
        await owner.post("/auth/totp/confirm", {"code": shown})

        replayed = await browser.login(owner.email, PASSWORD, code=shown)
        assert heard(replayed) == (401, "wrong_code")
        clock.advance(timedelta(seconds=30))
        used = totp.at(clock.now())
        assert (await browser.login(owner.email, PASSWORD, code=used)).status_code == 200
        assert heard(await browser.login(owner.email, PASSWORD, code=used)) == (401, "wrong_code")

    async def test_nor_is_an_older_one_after_a_newer(self, browser, people, clock) -> None:
        owner = await people.owner()
        totp = pyotp.TOTP((await owner.post("/auth/totp/begin")).json()["secret"])
        await owner.post("/auth/totp/confirm", {"code": totp.at(clock.now())})
        clock.advance(timedelta(minutes=1))
        now, older = totp.at(clock.now()), totp.at(clock.now() - timedelta(seconds=30))
        assert (await browser.login(owner.email, PASSWORD, code=now)).status_code == 200

        assert heard(await browser.login(owner.email, PASSWORD, code=older)) == (401, "wrong_code")


class TestMassAssignment:
    @pytest.mark.parametrize(
        "more",
        [
            {"operator": True},
            {"identity_id": "00000000-0000-0000-0000-000000000001"},
            {"failed_logins": 0},
            {"totp_on": False},
            {"role": "owner"},
            {"state": "active"},
            {"tenant": {"state": "active"}},
        ],
        ids=lambda more: next(iter(more)),
    )
    async def test_no_body_takes_a_field_that_is_not_its_own(
        self, browser, people, superuser: asyncpg.Connection, more: dict[str, Any]
    ) -> None:
        owner = await people.owner()
        everything = "SELECT i::text FROM identities i UNION ALL SELECT t::text FROM tenants t"
        before = await superuser.fetch(everything)
        new = {"company": "X", "email": "x@example.com", "password": PASSWORD}
        for path, body in (
            ("/login", {"email": owner.email, "password": PASSWORD}),
            ("/register", new),
            ("/reset/request", {"email": owner.email}),
            ("/reset", {"token": "x" * 43, "new": PASSWORD}),
        ):
            assert heard(await browser.post(path, body | more)) == (422, "invalid_request")

        assert await superuser.fetch(everything) == before

    async def test_who_registers_is_neither_operator_nor_active(
        self, browser, superuser: asyncpg.Connection
    ) -> None:
        body = {"company": "X", "email": "x@example.com", "password": PASSWORD}
        await browser.post("/register", body)

        assert await superuser.fetchval("SELECT operator FROM identities") is False
        assert await superuser.fetchval("SELECT state FROM tenants") == "pending"


class TestCrossSiteRequest:
    @pytest.mark.parametrize("path", ["/refresh", "/logout"])
    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "null",
            "",
            "http://botyard.test.evil.example",
            "http://evil.example/botyard.test",
            "http://botyard.test:81",
            "http://[",
        ],
    )
    async def test_another_sites_page_uses_no_cookie(
        self, browser, people, path: str, origin: str
    ) -> None:
        signed_in = await sign_in(browser, people)

        refused = await browser.post(path, cookie=cookie(signed_in), origin=origin)

        assert heard(refused) == (403, "wrong_origin")
        assert (await browser.refresh(cookie(signed_in), origin=OURS)).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [{}, {"origin": OURS}, {"origin": "https://10.0.0.5:8443", "host": "10.0.0.5:8443"}],
        ids=["none", "public", "as asked"],
    )
    async def test_our_own_page_does_however_it_reached_us(
        self, browser, people, headers: dict[str, str]
    ) -> None:
        signed_in = await sign_in(browser, people)

        answer = await browser.post("/refresh", cookie=cookie(signed_in), **headers)

        assert answer.status_code == 200
