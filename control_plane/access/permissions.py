"""What can be permitted, which role may do what, and what works in which state of a tenant."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Permission(StrEnum):
    """One thing that a route may ask for; what ends in `.read` changes nothing."""

    TENANTS_LIST = "tenants.list"
    TENANTS_DECIDE = "tenants.decide"
    TENANT_READ = "tenant.read"
    TENANT_INFORM = "tenant.inform"
    TENANT_WRITE = "tenant.write"
    TENANT_DELETE = "tenant.delete"
    PLANS_WRITE = "plans.write"
    SUPPORT_GRANT = "support.grant"
    SUPPORT_END = "support.end"
    MEMBERS_READ = "members.read"
    MEMBERS_WRITE = "members.write"
    ROLES_WRITE = "roles.write"
    INSTANCES_READ = "instances.read"
    INSTANCES_WRITE = "instances.write"
    INSTANCES_OPERATE = "instances.operate"
    FLEET_OPERATE = "fleet.operate"
    QUEUES_READ = "queues.read"
    CHANNELS_READ = "channels.read"
    CHANNELS_WRITE = "channels.write"
    BLACKLIST_READ = "blacklist.read"
    BLACKLIST_WRITE = "blacklist.write"
    REVISIONS_READ = "revisions.read"
    REVISIONS_WRITE = "revisions.write"
    CONVERSATIONS_READ = "conversations.read"
    CONVERSATIONS_WRITE = "conversations.write"
    DESK_WRITE = "desk.write"
    RAW_READ = "raw.read"
    ANSWERS_READ = "answers.read"
    ANSWERS_WRITE = "answers.write"
    PROVIDERS_READ = "providers.read"
    PROVIDERS_WRITE = "providers.write"
    AUDIT_READ = "audit.read"
    EXPORT_READ = "export.read"
    PRIVACY_READ = "privacy.read"
    PRIVACY_WRITE = "privacy.write"
    API_KEYS_READ = "api_keys.read"
    API_KEYS_WRITE = "api_keys.write"
    WEBHOOKS_READ = "webhooks.read"
    WEBHOOKS_WRITE = "webhooks.write"
    SIGN_ON_READ = "sign_on.read"
    SIGN_ON_WRITE = "sign_on.write"
    ROUTING_READ = "routing.read"
    ROUTING_WRITE = "routing.write"
    ROLLOUTS_READ = "rollouts.read"
    ROLLOUTS_WRITE = "rollouts.write"

    @property
    def reads(self) -> bool:
        return self.value.endswith(".read")


class Role(StrEnum):
    """What a member of a tenant is; what `custom` may do is in the tenant's own list of roles."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"
    CUSTOM = "custom"


# What tells more, about people, how they sign in or the tenant's own systems, than work needs.
_DISCREET = frozenset(
    {
        Permission.AUDIT_READ,
        Permission.EXPORT_READ,
        Permission.PRIVACY_READ,
        Permission.WEBHOOKS_READ,
        Permission.SIGN_ON_READ,
        Permission.PROVIDERS_READ,
        Permission.RAW_READ,
        Permission.ROLLOUTS_READ,
        Permission.QUEUES_READ,
    }
)
_VIEWER = frozenset(permission for permission in Permission if permission.reads) - _DISCREET
# An operator who was let in to find out what is wrong.
_SUPPORT = _VIEWER | {Permission.RAW_READ}
_MEMBER = _VIEWER | {Permission.CONVERSATIONS_WRITE, Permission.BLACKLIST_WRITE}
_ADMIN = _MEMBER | {
    Permission.TENANT_INFORM,
    Permission.TENANT_WRITE,
    Permission.SUPPORT_END,
    Permission.MEMBERS_WRITE,
    Permission.ROLES_WRITE,
    Permission.INSTANCES_WRITE,
    Permission.INSTANCES_OPERATE,
    Permission.CHANNELS_WRITE,
    Permission.RAW_READ,
    Permission.REVISIONS_WRITE,
    Permission.DESK_WRITE,
    Permission.ANSWERS_WRITE,
    Permission.PROVIDERS_READ,
    Permission.PROVIDERS_WRITE,
    Permission.AUDIT_READ,
    Permission.PRIVACY_READ,
    Permission.PRIVACY_WRITE,
    Permission.API_KEYS_WRITE,
    Permission.WEBHOOKS_READ,
    Permission.WEBHOOKS_WRITE,
    Permission.SIGN_ON_READ,
    Permission.ROUTING_WRITE,
}

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.MEMBER: _MEMBER,
    Role.ADMIN: _ADMIN,
    Role.OWNER: _ADMIN
    | {Permission.TENANT_DELETE, Permission.EXPORT_READ, Permission.SIGN_ON_WRITE},
}

