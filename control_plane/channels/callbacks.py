"""The way in for platforms: pass the raw bytes to the agent, or keep them until it is back.

Invariants:
1. A platform is told "received" only after the agent's 202-backed answer, or after a row here.
2. While a channel has stored callbacks, new ones queue behind them: order is kept.
3. Unverified bytes are never stored and wake nobody.
4. A stored callback leaves only when an agent took it, or as a visible dead letter.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from pydantic import BaseModel

from adapters.model import CallbackAnswer, Challenge, RawCallback, Rejected, Verification
from control_plane.channels import settings
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.instances import service as instances
from control_plane.instances import sessions
from control_plane.instances.client import AgentAway, AgentClient, AgentRefused, AgentSilent
from control_plane.instances.sessions import AgentAddress
from control_plane.kit import tracing
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Forbidden, Unavailable, not_found
from control_plane.kit.ids import fingerprint, new_id
from control_plane.kit.metrics import STAGE_SECONDS

WORK = "callback"
# Callbacks kept for one channel, and how many bytes of them: some hours of a busy account. When it
# is full we stop acknowledging, and the platform redelivers.
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
# A platform's check of the address is some hundred bytes, sealed or not; most messages are more.
MAX_CHECK_BYTES = 1024
# Kept raw as a dead letter after this, so that a channel never stands still for ever.
MAX_AGE = timedelta(hours=72)
# Between tries while the agent is away; a started agent hints earlier.
_RETRY = timedelta(seconds=1)
# How exactly it is known when the platform called last.
_NOTED = timedelta(minutes=1)
# Passed on within one lease before others get their turn.
_BATCH = 50

_ROUTE = """
SELECT tenant_id, instance_id, channel_id FROM routes WHERE sha256 = $1 AND kind = 'callback'
"""
_CHANNEL = """
SELECT c.kind, c.settings, c.secrets, c.callback_at, c.callback_refused_at,
    EXISTS (SELECT FROM callbacks AS w
            WHERE w.channel_id = c.id AND w.dead_reason IS NULL) AS waiting,
    s.id, s.endpoint, s.api_token, s.epoch, s.journal_id
FROM channels AS c
LEFT JOIN agent_sessions AS s ON s.instance_id = c.instance_id AND s.state = 'active'
WHERE c.id = $1 AND c.deleted_at IS NULL
"""
_WAITING = """
SELECT count(*) AS n, coalesce(sum(length(body)), 0) AS bytes FROM callbacks
WHERE channel_id = $1 AND dead_reason IS NULL
"""
_STORE = """
INSERT INTO callbacks (id, tenant_id, channel_id, method, path, query, headers, body, received_at,
    trace)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_OLDEST = """
SELECT id, method, path, query, headers, body, received_at,
    trace, coalesce(replayed_at, received_at) AS waits_since FROM callbacks
WHERE channel_id = $1 AND dead_reason IS NULL ORDER BY id LIMIT 1
"""
_DEAD = "UPDATE callbacks SET dead_reason = $2 WHERE id = $1"
_GONE = "DELETE FROM callbacks WHERE id = $1"

_CALLED = "UPDATE channels SET callback_at = $2 WHERE id = $1"
_REFUSED = "UPDATE channels SET callback_refused_at = $2 WHERE id = $1"

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Known:
    """A channel as a callback needs it; its row has the secrets, sealed."""

    tenant_id: UUID
    instance_id: UUID
    channel_id: UUID
    kind: str
    row: Any = field(repr=False)
    waiting: bool
    agent: AgentAddress | None

    @property
    def scope(self) -> Scope:
        return Scope(tenants=(self.tenant_id,))


