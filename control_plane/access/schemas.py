"""What the routes of sign-in and API keys take and give."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, field_validator

from control_plane.access import passwords
from control_plane.access.permissions import Permission
from control_plane.kit.given import Moment, keepable

# No space of any kind, and no control character.
_UNSEEN = r"\s\x00-\x20\x7f-\xa0"
# An address that a mail server could take; whether it exists is for the invitation mail to show.
Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        to_lower=True,
        max_length=254,
        pattern=rf"^[^@{_UNSEEN}]+@[^@{_UNSEEN}]+\.[^@.{_UNSEEN}]+$",
    ),
]
Password = Annotated[
    str,
    StringConstraints(min_length=passwords.MIN_LENGTH, max_length=passwords.MAX_LENGTH),
]

# As somebody typed it: what is too short was never set, and need not be told apart.
GivenPassword = Annotated[str, StringConstraints(max_length=passwords.MAX_LENGTH)]
Code = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[0-9]{6}$")]
RecoveryCode = Annotated[str, StringConstraints(strip_whitespace=True, max_length=40)]
Token = Annotated[str, StringConstraints(max_length=100)]


class Body(BaseModel):
    """A request body: unknown fields are an error, not a silent nothing.

    What no database or answer of ours could hold is refused here, wherever it stands: U+0000,
    halves of characters, numbers that are none, and nesting without end.
    """

    model_config = ConfigDict(extra="forbid")

    @field_validator("*")
    @classmethod
    def _can_be_kept(cls, given: Any) -> Any:
        return keepable(given)


class LoginIn(Body):
    """`tenant_id` chooses among several memberships; the oldest by default.

    With a second factor, send `code` or, without the device, a `recovery_code`.
    """

    email: Email
    password: GivenPassword
    tenant_id: UUID | None = None
    code: Code | None = None
    recovery_code: RecoveryCode | None = None


class SwitchIn(Body):
    tenant_id: UUID


class TokenOut(BaseModel):
    """`expires_in` in seconds; the refresh token is in an httpOnly cookie."""

    access_token: str
    token_type: str = "bearer"
    expires_in: int
    tenant_id: UUID | None = None


class IdentityOut(BaseModel):
    """`second_factor`: whether a code of theirs is asked for beside the password."""

    id: UUID
    email: str
    operator: bool
    second_factor: bool


class MembershipOut(BaseModel):
    """`role` is a name, or the id of one of the tenant's own roles."""

    tenant_id: UUID
    tenant_name: str
    tenant_state: str
    role: str


class MeOut(BaseModel):
    """Who is signed in, where they belong, and what they may do in the chosen tenant.

    Whoever is `confined` came through the company's provider: for its work alone, not for the
    password, the second factor and the other sign-ins of the account.
    """

    identity: IdentityOut
    confined: bool
    tenant_id: UUID | None
    member_id: UUID | None
    memberships: list[MembershipOut]
    permissions: list[str] = Field(description="In the tenant of the access token.")


class PasswordIn(Body):
    old: GivenPassword
    new: Password


class ResetRequestIn(Body):
    email: Email


class ResetIn(Body):
    """`token` stands behind the # of the link."""

    token: Token
    new: Password


class ResetLinkOut(BaseModel):
    """Shown once: whoever opens the link chooses the member's password, once."""

    url: str
    expires_at: datetime


class TotpBegunOut(BaseModel):
    """For an authenticator: `otpauth_url` as a picture to scan, or `secret` to type."""

    secret: str
    otpauth_url: str


class TotpConfirmIn(Body):
    code: Code


class RecoveryCodesOut(BaseModel):
    """Shown once; each works once instead of a code."""

    recovery_codes: list[str]


class TotpEndIn(Body):
    """The password, and a `code` or a `recovery_code`."""

    password: GivenPassword
    code: Code | None = None
    recovery_code: RecoveryCode | None = None


class SessionOut(BaseModel):
    """One sign-in; `label` is what the browser calls itself."""

    id: UUID
    created_at: datetime
    used_at: datetime
    label: str | None
    address: str | None
    current: bool


class ApiKeyIn(Body):
    """`signed` asks for a signature on each request of the key."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
    scopes: list[Permission] = Field(min_length=1, max_length=len(Permission))
    expires_at: Moment | None = None
    signed: StrictBool = False


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
