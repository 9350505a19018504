"""Every method and path that the application answers, and a valid request for each of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from control_plane.access.permissions import Permission
from control_plane.app import create_app
from control_plane.kit.crypto import Keyring
from control_plane.media.storage import folder
from control_plane.parts import build
from tests.conftest import PASSWORD
from tests.control_plane.walls.furnish import CANNED, SIGN_ON, WEBHOOK, Tenant
from tests.test_layout import permissions

OWN_ACCOUNT = frozenset(
    {
        ("DELETE", "/api/v1/auth/sessions"),
        ("DELETE", "/api/v1/auth/sessions/{session_id}"),
        ("DELETE", "/api/v1/auth/totp"),
        ("GET", "/api/v1/auth/me"),
        ("GET", "/api/v1/auth/sessions"),
        ("POST", "/api/v1/auth/password"),
        ("POST", "/api/v1/auth/switch"),
        ("POST", "/api/v1/auth/totp/begin"),
        ("POST", "/api/v1/auth/totp/confirm"),
    }
)
"""For everybody who signed in, and for no API key."""

PUBLIC_ADDRESS = frozenset({"token", "rest", "path", "name", "rollout_id"})
"""Parameters that name nothing of a tenant's that were secret: the address of a channel, which
stands in its customers' browsers, a file of the dashboard, a plan or a rollout of the platform."""


ENDLESS = frozenset({("GET", "/api/v1/stream"), ("GET", "/api/v1/fleet/changes")})
"""Answers that never end; tests/control_plane/realtime shows that nobody hears of others there."""


@dataclass(frozen=True)
class Operation:
    """One method of one path, and what it asks for; None when it takes strangers."""

    method: str
    path: str
    permission: Permission | None
    takes_body: bool
    pages: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        return [
            step[1:-1].partition(":")[0] for step in self.path.split("/") if step.startswith("{")
        ]

    @property
    def own_account(self) -> bool:
        return (self.method, self.path) in OWN_ACCOUNT

    def url(self, tenant: Tenant) -> str:
        """The path with this tenant's ids."""
        path = self.path.replace(":path}", "}") + QUERIES.get((self.method, self.path), "")
        return path.format_map({name: tenant.ids[name] for name in self.parameters})

    def body(self, tenant: Tenant) -> Any:
        """A valid body that speaks of this tenant."""
        made = BODIES.get((self.method, self.path))
        return made(tenant) if made else None


QUERIES = {("GET", "/api/v1/messages/search"): "?text=Tea+House"}
"""What a path cannot do without; these words are in what every tenant says."""

