"""The steps of a turn that ask models: `context`, then one `infer` for each model that is tried.

The call runs outside any session, under the conversation's lease. What came of it is stored before
anything follows from it: who takes the turn over after a crash does not ask that model again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from adapters.model import in_words
from control_plane.conversations.segments import decode
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, Session, driver
from control_plane.instances import service as instances
from control_plane.instances import sessions
from control_plane.instances.client import AgentAway, AgentClient, AgentRefused, AgentSilent
from control_plane.instances.inferred import ModelFailed, unheard
from control_plane.instances.sessions import AgentAddress
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.turns import context, steps
from control_plane.turns.context import Said
from control_plane.turns.documents import Documents
from control_plane.turns.running import Attempt, Running
from instance_agent.document import Document, LlmModel
from instance_agent.protocol import ChatMessage, InferRequest

# While an agent starts or gets its configuration, a turn waits for it so long, looking this often.
AGENT_PATIENCE = timedelta(seconds=60)
_LOOK_AGAIN = timedelta(seconds=1)
# Models that one tenant has asked at one time, of all that this process waits for: slow ones of one
# tenant must not keep the others' turns waiting.
CALLS_OF_TENANT = 16
# No further model is tried after this long.
CHAIN_WITHIN = timedelta(minutes=3)
# What the agent's own deadline may be late by.
_SLACK = timedelta(seconds=5)
# Messages that a document may let a model be shown.
_MOST = 50
# Another model may do better; what one refused to say is not put to the next.
FINAL = frozenset({"refused"})

_SAID = """
SELECT number, sender_kind, segments FROM messages
WHERE conversation_id = $1 AND number BETWEEN $2 AND $3 AND sender_kind <> 'system'
ORDER BY number DESC LIMIT $4
"""
_EXTERNAL = """
SELECT external_id FROM provider_conversations WHERE conversation_id = $1 AND provider_id = $2
"""
_KEEP_EXTERNAL = """
INSERT INTO provider_conversations
    (conversation_id, provider_id, tenant_id, external_id, updated_at)
SELECT $1, p.id, $3, $4, $5 FROM providers AS p WHERE p.id = $2
ON CONFLICT (conversation_id, provider_id)
DO UPDATE SET external_id = excluded.external_id, updated_at = excluded.updated_at
"""

log = structlog.get_logger()

Aloud = Callable[[Running], AbstractContextManager[Callable[[str], None]]]
"""What is told, while a model answers for a turn, all that it has said so far."""


def silent(_turn: Running) -> AbstractContextManager[Callable[[str], None]]:
    """Nobody hears an answer before it is whole."""
    return nullcontext(unheard)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which models are asked, of how much of the conversation; what a crash must not change."""

    models: list[dict[str, Any]]
    first_number: int
    messages: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class _Question:
    """One call, with everything that was to be read for it."""

    instance_id: UUID
    agent: AgentAddress | None
    request: InferRequest
    within: timedelta


