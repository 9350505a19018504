"""What the sign-in routes take and give."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from control_plane.access import passwords

# An address that a mail server could take; whether it exists is for the invitation mail to show.
Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, max_length=254, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s.]+$"
    ),
]
Password = Annotated[
    str,
    StringConstraints(min_length=passwords.MIN_LENGTH, max_length=passwords.MAX_LENGTH),
]


class Body(BaseModel):
    """A request body: unknown fields are an error, not a silent nothing."""

    model_config = ConfigDict(extra="forbid")


class LoginIn(Body):
    """`tenant_id` chooses among several memberships; the oldest by default."""

    email: Email
    password: Annotated[str, StringConstraints(max_length=passwords.MAX_LENGTH)]
    tenant_id: UUID | None = None


class SwitchIn(Body):
    tenant_id: UUID


class TokenOut(BaseModel):
    """`expires_in` in seconds; the refresh token is in an httpOnly cookie."""

    access_token: str
    token_type: str = "bearer"
    expires_in: int
    tenant_id: UUID | None = None


class IdentityOut(BaseModel):
    id: UUID
    email: str
    operator: bool


class MembershipOut(BaseModel):
    """`role` is a name, or the id of one of the tenant's own roles."""

    tenant_id: UUID
    tenant_name: str
    tenant_state: str
    role: str


class MeOut(BaseModel):
    """Who is signed in, where they belong, and what they may do in the chosen tenant."""

    identity: IdentityOut
    tenant_id: UUID | None
    member_id: UUID | None
    memberships: list[MembershipOut]
    permissions: list[str] = Field(description="In the tenant of the access token.")
