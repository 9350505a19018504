"""Reads everything that `plan` needs to know of one instance, in one short transaction."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import driver
from control_plane.fleet.plan import Desired, Observed, SessionView, Starts, Want
from control_plane.fleet.provision.base import Allowance, InstanceSpec, Workload
from control_plane.instances import service as instances
from control_plane.instances.models import Instance
from control_plane.instances.sessions import AgentAddress, active_agent
from control_plane.kit.crypto import Keyring
from control_plane.revisions import dialects, documents
from control_plane.revisions import service as revisions
from control_plane.revisions.models import ConfigState
from instance_agent.document import SCHEMA_VERSION as NEWEST
from instance_agent.document import digest
from instance_agent.protocol import ConfigUpdate

_SESSIONS = """
SELECT id, state, generation, seen_at, health, schema_version FROM agent_sessions
WHERE instance_id = $1 AND state IN ('standby', 'active') ORDER BY id
"""
_CHANNELS = "SELECT kind, state FROM channels WHERE instance_id = $1 AND deleted_at IS NULL"
_TENANT = """
SELECT t.state, p.quotas || t.quota_overrides AS quotas
FROM tenants AS t JOIN plans AS p ON p.name = t.plan WHERE t.id = $1
"""


@dataclass(frozen=True, kw_only=True)
class View:
    """One instance as the database knows it. `update` holds secrets: never log it.

    `sleeps_after`: without a message for so long it may sleep; None where it may not.
    """

    instance: Instance
    desired: Desired
    state: ConfigState
    sessions: tuple[SessionView, ...]
    channels: tuple[str, ...]
    sleeps_after: timedelta | None
    starts: Starts
    agent: AgentAddress | None
    update: ConfigUpdate

    @property
    def spec(self) -> InstanceSpec:
        return InstanceSpec(
            instance_id=self.instance.id,
            tenant_id=self.instance.tenant_id,
            generation=self.instance.generation,
            allowance=self.desired.allowance,
        )

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
            applied=_name(self.state.applied, self.state.applied_sha256),
            rejected=_name(self.state.rejected, self.state.rejected_sha256),
            pending_restart=self.state.pending_restart,
            channels=self.channels,
        )


async def load(session: AsyncSession, keys: Keyring, instance_id: UUID) -> View | None:
    """The instance with all around it; None when it is gone."""
    instance = await session.get(Instance, instance_id, populate_existing=True)
    if instance is None or instance.phase == "deleted":
        return None
    connection = await driver(session)
    state = await revisions.standing(session, instance_id)
    tenant = await connection.fetchrow(_TENANT, instance.tenant_id)
    quotas = json.loads(tenant["quotas"])
    channels = await connection.fetch(_CHANNELS, instance_id)
    sessions = await connection.fetch(_SESSIONS, instance_id)
    spoken = [row["schema_version"] for row in sessions if row["state"] == "active"]
    update = await compiled(
        session, keys, instance_id, state.desired, schema_version=min(spoken, default=NEWEST)
    )
    return View(
        instance=instance,
        desired=Desired(
            want=_want(instance, tenant["state"]),
            generation=instance.generation,
            config=_name(update.revision, update.sha256) or "",
            allowance=Allowance(
                cpu=quotas["pod_cpu"],
                memory=quotas["pod_memory"],
                bots=quotas["instances"],
                egress=tuple(quotas["egress_allow"]),
            ),
        ),
        state=state,
        sessions=tuple(_session(row) for row in sessions),
        channels=tuple(row["state"] for row in channels),
        sleeps_after=_sleeps_after(quotas, [row["kind"] for row in channels]),
        starts=starts_from(instance.starts),
        agent=await active_agent(session, keys, instance_id),
        update=update,
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
    document = dialects.spoken(whole, schema_version)
    return ConfigUpdate(revision=number, sha256=digest(document), document=document)


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


def _want(instance: Instance, tenant_state: str) -> Want:
    if instance.desired == "deleted" or tenant_state in ("deleting", "deleted"):
        return Want.DELETED
    if instance.desired != "running" or tenant_state != "active":
        return Want.STOPPED
    return Want.RUNNING if instance.asleep_at is None else Want.ASLEEP


def _sleeps_after(quotas: dict[str, Any], kinds: list[str]) -> timedelta | None:
    minutes = quotas.get("hibernate_after", 0)
    return timedelta(minutes=minutes) if minutes and instances.may_sleep(kinds) else None


def _session(row: Any) -> SessionView:
    health = json.loads(row["health"])
    return SessionView(
        id=row["id"],
        state=row["state"],
        generation=row["generation"],
        ready=(health.get("config") or {}).get("applied") is not None,
        seen_at=row["seen_at"],
        spool_depth=health.get("spool_depth", 0),
    )
