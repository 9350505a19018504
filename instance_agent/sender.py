"""Sends down: one attempt per part, journalled before and after, idempotent by message id.

What nobody sees comes first (tokens, uploads): an agent that dies there leaves no doubt.

All timed retry belongs to the control plane. Repeating an attempt repeats its answer; a higher
attempt tries again what the platform refused (nothing was sent then). What has no known end is
sent again only while the platform would recognise it, or when a person insists on a new attempt.
"""

import asyncio
from collections.abc import Callable, Mapping
from uuid import UUID

import msgspec
import structlog

from adapters import registry
from adapters.base import Attempt, Outgoing, SendFailed, SendUnknown
from adapters.model import Segment
from instance_agent.journal import Entry, Journal
from instance_agent.metrics import Metrics
from instance_agent.problems import Refusal
from instance_agent.protocol import PartOutcome, SendRequest, SendResult
from instance_agent.supervisor import Scope, Supervisor

# One call to a platform; after it the outcome is unknown.
ATTEMPT_S = 30.0
# Tokens and uploads before that call. Nothing was sent when it is over.
PREPARE_S = 40.0
# Refusals that are as good as done: it is being sent already, or somebody looks at it first.
_TAKEN = frozenset({"duplicate_in_flight", "async_audit"})
# Messages on their way at a time: lanes of the control plane beyond it come back in a second.
MAX_RUNNING = 64

UNKNOWN = PartOutcome(outcome="unknown")
NOT_TRIED = PartOutcome(
    outcome="failed", error_class="not_tried", detail="an earlier part was not sent"
)
FULL = PartOutcome(
    outcome="failed",
    error_class="window_count_exceeded",
    detail="the platform takes no more answers for now",
)

log = structlog.get_logger()


