"""What the tests of sign-in share: a browser, a mailbox, and a count of bcrypt computations."""

import dataclasses
from typing import Any

import bcrypt
import httpx2
import pytest

from control_plane.access import passwords

COOKIE = "botyard_refresh"


@dataclasses.dataclass
class Mailbox:
    """A mailer that keeps what it was given."""

    mails: list[dict[str, str]] = dataclasses.field(default_factory=list)

    async def send(self, *, to: str, subject: str, text: str) -> None:
        self.mails.append({"to": to, "subject": subject, "text": text})

    def token(self) -> str:
        """What stands behind the # in the newest mail."""
        return self.mails[-1]["text"].partition("#")[2].split()[0]


@pytest.fixture
def mailbox(app) -> Mailbox:
    mailbox = Mailbox()
    app.app.state.house = dataclasses.replace(app.app.state.house, mailer=mailbox)
    return mailbox


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hashes that passwords were compared with, one for each computation."""
    hashes: list[bytes] = []
    compare = bcrypt.checkpw

    def counted(password: bytes, expected: bytes) -> bool:
        hashes.append(expected)
        return compare(password, expected)

    # At the same cost as the people's of these tests.
    monkeypatch.setattr(passwords, "_NOBODY", bcrypt.hashpw(b"nobody", bcrypt.gensalt(4)))
    monkeypatch.setattr(passwords.bcrypt, "checkpw", counted)
    return hashes


class Browser:
    """Sends what a browser would, without a cookie jar of its own."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def post(
        self, path: str, json: Any = None, *, cookie: str | None = None, **headers: str
    ) -> httpx2.Response:
        self._client.cookies.clear()
        if cookie is not None:
            headers["cookie"] = f"{COOKIE}={cookie}"
        return await self._client.post(f"/api/v1/auth{path}", json=json, headers=headers)

    async def login(self, email: str, password: str, **more: Any) -> httpx2.Response:
        return await self.post("/login", {"email": email, "password": password} | more)

    async def refresh(self, token: str, **headers: str) -> httpx2.Response:
        return await self.post("/refresh", cookie=token, **headers)

    async def is_signed_in(self, access_token: str) -> bool:
        headers = {"authorization": f"Bearer {access_token}"}
        answer = await self._client.get("/api/v1/auth/me", headers=headers)
        return answer.status_code == 200


@pytest.fixture
def browser(client: httpx2.AsyncClient) -> Browser:
    return Browser(client)
