"""The exchange that makes a process an agent: a proof of one start for a session and its secrets.

A proof names tenant, instance and generation. A process shows a token that was minted for its
start and works once; a pod shows the token that its node gave it, which the cluster vouches for
and which ends with the pod.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import msgspec
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters import standard_webhooks
from control_plane.db import leases
from control_plane.db.session import Database, Scope, driver
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.fleet.view import compiled
from control_plane.instances import service as instances
from control_plane.instances import sessions
from control_plane.instances.authority import Authority, NotAKey
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import BadRequest, Forbidden, Gone, NotFound, Unauthorized
from control_plane.kit.ids import fingerprint, new_id, new_token
from control_plane.revisions import service as revisions
from instance_agent.document import DocumentError
from instance_agent.protocol import Bootstrap, BootstrapRequest, ConfigUpdate, Revision

# A started agent exchanges its token within seconds; a machine under load within minutes.
TOKEN_LIFE = timedelta(minutes=10)
_SALT = "agent.bootstrap.v1"
_SESSION_SALT = "agent.session.v1"

_USE = """
INSERT INTO credentials (id, kind, sha256, tenant_id, instance_id, created_at, expires_at)
VALUES ($1, 'bootstrap', $2, $3, $4, $5, $6) ON CONFLICT (sha256) DO NOTHING
"""
_WHERE = "SELECT tenant_id, cell FROM work WHERE kind = $1 AND key = $2"
_SECRETS = """
SELECT sealed FROM credentials
WHERE instance_id = $1 AND kind = 'webhook' AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > $2)
ORDER BY id DESC LIMIT 2
"""
_NEW_SECRET = """
INSERT INTO credentials (id, kind, sealed, tenant_id, instance_id, created_at)
VALUES ($1, 'webhook', $2, $3, $4, $5)
"""
_FRESH = """
UPDATE config_states SET delivered = $2, delivered_sha256 = $3, applied = NULL,
    applied_sha256 = NULL, pending_restart = false
WHERE instance_id = $1
"""
_CHECKPOINTS = """
SELECT id, checkpoint FROM channels WHERE instance_id = $1 AND checkpoint IS NOT NULL
"""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Whose agent somebody is, and of which start; `endpoint` where that is known better.

    `place`: see `AgentSession`.
    """

    tenant_id: UUID
    instance_id: UUID
    generation: int
    endpoint: str | None = None
    place: str = ""


class Voucher(Protocol):
    """Vouches for starts that it watches itself."""

    async def vouch(
        self, instance_id: UUID, tenant_id: UUID, cell: str, token: str
    ) -> Proof | None:
        """Whose token this is; None when it is nobody's here. Raises Unavailable."""