class Sender:
    """Sends messages through the channels of this agent."""

    def __init__(
        self,
        *,
        journal: Journal,
        supervisor: Supervisor,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._supervisor = supervisor
        self._metrics = metrics
        self._clock = clock
        self._running: dict[UUID, asyncio.Task[SendResult]] = {}

    async def send(self, request: SendRequest) -> SendResult:
        """Send, or join the send of the same message; raises Refusal."""
        scope = self._check(request)
        if request.epoch > self._journal.epoch:
            await self._journal.raise_epoch(request.epoch)
        task = self._running.get(request.message_id)
        if task is None:
            if len(self._running) >= MAX_RUNNING:
                raise Refusal(429, "busy", "too many messages are being sent", retry_after_s=1)
            task = asyncio.create_task(
                self._send(request, scope), name=f"send-{request.message_id}"
            )
            self._running[request.message_id] = task
            task.add_done_callback(lambda _: self._running.pop(request.message_id))
        # Shielded: a caller that hangs up must not cut a call to a platform.
        return await asyncio.shield(task)

    def _check(self, request: SendRequest) -> Scope:
        if request.journal_id != self._journal.id:
            raise Refusal(409, "journal_mismatch", "this agent keeps another journal")
        if request.epoch < self._journal.epoch:
            raise Refusal(409, "stale_epoch", "a newer session has sent through this agent")
        scope = self._supervisor.scope(request.channel_id)
        if scope is None:
            raise Refusal(404, "unknown_channel", "this agent has no such channel")
        return scope

    async def _send(self, request: SendRequest, scope: Scope) -> SendResult:
        parts = scope.adapter.split(request.segments)
        if not parts:
            raise Refusal(400, "bad_request", "there is nothing to send")
        entries = await self._journal.entries(request.message_id)
        outcomes: list[PartOutcome] = []
        for index, segments in enumerate(parts):
            fits = request.room is None or _spent(request, entries, index) < request.room
            outcome = await self._part(request, scope, index, segments, entries.get(index), fits)
            outcomes.append(outcome)
            if outcome.outcome != "sent":
                break  # parts must not arrive out of order
        log.info(
            "message sent" if outcomes[-1].outcome == "sent" else "message not sent",
            message_id=str(request.message_id),
            attempt=request.attempt,
            outcome=outcomes[-1].outcome,
            error_class=outcomes[-1].error_class,
        )
        return SendResult(parts=outcomes + [NOT_TRIED] * (len(parts) - len(outcomes)))

    async def _part(
        self,
        request: SendRequest,
        scope: Scope,
        index: int,
        segments: list[Segment],
        entry: Entry | None,
        fits: bool,
    ) -> PartOutcome:
        kind = registry.kind(scope.spec.kind)
        if entry is not None:
            safe_s = kind.resend_safe(request.conversation.type)
            if request.insist and request.attempt > entry.attempt:
                # Whoever insists takes the repeat into the bargain.
                safe_s = float("inf")
            known = settled(entry, request.attempt, resend_safe_s=safe_s, now=self._clock())
            if known is not None:
                return known
        if not fits:
            return _behind(entry, FULL)
        barred = scope.barred
        if barred is not None and not (request.insist and scope.yields()):
            return _behind(entry, _failed(barred))
        part = Outgoing(
            idempotency_key=_key(request, index, entry),
            conversation=request.conversation,
            reply_handle=request.reply_handle,
            segments=segments,
            author=request.author,
        )
        ready = await _prepare(scope, part)
        if isinstance(ready, PartOutcome):
            # Nobody has seen anything, so there is nothing to note of this attempt.
            scope.note(ready)
            return _behind(entry, ready)
        await self._journal.trying(
            request.message_id, index, attempt=request.attempt, now=self._clock()
        )
        tried = await _attempt(scope, ready)
        scope.note(tried)
        outcome = _behind(entry, tried)
        await self._journal.finish(request.message_id, index, outcome)
        self._metrics.sends.labels(kind.name, outcome.outcome).inc()
        return outcome


def settled(entry: Entry, attempt: int, *, resend_safe_s: float, now: float) -> PartOutcome | None:
    """What a journalled part must answer, or None when it may be tried (again)."""
    if entry.outcome is not None and (attempt <= entry.attempt or entry.state == "sent"):
        return entry.outcome
    # The clock may have been set meanwhile, either way.
    if entry.state == "failed" or abs(now - entry.tried_at) < resend_safe_s:
        return None
    return entry.outcome or UNKNOWN


def _key(request: SendRequest, index: int, entry: Entry | None) -> str:
    """By which the platform may know a part again: another one, where it took that and showed
    nothing, since it would take the repeat for what it has already."""
    key = f"{request.message_id}:{index}"
    last = entry.outcome if entry is not None and entry.state == "failed" else None
    if last is not None and last.platform_message_id:
        return f"{key}:{request.attempt}"
    return key


def _spent(request: SendRequest, entries: Mapping[int, Entry], index: int) -> int:
    """Parts before this one that this attempt has sent; earlier attempts' are not in its room."""
    before = (entries.get(each) for each in range(index))
    settled_before = sum(
        each is not None and each.state == "sent" and each.attempt < request.attempt
        for each in before
    )
    return index - settled_before


def _behind(entry: Entry | None, outcome: PartOutcome) -> PartOutcome:
    """A try that failed behind one with no known end: that one may have been sent."""
    if outcome.outcome == "failed" and entry is not None and entry.state != "failed":
        return msgspec.structs.replace(outcome, outcome="unknown")
    return outcome


async def _prepare(scope: Scope, part: Outgoing) -> Attempt | PartOutcome:
    try:
        async with asyncio.timeout(PREPARE_S):
            return await scope.adapter.prepare(part)
    except SendFailed as failed:
        return _failed(failed)
    except TimeoutError:
        return _failed(SendFailed("server_busy", "the platform did not answer in time"))
    except Exception as error:
        log.error("adapter failed before sending", channel_id=str(scope.spec.id), exc_info=True)
        return _failed(SendFailed("server_busy", f"the adapter raised {type(error).__name__}"))


def _failed(failed: SendFailed) -> PartOutcome:
    return PartOutcome(
        outcome="failed",
        error_class=failed.error_class,
        detail=failed.detail,
        retry_after_s=failed.retry_after_s,
        moved_to=failed.moved_to,
    )


async def _attempt(scope: Scope, attempt: Attempt) -> PartOutcome:
    try:
        async with asyncio.timeout(ATTEMPT_S):
            sent = await attempt()
    except SendFailed as failed:
        return PartOutcome(outcome="sent") if failed.error_class in _TAKEN else _failed(failed)
    except SendUnknown as unknown:
        return PartOutcome(outcome="unknown", detail=str(unknown) or None)
    except TimeoutError:
        return PartOutcome(outcome="unknown", detail="the platform did not answer in time")
    except Exception as error:
        log.error("adapter failed while sending", channel_id=str(scope.spec.id), exc_info=True)
        return PartOutcome(outcome="unknown", detail=f"the adapter raised {type(error).__name__}")
    return PartOutcome(outcome="sent", platform_message_id=sent.platform_message_id)
