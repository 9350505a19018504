"""A converged fleet, for figures and tests: one bot a tenant, planted by statements.

Its agents are said to have been seen tomorrow, so that nothing is due meanwhile.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from control_plane.channels import settings
from control_plane.db.session import Database
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.fleet.provision.fake import FakePlace
from control_plane.fleet.reconcile import WORK
from control_plane.fleet.view import Digests, load
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.parts import Parts
from instance_agent.document import SCHEMA_VERSION

_TENANTS = """
INSERT INTO tenants (id, name, state, plan, created_at, updated_at)
SELECT id, 'Tea House', 'active', 'business', now(), now() FROM unnest($1::uuid[]) AS t (id)
"""
_HEADS = "INSERT INTO stream_heads (tenant_id) SELECT id FROM unnest($1::uuid[]) AS t (id)"
_INSTANCES = """
INSERT INTO instances (id, tenant_id, name, session_epoch, created_at, updated_at)
SELECT id, tenant_id, 'Bot', 1, now(), now()
FROM unnest($1::uuid[], $2::uuid[]) AS i (id, tenant_id)
"""
_STATES = """
INSERT INTO config_states (instance_id, tenant_id)
SELECT id, tenant_id FROM unnest($1::uuid[], $2::uuid[]) AS i (id, tenant_id)
"""
_CHANNELS = """
INSERT INTO channels (id, tenant_id, instance_id, kind, name, settings, secrets, public_token,
    state, created_at)
SELECT gen_random_uuid(), tenant_id, id, 'webchat', 'Site', '{}', $3, id::text, 'connected', now()
FROM unnest($1::uuid[], $2::uuid[]) AS i (id, tenant_id)
"""
_SESSIONS = """
INSERT INTO agent_sessions (id, tenant_id, instance_id, generation, state, epoch, endpoint,
    api_token, token_at, journal_id, version, schema_version, health, created_at, seen_at)
SELECT gen_random_uuid(), tenant_id, id, 1, 'active', 1, endpoint, $4, now(), gen_random_uuid(),
    'benchmark', $5, '{"config": {"applied": 0}}', now(), now() + interval '1 day'
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS i (id, tenant_id, endpoint)
"""
_WORK = """
INSERT INTO work (kind, key, tenant_id, due_at)
SELECT $3, id, tenant_id, now() FROM unnest($1::uuid[], $2::uuid[]) AS i (id, tenant_id)
"""
_APPLIED = """
UPDATE config_states AS s SET delivered = 0, delivered_sha256 = a.sha256, applied = 0,
    applied_sha256 = a.sha256, last_good = 0
FROM unnest($1::uuid[], $2::text[]) AS a (id, sha256) WHERE s.instance_id = a.id
"""
_DUE = """
UPDATE work SET due_at = now(), version = version + 1 WHERE kind = $1 AND key = ANY ($2::uuid[])
"""
_LEFT = "SELECT count(*) FROM work WHERE kind = $1 AND (due_at <= now() OR token IS NOT NULL)"
_BEHIND = "SELECT count(*) FROM instances WHERE phase <> 'running'"


@dataclass(kw_only=True)
class Fleet:
    """Bots in the database, each with a session of an agent at an address of its own."""

    parts: Parts
    connection: asyncpg.Connection
    tenants: list[UUID]
    instances: list[UUID]

    @property
    def bots(self) -> list[tuple[UUID, UUID]]:
        """(tenant, instance) of each."""
        return list(zip(self.tenants, self.instances, strict=True))

    async def call(self, many: int) -> None:
        """Let so many have a look now."""
        await self.connection.execute(_DUE, WORK, self.instances[:many])

    async def left(self) -> int:
        """Those whose look is not over."""
        return int(await self.connection.fetchval(_LEFT, WORK))

    async def rename(self, name: str) -> None:
        """Change something in the configuration of each."""
        await self.connection.execute("UPDATE channels SET name = $1", name)

    async def behind(self) -> int:
        """Those that are not said to run what they were given last."""
        return int(await self.connection.fetchval(_BEHIND))


def place_of(specs: Iterable[InstanceSpec], clock: Clock) -> FakePlace:
    """Where these run as they should, in this process's memory."""
    place = FakePlace(clock)
    for spec in specs:
        place.start(spec)
    return place


async def specs_of(
    database: Database, keys: Keyring, clock: Clock, bots: Collection[tuple[UUID, UUID]]
) -> list[InstanceSpec]:
    """What should run of these (tenant, instance)."""
    async with database.lone() as session:
        views = await load(session, keys, Digests(), bots, now=clock.now())
    return [view.spec for view in views.values()]


async def plant(parts: Parts, connection: asyncpg.Connection, endpoints: list[str]) -> Fleet:
    """As many tenants as there are addresses; what they should have is what they have."""
    tenants, instances = ([new_id() for _ in endpoints] for _ in range(2))
    keys = parts.house.keys
    kind = settings.kind_of("webchat")
    _, hidden = settings.split(kind, settings.complete(kind, {}))
    secrets, token = settings.seal(keys, hidden), keys.seal(b"benchmark-token")
    await connection.execute(_TENANTS, tenants)
    await connection.execute(_HEADS, tenants)
    for statement in (_INSTANCES, _STATES):
        await connection.execute(statement, instances, tenants)
    await connection.execute(_CHANNELS, instances, tenants, secrets)
    await connection.execute(_SESSIONS, instances, tenants, endpoints, token, SCHEMA_VERSION)
    await connection.execute(_WORK, instances, tenants, WORK)
    fleet = Fleet(parts=parts, connection=connection, tenants=tenants, instances=instances)
    await _settle(fleet)
    await connection.execute("ANALYZE")
    return fleet


async def _settle(fleet: Fleet) -> None:
    """Let the agents have applied what they should have."""
    house = fleet.parts.house
    async with house.database.lone() as session:
        views = await load(session, house.keys, Digests(), fleet.bots, now=house.clock.now())
    digests = [views[instance_id].update.sha256 for instance_id in fleet.instances]
    await fleet.connection.execute(_APPLIED, fleet.instances, digests)
