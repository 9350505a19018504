"""A delivery between the control plane's verdict and the agent's journal, in any order of events.

The verdict, the sender and the journal are the real ones; the lane around the verdict, the
platform and the clock are a model. Platforms recognise a repeat for ever, for an hour, or never.
"""

import asyncio
import dataclasses
import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adapters import registry
from adapters.base import Attempt, Outgoing, SendFailed, SendUnknown, Sent
from adapters.model import ConversationKey, Text
from control_plane.delivery.models import DeliveryState
from control_plane.delivery.verdict import Verdict, judge
from control_plane.kit.ids import new_id
from instance_agent.journal import Journal
from instance_agent.metrics import Metrics
from instance_agent.protocol import PartOutcome, SendRequest
from instance_agent.sender import Sender
from instance_agent.store import Store

CHANNEL = new_id()
HOUR_S = 3600.0
EXAMPLES = 10_000 if os.environ.get("SCALE") == "full" else 300
PLATFORM = st.sampled_from(["sent", "cut after", "cut before", "rate_limited", "content_invalid"])


class AgentDied(BaseException):
    """In the middle of a call to the platform."""


class Platform:
    """Shows a message once per key, for as long as it recognises repeats; sometimes refuses."""

    def __init__(self, safe_s: float, now: Callable[[], float]) -> None:
        self._safe_s, self._now = safe_s, now
        self._first: dict[str, float] = {}
        self.shown: list[str] = []
        self.behaviour = "sent"
        self.agent_dies = False

    def split(self, segments: list[Any]) -> list[list[Any]]:
        return [[segment] for segment in segments]

    async def prepare(self, part: Outgoing) -> Attempt:
        return partial(self.send, part)

    async def send(self, part: Outgoing) -> Sent:
        behaviour, self.behaviour = self.behaviour, "sent"
        if behaviour in ("rate_limited", "content_invalid"):
            raise SendFailed(behaviour, "no")
        if behaviour != "cut before":
            self._show(part.idempotency_key)
        if self.agent_dies:
            raise AgentDied
        if behaviour != "sent":
            raise SendUnknown("cut")
        return Sent(platform_message_id="p")

    def _show(self, key: str) -> None:
        known = self._first.get(key)
        if known is None or self._now() - known >= self._safe_s:
            self._first[key] = self._now()
            self.shown.append(key)


class Delivery(RuleBasedStateMachine):
    """One delivery of one or two parts, from `queued` to its end."""

    @initialize(safe_s=st.sampled_from([0.0, HOUR_S, 1e9]), parts=st.integers(1, 2))
    def begin(self, safe_s: float, parts: int) -> None:
        self.runner = asyncio.Runner()
        self.now = 1_000_000.0
        self.safe_s = safe_s
        kind = dataclasses.replace(registry.kind("webchat"), name="modelled", resend_safe_s=safe_s)
        self.patch = mock.patch.dict(registry._KINDS, {"modelled": kind})
        self.patch.start()
        self.platform = Platform(safe_s, lambda: self.now)
        self.message_id = new_id()
        self.segments = [Text(text=str(number)) for number in range(parts)]
        self.state = DeliveryState.QUEUED
        self.error_class: str | None = None
        self.attempts: list[dict[str, Any]] = []
        self.stores: list[Store] = []
        self.new_disk()
        self.running: Any = None

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            for store in self.stores:
                self.runner.run(store.close())
            self.runner.close()
            self.patch.stop()

    def new_disk(self) -> None:
        async def make() -> Store:
            return Store(Path(":memory:"))

        self.stores.append(self.runner.run(make()))
        self.new_agent()

    def new_agent(self) -> None:
        """A process on the disk that there is."""
        self.journal = Journal(self.stores[-1])
        scope = SimpleNamespace(
            adapter=self.platform,
            spec=SimpleNamespace(kind="modelled", id=CHANNEL),
            barred=None,
            note=lambda _: None,
        )
        self.sender = Sender(
            journal=self.journal,
            supervisor=SimpleNamespace(scope={CHANNEL: scope}.get),  # type: ignore[arg-type]
            metrics=Metrics(),
            clock=lambda: self.now,
        )

    @property
    def open(self) -> bool:
        return self.state in (DeliveryState.QUEUED, DeliveryState.SENDING)

    # --- what happens ---

    @rule(seconds=st.sampled_from([1.0, 600.0, HOUR_S - 1, HOUR_S, 3 * HOUR_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def agent_is_killed(self) -> None:
        self.new_agent()

    @rule()
    def agent_loses_its_disk(self) -> None:
        self.new_disk()

    @precondition(lambda self: self.open)
    @rule(behaviour=PLATFORM, agent_dies=st.booleans(), heard=st.booleans())
    def worker_works(self, behaviour: str, agent_dies: bool, heard: bool) -> None:
        """One round of the lane; `heard`: the agent's answer reaches the worker."""
        if self.state == DeliveryState.QUEUED:
            self.attempts.append({"journal": self.journal.id, "at": self.now, "outcome": None})
            self.state = DeliveryState.SENDING
        elif self.attempts[-1]["journal"] != self.journal.id:
            self.record([PartOutcome(outcome="unknown")])
            return
        self.platform.behaviour, self.platform.agent_dies = behaviour, agent_dies
        try:
            result = self.runner.run(self.sender.send(self.request()))
        except AgentDied:
            self.new_agent()
            return
        if heard:
            self.record(result.parts)

    @precondition(lambda self: self.state == DeliveryState.QUEUED)
    @rule()
    def somebody_takes_over(self) -> None:
        unknown = self.error_class == "unknown_outcome"
        self.state = DeliveryState.UNCONFIRMED if unknown else DeliveryState.WITHHELD

    def request(self) -> SendRequest:
        return SendRequest(
            message_id=self.message_id,
            attempt=len(self.attempts),
            channel_id=CHANNEL,
            epoch=1,
            journal_id=self.journal.id,
            conversation=ConversationKey(type="direct", id="v1"),
            reply_handle={},
            segments=list(self.segments),
        )

    def record(self, parts: Any) -> None:
        verdict: Verdict = judge(
            parts,
            attempt=len(self.attempts),
            age=timedelta(seconds=self.now - self.attempts[0]["at"]),
            resend_safe=timedelta(seconds=self.safe_s),
            doubt=any(attempt["outcome"] == "unknown" for attempt in self.attempts[:-1]),
        )
        outcome = next((part.outcome for part in parts if part.outcome != "sent"), "sent")
        self.attempts[-1]["outcome"] = outcome
        self.state, self.error_class = verdict.state, verdict.error_class

    # --- what always holds ---

    @invariant()
    def nothing_is_seen_twice(self) -> None:
        assert len(set(self.platform.shown)) == len(self.platform.shown)

    @invariant()
    def parts_are_seen_in_order(self) -> None:
        numbers = [key.rpartition(":")[2] for key in self.platform.shown]
        assert numbers == [str(number) for number in range(len(numbers))]

    @invariant()
    def what_is_sent_was_seen_whole(self) -> None:
        if self.state == DeliveryState.SENT:
            assert len(self.platform.shown) == len(self.segments)

    @invariant()
    def what_failed_or_was_withheld_was_not_seen_whole(self) -> None:
        if self.state in (DeliveryState.FAILED, DeliveryState.WITHHELD):
            assert len(self.platform.shown) < len(self.segments)


Delivery.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=12, deadline=None)
TestDelivery = Delivery.TestCase
