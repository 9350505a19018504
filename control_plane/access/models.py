"""Identities, credentials, API keys, sign-on, and the audit."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Text
from sqlmodel import Field

from control_plane.db.types import Json, Row, Timestamp


class Identity(Row, table=True):
    """A person who can sign in; what they may do depends on their memberships."""

    __tablename__ = "identities"

    id: UUID = Field(primary_key=True)
    email: str
    password_hash: str
    operator: bool = False
    created_at: datetime = Field(sa_type=Timestamp)
    failed_logins: int = 0
    failed_at: datetime | None = Field(default=None, sa_type=Timestamp)
    locked_until: datetime | None = Field(default=None, sa_type=Timestamp)
    totp_secret: bytes | None = None
    totp_on: bool = False
    totp_step: int = Field(default=0, sa_type=BigInteger)
    # Made by that tenant's provider, and its alone.
    sign_on_tenant_id: UUID | None = None


class Credential(Row, table=True):
    """An opaque secret: its SHA-256, or sealed where we must present it ourselves."""

    __tablename__ = "credentials"

    id: UUID = Field(primary_key=True)
    kind: str
    sha256: bytes | None = None
    sealed: bytes | None = None
    tenant_id: UUID | None = None
    identity_id: UUID | None = None
    instance_id: UUID | None = None
    family_id: UUID | None = None
    created_at: datetime = Field(sa_type=Timestamp)
    expires_at: datetime | None = Field(default=None, sa_type=Timestamp)
    used_at: datetime | None = Field(default=None, sa_type=Timestamp)
    revoked_at: datetime | None = Field(default=None, sa_type=Timestamp)
    label: str | None = None
    address: str | None = None
    # The tenant whose provider vouched: the only one that this sign-in is good for.
    sign_on_tenant_id: UUID | None = None
    # Of an account that takes one connection: who may use it until it expires.
    channel_id: UUID | None = None
    session_id: UUID | None = None
    epoch: int | None = None
    number: int | None = None


class ApiKey(Row, table=True):
    """A key of a tenant's own programs, as people see it; its secret is a Credential."""

    __tablename__ = "api_keys"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    name: str
    prefix: str
    scopes: list[str] = Field(sa_type=ARRAY(Text))
    signed: bool = False
    created_by: UUID
    created_at: datetime = Field(sa_type=Timestamp)
    expires_at: datetime | None = Field(default=None, sa_type=Timestamp)
    last_used_at: datetime | None = Field(default=None, sa_type=Timestamp)
    revoked_at: datetime | None = Field(default=None, sa_type=Timestamp)


class SignOn(Row, table=True):
    """How the people of a tenant sign in through their company's own provider."""

    __tablename__ = "sign_ons"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    issuer: str
    client_id: str
    client_secret: bytes
    domains: list[str] = Field(sa_type=ARRAY(Text))
    first_sign_on: str
    required: bool = False
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)


class AuditEntry(Row, table=True):
    """Who did what to what, and what it looked like before and after.

    The database gives `seq`, the place in the tenant's chain, and `hash`, which covers the row and
    the hash before it.
    """

    __tablename__ = "audit"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    seq: int = 0
    hash: bytes = b""
    at: datetime = Field(sa_type=Timestamp)
    actor_kind: str
    actor_id: UUID | None = None
    action: str
    target_kind: str
    target_id: UUID | None = None
    before: dict[str, Any] | None = Field(default=None, sa_type=Json)
    after: dict[str, Any] | None = Field(default=None, sa_type=Json)