BODIES: dict[tuple[str, str], Callable[[Tenant], Any]] = {
    ("POST", "/api/v1/auth/login"): lambda t: {
        "email": t.owner.email,
        "password": PASSWORD,
        "tenant_id": str(t.ids["tenant_id"]),
    },
    ("POST", "/api/v1/auth/switch"): lambda t: {"tenant_id": str(t.ids["tenant_id"])},
    ("POST", "/api/v1/auth/password"): lambda _: {"old": PASSWORD, "new": f"{PASSWORD}!"},
    ("POST", "/api/v1/auth/reset/request"): lambda t: {"email": t.owner.email},
    ("POST", "/api/v1/auth/reset"): lambda _: {"token": "x" * 43, "new": PASSWORD},
    ("DELETE", "/api/v1/auth/totp"): lambda _: {"password": PASSWORD},
    ("POST", "/api/v1/auth/totp/confirm"): lambda _: {"code": "000000"},
    ("POST", "/api/v1/api-keys"): lambda _: {"name": "New", "scopes": ["instances.read"]},
    ("POST", "/api/v1/auth/register"): lambda _: {
        "company": "New",
        "email": "new@example.com",
        "password": PASSWORD,
    },
    ("PATCH", "/api/v1/tenants/{tenant_id}"): lambda _: {"quota_overrides": {"instances": 3}},
    ("POST", "/api/v1/tenants/{tenant_id}/ask"): lambda _: {"question": "Who are you?"},
    ("POST", "/api/v1/tenants/{tenant_id}/information"): lambda _: {"text": "We sell tea."},
    ("POST", "/api/v1/tenants/{tenant_id}/support"): lambda _: {"reason": "asked", "minutes": 5},
    ("POST", "/api/v1/tenants/{tenant_id}/reject"): lambda _: {"reason": "no"},
    ("POST", "/api/v1/tenants/{tenant_id}/suspend"): lambda _: {"reason": "no"},
    ("POST", "/api/v1/plans"): lambda _: {
        "name": "new",
        "quotas": {
            "instances": 1,
            "channels": 1,
            "members": 1,
            "messages_month": 1,
            "storage_bytes": 1,
            "pod_cpu": 100,
            "pod_memory": 2**28,
        },
    },
    ("POST", "/api/v1/fleet/{instance_id}/suspend"): lambda _: {"reason": "no"},
    ("POST", "/api/v1/tenants/{tenant_id}/dead-letters/replay"): lambda _: {},
    ("POST", "/api/v1/releases"): lambda _: {"image": "agent:2"},
    ("POST", "/api/v1/rollouts"): lambda _: {"release": 1},
    ("POST", "/api/v1/rollouts/{rollout_id}/abort"): lambda _: {},
    ("PUT", "/api/v1/tenants/{tenant_id}/rollout-group"): lambda _: {"group": "canary"},
    ("PATCH", "/api/v1/plans/{name}"): lambda _: {"quotas": {"instances": 3}},
    ("POST", "/api/v1/invitations/accept"): lambda _: {"token": "x" * 43, "password": PASSWORD},
    ("PATCH", "/api/v1/members/{member_id}"): lambda t: {"role": str(t.ids["role_id"])},
    ("POST", "/api/v1/invitations"): lambda t: {
        "email": "new@example.com",
        "role": str(t.ids["role_id"]),
    },
    ("POST", "/api/v1/roles"): lambda _: {"name": "New", "permissions": ["instances.read"]},
    ("PATCH", "/api/v1/roles/{role_id}"): lambda _: {"name": "Newer"},
    ("POST", "/api/v1/instances"): lambda _: {"name": "New"},
    ("POST", "/api/v1/instances/{instance_id}/channels"): lambda _: {
        "kind": "webchat",
        "name": "New",
    },
    ("POST", "/api/v1/instances/{instance_id}/bootstrap"): lambda _: {
        "protocol": 1,
        "schema_version": 1,
        "version": "0",
        "endpoint": "http://127.0.0.1:9",
        "journal_id": "00000000-0000-0000-0000-000000000001",
        "generation": 1,
    },
    ("PATCH", "/api/v1/channels/{channel_id}"): lambda _: {"name": "Newer"},
    ("POST", "/api/v1/instances/{instance_id}/revisions"): lambda _: {"document": {}},
    ("POST", "/api/v1/instances/{instance_id}/rollback"): lambda _: {"number": 0},
    ("POST", "/api/v1/conversations/{conversation_id}/messages"): lambda _: {
        "segments": [{"type": "text", "text": "New"}]
    },
    ("POST", "/api/v1/conversations/{conversation_id}/take-over"): lambda _: {},
    ("POST", "/api/v1/conversations/{conversation_id}/hand-back"): lambda _: {},
    ("POST", "/api/v1/conversations/{conversation_id}/close"): lambda _: {},
    ("PUT", "/api/v1/conversations/{conversation_id}/seen"): lambda t: {
        "number": 1,
        "note_id": str(t.ids["note_id"]),
    },
    ("POST", "/api/v1/conversations/{conversation_id}/notes"): lambda t: {
        "text": "New",
        "mentions": [str(t.ids["member_id"])],
    },
    ("PATCH", "/api/v1/notes/{note_id}"): lambda t: {
        "text": "Newer",
        "mentions": [str(t.ids["member_id"])],
    },
    ("PATCH", "/api/v1/contacts/{contact_id}"): lambda _: {"remark": "New"},
    ("POST", "/api/v1/contacts/{contact_id}/notes"): lambda _: {"text": "New"},
    ("POST", "/api/v1/tags"): lambda _: {"name": "New"},
    ("PATCH", "/api/v1/tags/{tag_id}"): lambda _: {"name": "Newer"},
    ("POST", "/api/v1/canned-replies"): lambda _: CANNED,
    ("POST", "/api/v1/canned-replies/own"): lambda _: CANNED,
    ("PATCH", "/api/v1/canned-replies/{reply_id}"): lambda _: {"title": "Newer"},
    ("PATCH", "/api/v1/canned-replies/own/{own_reply_id}"): lambda _: {"title": "Newer"},
    ("POST", "/api/v1/conversations/{conversation_id}/transfer"): lambda t: {
        "member_id": str(t.owner.member_id),
        "note": "New",
    },
    ("PUT", "/api/v1/routing/settings"): lambda t: {
        "skills": [{"key": "tea", "name": "Tea"}],
        "needs": [{"channel_id": str(t.ids["channel_id"]), "skill": "tea"}],
    },
    ("PUT", "/api/v1/routing/members/{member_id}"): lambda _: {"capacity": 3},
    ("PUT", "/api/v1/routing/me"): lambda _: {"state": "busy"},
    ("POST", "/api/v1/dead-letters/replay"): lambda t: {
        "instance_id": str(t.ids["instance_id"]),
        "channel_id": str(t.ids["channel_id"]),
    },
    ("POST", "/api/v1/deliveries/resend"): lambda _: {"state": "failed"},
    ("POST", "/api/v1/deliveries/{delivery_id}/settle"): lambda _: {"outcome": "sent"},
    ("PUT", "/api/v1/answers"): lambda _: {"items": [{"question": "New?", "answer": "New."}]},
    ("PATCH", "/api/v1/tenant"): lambda _: {"mask_numbers": True},
    ("PUT", "/api/v1/sign-on"): lambda _: SIGN_ON,
    ("POST", "/api/v1/sign-on/check"): lambda _: {"issuer": SIGN_ON["issuer"]},
    ("POST", "/api/v1/media"): lambda _: {"size": 1, "name": "new.png"},
    ("POST", "/api/v1/instances/{instance_id}/media"): lambda _: {"size": 1, "name": "new.png"},
    ("POST", "/api/v1/instances/{instance_id}/leases"): lambda t: {
        "session_id": str(t.ids["instance_id"]),
        "accounts": {},
        "number": 1,
    },
    ("POST", "/api/v1/instances/{instance_id}/blacklist"): lambda _: {},
    ("POST", "/api/v1/blacklist"): lambda t: {
        "contact_id": str(t.ids["contact_id"]),
        "channel_id": str(t.ids["channel_id"]),
    },
    ("POST", "/api/v1/blacklist/bulk"): lambda t: {
        "add": [{"platform_id": "new", "instance_id": str(t.ids["instance_id"])}],
        "remove": [str(t.ids["entry_id"])],
    },
    ("POST", "/api/v1/webhooks"): lambda _: WEBHOOK,
    ("PATCH", "/api/v1/webhooks/{webhook_id}"): lambda _: {"description": "New"},
    ("POST", "/api/v1/webhooks/{webhook_id}/replay"): lambda _: {"since": "2020-01-01T00:00:00Z"},
    ("PUT", "/media/{token}"): lambda _: "bytes",
    ("POST", "/api/v1/providers"): lambda _: {
        "name": "New",
        "kind": "openai",
        "base_url": "https://localhost:9/v1",
    },
    ("PATCH", "/api/v1/providers/{provider_id}"): lambda _: {"name": "Newer"},
    ("POST", "/webchat-platform/messages"): lambda t: {
        "to": str(t.ids["visitor_id"]),
        "key": "new",
        "segments": [{"type": "text", "text": "New"}],
    },
}
"""By hand, since a value that fits a schema is not yet one that makes sense."""


class _Midnight:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


def application() -> FastAPI:
    """The application over a database that nobody connects to."""
    parts = build(
        database_url="postgresql+asyncpg://nobody@localhost/none",
        keys=Keyring(["k" * 40]),
        clock=_Midnight(),
        public_url="http://botyard.test",
        media=folder(Path("nowhere")),
    )
    return create_app(parts, web_pages=Path("nowhere")).app


def _operations() -> Iterator[Operation]:
    app = application()
    described = app.openapi()["paths"]
    for route in iter_route_contexts(app.routes):
        path = route.path or ""
        asked = set(permissions(route.dependant)) if hasattr(route, "dependant") else set()
        for method in sorted((route.methods or set()) - {"HEAD"}):
            if (method, path) in ENDLESS:
                continue
            described_as = described.get(path, {}).get(method.lower(), {})
            takes_body = "requestBody" in described_as or (method, path) in BODIES
            pages = any(one.get("name") == "cursor" for one in described_as.get("parameters", ()))
            yield Operation(method, path, next(iter(asked), None), takes_body, pages)


OPERATIONS = tuple(_operations())
GUARDED = tuple(operation for operation in OPERATIONS if operation.permission)
DESCRIBED = application().openapi()