class Asking:
    """Asks the models that a bot's document names, one after the other."""

    def __init__(
        self,
        database: Database,
        keys: Keyring,
        clock: Clock,
        agents: AgentClient,
        documents: Documents,
        aloud: Aloud = silent,
    ) -> None:
        self._database = database
        self._documents = documents
        self._aloud = aloud
        self._keys = keys
        self._clock = clock
        self._agents = agents
        self._calls: Counter[UUID] = Counter()

    async def ask(self, lease: Lease, turn: Running) -> list[Attempt] | timedelta:
        """What the models came to, the last one perhaps with an answer; or when to go on."""
        if self._calls[lease.tenant_id] >= CALLS_OF_TENANT:
            return _LOOK_AGAIN
        with self._counted(lease.tenant_id):
            return await self._ask(lease, turn)

    @contextmanager
    def _counted(self, tenant_id: UUID) -> Iterator[None]:
        self._calls[tenant_id] += 1
        try:
            yield
        finally:
            self._calls[tenant_id] -= 1
            if not self._calls[tenant_id]:
                del self._calls[tenant_id]

    async def _ask(self, lease: Lease, turn: Running) -> list[Attempt] | timedelta:
        plan = await self._plan(lease, turn)
        attempts: list[Attempt] = []
        for index in range(len(plan.models)):
            late = self._clock.now() - turn.created_at > CHAIN_WITHIN
            found = await self._step(lease, turn, plan, index, late=late and index > 0)
            if isinstance(found, timedelta):
                return found
            attempts.append(found)
            if found.answer is not None or found.error_class in FINAL:
                break
        return attempts

    async def _plan(self, lease: Lease, turn: Running) -> Plan:
        """The step `context`: its words are read again for each call, and kept nowhere twice."""
        async with self._session(lease) as session:
            known = await steps.known(session, turn, "context")
            if known is not None:
                return Plan(**known)
            document = await self._documents.of(session, lease.key)
            said = await _said(session, turn, 1, limit=document.llm.context_messages)
            kept = context.within_budget(said)
            plan = Plan(
                models=[model.model_dump(mode="json") for model in document.llm.models],
                first_number=kept[0].number if kept else turn.from_number,
                messages=len(kept),
                tokens=sum(context.estimate(item.text) for item in kept),
            )
            await steps.keep(session, turn, "context", asdict(plan), now=self._clock.now())
            await leases.hold(session, lease)
        return plan

    async def _step(
        self, lease: Lease, turn: Running, plan: Plan, index: int, *, late: bool
    ) -> Attempt | timedelta:
        """The step `infer` of one model."""
        model = LlmModel.model_validate(plan.models[index])
        step = f"infer.{index}"
        async with self._session(lease) as session:
            known = await steps.known(session, turn, step)
            if known is not None:
                return Attempt(**known)
            question = await self._question(session, turn, plan, model)
            await leases.hold(session, lease)
            if question.agent is None:
                await instances.wake(session, question.instance_id, now=self._clock.now())
        external = None
        if late:
            attempt = _failed(model, "timeout")
        elif question.agent is None:
            attempt = _failed(model, "agent_away")
        else:
            attempt, external = await self._call(turn, question.agent, question, model)
        waited = self._clock.now() - turn.created_at
        if attempt.error_class == "agent_away" and waited < AGENT_PATIENCE:
            return _LOOK_AGAIN
        async with self._session(lease) as session:
            now = self._clock.now()
            await steps.keep(session, turn, step, asdict(attempt), now=now)
            if external is not None:
                await (await driver(session)).execute(
                    _KEEP_EXTERNAL, lease.key, model.provider, lease.tenant_id, external, now
                )
            await leases.hold(session, lease)
        return attempt

    async def _question(
        self, session: Session, turn: Running, plan: Plan, model: LlmModel
    ) -> _Question:
        document = await self._documents.of(session, turn.conversation_id)
        connection = await driver(session)
        instance_id = await connection.fetchval(
            "SELECT instance_id FROM conversations WHERE id = $1", turn.conversation_id
        )
        external = await connection.fetchval(_EXTERNAL, turn.conversation_id, model.provider)
        return _Question(
            instance_id=instance_id,
            agent=await sessions.active_agent(session, self._keys, instance_id),
            request=InferRequest(
                provider=model.provider,
                messages=await _messages(session, turn, plan, document),
                model=model.model,
                user=str(turn.conversation_id),
                conversation=external,
                temperature=model.temperature,
                max_tokens=model.max_tokens,
                stream=True,
            ),
            within=timedelta(seconds=document.llm.total_s) + _SLACK,
        )

    async def _call(
        self, turn: Running, agent: AgentAddress, question: _Question, model: LlmModel
    ) -> tuple[Attempt, str | None]:
        """What the model said, and the provider's own id of the conversation."""
        started = time.monotonic()
        try:
            with self._aloud(turn) as grew:
                found = await self._agents.infer(
                    agent, question.request, within=question.within, grew=grew
                )
        except (AgentAway, AgentRefused, AgentSilent, ModelFailed) as error:
            error_class = class_of(error)
            log.info("model did not answer", error_class=error_class, model=model.model)
            return _failed(model, error_class, latency_ms=_since(started)), None
        if found.renewed:
            log.info("the provider had forgotten a conversation", provider=str(model.provider))
        attempt = Attempt(
            provider=str(model.provider),
            model=model.model,
            answer=found.text,
            prompt_tokens=found.usage.prompt_tokens,
            completion_tokens=found.usage.completion_tokens,
            latency_ms=_since(started),
            renewed=found.renewed,
        )
        return attempt, found.conversation

    def _session(self, lease: Lease) -> Any:
        return self._database.plain(Scope(tenants=(lease.tenant_id,)))


async def said(
    session: Session, conversation_id: UUID, *, first: int, through: int, limit: int
) -> list[Said]:
    """What was said from one number to another, the newest of it, in words; not the system's."""
    rows = await (await driver(session)).fetch(_SAID, conversation_id, first, through, limit)
    return [
        Said(
            number=row["number"],
            by_contact=row["sender_kind"] == "contact",
            text="\n".join(filter(None, map(in_words, decode(row["segments"])))),
        )
        for row in reversed(rows)
    ]


async def _said(session: Session, turn: Running, first: int, *, limit: int) -> list[Said]:
    return await said(
        session, turn.conversation_id, first=first, through=turn.through_number, limit=limit
    )


async def _messages(
    session: Session, turn: Running, plan: Plan, document: Document
) -> list[ChatMessage]:
    said = await _said(session, turn, plan.first_number, limit=_MOST)
    return context.messages(document.persona, context.within_budget(said))


def _failed(model: LlmModel, error_class: str, *, latency_ms: int = 0) -> Attempt:
    return Attempt(
        provider=str(model.provider),
        model=model.model,
        error_class=error_class,
        latency_ms=latency_ms,
    )


def class_of(error: AgentAway | AgentRefused | AgentSilent | ModelFailed) -> str:
    """Of which class a call that brought no answer is."""
    match error:
        case ModelFailed():
            return error.error_class
        case AgentAway():
            return "agent_away"
        case AgentRefused(status=503) | AgentRefused(code="unknown_provider"):
            return "agent_away"
        case AgentRefused():
            return "bad_answer"
        case _:
            return "server_error"


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
