"""Tenants and their people, plans, and the leave that operators get to look."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text
from sqlmodel import Field

from control_plane.db.types import Json, Row, Timestamp


class TenantState(StrEnum):
    """Where a tenant is in its life; only an active one's bots run.

    What its people can still do in each is said by `access.permissions.WORKS_IN_STATE`.
    """

    PENDING = "pending"
    NEEDS_INFORMATION = "needs_information"
    REJECTED = "rejected"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETING = "deleting"
    DELETED = "deleted"


class Tenant(Row, table=True):
    """A company that rents a bot."""

    __tablename__ = "tenants"

    id: UUID = Field(primary_key=True)
    name: str
    state: str = TenantState.PENDING
    reason: str | None = None
    information: str | None = None
    plan: str = "free"
    quota_overrides: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    mask_numbers: bool = False
    rollout_group: str = ""
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)


class Member(Row, table=True):
    """A person of a tenant, with a role."""

    __tablename__ = "members"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    identity_id: UUID
    role: str
    role_id: UUID | None = None
    name: str = ""
    created_at: datetime = Field(sa_type=Timestamp)


class CustomRole(Row, table=True):
    """A role of a tenant's own."""

    __tablename__ = "roles"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    name: str
    permissions: list[str] = Field(sa_type=ARRAY(Text))
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)


class Invitation(Row, table=True):
    """A place that waits for somebody; the credential of the same id is its secret."""

    __tablename__ = "invitations"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    email: str
    role: str
    role_id: UUID | None = None
    invited_by: UUID
    created_at: datetime = Field(sa_type=Timestamp)
    expires_at: datetime = Field(sa_type=Timestamp)
    accepted_at: datetime | None = Field(default=None, sa_type=Timestamp)


class Plan(Row, table=True):
    """What tenants may have; the platform's, not a tenant's."""

    __tablename__ = "plans"

    name: str = Field(primary_key=True)
    quotas: dict[str, Any] = Field(sa_type=Json)
    retention_days: int | None = None
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)


class SupportGrant(Row, table=True):
    """An operator's leave to look into a tenant for a while."""

    __tablename__ = "support_grants"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    operator_id: UUID
    operator: str
    reason: str
    created_at: datetime = Field(sa_type=Timestamp)
    expires_at: datetime = Field(sa_type=Timestamp)
    used_at: datetime | None = Field(default=None, sa_type=Timestamp)
    ended_at: datetime | None = Field(default=None, sa_type=Timestamp)
