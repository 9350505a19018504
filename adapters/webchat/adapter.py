"""Web chat as a channel: callbacks in, one call per part out, and a look at the account between."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import httpx2

from adapters.base import Attempt, Host, Outgoing
from adapters.model import CallbackAnswer, RawCallback, Rejected, Segment
from adapters.webchat import codec
from adapters.webchat.callback import verify
from adapters.webchat.client import Client
from adapters.webchat.settings import Settings

# Between two looks at the account, which prove that platform and secret are still good.
PROOF_EVERY_S = 15.0
# Looks that may fail in a row: one is a restart of the platform, three are an outage.
MAX_MISSES = 3


class Adapter:
    """One web-chat account (see `adapters.base.Adapter`)."""

    exclusive: ClassVar[bool] = False

    def __init__(self, settings: Settings, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._ours = own = settings.base_url is None
        self._client = Client(
            host.control.http if own else host.http,
            settings.base_url or host.control.url,
            settings.secret.get_secret_value(),
        )

    async def probe(self) -> None:
        """A wrong secret is refused; a platform that is away is not the settings' fault."""
        try:
            await self._client.account()
        except httpx2.HTTPError:
            return

    async def run(self) -> None:
        """There is no connection to keep: ask for the account again and again."""
        misses = 0
        while True:
            try:
                await self._client.account()
            except httpx2.HTTPError:
                misses += 1
                if misses == MAX_MISSES:
                    raise
            else:
                misses = 0
                self._host.connected()
            await asyncio.sleep(PROOF_EVERY_S)

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Report the visitor's message; the platform hears 200 once it is kept."""
        if not verified:
            checked = verify(request, self._settings, now=request.received_at)
            if isinstance(checked, Rejected):
                return CallbackAnswer(status=401)
        message = codec.decode(request.body, ours=self._ours)
        if isinstance(message, Rejected):
            return CallbackAnswer(status=400)
        await self._host.report([message])
        return CallbackAnswer()

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return codec.split(segments, ours=self._ours)

    async def prepare(self, part: Outgoing) -> Attempt:
        return partial(self._client.post, part)
