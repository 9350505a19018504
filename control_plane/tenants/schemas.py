"""What the tenant routes take and give."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StrictBool, StringConstraints, WithJsonSchema

from adapters import egress
from control_plane.access import passwords
from control_plane.access.permissions import ROLE_PERMISSIONS, Permission, Role
from control_plane.access.schemas import Body, Email, Password
from instance_agent.document import MAX_EGRESS

Company = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
# An idle agent has 55 MiB; with less than this one cannot ask a model over TLS.
MIN_MEMORY = 96 * 2**20
# An operator who needs longer than this asks again, which the tenant sees.
MAX_SUPPORT_MINUTES = 240


def _host_names_or_networks(entries: list[str]) -> list[str]:
    egress.read(entries)
    return entries


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
Amount = Annotated[int, Field(ge=0, le=2**53)]
# A month: whoever is silent for longer is no less asleep.
Idle = Annotated[int, Field(ge=0, le=30 * 24 * 60)]
Egress = Annotated[
    list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:/*-]{1,253}$")]],
    Field(max_length=MAX_EGRESS),
    AfterValidator(_host_names_or_networks),
]
RoleName = Literal["owner", "admin", "member", "viewer"]
PersonName = Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)]
RoleTitle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]


def _tenants_own(permission: Permission) -> Permission:
    if permission not in ROLE_PERMISSIONS[Role.OWNER]:
        raise ValueError("not for people of a tenant")
    return permission


TenantPermission = Annotated[
    Permission,
    AfterValidator(_tenants_own),
    WithJsonSchema({"type": "string", "enum": sorted(ROLE_PERMISSIONS[Role.OWNER])}),
]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class RegisterIn(Body):
    company: Company
    email: Email
    password: Password


class RegisteredOut(BaseModel):
    """What a new registration is; the same for an address that has an account already.

    Its owner can sign in and look; `/auth/login` says which tenant it is.
    """

    state: Literal["pending", "active"]


class ReasonIn(Body):
    reason: Reason


class QuestionIn(Body):
    question: Text


class InformationIn(Body):
    text: Text


class Quotas(Body):
    """What a plan gives. `pod_*` and `egress_allow` are for each pod."""

    instances: Amount
    channels: Amount
    members: Amount
    messages_month: Amount = Field(description="Customers' messages in a calendar month, UTC.")
    storage_bytes: Amount = Field(description="Of pictures, voices and files that are kept.")
    pod_cpu: Annotated[int, Field(ge=50, le=64_000, description="Thousandths of a processor.")]
    pod_memory: Annotated[int, Field(ge=MIN_MEMORY, le=2**38, description="Bytes.")]
    egress_allow: Egress = Field(
        default_factory=list,
        description="Host names (`*.` for all below) and networks that a bot may call although "
        "they are private or speak plain HTTP.",
    )
    hibernate_after: Idle = Field(
        default=0,
        description="Minutes without a message after which a bot sleeps until the next one comes, "
        "where all its channels can wake it; 0: never.",
    )


class QuotaPatch(Body):
    """Only what is given changes."""

    instances: Amount | None = None
    channels: Amount | None = None
    members: Amount | None = None
    messages_month: Amount | None = None
    storage_bytes: Amount | None = None
    pod_cpu: Annotated[int, Field(ge=50, le=64_000)] | None = None
    pod_memory: Annotated[int, Field(ge=MIN_MEMORY, le=2**38)] | None = None
    egress_allow: Egress | None = None
    hibernate_after: Idle | None = None


RetentionDays = Annotated[
    int | None,
    Field(
        ge=1,
        le=36_500,
        description="How long what was said is kept; null: as long as the platform keeps anything.",
    ),
]


class PlanIn(Body):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    quotas: Quotas
    retention_days: RetentionDays = None


class PlanPatch(Body):
    """Only what is given changes."""

    quotas: QuotaPatch = Field(default_factory=QuotaPatch)
    retention_days: RetentionDays = None


class PlanOut(BaseModel):
    name: str
    quotas: Quotas
    retention_days: RetentionDays
    created_at: datetime
    updated_at: datetime


class LevelOut(BaseModel):
    """`near` from four fifths of the limit, `over` beyond it."""

    name: str
    used: int
    limit: int
    state: Literal["ok", "near", "over"]


class QuotaOut(BaseModel):
    """`items` are counted; `quotas` is all that the plan and its exceptions give."""

    plan: str
    items: list[LevelOut]
    quotas: Quotas


class TenantPatch(Body):
    """`quota_overrides` replaces all exceptions from the plan."""

    plan: Annotated[str, StringConstraints(max_length=40)] | None = None
    quota_overrides: QuotaPatch | None = None


class TenantSettingsPatch(Body):
    """What a tenant decides for itself."""

    mask_numbers: StrictBool = Field(
        description="Mask phone, ID-card and bank-card numbers for who lacks privacy.read."
    )


class SupportIn(Body):
    reason: Reason
    minutes: Annotated[int, Field(ge=1, le=MAX_SUPPORT_MINUTES)]


class SupportOut(BaseModel):
    """`used_at` is the first look."""

    id: UUID
    tenant_id: UUID
    operator: str
    reason: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    ended_at: datetime | None


class TenantOut(BaseModel):
    """`reason` says why, or what an operator asks; `information` is the tenant's answer."""

    id: UUID
    name: str
    state: str
    reason: str | None
    information: str | None
    plan: str
    quota_overrides: QuotaPatch
    mask_numbers: bool
    created_at: datetime
    updated_at: datetime


