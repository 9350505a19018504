"""Has voices written down: asks the agent, which asks the provider; twice more where that failed.

The call runs outside any session, under the task's lease. What came of it and the end of the task
are one transaction: a worker that dies before it leaves a task that is asked for again, one that
dies after it leaves nothing.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope
from control_plane.instances import service as instances
from control_plane.instances import sessions
from control_plane.instances.client import AgentAway, AgentClient, AgentRefused, AgentSilent
from control_plane.instances.inferred import ModelFailed
from control_plane.instances.sessions import AgentAddress
from control_plane.kit import tracing
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.speech import tasks
from control_plane.speech.offline import LANGUAGE, Offline
from control_plane.speech.tasks import Task
from control_plane.tenants import service as tenants
from instance_agent.document import Speech as Section
from instance_agent.protocol import (
    MAX_DURATION_S,
    MAX_LANGUAGE,
    MAX_TRANSCRIPT,
    TranscribeRequest,
    Transcript,
)

WORK = tasks.WORK
# Pauses before the second call and the third, the last.
RETRY_AFTER = (timedelta(seconds=2), timedelta(seconds=10))
# While an agent starts, or gets its configuration, a task waits so long, looking this often.
AGENT_PATIENCE = timedelta(minutes=5)
# So long a task waits for what is made of its voice, and then goes on with the voice itself.
CONVERSION_PATIENCE = timedelta(minutes=2)
_LOOK_AGAIN = timedelta(seconds=2)
# Voices that one tenant has written down at a time, of all that this process waits for: who talks
# much must not keep the others waiting.
VOICES_OF_TENANT = 8
# Asking again would change nothing.
_FINAL = frozenset({"unauthorized", "model_unknown", "refused", "too_large", "media_gone"})
_PASSING = frozenset({"rate_limited", "server_error", "timeout", "bad_answer", "context_too_long"})
# What the agent says when it is the agent itself that is not ready; 404 not_found is one of before.
_NOT_READY = frozenset({"unknown_provider", "not_found"})

log = structlog.get_logger()


class Speech:
    """Works on tasks of speech."""

    def __init__(
        self,
        database: Database,
        keys: Keyring,
        clock: Clock,
        agents: AgentClient,
        offline: Offline | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._agents = agents
        self._offline = offline
        self._calls: Counter[UUID] = Counter()

    async def run(self, lease: Lease) -> timedelta | None:
        """Work handler: one call for one voice, and the task's end where that was the last."""
        if self._calls[lease.tenant_id] >= VOICES_OF_TENANT:
            return _LOOK_AGAIN
        with self._counted(lease.tenant_id):
            return await self._run(lease)

    async def _run(self, lease: Lease) -> timedelta | None:
        async with self._transaction(lease) as session:
            task = await tasks.read(session, lease.key)
            if task is None:
                return None
            tracing.follow(task.trace)
            if (rest := tenants.rest_in(task.tenant_state)) is not None:
                return rest
            if task.awaited and self._waited(task) < CONVERSION_PATIENCE:
                return _LOOK_AGAIN
            offline, agent = self._offline_for(task), None
            if offline is None:
                agent = await sessions.active_agent(session, self._keys, task.instance_id)
            await leases.hold(session, lease)
            if offline is None and agent is None:
                await instances.wake(session, task.instance_id, now=self._clock.now())
        if offline is None:
            outcome = await self._ask(task, agent)
        else:
            outcome = await offline.hear(task.tenant_id, task.played_id)
        pause = self._pause(task, outcome)
        async with self._transaction(lease) as session:
            if pause is None:
                await tasks.end(session, lease, task, outcome)
            elif outcome != "agent_away":
                await tasks.count_failure(session, lease)
        return pause

    async def _ask(self, task: Task, agent: AgentAddress | None) -> Transcript | str:
        """What the voice says, or of which class the failure is."""
        speech = Section.model_validate(task.speech)
        if speech.provider is None:
            return "not_configured"
        if agent is None:
            return "agent_away"
        request = TranscribeRequest(
            task_id=task.id,
            media_id=task.played_id,
            provider=speech.provider,
            model=speech.model,
            language=speech.language,
        )
        try:
            return _fit(await self._agents.transcribe(agent, request))
        except (AgentAway, AgentRefused, AgentSilent, ModelFailed) as error:
            error_class = _class_of(error)
            log.info("a voice was not written down", error_class=error_class, model=speech.model)
            return error_class

    def _offline_for(self, task: Task) -> Offline | None:
        """Who hears without a provider, where none is named and the language is the one."""
        section = task.speech
        if section.get("provider") is not None or section.get("language") != LANGUAGE:
            return None
        return self._offline

    def _pause(self, task: Task, outcome: Transcript | str) -> timedelta | None:
        """When to ask again; None where this was the end."""
        if isinstance(outcome, Transcript) or outcome in _FINAL or outcome == "not_configured":
            return None
        if outcome == "agent_away":
            return _LOOK_AGAIN if self._waited(task) < AGENT_PATIENCE else None
        return RETRY_AFTER[task.failures] if task.failures < len(RETRY_AFTER) else None

    def _waited(self, task: Task) -> timedelta:
        return self._clock.now() - task.created_at

    @contextmanager
    def _counted(self, tenant_id: UUID) -> Iterator[None]:
        self._calls[tenant_id] += 1
        try:
            yield
        finally:
            self._calls[tenant_id] -= 1
            if not self._calls[tenant_id]:
                del self._calls[tenant_id]

    def _transaction(self, lease: Lease) -> Any:
        return self._database.plain(Scope(tenants=(lease.tenant_id,)))


def _fit(heard: Transcript) -> Transcript:
    """As an agent of ours says it; one that does not is not believed."""
    language, duration, confidence = heard.language, heard.duration_s, heard.confidence
    if (
        len(heard.text) > MAX_TRANSCRIPT
        or "\0" in heard.text + (language or "")
        or len(language or "") > MAX_LANGUAGE
        or not 0 <= (duration or 0) <= MAX_DURATION_S
        or not 0 <= (confidence or 0) <= 1
    ):
        raise ModelFailed("bad_answer", "the agent's answer is unfit")
    return heard


def _class_of(error: AgentAway | AgentRefused | AgentSilent | ModelFailed) -> str:
    match error:
        case ModelFailed():
            known = error.error_class in _FINAL | _PASSING
            return error.error_class if known else "server_error"
        case AgentAway() | AgentRefused(status=503):
            return "agent_away"
        case AgentRefused(code="media_gone"):
            return "media_gone"
        case AgentRefused() if error.code in _NOT_READY:
            return "agent_away"
        case AgentRefused():
            return "bad_answer"
        case _:
            return "server_error"