class Bootstraps:
    """Makes tokens for new agents and exchanges what proves a start."""

    voucher: Voucher | None = None

    def __init__(self, database: Database, keys: Keyring, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._authority = Authority(keys)

    def mint(self, spec: InstanceSpec, place: str = "") -> str:
        """The single-use token of one start, in a place where nobody of before lives any more."""
        payload = {
            "instance": str(spec.instance_id),
            "tenant": str(spec.tenant_id),
            "generation": spec.generation,
            "place": place,
            "nonce": new_token()[:16],
        }
        return self._keys.sign(_SALT, payload)

    async def exchange(self, instance_id: UUID, token: str, request: BootstrapRequest) -> Bootstrap:
        """Raises Unauthorized (bad token), Forbidden (used) or Gone (an older generation)."""
        minted = self._minted(token)
        proof = minted or await self._vouched(instance_id, token)
        if proof is None or proof.instance_id != instance_id:
            raise Unauthorized("invalid_bootstrap_token", "The bootstrap token is not valid.")
        tenant_id = proof.tenant_id
        now = self._clock.now()
        async with self._database.session(Scope(tenants=(tenant_id,))) as session:
            if minted is not None:
                await self._use(session, token, tenant_id, instance_id, now)
            try:
                instance = await instances.get(session, instance_id, lock=True)
            except NotFound:
                raise Gone("instance_gone", "The instance does not exist any more.") from None
            rests = instance.asleep_at is not None or instance.suspended_at is not None
            unwanted = instance.desired != "running" or rests
            if instance.generation != proof.generation or unwanted:
                raise Gone("stale_generation", "A newer generation of the instance is wanted.")
            opened, api_token = await sessions.open_session(
                session,
                self._keys,
                tenant_id=tenant_id,
                instance_id=instance_id,
                request=msgspec.structs.replace(
                    request,
                    generation=instance.generation,
                    endpoint=proof.endpoint or request.endpoint,
                ),
                now=now,
                place=proof.place,
            )
            certificate = self._certify(opened.id, request.public_key)
            secrets = await self._secrets(session, tenant_id, instance_id, now)
            newest, last_good, refused = await self._revisions(
                session, instance_id, request.schema_version
            )
            checkpoints = await (await driver(session)).fetch(_CHECKPOINTS, instance_id)
            await leases.call(session, instances.WORK, [(instance_id, tenant_id)])
        return Bootstrap(
            session_id=opened.id,
            session_token=self._keys.sign(_SESSION_SALT, {"session": str(opened.id)}),
            api_token=api_token,
            webhook_secrets=secrets,
            heartbeat_s=sessions.HEARTBEAT.total_seconds(),
            newest=newest,
            last_good=last_good,
            checkpoints={str(row["id"]): row["checkpoint"] for row in checkpoints},
            certificate=certificate,
            refused=refused,
        )

    def _minted(self, token: str) -> Proof | None:
        payload = self._keys.load(_SALT, token, max_age_s=int(TOKEN_LIFE.total_seconds()))
        if payload is None:
            return None
        return Proof(
            tenant_id=UUID(payload["tenant"]),
            instance_id=UUID(payload["instance"]),
            generation=payload["generation"],
            place=payload.get("place", ""),
        )

    async def _vouched(self, instance_id: UUID, token: str) -> Proof | None:
        if self.voucher is None:
            return None
        async with self._database.session() as session:
            row = await (await driver(session)).fetchrow(_WHERE, instances.WORK, instance_id)
        if row is None:
            return None
        # No session is open now: the cluster may take its time.
        return await self.voucher.vouch(instance_id, row["tenant_id"], row["cell"], token)

    def _certify(self, session_id: UUID, public_key: str) -> str:
        if not public_key:
            return ""
        try:
            return self._authority.certify(session_id, public_key)
        except NotAKey:
            raise BadRequest("invalid_public_key", "The public key cannot be read.") from None

    async def _use(
        self,
        session: AsyncSession,
        token: str,
        tenant_id: UUID,
        instance_id: UUID,
        now: datetime,
    ) -> None:
        used = await (await driver(session)).execute(
            _USE,
            new_id(),
            fingerprint(token),
            tenant_id,
            instance_id,
            now,
            now + TOKEN_LIFE,
        )
        if used != "INSERT 0 1":
            raise Forbidden("bootstrap_token_used", "The bootstrap token was used before.")

    async def _secrets(
        self, session: AsyncSession, tenant_id: UUID, instance_id: UUID, now: datetime
    ) -> list[str]:
        connection = await driver(session)
        rows: list[Any] = await connection.fetch(_SECRETS, instance_id, now)
        if rows:
            return [self._keys.open(row["sealed"]).decode() for row in rows]
        secret = standard_webhooks.make_secret(new_token().encode())
        sealed = self._keys.seal(secret.encode())
        await connection.execute(_NEW_SECRET, new_id(), sealed, tenant_id, instance_id, now)
        return [secret]

    async def _revisions(
        self, session: AsyncSession, instance_id: UUID, schema_version: int
    ) -> tuple[Revision, Revision | None, list[DocumentError]]:
        state = await revisions.standing(session, instance_id)
        compile_one = partial(
            compiled, session, self._keys, instance_id, schema_version=schema_version
        )
        newest = await compile_one(state.desired)
        await (await driver(session)).execute(_FRESH, instance_id, newest.revision, newest.sha256)
        refused = []
        if state.rejected_sha256 == newest.sha256:
            refused = msgspec.convert(state.errors, list[DocumentError])
        if state.last_good is None or state.last_good == state.desired:
            return _revision(newest), None, refused
        try:
            last_good = await compile_one(state.last_good)
        except NotFound:
            # An agent said that it ran this number, and we do not know it.
            return _revision(newest), None, refused
        return _revision(newest), _revision(last_good), refused


def _revision(update: ConfigUpdate) -> Revision:
    return Revision(number=update.revision, sha256=update.sha256, document=update.document)
