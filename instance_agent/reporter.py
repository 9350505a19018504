"""Events up: signed batches, posted as soon as a slot is free, never on a timer.

Two kinds of events: those that somebody waits for (a platform's message, not acknowledged until
the control plane has it) go straight up or fail; the rest go through the spool, in order.
"""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID, uuid4

import httpx2
import msgspec
import structlog

from adapters import standard_webhooks
from adapters.base import NotAccepted
from instance_agent.backoff import Backoff, retry_after
from instance_agent.metrics import Metrics
from instance_agent.protocol import (
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    Event,
    EventResult,
    EventResults,
    EventStatus,
    EventType,
)
from instance_agent.spool import Batch, Spool
from instance_agent.store import StoreFailed

# Platforms give five seconds and less, so the control plane waits 2.5 s for a callback's answer
# before it keeps the callback itself; ours must be there by then.
DEADLINE_S = 2.0
# Posts in flight for waiting callers; more would only make smaller batches.
MAX_FLIGHTS = 2
# Reports waiting for a slot; beyond it the control plane is not keeping up, so say so at once.
MAX_WAITING = 1000
# A spooled batch may take as long as a group commit of a busy control plane does.
SPOOL_TIMEOUT_S = 30.0

# Answers that say "this body will never do"; anything else is worth another try.
_HOPELESS = frozenset({400, 413, 422})
# "This session has ended": the control plane wants nothing more of it.
_GONE = 410
_NOTHING: Mapping[str, str] = MappingProxyType({})

log = structlog.get_logger()


class _Batch(msgspec.Struct, kw_only=True):
    """EventBatch with events that are already in their wire form, as one array."""

    session_id: UUID
    events: msgspec.Raw
    checkpoints: dict[str, str]


class _Result(msgspec.Struct, kw_only=True):
    """EventResult with the id as it is written: for thousands, reading it would cost most."""

    id: str
    status: EventStatus
    code: str | None = None


class _Results(msgspec.Struct, kw_only=True):
    results: list[_Result]


Answer = TypeVar("Answer", EventResults, _Results)