# Operators run the platform; what tenants and their customers say is none of their business.
OPERATOR_PERMISSIONS = frozenset(
    {
        Permission.TENANTS_LIST,
        Permission.TENANTS_DECIDE,
        Permission.TENANT_READ,
        Permission.TENANT_DELETE,
        Permission.INSTANCES_READ,
        # To restart or suspend a bot, or to replay what came for it, shows nothing of it.
        Permission.FLEET_OPERATE,
        Permission.QUEUES_READ,
        Permission.PLANS_WRITE,
        Permission.SUPPORT_GRANT,
        # Of one's own looks.
        Permission.SUPPORT_END,
        Permission.ROLLOUTS_READ,
        Permission.ROLLOUTS_WRITE,
        # Of the platform's own chain.
        Permission.AUDIT_READ,
    }
)

# What still works for a tenant's people, by the state of the tenant, whatever their role:
# - waiting for a decision, or turned down: look, and answer the operator's questions;
# - suspended: look, and end an operator's support access; customers' messages are still stored,
#   but no turn begins and nothing is delivered until the tenant is resumed;
# - being deleted, or deleted: nothing.
_ASKED = _VIEWER | {Permission.TENANT_INFORM}
WORKS_IN_STATE: dict[str, frozenset[Permission]] = {
    "pending": _ASKED,
    "needs_information": _ASKED,
    "rejected": _ASKED,
    "active": frozenset(Permission),
    "suspended": _VIEWER | {Permission.SUPPORT_END},
    "deleting": frozenset(),
    "deleted": frozenset(),
}


def role_permissions(names: Iterable[str]) -> frozenset[Permission]:
    """What a custom role really gives: names that nobody in a tenant can have are left out."""
    return frozenset(ROLE_PERMISSIONS[Role.OWNER] & set(names))


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who is calling: a member of one tenant, an API key of one, or an operator.

    A key has `scopes` instead of a role, and its own id in the place of an identity's. `granted`
    is what a custom role gives; `support_id` names the grant by which an operator looks;
    `mask_numbers` is the tenant's wish. Whoever is `confined` was vouched for by the tenant's own
    provider: for that tenant, and nowhere else.
    """

    identity_id: UUID
    email: str
    operator: bool
    tenant_id: UUID | None
    tenant_state: str | None
    member_id: UUID | None
    member_name: str
    role: Role | None
    granted: frozenset[Permission] = frozenset()
    support_id: UUID | None = None
    scopes: frozenset[Permission] | None = None
    confined: bool = False
    mask_numbers: bool = False

    @property
    def permissions(self) -> frozenset[Permission]:
        if self.support_id is not None:
            return _SUPPORT
        if self.role is not None:
            return ROLE_PERMISSIONS.get(self.role, frozenset()) | self.granted
        if self.scopes is not None:
            return self.scopes
        return OPERATOR_PERMISSIONS if self.operator else frozenset()

    @property
    def masked(self) -> bool:
        """Whether people's numbers are masked for them."""
        return self.mask_numbers and Permission.PRIVACY_READ not in self.permissions

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