class MemberPatch(Body):
    """`role`: a name, or the id of one of the tenant's own roles."""

    role: RoleName | UUID | None = None
    name: PersonName | None = None


class MemberOut(BaseModel):
    """`role`: a name, or the id of one of the tenant's own roles."""

    id: UUID
    name: str
    email: str
    role: str
    created_at: datetime


class InvitationIn(Body):
    email: Email
    role: RoleName | UUID


class InvitationOut(BaseModel):
    id: UUID
    email: str
    role: str
    invited_by: UUID
    created_at: datetime
    expires_at: datetime


class InvitedOut(InvitationOut):
    """The only time that the token and its link are shown."""

    token: str
    url: str


class AcceptIn(Body):
    """`password` is the account's own, or the one that a new account gets."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    password: Annotated[str, StringConstraints(max_length=passwords.MAX_LENGTH)] | None = None
    name: PersonName | None = None


class AcceptedOut(BaseModel):
    tenant_id: UUID
    member_id: UUID


class RoleIn(Body):
    name: RoleTitle
    permissions: list[TenantPermission] = Field(max_length=100)


class RolePatch(Body):
    name: RoleTitle | None = None
    permissions: Annotated[list[TenantPermission], Field(max_length=100)] | None = None


class RoleOut(BaseModel):
    id: UUID
    name: str
    permissions: list[str]
    created_at: datetime
    updated_at: datetime


Issuer = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=500, pattern=r"^https?://[^?#\s]+$"),
]
ClientWord = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[ -~]+$")]
Domain = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        to_lower=True,
        max_length=253,
        pattern=r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$",
    ),
]


class SignOnIn(Body):
    """`client_secret` may be left out when neither the issuer nor the client changes."""

    issuer: Issuer
    client_id: ClientWord
    client_secret: ClientWord | None = None
    domains: list[Domain] = Field(
        min_length=1, max_length=20, description="Of the e-mail addresses that may come in."
    )
    first_sign_on: Literal["invited", "member", "viewer"] = Field(
        default="invited",
        description="Somebody new: refused unless a member already, or joins with that role.",
    )
    required: StrictBool = Field(
        default=False, description="Members other than owners cannot use a password here."
    )


class SignOnSettingsOut(BaseModel):
    issuer: str
    client_id: str
    domains: list[str]
    first_sign_on: str
    required: bool
    created_at: datetime
    updated_at: datetime


class SignOnOut(BaseModel):
    """`redirect_uri` is what the provider has to know; `settings` are null until they are made."""

    redirect_uri: str
    settings: SignOnSettingsOut | None


class SignOnCheckIn(Body):
    issuer: Issuer


class SignOnCheckOut(BaseModel):
    """`detail` says in plain words what is wrong."""

    works: bool
    detail: str