class PostFailed(Exception):
    """The batch was not accepted; `status` is the control plane's, if it answered at all."""

    def __init__(
        self, reason: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(eq=False, kw_only=True)
class _Waiting:
    """Events of one caller. Two callers with a key in common are never in flight together."""

    ids: list[UUID]
    bodies: list[bytes]
    keys: frozenset[object]
    answer: asyncio.Future[list[EventResult]]
    checkpoints: Mapping[str, str]
    context: Context = field(default_factory=copy_context)

    @property
    def size(self) -> int:
        return sum(map(len, self.bodies))


@dataclass(kw_only=True)
class _Answered:
    """All that is spooled up to the place `through` has a result; some of it was rejected."""

    through: int = 0
    rejected: dict[int, str] = field(default_factory=dict)
    failure: PostFailed | None = None

    def add(self, batch: Batch, answer: Sequence[_Result]) -> None:
        """Raises PostFailed at the first event without a result: those behind it wait too."""
        for seq, event_id, result in zip(batch.seqs, batch.ids, answer, strict=False):
            if event_id != result.id:
                break
            if result.status == "rejected":
                code = self.rejected[seq] = result.code or "unknown"
                log.error("event rejected", event_id=event_id, code=code)
            self.through = seq
        if self.through != batch.through:
            raise PostFailed("an unfit answer")


class Reporter:
    """Posts this session's events. `gone` is set when the control plane wants no more of them."""

    def __init__(
        self,
        *,
        http: httpx2.AsyncClient,
        url: str,
        session_id: UUID,
        secret: Callable[[], str],
        spool: Spool,
        metrics: Metrics,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._http = http
        self._url = httpx2.URL(url)  # read once, not with each post
        self._session_id = session_id
        self._secret = secret
        self._spool = spool
        self._metrics = metrics
        self._clock = clock
        self._backoff = Backoff(base_s=0.2, cap_s=30, random=random)
        self._waiting: deque[_Waiting] = deque()
        self._flights: dict[asyncio.Task[None], list[_Waiting]] = {}
        self.gone = asyncio.Event()

    async def report_now(
        self,
        events: Sequence[Event],
        *,
        keys: Iterable[object],
        checkpoints: Mapping[str, str] = _NOTHING,
    ) -> None:
        """Return when the control plane has answered for all events; raises NotAccepted.

        An event that it rejects for good is kept as a dead letter, and counts as answered.
        `checkpoints` commit with the events.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise NotAccepted("too many events wait for the control plane")
        waiting = _Waiting(
            ids=[event.id for event in events],
            bodies=[msgspec.json.encode(event) for event in events],
            keys=frozenset(keys),
            answer=asyncio.get_running_loop().create_future(),
            checkpoints=checkpoints,
        )
        self._waiting.append(waiting)
        self._launch()
        try:
            async with asyncio.timeout(DEADLINE_S):
                results = await waiting.answer
        except TimeoutError:
            raise NotAccepted("the control plane did not answer in time") from None
        except PostFailed as failure:
            raise NotAccepted(str(failure)) from failure
        log.info("events reported", count=len(results))
        await self._bury(waiting, results)

    async def record(self, kind: EventType, data: msgspec.Struct, *, subject: UUID | None) -> None:
        """Spool an event; `post_spool` brings it up. `subject`: a newer one may replace it."""
        event = new_event(kind, data, now=self._clock())
        await self._spool.add(
            event.id,
            msgspec.json.encode(event),
            at=event.occurred_at.timestamp(),
            subject=None if subject is None else str(subject),
        )

    async def post_spool(self) -> None:
        """Loop: post what is spooled until accepted, oldest first; ends with the session."""
        limit = MAX_BATCH_EVENTS
        while True:
            await self._spool.waiting.wait()
            try:
                await self._post_spooled(limit)
            except (PostFailed, StoreFailed) as error:
                failure = error if isinstance(error, PostFailed) else PostFailed(str(error))
                if failure.status == _GONE:
                    return
                # Find the event that spoils the batch by sending one at a time.
                limit = 1 if failure.status in _HOPELESS else MAX_BATCH_EVENTS
                delay = self._backoff.next(failure.retry_after_s)
                log.warning("spool not accepted", reason=str(failure), retry_in_s=round(delay, 1))
                await asyncio.sleep(delay)
            else:
                limit = MAX_BATCH_EVENTS

    async def close(self) -> None:
        """Cut what is in flight or waits for it; the callers hear NotAccepted."""
        waiting, self._waiting = self._waiting, deque()
        _fail(waiting, PostFailed("the agent is stopping"))
        flights = list(self._flights)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    # --- for callers that wait ---

    def _launch(self) -> None:
        while len(self._flights) < MAX_FLIGHTS and (batch := self._pick()):
            # A batch may be of several traces: it is in that of its caller only when it is one's.
            context = batch[0].context if len(batch) == 1 else Context()
            flight = asyncio.create_task(
                self._fly(batch), name="reporter-flight", context=context.copy()
            )
            self._flights[flight] = batch
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        _fail(self._flights.pop(flight), PostFailed("the agent is stopping"))  # if it was cut
        self._launch()

    def _pick(self) -> list[_Waiting]:
        """The oldest callers that fit in a batch and whose keys are not in flight."""
        busy = {key for batch in self._flights.values() for each in batch for key in each.keys}
        batch: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        events = size = 0
        for waiting in self._waiting:
            if waiting.answer.done():
                continue  # gave up while waiting
            fits = (
                events + len(waiting.bodies) <= MAX_BATCH_EVENTS
                and size + waiting.size <= MAX_BATCH_BYTES
            )
            if waiting.keys & busy or (batch and not fits):
                busy |= waiting.keys  # whoever comes later in these conversations waits too
                left.append(waiting)
                continue
            batch.append(waiting)
            events, size = events + len(waiting.bodies), size + waiting.size
        self._waiting = left
        return batch

    async def _fly(self, batch: list[_Waiting]) -> None:
        events = b",".join(body for waiting in batch for body in waiting.bodies)
        checkpoints = {key: at for waiting in batch for key, at in waiting.checkpoints.items()}
        try:
            answer = await self._post(events, DEADLINE_S, EventResults, checkpoints)
            results = {each.id: each for each in answer.results}
            parts = [[results[event_id] for event_id in each.ids] for each in batch]
        except (PostFailed, KeyError) as error:
            _fail(batch, error if isinstance(error, PostFailed) else PostFailed("an unfit answer"))
            return
        for waiting, part in zip(batch, parts, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(part)

    async def _bury(self, waiting: _Waiting, results: list[EventResult]) -> None:
        for body, result in zip(waiting.bodies, results, strict=True):
            if result.status != "rejected":
                continue
            code = result.code or "unknown"
            log.error("event rejected", event_id=str(result.id), code=code)
            try:
                await self._spool.bury(result.id, code, body, now=self._clock())
            except StoreFailed as failure:
                raise NotAccepted("a rejected event could not be kept") from failure

    # --- for the spool ---

    async def _post_spooled(self, limit: int) -> None:
        """Post batch after batch, one in flight, until nothing waits.

        Meanwhile the disk forgets what was answered for and reads ahead, some batches at a time.
        A crash leaves at most twice as much without need, under ids that are known above.
        """
        batches, answered = await self._spool.head(limit), _Answered()
        while batches:
            turning = asyncio.create_task(
                self._settle(answered, after=batches[-1].through), name="reporter-settle"
            )
            try:
                answered = await self._post_batches(batches)
            finally:
                ahead = await turning
            batches = [] if answered.failure else ahead
            if not batches:
                batches, failure = await self._settle(answered, after=0), answered.failure
                if failure:
                    raise failure
                answered = _Answered()

    async def _post_batches(self, batches: Sequence[Batch]) -> _Answered:
        answered = _Answered()
        for batch in batches:
            try:
                answered.add(batch, await self._post_batch(batch))
            except PostFailed as failure:
                answered.failure = failure
                break
            self._backoff.reset()
        return answered

    async def _post_batch(self, batch: Batch) -> list[_Result]:
        try:
            return (await self._post(batch.events, SPOOL_TIMEOUT_S, _Results)).results
        except PostFailed as failure:
            if failure.status not in _HOPELESS or len(batch.ids) > 1:
                raise
            return [_Result(id=batch.ids[0], status="rejected", code="refused_batch")]

    async def _settle(self, answered: _Answered, *, after: int) -> list[Batch]:
        return await self._spool.settle(
            answered.through, rejected=answered.rejected, now=self._clock(), after=after
        )

    async def _post(
        self,
        events: bytes,
        timeout_s: float,
        form: type[Answer],
        checkpoints: Mapping[str, str] = _NOTHING,
    ) -> Answer:
        """`events` are those of a batch, by comma."""
        raw = msgspec.Raw(b"[" + events + b"]")
        body = msgspec.json.encode(
            _Batch(session_id=self._session_id, events=raw, checkpoints=dict(checkpoints))
        )
        headers = standard_webhooks.sign(
            self._secret(),
            message_id=standard_webhooks.id_of(hashlib.sha256(body).digest()),
            timestamp=int(self._clock()),
            body=body,
        )
        headers["content-type"] = "application/json"
        try:
            response = await self._http.post(
                self._url, content=body, headers=headers, timeout=timeout_s
            )
        except httpx2.TransportError as error:
            raise PostFailed(f"control plane unreachable ({type(error).__name__})") from error
        if response.status_code == _GONE:
            self.gone.set()
        if response.status_code != 202:
            raise PostFailed(
                f"the control plane answered {response.status_code}",
                status=response.status_code,
                retry_after_s=retry_after(response.headers.get("retry-after")),
            )
        try:
            answer = msgspec.json.decode(response.content, type=form)
        except msgspec.MsgspecError as error:
            raise PostFailed("an unfit answer") from error
        for status, count in Counter(result.status for result in answer.results).items():
            self._metrics.events.labels(status).inc(count)
        return answer


def new_event(
    kind: EventType,
    data: msgspec.Struct,
    *,
    now: float,
    event_id: UUID | None = None,
    trace: str = "",
) -> Event:
    """An event in the wire's terms; without `event_id` it is one of a kind."""
    return Event(
        id=event_id or uuid4(),
        type=kind,
        occurred_at=datetime.fromtimestamp(now, UTC),
        data=msgspec.to_builtins(data),
        trace=trace,
    )


def _fail(batch: Iterable[_Waiting], failure: PostFailed) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(failure)
