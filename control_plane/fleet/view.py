"""Reads everything that `plan` needs to know of instances: one statement, however many they are."""

import hashlib
from collections import OrderedDict
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID

import msgspec
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.channels import service as channels
from control_plane.db.session import SPEAKING, Session, driver
from control_plane.fleet.plan import Desired, Observed, SessionView, Starts, Want
from control_plane.fleet.provision.base import (
    Allowance,
    InstanceSpec,
    Release,
    Workload,
)
from control_plane.instances import rotation, sessions
from control_plane.instances import service as instances
from control_plane.instances.sessions import AgentAddress
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import not_found
from control_plane.providers import service as model_providers
from control_plane.revisions import dialects, documents
from control_plane.revisions import service as revisions
from instance_agent.document import SCHEMA_VERSION as NEWEST
from instance_agent.document import digest
from instance_agent.protocol import ConfigUpdate

# Configurations whose digests are kept: those of the bots that one controller looks at, at some
# 500 bytes each.
MOST_DIGESTS = 20_000
# Texts of quotas that are remembered: a few plans, and tenants with exceptions.
_PLANS = 256

# One statement that speaks for whose instances these are ($3). It reads nothing before it speaks,
# however it is planned: the inner part is not taken apart (OFFSET), and waits for what it is given.
_VIEWS = f"""
SELECT found.* FROM (
    {SPEAKING.format(tenants="array_to_string($3::uuid[], ',')")}
) AS speaking, LATERAL (
SELECT i.id, i.tenant_id, i.desired, i.generation, i.observed_generation, i.phase, i.conditions,
    i.starts, i.drift, i.asleep_at, i.awake_at, i.suspended_at, s.desired AS revision,
    s.applied, s.applied_sha256,
    s.rejected, s.rejected_sha256, s.pending_restart, t.state AS tenant_state,
    p.quotas || t.quota_overrides AS quotas, r.document,
    ARRAY(
        SELECT ROW (c.id, c.kind, c.name, c.settings, c.secrets, c.state) FROM channels AS c
        WHERE c.tenant_id = i.tenant_id AND c.instance_id = i.id AND c.deleted_at IS NULL
        ORDER BY c.id
    ) AS channels,
    ARRAY(
        SELECT ROW (a.id, a.state, a.generation, a.seen_at, a.health, a.schema_version)
        FROM agent_sessions AS a
        WHERE a.tenant_id = i.tenant_id AND a.instance_id = i.id
          AND a.state IN ('standby', 'active') ORDER BY a.id
    ) AS sessions,
    ARRAY(
        SELECT ROW (v.id, v.kind, v.base_url, v.api_key) FROM providers AS v
        WHERE v.tenant_id = i.tenant_id AND v.id IN (
            SELECT (m->>'provider')::uuid
            FROM jsonb_array_elements(r.document->'llm'->'models') AS m
            UNION ALL SELECT (r.document->'speech'->>'provider')::uuid
        ) ORDER BY v.id
    ) AS providers,
    a.id AS active, a.endpoint, a.api_token, a.epoch, a.journal_id,
    l.number AS release, l.image, l.settings, {rotation.DUE} AS secrets_due
FROM instances AS i
JOIN config_states AS s ON s.instance_id = i.id
JOIN tenants AS t ON t.id = i.tenant_id
JOIN plans AS p ON p.name = t.plan
LEFT JOIN revisions AS r ON r.instance_id = i.id AND r.number = s.desired
LEFT JOIN agent_sessions AS a ON a.instance_id = i.id AND a.state = 'active'
LEFT JOIN releases AS l ON l.id = i.release_id
WHERE i.id = ANY ($1) AND i.phase <> 'deleted' AND speaking.heard IS NOT NULL
OFFSET 0) AS found
"""  # noqa: S608 - a part of ours


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The instance's own row."""

    id: UUID
    tenant_id: UUID
    generation: int
    observed_generation: int
    phase: str
    conditions: list[dict[str, Any]]
    starts: dict[str, Any]
    drift: list[str]
    awake_at: datetime


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """All that a configuration is compiled from, as the rows have it: secrets are sealed."""

    number: int
    document: str | None
    schema_version: int
    egress: tuple[str, ...]
    channels: list[tuple[Any, ...]]
    providers: list[tuple[Any, ...]]

    @property
    def fingerprint(self) -> bytes:
        """Of all that would change the outcome; a revision's text never does."""
        channels = [row[:5] for row in self.channels]
        whole = (self.number, self.schema_version, self.egress, channels, self.providers)
        return hashlib.blake2b(repr(whole).encode(), digest_size=32).digest()

    def compile(self, keys: Keyring) -> ConfigUpdate:
        """The document with the channels of now, as an agent of this schema gets it."""
        if self.number and self.document is None:
            raise not_found("revision")
        text = self.document
        compiled = documents.whole(
            documents.default() if text is None else documents.current(msgspec.json.decode(text)),
            egress=list(self.egress),
            accounts=[
                channels.configured(
                    keys, channel_id, kind, name, msgspec.json.decode(settings), secrets
                )
                for channel_id, kind, name, settings, secrets, _ in self.channels
            ],
            providers=[model_providers.configured(keys, *row) for row in self.providers],
        )
        return _update(self.number, compiled, self.schema_version)


