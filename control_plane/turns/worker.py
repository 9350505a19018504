"""Turns: one per conversation at a time; what arrives meanwhile makes the next one.

What the tenant's list answers, or a person has to, is begun and ended at once (`at_once`). A turn
that asks models, or that a crash left, goes step by step:

1. `_begin` opens a turn over the messages that have none, or finds the one that a crash left.
2. Each step's result is stored under (turn, step): a turn that is run again does not repeat it.
3. What the list does not answer is put to models (`asking`), where the tenant has any.
4. `_end` answers by compare-and-set on `owner_version`: when somebody took over meanwhile, the
   turn is dropped and nothing is sent; what a model said stays as a suggestion.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from control_plane.bus.together import Together
from control_plane.conversations import service as conversations
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, Session, driver
from control_plane.instances.client import AgentClient
from control_plane.kit import tracing
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import not_found
from control_plane.kit.metrics import STAGE_SECONDS
from control_plane.speech import tasks
from control_plane.stream import log as stream
from control_plane.tenants import quota
from control_plane.tenants import service as tenants
from control_plane.turns import at_once, deciding, ending, steps
from control_plane.turns.asking import Aloud, Asking, silent
from control_plane.turns.at_once import MAX_MESSAGES, Left
from control_plane.turns.documents import Documents
from control_plane.turns.running import Attempt, Decision, Locked, Running, has_news, opened

WORK = conversations.TURN

_SAID = """
SELECT segments FROM messages
WHERE conversation_id = $1 AND number BETWEEN $2 AND $3 AND sender_kind = 'contact'
ORDER BY number DESC LIMIT $4
"""
# A talker without end does not put the answer off for ever: so many quiet times, no more.
_QUIET_TIMES = 4
_SPOKE = """
SELECT min(created_at) AS first, max(created_at) AS last FROM messages
WHERE conversation_id = $1 AND number > $2 AND sender_kind = 'contact'
"""


_RUNNING = """
SELECT id, tenant_id, conversation_id, number, from_number, through_number, owner_version,
    created_at FROM turns WHERE conversation_id = $1 AND number = $2 AND state = 'running'
"""
_OPEN = """
WITH counted AS (UPDATE conversations SET last_turn = $4 WHERE id = $3)
INSERT INTO turns (id, tenant_id, conversation_id, number, from_number, through_number,
    owner_version, created_at, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'running')
