"""What can be permitted, and which role may do what."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Permission(StrEnum):
    """One thing that a route may ask for. What ends in `.read` works for every tenant state."""

    TENANTS_LIST = "tenants.list"
    TENANTS_DECIDE = "tenants.decide"
    TENANT_READ = "tenant.read"
    TENANT_DELETE = "tenant.delete"
    INSTANCES_READ = "instances.read"
    INSTANCES_WRITE = "instances.write"
    INSTANCES_OPERATE = "instances.operate"
    CHANNELS_READ = "channels.read"
    CHANNELS_WRITE = "channels.write"
    REVISIONS_READ = "revisions.read"
    REVISIONS_WRITE = "revisions.write"
    CONVERSATIONS_READ = "conversations.read"
    CONVERSATIONS_WRITE = "conversations.write"
    ANSWERS_READ = "answers.read"
    ANSWERS_WRITE = "answers.write"
    API_KEYS_READ = "api_keys.read"
    API_KEYS_WRITE = "api_keys.write"

    @property
    def reads(self) -> bool:
        return self.value.endswith(".read")


class Role(StrEnum):
    """What a member of a tenant is."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


_VIEWER = frozenset(permission for permission in Permission if permission.reads)
_MEMBER = _VIEWER | {Permission.CONVERSATIONS_WRITE}
_ADMIN = _MEMBER | {
    Permission.INSTANCES_WRITE,
    Permission.INSTANCES_OPERATE,
    Permission.CHANNELS_WRITE,
    Permission.REVISIONS_WRITE,
    Permission.ANSWERS_WRITE,
    Permission.API_KEYS_WRITE,
}

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.MEMBER: _MEMBER,
    Role.ADMIN: _ADMIN,
    Role.OWNER: _ADMIN | {Permission.TENANT_DELETE},
}

# Operators run the platform; what tenants and their customers say is none of their business.
OPERATOR_PERMISSIONS = frozenset(
    {
        Permission.TENANTS_LIST,
        Permission.TENANTS_DECIDE,
        Permission.TENANT_READ,
        Permission.TENANT_DELETE,
        Permission.INSTANCES_READ,
    }
)


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who is calling: a member of one tenant, an API key of one, or an operator.

    A key has `scopes` instead of a role, and its own id in the place of an identity's.
    """

    identity_id: UUID
    email: str
    operator: bool
    tenant_id: UUID | None
    tenant_state: str | None
    member_id: UUID | None
    member_name: str
    role: Role | None
    scopes: frozenset[Permission] | None = None

    @property
    def permissions(self) -> frozenset[Permission]:
        if self.role is not None:
            return ROLE_PERMISSIONS[self.role]
        if self.scopes is not None:
            return self.scopes
        return OPERATOR_PERMISSIONS if self.operator else frozenset()

    @property
    def as_operator(self) -> bool:
        """Whether they act for the platform, not for a tenant."""
        return self.operator and self.tenant_id is None

    @property
    def tenant(self) -> UUID:
        """The tenant of a member or key; routes that use it are not for operators."""
        if self.tenant_id is None:
            raise LookupError("an operator has no tenant")
        return self.tenant_id
