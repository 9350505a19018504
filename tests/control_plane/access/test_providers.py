"""Calls to providers: how often, how many at once, and with which secret."""

import asyncio
import base64
import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from adapters.outbound import Answer, Outbound, Unreachable
from control_plane.access import openid
from control_plane.access.openid import Party, Pending, Untrusted
from control_plane.access.providers import AT_ONCE, FRESH, REST, Providers
from control_plane.kit.ids import new_id

ISSUER = "https://login.tea.example"
PARTY = Party(
    tenant_id=new_id(),
    issuer=ISSUER,
    client_id="bot:yard",
    client_secret="a+b%c",
    redirect_uri="https://botyard.example/back",
)


class Wire(Outbound):
    """Answers in the place of the network, and keeps what was asked."""

    def __init__(self, clock) -> None:
        super().__init__()
        self.clock = clock
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.away = False
        self.held: asyncio.Event | None = None
        self.arrived: asyncio.Queue[str] = asyncio.Queue()
        self.at_once = self.most_at_once = 0
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        self.nonce = ""

    def paths(self) -> list[str]:
        return [url.removeprefix(ISSUER) for url, _headers, _body in self.asked]

    async def send(self, method, url, *, headers=None, content=None, within, max_bytes=0) -> Answer:
        self.asked.append((url, dict(headers or {}), content or b""))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.arrived.put_nowait(url)
        try:
            if self.held is not None:
                await self.held.wait()
            if self.away:
                raise Unreachable("There was no connection to this address.")
            return Answer(status=200, headers={}, body=json.dumps(self._says(url)).encode())
        finally:
            self.at_once -= 1

    def _says(self, url: str) -> dict[str, Any]:
        if url.endswith("/jwks"):
            return {"keys": [self.key.as_dict(private=False)]}
        if url.endswith("/token"):
            return {"id_token": self._token(), "access_token": "of no use"}
        return self.metadata

    def _token(self) -> str:
        at = int(self.clock.now().timestamp())
        claims = {
            "iss": ISSUER,
            "sub": "lin",
            "aud": PARTY.client_id,
            "exp": at + 300,
            "iat": at,
            "nonce": self.nonce,
            "email": "lin@tea.example",
        }
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)


@pytest.fixture
def wire(clock) -> Wire:
    return Wire(clock)


@pytest.fixture
def providers(wire: Wire, clock) -> Providers:
    return Providers(wire, clock)


async def redeem(providers: Providers, wire: Wire) -> Pending:
    pending = openid.begin(PARTY)
    wire.nonce = pending.nonce
    vouched = await providers.redeem(PARTY, pending, code="the code", iss=None)
    assert vouched.subject == "lin"
    return pending


class TestDiscovery:
    async def test_is_believed_for_a_while(self, providers, wire, clock) -> None:
        for _ in range(2):
            await providers.discover(PARTY.tenant_id, ISSUER)
        assert len(wire.asked) == 1

        clock.advance(FRESH)
        await providers.discover(PARTY.tenant_id, ISSUER)

        assert len(wire.asked) == 2

    async def test_that_failed_is_not_asked_for_again_at_once(self, providers, wire, clock) -> None:
        wire.away = True
        for _ in range(3):
            with pytest.raises(Unreachable):
                await providers.discover(PARTY.tenant_id, ISSUER)
        assert len(wire.asked) == 1

        clock.advance(REST)
        wire.away = False

        assert (await providers.discover(PARTY.tenant_id, ISSUER)).issuer == ISSUER

    async def test_of_one_tenant_is_not_held_up_by_anothers(self, providers, wire) -> None:
        wire.held = asyncio.Event()
        stuck = asyncio.create_task(providers.discover(new_id(), ISSUER))
        await wire.arrived.get()
        held, wire.held = wire.held, None

        assert (await providers.discover(PARTY.tenant_id, ISSUER)).issuer == ISSUER

        held.set()
        await stuck

    async def test_leads_browsers_to_no_address_inside(self, providers, wire) -> None:
        wire.metadata["authorization_endpoint"] = "javascript:alert(1)"

        with pytest.raises(Exception, match="must begin with https"):
            await providers.discover(PARTY.tenant_id, ISSUER)


class TestRedeeming:
    async def test_shows_the_secret_written_as_in_a_form(self, providers, wire) -> None:
        pending = await redeem(providers, wire)

        _url, headers, body = next(asked for asked in wire.asked if asked[0].endswith("/token"))
        shown = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
        assert shown == "bot%3Ayard:a%2Bb%25c"
        assert parse_qs(body.decode()) == {
            "grant_type": ["authorization_code"],
            "code": ["the code"],
            "redirect_uri": [PARTY.redirect_uri],
            "code_verifier": [pending.verifier],
        }

    async def test_shows_it_in_the_body_to_who_wants_it_there(self, providers, wire) -> None:
        wire.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]

        await redeem(providers, wire)

        _url, headers, body = next(asked for asked in wire.asked if asked[0].endswith("/token"))
        assert "Authorization" not in headers
        assert parse_qs(body.decode())["client_secret"] == [PARTY.client_secret]

    async def test_reads_the_keys_again_once_for_an_unknown_one(self, providers, wire) -> None:
        await redeem(providers, wire)
        await redeem(providers, wire)
        assert wire.paths().count("/jwks") == 1

        wire.key = RSAKey.generate_key(2048, {"kid": "two"})
        await redeem(providers, wire)

        assert wire.paths().count("/jwks") == 2

    async def test_asks_once_more_and_not_for_ever(self, providers, wire, monkeypatch) -> None:
        await redeem(providers, wire)
        known = wire.key
        unknown = RSAKey.generate_key(2048, {"kid": "never published"})
        monkeypatch.setattr(
            wire, "_says", lambda url: _with(wire, url, published=known, signing=unknown)
        )

        with pytest.raises(Untrusted):
            await redeem(providers, wire)

        assert wire.paths().count("/jwks") == 2

    async def test_makes_a_few_calls_at_once_for_one_tenant(self, providers, wire) -> None:
        wire.held = asyncio.Event()
        checks = [
            asyncio.create_task(providers.examine(PARTY.tenant_id, f"{ISSUER}/{number}"))
            for number in range(AT_ONCE * 3)
        ]
        for _ in range(AT_ONCE):
            await wire.arrived.get()
        wire.held.set()
        await asyncio.gather(*checks, return_exceptions=True)

        assert wire.most_at_once == AT_ONCE

    async def test_makes_a_few_calls_at_once_to_one_provider(self, providers, wire) -> None:
        await providers.discover(PARTY.tenant_id, ISSUER)
        await wire.arrived.get()
        wire.held, wire.away = asyncio.Event(), True
        pending = openid.begin(PARTY)
        calls = [
            asyncio.create_task(providers.redeem(PARTY, pending, code="x", iss=None))
            for _ in range(AT_ONCE * 3)
        ]
        for _ in range(AT_ONCE):
            await wire.arrived.get()
        wire.held.set()
        await asyncio.gather(*calls, return_exceptions=True)

        assert wire.most_at_once == AT_ONCE


def _with(wire: Wire, url: str, *, published: RSAKey, signing: RSAKey) -> dict[str, Any]:
    wire.key = published if url.endswith("/jwks") else signing
    return Wire._says(wire, url)