"""


class Turns:
    """Runs the bot's turns."""

    def __init__(
        self,
        database: Database,
        keys: Keyring,
        clock: Clock,
        agents: AgentClient,
        aloud: Aloud = silent,
    ) -> None:
        self._database = database
        self._clock = clock
        self._documents = Documents()
        self._asking = Asking(database, keys, clock, agents, self._documents, aloud)
        self._at_once = Together[Lease, Left | timedelta | None]("turn.at_once", self._run_all)

    async def run(self, lease: Lease) -> timedelta | None:
        """Work handler: one turn of a conversation."""
        done = await self._at_once.do(lease.tenant_id, lease)
        if done is not Left.UNUSUAL:
            return done
        turn = await self._begin(lease)
        if not isinstance(turn, Running):
            return turn
        decision = await self._decide(lease, turn)
        asked = await self._asking.ask(lease, turn) if decision.ask else []
        if isinstance(asked, timedelta):
            return asked
        more = await self._end(lease, turn, decision, asked)
        return timedelta(0) if more else None

    async def _run_all(
        self, tenant_id: UUID, group: Sequence[Lease]
    ) -> Sequence[Left | timedelta | Exception | None]:
        with ExitStack() as spans:
            async with self._transaction(tenant_id) as session:
                now = self._clock.now()
                return await at_once.run(session, self._documents, group, now=now, spans=spans)

    async def _begin(self, lease: Lease) -> Running | timedelta | None:
        """The turn to run; a pause while the tenant rests or somebody talks, None without news."""
        async with self._transaction(lease.tenant_id) as session:
            conversation = await _lock(session, lease.key, self._clock)
            pause = tenants.rest_in(conversation.tenant_state)
            if pause is not None:
                return pause
            tracing.follow(conversation.trace)
            turn = await _running(session, conversation)
            if turn is None and has_news(conversation):
                document = await self._documents.of(session, lease.key)
                quiet = timedelta(seconds=document.rules.quiet_s)
                pause = await _talking(session, conversation, quiet, self._clock)
                pause = pause or await _listening(session, conversation, self._clock)
                if pause is not None:
                    return pause
                turn = opened(conversation, now=self._clock.now())
                waited = turn.created_at - conversation.last_message_at
                STAGE_SECONDS.labels("turn_wait").observe(max(0.0, waited.total_seconds()))
                await _open(session, turn)
            await leases.hold(session, lease)
        return turn

    async def _decide(self, lease: Lease, turn: Running) -> Decision:
        """The step `answer`: look the newest question up in the list."""
        async with self._transaction(lease.tenant_id) as session:
            known = await steps.known(session, turn, "answer")
            if known is not None:
                return Decision(**known)
            rows = await (await driver(session)).fetch(
                _SAID, lease.key, turn.from_number, turn.through_number, MAX_MESSAGES
            )
            if await quota.over_messages(session, lease.tenant_id, now=self._clock.now()):
                decision = deciding.OVER_QUOTA
            else:
                document = await self._documents.of(session, lease.key)
                said = [row["segments"] for row in rows]
                [decision] = await deciding.look_up(session, [(said, document)])
            await steps.keep(session, turn, "answer", asdict(decision), now=self._clock.now())
            await leases.hold(session, lease)
        return decision

    async def _end(
        self, lease: Lease, turn: Running, decision: Decision, asked: Sequence[Attempt] = ()
    ) -> bool:
        """Answer or hand over, unless somebody took over; whether there is more to do."""
        async with self._transaction(lease.tenant_id) as session:
            conversation = await _lock(session, lease.key, self._clock)
            document = await self._documents.of(session, lease.key)
            end = ending.ending(conversation, turn, decision, document, asked)
            now = self._clock.now()
            entries = await ending.write(session, lease.tenant_id, [end], now=now)
            await leases.hold(session, lease)
            await stream.append(session, lease.tenant_id, entries)
        return has_news(end.left)

    def _transaction(self, tenant_id: UUID) -> Any:
        return self._database.plain(Scope(tenants=(tenant_id,)))


async def _lock(session: Session, conversation_id: UUID, clock: Clock) -> Locked:
    found = await at_once.lock(session, [conversation_id], now=clock.now())
    if not found:
        raise not_found("conversation")
    return found[conversation_id]


async def _running(session: Session, conversation: Locked) -> Running | None:
    found = await (await driver(session)).fetchrow(
        _RUNNING, conversation.id, conversation.last_turn
    )
    return None if found is None else Running(**found)


async def _open(session: Session, turn: Running) -> None:
    await (await driver(session)).execute(
        _OPEN,
        turn.id,
        turn.tenant_id,
        turn.conversation_id,
        turn.number,
        turn.from_number,
        turn.through_number,
        turn.owner_version,
        turn.created_at,
    )


async def _talking(
    session: Session, conversation: Locked, quiet: timedelta, clock: Clock
) -> timedelta | None:
    """How long to wait for whoever may still be writing; None without a quiet time."""
    if not quiet:
        return None
    spoke = await (await driver(session)).fetchrow(
        _SPOKE, conversation.id, conversation.turned_number
    )
    if spoke["first"] is None:
        return None
    until = min(spoke["last"] + quiet, spoke["first"] + _QUIET_TIMES * quiet)
    left: timedelta = until - clock.now()
    return left if left > timedelta(0) else None


async def _listening(session: Session, conversation: Locked, clock: Clock) -> timedelta | None:
    """How long to wait for what a voice says; the end of its task calls the turn."""
    until = await tasks.waited_for(session, conversation.id, conversation.turned_number)
    left = timedelta(0) if until is None else until - clock.now()
    return left if left > timedelta(0) else None
