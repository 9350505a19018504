"""The shape of the house: sizes, names, permissions, and no network call inside a session."""

import ast
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from control_plane.access.permissions import Permission

ROOT = Path(__file__).parents[1]
PACKAGES = ("control_plane", "instance_agent", "adapters")
TEXTS = {
    path: path.read_text(encoding="utf-8")
    for folder in (*PACKAGES, "tests", "benchmarks", "alembic")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 600
VAGUE = {"utils", "helpers", "manager", "common"}
"""Names that say nothing about what is inside."""

PUBLIC = {
    ("ANY", "/api-docs-assets"),
    ("ANY", "/webchat-assets"),
    ("ANY", "/webchat/{token}/ws"),
    ("ANY", "/api/v1/ws"),
    ("ANY", "/im/{token}"),
    ("ANY", "/im/{token}/{rest:path}"),
    ("GET", "/"),
    ("DELETE", "/api/v1/auth/sessions"),
    ("DELETE", "/api/v1/auth/sessions/{session_id}"),
    ("DELETE", "/api/v1/auth/totp"),
    ("DELETE", "/api/v1/members/me"),
    ("GET", "/api/v1/auth/me"),
    ("GET", "/api/v1/auth/sessions"),
    ("GET", "/api/v1/auth/sign-on"),
    ("GET", "/api/v1/auth/sign-on/callback/{tenant_id}"),
    ("GET", "/api/v1/docs"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/app"),
    ("GET", "/api/v1/stream"),
    ("GET", "/app/{path:path}"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
    ("GET", "/webchat-platform/account"),
    ("GET", "/webchat/{token}"),
    ("GET", "/webchat/{token}/media/{media_id}"),
    ("POST", "/api/v1/auth/login"),
    ("POST", "/api/v1/auth/logout"),
    ("POST", "/api/v1/auth/password"),
    ("POST", "/api/v1/auth/refresh"),
    ("POST", "/api/v1/auth/register"),
    ("POST", "/api/v1/auth/switch"),
    ("POST", "/api/v1/auth/reset"),
    ("POST", "/api/v1/auth/reset/request"),
    ("POST", "/api/v1/auth/totp/begin"),
    ("POST", "/api/v1/auth/totp/confirm"),
    ("POST", "/api/v1/instances/{instance_id}/bootstrap"),
    ("POST", "/api/v1/invitations/accept"),
    ("POST", "/webchat-platform/messages"),
    ("GET", "/api/v1/instances/{instance_id}/media/{media_id}"),
    ("GET", "/media/{token}"),
    ("POST", "/api/v1/instances/{instance_id}/blacklist"),
    ("POST", "/api/v1/instances/{instance_id}/leases"),
    ("POST", "/api/v1/instances/{instance_id}/media"),
    ("PUT", "/media/{token}"),
} | {
    (method, path)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    for path in ("/im/{token}", "/im/{token}/{rest:path}")
}
"""Routes that take strangers; each looks for its own proof, if it needs one."""

NETWORK = {
    "mailer",
    "outbound",
    "_outbound",
    "providers",
    "agents",
    "_agents",
    "http",
    "_http",
    "client",
    "_client",
    "provisioner",
    "_provisioner",
    "storage",
    "_storage",
    "transfers",
}
"""Names of what calls other machines, or starts something on this one."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


class TestSize:
    def test_of_every_file_is_within_the_budget(self) -> None:
        lines = {name_of(path): len(text.splitlines()) for path, text in TEXTS.items()}

        assert {name: n for name, n in lines.items() if n > MAX_FILE_LINES} == {}

    def test_of_every_function_is_within_the_budget(self) -> None:
        lines = {
            f"{name_of(path)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
            for path, text in TEXTS.items()
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }

        assert {name: n for name, n in lines.items() if n > MAX_FUNCTION_LINES} == {}


class TestNames:
    def test_no_module_has_a_name_that_says_nothing(self) -> None:
        vague = [name_of(path) for path in TEXTS if path.stem in VAGUE or path.parent.name in VAGUE]

        assert vague == []

    def test_migrations_are_no_package(self) -> None:
        # One would hide the library of the same name.
        assert list((ROOT / "alembic").rglob("__init__.py")) == []

    def test_every_module_says_what_it_is(self) -> None:
        silent = [
            name_of(path)
            for path, text in TEXTS.items()
            if path.relative_to(ROOT).parts[0] in PACKAGES
            and not ast.get_docstring(ast.parse(text))
        ]

        assert silent == []


class TestPermissions:
    def test_every_route_has_one_or_is_on_the_list_of_public_ones(self, app) -> None:
        found = {(method, path): asked for method, path, asked in routes(app.app)}

        assert {route for route, asked in found.items() if asked <= {None}} == PUBLIC
        assert {route: asked for route, asked in found.items() if len(asked) > 1} == {}

    def test_what_only_looks_asks_for_no_more_than_reading(self, app) -> None:
        writes = {
            (path, permission)
            for method, path, asked in routes(app.app)
            for permission in asked
            if method == "GET" and permission and not permission.reads
        }

        assert writes == {("/api/v1/tenants", Permission.TENANTS_LIST)}


def routes(app: FastAPI) -> Iterator[tuple[str, str, set[Permission | None]]]:
    """Every method and path, and what it asks for; those of the framework itself ask nothing."""
    for route in iter_route_contexts(app.routes):
        asked = set(permissions(route.dependant)) if hasattr(route, "dependant") else set()
        for method in (route.methods or {"ANY"}) - {"HEAD"}:
            yield method, route.path or "", asked


def permissions(dependant: Dependant) -> Iterator[Permission | None]:
    """What a route and all that it depends on ask for; None stands for strangers."""
    if hasattr(dependant.call, "permission"):
        yield dependant.call.permission
    for inner in dependant.dependencies:
        yield from permissions(inner)


class TestSessions:
    def test_no_network_call_is_made_while_one_is_open(self) -> None:
        found = [
            f"{name_of(path)}:{line}"
            for path, text in TEXTS.items()
            if path.is_relative_to(ROOT / "control_plane")
            for line in calls_in_sessions(ast.parse(text))
        ]

        assert found == []

    def test_the_search_finds_one(self) -> None:
        source = """
async def send(self):
    async with self._database.session(scope) as session:
        row = await read(session)
        if row:
            answer = await self._agents.send(row, request)
    await self._agents.send(row, request)
    async with database.session() as session, other() as thing:
        await client.get(url)
    async with bus.listen("x"):
        await client.get(url)

async def change(session: AsyncSession, agents):
    await agents.send(request)
"""
        assert list(calls_in_sessions(ast.parse(source))) == [14, 6, 9]


def calls_in_sessions(tree: ast.AST) -> Iterator[int]:
    """Lines that await something of the network where a session is open."""
    for block in ast.walk(tree):
        if in_session(block):
            for node in ast.walk(block):
                if isinstance(node, ast.Await) and NETWORK & set(names(node.value)):
                    yield node.lineno


def in_session(block: ast.AST) -> bool:
    """`async with ….session(…)`, or a function that is handed one."""
    if isinstance(block, ast.AsyncFunctionDef):
        return any(argument.arg == "session" for argument in block.args.args)
    return isinstance(block, ast.AsyncWith) and any(map(opens_session, block.items))


def opens_session(item: ast.withitem) -> bool:
    call = item.context_expr
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "session"
    )


def names(expression: ast.expr) -> Iterator[str]:
    """The names in what is called: `self._agents.send(…)` has self, _agents and send."""
    called = expression.func if isinstance(expression, ast.Call) else expression
    for node in ast.walk(called):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


class TestGround:
    def test_no_test_reaches_another_machine(self) -> None:
        for attempt in (
            lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
            lambda: socket.getaddrinfo("example.com", 80),
        ):
            with pytest.raises(RuntimeError, match="this machine only"):
                attempt()
