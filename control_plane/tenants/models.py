"""Tenants and their members."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlmodel import Field

from control_plane.db.types import Row, Timestamp


class TenantState(StrEnum):
    """Where a tenant is in its life; only an active one's bots run."""

    PENDING = "pending"
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
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)


class Member(Row, table=True):
    """A person of a tenant, with a role."""

    __tablename__ = "members"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    identity_id: UUID
    role: str
    name: str = ""
    created_at: datetime = Field(sa_type=Timestamp)
