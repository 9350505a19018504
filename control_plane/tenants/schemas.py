"""What the tenant routes take and give."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, StringConstraints

from control_plane.access.schemas import Body, Email, Password

Company = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class RegisterIn(Body):
    company: Company
    email: Email
    password: Password


class RegisteredOut(BaseModel):
    """A tenant that waits for an operator; its owner can sign in and look."""

    tenant_id: UUID
    identity_id: UUID
    state: str


class ReasonIn(Body):
    reason: Reason


class TenantOut(BaseModel):
    id: UUID
    name: str
    state: str
    reason: str | None
    created_at: datetime
    updated_at: datetime
