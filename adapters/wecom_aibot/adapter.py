"""An AI bot of WeCom as a channel, by whichever transport its console names."""

import time
from collections.abc import Callable, Sequence

from adapters.base import Attempt, Host, Outgoing
from adapters.model import CallbackAnswer, RawCallback, Segment
from adapters.wecom_aibot.long_connection import LongConnection
from adapters.wecom_aibot.passive import Passive
from adapters.wecom_aibot.settings import Settings


class Adapter:
    """One bot (see `adapters.base.Adapter`)."""

    def __init__(
        self, settings: Settings, host: Host, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._way: LongConnection | Passive
        if settings.transport == "long_connection":
            self._way = LongConnection(settings, host, clock=clock)
        else:
            self._way = Passive(settings, host, clock=clock)

    @property
    def exclusive(self) -> bool:
        """A second long connection of a bot throws the first one out."""
        return self._settings.transport == "long_connection"

    def account(self) -> str:
        secret = self._settings.secret
        return f"{self._settings.bot_id}:{'' if secret is None else secret.get_secret_value()}"

    async def probe(self) -> None:
        await self._way.probe()

    async def run(self) -> None:
        await self._way.run()

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        if isinstance(self._way, Passive):
            return await self._way.callback(request, verified=verified)
        return CallbackAnswer(status=401, content_type="text/plain", body=b"")

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return self._way.split(segments)

    async def prepare(self, part: Outgoing) -> Attempt:
        return await self._way.prepare(part)