class Callbacks:
    """Accepts platforms' calls, and passes on what had to wait."""

    def __init__(
        self, database: Database, keys: Keyring, clock: Clock, agents: AgentClient
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._agents = agents

    async def accept(self, token: str, request: RawCallback) -> CallbackAnswer:
        """Answer a platform; raises NotFound, Forbidden (not the platform) or Unavailable."""
        with STAGE_SECONDS.labels("callback").time():
            return await self._accept(token, request)

    async def _accept(self, token: str, request: RawCallback) -> CallbackAnswer:
        known = await self.find(token)
        if _may_check(known.kind, request) and isinstance(
            found := self._verify(known, request), Challenge
        ):
            # A platform's check of the address waits one second, and no agent is needed for it.
            await self._note(known, taken=True)
            return found.answer
        if known.agent is not None and not known.waiting:
            try:
                answer = await self._agents.callback(
                    known.agent, known.channel_id, request, verified=False
                )
            except (AgentAway, AgentSilent, AgentRefused) as error:
                log.info("callback not taken by the agent", reason=type(error).__name__)
            else:
                # Whatever else the adapter did not like, it was the platform that called.
                await self._note(known, taken=answer.status not in (401, 403))
                return answer
        try:
            answer = await self._keep(known, request)
        except Forbidden:
            await self._note(known, taken=False)
            raise
        await self._note(known, taken=True)
        return answer

    async def _note(self, known: Known, *, taken: bool) -> None:
        """That the platform has called, at most once a minute."""
        now = self._clock.now()
        last = known.row["callback_at" if taken else "callback_refused_at"]
        if last is None or now - last >= _NOTED:
            async with self._database.plain(known.scope) as session:
                statement = _CALLED if taken else _REFUSED
                await (await driver(session)).execute(statement, known.channel_id, now)

    async def pass_on(self, lease: Lease) -> timedelta | None:
        """Work handler: give a channel's oldest stored callbacks to its agent, in order."""
        for _ in range(_BATCH):
            async with self._database.plain(Scope(tenants=(lease.tenant_id,))) as session:
                connection = await driver(session)
                row = await connection.fetchrow(_OLDEST, lease.key)
                instance = await connection.fetchval(
                    "SELECT instance_id FROM channels WHERE id = $1", lease.key
                )
                agent = await sessions.active_agent(session, self._keys, instance)
                if row is not None and agent is None:
                    await instances.wake(session, instance, now=self._clock.now())
            if row is None:
                return None
            tracing.follow(row["trace"])
            if agent is not None and await self._pass(lease, agent, row):
                continue
            if self._clock.now() - row["waits_since"] < MAX_AGE:
                return _RETRY
            await self._settle(lease, row["id"], "too old")
        return timedelta(0)

    async def find(self, token: str) -> Known:
        """The channel whose address this is; raises NotFound."""
        async with self._database.lone() as session:
            route = await (await driver(session)).fetchrow(_ROUTE, fingerprint(token))
        if route is None:
            raise not_found("channel")
        async with self._database.plain(Scope(tenants=(route["tenant_id"],))) as session:
            row = await (await driver(session)).fetchrow(_CHANNEL, route["channel_id"])
        if row is None:
            raise not_found("channel")
        return Known(
            **dict(route),
            kind=row["kind"],
            row=row,
            waiting=row["waiting"],
            agent=sessions.address(row, self._keys) if row["id"] else None,
        )

    def settings_of(self, known: Known) -> BaseModel:
        """All of the channel's settings: only here are secrets opened."""
        secrets = settings.unseal(self._keys, known.row["secrets"])
        model = settings.kind_of(known.kind).settings()
        return model.model_validate(json.loads(known.row["settings"]) | secrets)

    async def _keep(self, known: Known, request: RawCallback) -> CallbackAnswer:
        """Verify and store what the agent could not take now."""
        verification = self._verify(known, request)
        if isinstance(verification, Challenge):
            return verification.answer
        if isinstance(verification, Rejected):
            raise Forbidden("callback_rejected", verification.reason)
        async with self._database.plain(known.scope) as session:
            connection = await driver(session)
            # The lock keeps the count true while several callbacks arrive at once.
            await connection.execute(
                "SELECT 1 FROM channels WHERE id = $1 FOR NO KEY UPDATE", known.channel_id
            )
            waiting = await connection.fetchrow(_WAITING, known.channel_id)
            if waiting["n"] >= MAX_WAITING or waiting["bytes"] >= MAX_WAITING_BYTES:
                raise Unavailable("callback_store_full", "Try again later.", retry_after_s=30)
            await connection.execute(
                _STORE,
                new_id(),
                known.tenant_id,
                known.channel_id,
                request.method,
                request.path,
                request.query,
                json.dumps(dict(request.headers)),
                request.body,
                datetime.fromtimestamp(request.received_at, tz=self._clock.now().tzinfo),
                tracing.here(),
            )
            await leases.call(session, WORK, [(known.channel_id, known.tenant_id)])
        return verification.answer

    def _verify(self, known: Known, request: RawCallback) -> Verification:
        """Most callbacks go to the agent, who checks them itself."""
        model = self.settings_of(known)
        kind = settings.kind_of(known.kind)
        return kind.verify(request, model, now=self._clock.now().timestamp())

    async def _pass(self, lease: Lease, agent: AgentAddress, row: Any) -> bool:
        request = RawCallback(
            method=row["method"],
            path=row["path"],
            query=row["query"],
            headers=json.loads(row["headers"]),
            body=row["body"],
            received_at=row["received_at"].timestamp(),
        )
        try:
            answer = await self._agents.callback(agent, lease.key, request, verified=True)
        except (AgentAway, AgentSilent, AgentRefused):
            return False
        dead = None if answer.status < 400 else f"the adapter answered {answer.status}"
        await self._settle(lease, row["id"], dead)
        return True

    async def _settle(self, lease: Lease, callback_id: UUID, dead: str | None) -> None:
        async with self._database.plain(Scope(tenants=(lease.tenant_id,))) as session:
            connection = await driver(session)
            if dead is None:
                await connection.execute(_GONE, callback_id)
            else:
                await connection.execute(_DEAD, callback_id, dead)
            await leases.hold(session, lease)


def _may_check(kind: str, request: RawCallback) -> bool:
    """Whether this may be a check of the address; the bytes tell, once they are opened."""
    if request.method == "GET":
        return True
    return settings.kind_of(kind).checks_by_post and len(request.body) <= MAX_CHECK_BYTES
