"""The agent as one channel's adapter sees it, and what every channel gets from the agent."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from uuid import UUID

import httpx2
from pydantic import BaseModel

from adapters import registry, sockets
from adapters.base import Control, Media, NotAccepted, Undelivered
from adapters.model import Inbound
from adapters.outbound import Door
from instance_agent.belongings import Belongings, outside
from instance_agent.blacklist import Blacklist
from instance_agent.holds import Holds
from instance_agent.intake import Intake
from instance_agent.late import Late
from instance_agent.metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class ChannelSpec:
    """What a scope is made of; equal specs need no reconnecting."""

    id: UUID
    kind: str
    settings: BaseModel


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What every scope gets from the agent."""

    http: httpx2.AsyncClient
    control: Control
    media: Media
    blacklist: Blacklist
    intake: Intake
    late: Late
    metrics: Metrics
    clock: Callable[[], float]
    random: Random
    holds: Holds
    door: Door
    # Seconds of a clock that nobody sets.
    steady: Callable[[], float] = time.monotonic


class ChannelHost:
    """The agent as one adapter sees it (see `adapters.base.Host`)."""

    def __init__(
        self,
        around: Surroundings,
        spec: ChannelSpec,
        on_connected: Callable[["ChannelHost", str | None], None],
        on_disconnected: Callable[["ChannelHost"], None] = lambda _: None,
    ) -> None:
        self.http = around.http
        self.control = around.control
        self.media = around.media
        self.dial = partial(sockets.dial, around.door, may_talk=self._talks)
        self.may_talk: Callable[[], bool] = lambda: True
        self.ended = False
        self._blacklist = around.blacklist
        self.belongings = Belongings()
        self._intake = around.intake
        self._late = around.late
        self._spec = spec
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected

    def _talks(self) -> bool:
        return self.may_talk()

    def resume(self) -> str | None:
        return self._intake.resume(self._spec.id)

    def admitted(self, messages: Sequence[Inbound]) -> list[Inbound]:
        kind, channel_id = self._spec.kind, self._spec.id
        blocks = self._blacklist.blocks
        return [each for each in messages if not blocks(kind, channel_id, each.sender.id)]

    def hears(self, sender_id: str) -> bool:
        return self._blacklist.entry(self._spec.kind, self._spec.id, sender_id) is None

    async def report(self, messages: Sequence[Inbound], *, position: str | None = None) -> None:
        if position is not None and self.ended:
            # Another adapter goes on from here; this one's word would lead it back.
            raise NotAccepted("this adapter has ended")
        rule = registry.kind(self._spec.kind).rule(self._spec.settings)
        heard = self.admitted(messages)
        with outside():
            await self._intake.take(self._spec.id, rule, heard, position=position)

    async def undelivered(self, failure: Undelivered) -> None:
        with outside():
            await self._late.tell(self._spec.id, failure)

    def connected(self, note: str | None = None) -> None:
        self._on_connected(self, note)

    def disconnected(self) -> None:
        self._on_disconnected(self)
