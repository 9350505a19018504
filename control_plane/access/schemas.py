"""What the routes of sign-in and API keys take and give."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from control_plane.access import passwords
from control_plane.access.permissions import Permission

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


class ApiKeyIn(Body):
    """`signed` asks for a signature on each request of the key."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
    scopes: list[Permission] = Field(min_length=1, max_length=len(Permission))
    expires_at: AwareDatetime | None = None
    signed: bool = False


class ApiKeyOut(BaseModel):
    """An API key without its secret; `prefix` is how people recognise it."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    signed: bool
    created_by: UUID
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class ApiKeyMade(ApiKeyOut):
    """A new API key; `key` and `signing_secret` are shown this once."""

    key: str
    signing_secret: str | None
