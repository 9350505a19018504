"""A company with a provider of its own, and browsers that sign on there."""

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx2
import pytest

from adapters import outbound
from control_plane.parts import Parts, build
from tests.conftest import PUBLIC_URL, People, Person, SetClock
from tests.openid_provider import MISSING, OpenIdProvider, is_installed

DOMAIN = "example.com"
"""Of the addresses that tests give people."""

BEGIN = "/api/v1/auth/sign-on"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    if not is_installed():
        pytest.skip(MISSING)
    with OpenIdProvider.running() as provider:
        yield provider


@pytest.fixture
def mortal() -> Iterator[OpenIdProvider]:
    """A provider of this test's own."""
    if not is_installed():
        pytest.skip(MISSING)
    with OpenIdProvider.running() as provider:
        yield provider


@pytest.fixture
def clock() -> SetClock:
    """The provider's clock cannot be set, so ours begins where it is."""
    clock = SetClock()
    clock.time = datetime.now(UTC)
    return clock


@pytest.fixture
async def parts(app_url, keys, clock, rates, storage) -> AsyncIterator[Parts]:
    parts = build(
        database_url=app_url,
        keys=keys,
        clock=clock,
        public_url=PUBLIC_URL,
        rates=rates,
        outbound_allow=outbound.networks("127.0.0.1/32"),
        media=storage,
    )
    yield parts
    await parts.close()


@dataclass(kw_only=True)
class Company:
    """A tenant whose people sign in through a provider."""

    owner: Person
    provider: OpenIdProvider
    client_id: str
    client_secret: str = field(repr=False)

    @property
    def tenant_id(self) -> UUID:
        assert self.owner.tenant_id is not None
        return self.owner.tenant_id

    async def set(self, **more: Any) -> httpx2.Response:
        """Change the settings."""
        body = {
            "issuer": self.provider.issuer,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "domains": [DOMAIN],
        }
        answer = await self.owner.call("PUT", "/sign-on", json=body | more)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture
def company(people: People) -> Callable[..., Any]:
    """`await company(provider, first_sign_on="member")`: a tenant with sign-on."""

    async def made(provider: OpenIdProvider, **settings: Any) -> Company:
        owner = await people.owner(f"Company {secrets.token_hex(3)}")
        redirect_uri = (await owner.get("/sign-on")).json()["redirect_uri"]
        client_id, client_secret = await provider.register(redirect_uri)
        company = Company(
            owner=owner, provider=provider, client_id=client_id, client_secret=client_secret
        )
        await company.set(**settings)
        return company

    return made


class Browser:
    """Somebody's browser, with its cookies."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def begin(self, tenant_id: UUID, *, site: str = "same-origin") -> httpx2.Response:
        headers = {"sec-fetch-site": site}
        return await self.client.get(BEGIN, params={"tenant": str(tenant_id)}, headers=headers)

    async def way_back(self, company: Company, login: str, **more: Any) -> str:
        """Go to the provider and sign in there; the address that it sends the browser back to."""
        begun = await self.begin(company.tenant_id)
        assert begun.status_code == 303
        return await company.provider.visit(begun.headers["location"], login, **more)

    async def sign_on(self, company: Company, login: str) -> httpx2.Response:
        return await self.client.get(await self.way_back(company, login))

    async def me(self) -> dict[str, Any]:
        """Who is signed in here."""
        answer = await self.as_person("GET", "/auth/me")
        assert answer.status_code == 200, answer.text
        seen: dict[str, Any] = answer.json()
        return seen

    async def token(self) -> str:
        answer = await self.client.post("/api/v1/auth/refresh")
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    async def as_person(self, method: str, path: str, json: Any = None) -> httpx2.Response:
        headers = {"authorization": f"Bearer {await self.token()}"}
        return await self.client.request(method, f"/api/v1{path}", json=json, headers=headers)

    async def is_signed_in(self) -> bool:
        return (await self.client.post("/api/v1/auth/refresh")).status_code == 200


@pytest.fixture
async def browsers(app) -> AsyncIterator[Callable[[], Browser]]:
    """Makes browsers that share nothing."""
    opened: list[httpx2.AsyncClient] = []

    def another() -> Browser:
        transport = httpx2.ASGITransport(app=app)
        opened.append(httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL))
        return Browser(opened[-1])

    yield another
    for client in opened:
        await client.aclose()


@pytest.fixture
def browser(browsers: Callable[[], Browser]) -> Browser:
    return browsers()


def problem(answer: httpx2.Response) -> str:
    """The code that the sign-in page gets."""
    place = urlsplit(answer.headers["location"])
    assert (answer.status_code, place.netloc, place.path) == (303, "", "/app/sign-in")
    return parse_qs(place.query)["problem"][0]


def succeeded(answer: httpx2.Response) -> bool:
    return (answer.status_code, answer.headers["location"]) == (303, "/app/")
