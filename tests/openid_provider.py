"""A certified OpenID provider on loopback, and a person's way through its pages."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx2

FOLDER = Path(__file__).parent / "oidc_provider"
MISSING = "`npm ci` was not run in tests/oidc_provider, so nothing shows that sign-on works"
MOST_STEPS = 12
"""Of a way through the provider's pages; one that is longer leads in a circle."""


def is_installed() -> bool:
    return shutil.which("node") is not None and (FOLDER / "node_modules").is_dir()


class OpenIdProvider:
    """A child process that can be killed."""

    def __init__(self, process: "subprocess.Popen[str]", issuer: str) -> None:
        self._process = process
        self.issuer = issuer

    @classmethod
    @contextmanager
    def running(cls, *options: str) -> "Iterator[OpenIdProvider]":
        node = shutil.which("node")
        assert node is not None
        process = subprocess.Popen(
            [node, "server.mjs", *options],
            cwd=FOLDER,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            # Its first line, once it listens; an empty one when it ended instead.
            issuer = process.stdout.readline().strip()
            assert issuer, "the provider did not start"
            yield cls(process, issuer)
        finally:
            with process:
                process.kill()

    def kill(self) -> None:
        """Returns when nobody answers any more."""
        self._process.kill()
        self._process.wait()

    async def register(self, redirect_uri: str, **more: str) -> tuple[str, str]:
        """A new client and its secret."""
        body = {"redirect_uris": [redirect_uri], **more}
        async with httpx2.AsyncClient() as client:
            answer = await client.post(f"{self.issuer}/reg", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["client_id"], answer.json()["client_secret"]

    async def rotate(self) -> None:
        """New signing keys; clients have to register again."""
        async with httpx2.AsyncClient() as client:
            assert (await client.post(f"{self.issuer}/rotate")).status_code == 204

    async def visit(self, url: str, login: str, *, consents: bool = True) -> str:
        """Sign in on the provider's pages, and agree or not; where it sends the browser then."""
        async with httpx2.AsyncClient() as browser:
            answer = await browser.get(url)
            for _ in range(MOST_STEPS):
                place = answer.headers.get("location")
                if place is not None:
                    if not urljoin(url, place).startswith(self.issuer):
                        return place
                    url = urljoin(url, place)
                    answer = await browser.get(url)
                elif 'name="prompt" value="login"' in answer.text:
                    form = {"prompt": "login", "login": login, "password": "any"}
                    answer = await browser.post(url, data=form)
                elif consents:
                    assert 'name="prompt" value="consent"' in answer.text, answer.text
                    answer = await browser.post(url, data={"prompt": "consent"})
                else:
                    url = f"{url}/abort"
                    answer = await browser.get(url)
        raise AssertionError(f"the provider leads nowhere: {url}")
