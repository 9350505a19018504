"""A stand-in wired to a channel of a control plane on this machine, for a person to play with."""

import asyncio
import contextlib
import ipaddress
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from adapters.simulators.platform import Platform
from adapters.simulators.serving import serving
from adapters.simulators.stage import Stage

# How long a channel may take to connect to the stand-in, and how often it is looked at.
CONNECT_S = 30.0
AGAIN_S = 0.5
# In place of a channel's id: make one.
NEW = "new"
_OPEN = "Start botyard with BOTYARD_OUTBOUND_ALLOW=127.0.0.0/8, so that bots may call this machine."


class CannotPlay(Exception):
    """Why, and what to do, in plain words."""


@dataclass(frozen=True, kw_only=True)
class Logins:
    """Where the control plane is, and as whom to talk with it."""

    url: str
    email: str
    password: str


def platform_of(kind: str) -> Callable[[], Platform]:
    """The class of a kind's stand-in."""
    if not kind.isidentifier():
        raise CannotPlay(f"There is no kind {kind!r}.")
    try:
        made: Callable[[], Platform] = import_module(f"adapters.simulators.{kind}").PLATFORM
    except (ImportError, AttributeError):
        raise CannotPlay(f"There is no stand-in for {kind}.") from None
    return made


def logins(file: Path) -> Logins:
    """The demo tenant's, as `botyard up` wrote them."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        found = Logins(url=kept["url"], **{k: kept["demo"][k] for k in ("email", "password")})
    except (OSError, ValueError, KeyError, TypeError):
        raise CannotPlay(
            f"There is no login in {file}; run botyard up, or say --data-dir."
        ) from None
    if not _on_loopback(found.url):
        raise CannotPlay("A stand-in is for development: the control plane must be on 127.0.0.1.")
    return found


@asynccontextmanager
async def playing(
    kind: str, channel_id: str, who: Logins, say: Callable[[str], None]
) -> AsyncIterator[str]:
    """The stand-in runs and the channel is its own; gives the address of the page."""
    async with platform_of(kind)() as platform:
        api = f"{who.url}/api/v1"
        async with httpx2.AsyncClient(base_url=api, trust_env=False, timeout=30) as http:
            await _sign_in(http, who)
            entered = await _enter(http, kind, channel_id, platform, who.url)
            for line in await _checked(http, entered):
                say(line)
        stage = Stage(platform, kind=kind, secret=secrets.token_urlsafe(16))
        async with serving(stage.app()) as url:
            yield f"{url}/{stage.secret}/"


async def _sign_in(http: httpx2.AsyncClient, who: Logins) -> None:
    try:
        answer = await http.post("/auth/login", json={"email": who.email, "password": who.password})
    except httpx2.HTTPError:
        raise CannotPlay(f"Nobody answers at {who.url}; is botyard running?") from None
    if answer.status_code != 200:
        raise CannotPlay(f"The login of {who.email} is not taken; its password was changed.")
    http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"


async def _enter(
    http: httpx2.AsyncClient, kind: str, channel_id: str, platform: Platform, base: str
) -> str:
    """The platform's settings into the channel, and the channel's address into the platform."""
    if channel_id == NEW:
        bots = (await http.get("/instances")).json()["items"]
        if not bots:
            raise CannotPlay("The demo tenant has no bot.")
        body = {"kind": kind, "name": f"Stand-in {kind}", "settings": platform.settings}
        answer = await http.post(f"/instances/{bots[0]['id']}/channels", json=body)
    else:
        channel = await http.get(f"/channels/{channel_id}")
        if channel.status_code != 200 or channel.json()["kind"] != kind:
            raise CannotPlay(f"The demo tenant has no channel {channel_id} of the kind {kind}.")
        answer = await http.patch(f"/channels/{channel_id}", json={"settings": platform.settings})
    if answer.status_code not in (200, 201):
        raise CannotPlay(f"The channel does not take the settings: {_detail(answer)}")
    made: dict[str, Any] = answer.json()
    if url := made["callback_url"]:
        # Whatever name the world knows us by: the stand-in is on this machine.
        platform.callback_url = base + urlsplit(url).path
    return str(made["id"])


async def _checked(http: httpx2.AsyncClient, channel_id: str) -> list[str]:
    """What is still wrong with the channel after a while, and the likely reason."""
    wrong: list[dict[str, Any]] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CONNECT_S):
            while True:
                answer = await http.post(f"/channels/{channel_id}/check")
                if answer.status_code != 200:
                    return [f"The channel cannot be checked: {_detail(answer)}"]
                found = answer.json()["findings"]
                # Nobody has said anything yet.
                wrong = [each for each in found if not each["ok"] and each["code"] != "callback"]
                if not wrong:
                    return []
                await asyncio.sleep(AGAIN_S)
    return [*(f"{each['text_zh']} {each['text']}" for each in wrong), _OPEN]


def _detail(answer: httpx2.Response) -> str:
    try:
        said: dict[str, Any] = answer.json()
    except ValueError:
        return str(answer.status_code)
    return str(said.get("detail") or said.get("code") or answer.status_code)


def _on_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