class Digests:
    """What configurations are called that were compiled before.

    Compiling opens every secret, which costs more than all else of a look; a look at what has not
    changed does without.
    """

    def __init__(self, most: int = MOST_DIGESTS) -> None:
        self._most = most
        self._known: OrderedDict[tuple[UUID, bytes], str] = OrderedDict()

    def of(
        self, instance_id: UUID, material: Material, keys: Keyring
    ) -> tuple[str, ConfigUpdate | None]:
        """The digest, and the configuration itself where it had to be compiled."""
        key = (instance_id, material.fingerprint)
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known, None
        made = material.compile(keys)
        self._known[key] = made.sha256
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return made.sha256, made


class View(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One instance as the database knows it. `update` and `agent` hold secrets: never log them.

    `applied` and `rejected` are named as `Desired.config`. `sleeps_after`: without a message for so
    long it may sleep; None where it may not.
    """

    instance: Known
    desired: Desired
    applied: str | None
    rejected: str | None
    pending_restart: bool
    secrets_due: bool
    sessions: tuple[SessionView, ...]
    channels: tuple[str, ...]
    sleeps_after: timedelta | None
    starts: Starts
    material: Material
    keys: Keyring
    row: Any
    compiled: ConfigUpdate | None
    release: Release | None

    def __repr__(self) -> str:
        return f"View({self.instance!r})"

    @property
    def spec(self) -> InstanceSpec:
        return InstanceSpec(
            instance_id=self.instance.id,
            tenant_id=self.instance.tenant_id,
            generation=self.instance.generation,
            allowance=self.desired.allowance,
            release=self.release,
        )

    @property
    def agent(self) -> AgentAddress | None:
        """The agent that may act for the instance, if there is one."""
        row = {**dict(self.row), "id": self.row["active"]}
        return sessions.address(row, self.keys) if row["id"] else None

    @cached_property
    def update(self) -> ConfigUpdate:
        """What the agent should run."""
        return self.compiled or self.material.compile(self.keys)

    def seen(
        self,
        workload: Workload,
        starts: Starts,
        now: datetime,
        *,
        removed: bool = False,
        answers: bool = False,
    ) -> Observed:
        """With what runs now."""
        return Observed(
            workload=workload,
            sessions=self.sessions,
            starts=starts,
            removed=removed,
            answers=answers,
            alone_since=_alone_since(self.instance.conditions) or now,
            applied=self.applied,
            rejected=self.rejected,
            pending_restart=self.pending_restart,
            secrets_due=self.secrets_due,
            channels=self.channels,
        )


async def load(
    session: Session,
    keys: Keyring,
    digests: Digests,
    bots: Collection[tuple[UUID, UUID]],
    *,
    now: datetime,
) -> dict[UUID, View]:
    """These (tenant, instance) with all around them; those that are gone are left out.

    It speaks for the tenants itself, so that a lone statement does.
    """
    tenants, ids = zip(*bots, strict=True)
    connection = await driver(session)
    rows = await connection.fetch(_VIEWS, ids, now - rotation.EVERY, set(tenants))
    return {row["id"]: _view(row, keys, digests) for row in rows}


def _view(row: Any, keys: Keyring, digests: Digests) -> View:
    allowance, minutes = _terms(row["quotas"])
    spoken = [schema for _, state, _, _, _, schema in row["sessions"] if state == "active"]
    material = Material(
        number=row["revision"],
        document=row["document"],
        schema_version=min(spoken, default=NEWEST),
        egress=allowance.egress,
        channels=row["channels"],
        providers=row["providers"],
    )
    sha256, made = digests.of(row["id"], material, keys)
    instance = Known(
        id=row["id"],
        tenant_id=row["tenant_id"],
        generation=row["generation"],
        observed_generation=row["observed_generation"],
        phase=row["phase"],
        conditions=msgspec.json.decode(row["conditions"]),
        starts=msgspec.json.decode(row["starts"]),
        drift=row["drift"],
        awake_at=row["awake_at"],
    )
    return View(
        instance=instance,
        desired=Desired(
            want=_want(
                row["desired"],
                row["tenant_state"],
                suspended=row["suspended_at"] is not None,
                asleep=row["asleep_at"] is not None,
            ),
            generation=instance.generation,
            config=_name(material.number, sha256) or "",
            allowance=allowance,
        ),
        applied=_name(row["applied"], row["applied_sha256"]),
        rejected=_name(row["rejected"], row["rejected_sha256"]),
        pending_restart=row["pending_restart"],
        secrets_due=row["secrets_due"],
        sessions=tuple(_session(*found) for found in row["sessions"]),
        channels=tuple(found[5] for found in row["channels"]),
        sleeps_after=_sleeps_after(minutes, row["channels"]),
        starts=starts_from(instance.starts),
        material=material,
        keys=keys,
        row=row,
        compiled=made,
        release=_release(row),
    )


async def compiled(
    session: AsyncSession,
    keys: Keyring,
    instance_id: UUID,
    number: int,
    *,
    schema_version: int = NEWEST,
) -> ConfigUpdate:
    """A revision's document with the channels of now, as an agent of this schema gets it."""
    whole = await documents.compile_for(
        session, keys, instance_id, await revisions.document_of(session, instance_id, number)
    )
    return _update(number, whole, schema_version)


def starts_from(value: dict[str, Any]) -> Starts:
    """As the row keeps it."""
    not_before = value.get("not_before")
    return Starts(
        failures=value.get("failures", 0),
        ended_ref=value.get("ended_ref"),
        not_before=datetime.fromisoformat(not_before) if not_before else None,
        last_lines=tuple(value.get("last_lines", ())),
    )


def starts_to(starts: Starts) -> dict[str, Any]:
    """For the row."""
    return {
        "failures": starts.failures,
        "ended_ref": starts.ended_ref,
        "not_before": starts.not_before.isoformat() if starts.not_before else None,
        "last_lines": list(starts.last_lines),
    }


def _alone_since(conditions: list[dict[str, Any]]) -> datetime | None:
    """Since when nobody has acted for the instance, as it was written down."""
    for held in conditions:
        if held["type"] == "AgentConnected" and held["reason"] == "no_session":
            return datetime.fromisoformat(held["at"])
    return None


def _name(number: int | None, sha256: str | None) -> str | None:
    """What tells one configuration from another: an older one published again has a new number."""
    return f"{number}:{sha256}" if number is not None and sha256 is not None else None


def _release(row: Any) -> Release | None:
    if row["release"] is None:
        return None
    settings = msgspec.json.decode(row["settings"])
    return Release(
        number=row["release"], image=row["image"], settings=tuple(sorted(settings.items()))
    )


def _want(desired: str, tenant_state: str, *, suspended: bool, asleep: bool) -> Want:
    if desired == "deleted" or tenant_state in ("deleting", "deleted"):
        return Want.DELETED
    if desired != "running" or suspended or tenant_state != "active":
        return Want.STOPPED
    return Want.ASLEEP if asleep else Want.RUNNING


def _sleeps_after(minutes: int, channels: list[tuple[Any, ...]]) -> timedelta | None:
    if not minutes:
        return None
    found = ((row[1], msgspec.json.decode(row[3])) for row in channels)
    return timedelta(minutes=minutes) if instances.may_sleep(found) else None


@lru_cache(maxsize=_PLANS)
def _terms(quotas: str) -> tuple[Allowance, int]:
    """What an agent may use, and after how many minutes it sleeps: most of a plan have the same."""
    found = msgspec.json.decode(quotas)
    allowance = Allowance(
        cpu=found["pod_cpu"],
        memory=found["pod_memory"],
        bots=found["instances"],
        egress=tuple(found["egress_allow"]),
    )
    return allowance, found.get("hibernate_after", 0)


def _update(number: int, whole: dict[str, Any], schema_version: int) -> ConfigUpdate:
    document = dialects.spoken(whole, schema_version)
    return ConfigUpdate(revision=number, sha256=digest(document), document=document)


def _session(
    session_id: UUID, state: str, generation: int, seen_at: datetime, health: str, _schema: int
) -> SessionView:
    said = msgspec.json.decode(health)
    return SessionView(
        id=session_id,
        state=state,
        generation=generation,
        ready=(said.get("config") or {}).get("applied") is not None,
        seen_at=seen_at,
        spool_depth=said.get("spool_depth", 0),
    )
