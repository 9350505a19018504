"""The HTTP application: every room's routes under one roof."""

import base64
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import SystemRandom

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from control_plane import errors, openapi, probes
from control_plane.access import account_routes as account
from control_plane.access import api_key_routes as api_keys
from control_plane.access import audit_routes as audit
from control_plane.access import routes as access
from control_plane.access.routes import stranger
from control_plane.channels import blacklist_routes as blacklist
from control_plane.channels import routes as channels
from control_plane.channels.check import Checks
from control_plane.contacts import canned_routes as canned
from control_plane.contacts import note_routes as notes
from control_plane.contacts import routes as contacts
from control_plane.contacts import tag_routes as tags
from control_plane.conversations import delivery_routes as deliveries
from control_plane.conversations import raw_routes as raw_messages
from control_plane.conversations import routes as conversations
from control_plane.conversations import search_routes as search
from control_plane.fleet import routes as fleet
from control_plane.fleet.following import Readers
from control_plane.gateway import Gateway, is_upload
from control_plane.ingest import blacklist_routes as agent_blacklist
from control_plane.ingest import dead_letter_routes as dead_letters
from control_plane.ingest import lease_routes, queue_routes
from control_plane.ingest import media_routes as agent_media
from control_plane.ingest.dead_letters import Replays
from control_plane.ingest.intake import Intake
from control_plane.ingest.shares import Shares
from control_plane.instances import routes as instances
from control_plane.kit.errors import BadRequest, TooLarge, not_found
from control_plane.kit.problems import problem_response
from control_plane.media import routes as media
from control_plane.parts import Parts
from control_plane.privacy import routes as privacy
from control_plane.providers import routes as providers
from control_plane.realtime import fleet_routes as fleet_changes
from control_plane.realtime import routes as realtime
from control_plane.revisions import routes as revisions
from control_plane.rollouts import routes as rollouts
from control_plane.routing import routes as routing
from control_plane.tenants import people_routes as people
from control_plane.tenants import routes as tenants
from control_plane.tenants import sign_on_routes as sign_on
from control_plane.turns import routes as turns
from control_plane.turns.assisting import Assisting
from control_plane.webchat import routes as webchat
from control_plane.webhooks import routes as webhooks

API = "/api/v1"
# Bytes of an ordinary request's body; platforms' callbacks have the same limit.
MAX_BODY_BYTES = 1024 * 1024

_PAGE_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)

# Everything below /api/v1.
ROUTERS = (
    access.plain,
    access.router,
    account.plain,
    account.router,
    audit.router,
    audit.plain,
    api_keys.router,
    tenants.plain,
    tenants.router,
    people.plain,
    people.router,
    sign_on.plain,
    sign_on.router,
    instances.router,
    instances.fleet,
    fleet.router,
    rollouts.router,
    channels.router,
    blacklist.router,
    channels.plain,
    providers.router,
    providers.plain,
    revisions.router,
    conversations.router,
    contacts.router,
    tags.router,
    tags.talks_router,
    notes.router,
    notes.talks_router,
    canned.router,
    search.router,
    routing.router,
    routing.talks_router,
    raw_messages.router,
    deliveries.router,
    dead_letters.router,
    dead_letters.plain,
    queue_routes.router,
    queue_routes.plain,
    turns.router,
    turns.talks_router,
    turns.turns_router,
    turns.plain,
    media.router,
    agent_media.router,
    lease_routes.router,
    agent_blacklist.router,
    privacy.router,
    webhooks.router,
    webhooks.plain,
    realtime.router,
    fleet_changes.router,
)

system = APIRouter(include_in_schema=False, dependencies=[Depends(stranger)])


@system.get(f"{API}/docs")
async def docs() -> Response:
    """The API's own page; its scripts are ours, so it works without the internet."""
    page = get_swagger_ui_html(
        openapi_url=f"{API}/openapi.json",
        title="Botyard API",
        swagger_js_url="/api-docs-assets/swagger-ui-bundle.js",
        swagger_css_url="/api-docs-assets/swagger-ui.css",
        swagger_favicon_url="/api-docs-assets/favicon-32x32.png",
    )
    page.headers["content-security-policy"] = _docs_policy(bytes(page.body).decode())
    return page


@system.get("/")
@system.get("/app")
async def home() -> Response:
    """People who type the address want the dashboard."""
    return RedirectResponse("/app/")


@system.get("/app/{path:path}")
async def dashboard(path: str, request: Request) -> Response:
    """The dashboard: its files, and its page for every address that is not a file."""
    root: Path = (request.app.state.web_pages / "app").resolve()
    file = _file_in(root, path) or _file_in(root, "index.html")
    if file is None:
        raise not_found("page")
    fresh = "no-cache" if file.suffix == ".html" else "public, max-age=31536000, immutable"
    headers = {"content-security-policy": _PAGE_POLICY, "cache-control": fresh}
    return FileResponse(file, headers=headers)


def _file_in(root: Path, path: str) -> Path | None:
    try:
        file = (root / path).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None
    except OSError:
        # A name that no file can have.
        return None


def create_app(parts: Parts, *, web_pages: Path) -> "Application":
    """The whole application over `parts`, behind its gateway."""
    app = FastAPI(
        title="Botyard",
        version="1",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        # Such a redirect would lead to whatever host the request named.
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.house = parts.house
    app.state.callbacks = parts.callbacks
    app.state.relays = parts.relays
    app.state.checks = Checks(parts.house.database, parts.house.keys, parts.agents)
    app.state.assisting = Assisting(
        parts.house.database, parts.house.keys, parts.house.clock, parts.agents
    )
    app.state.bootstraps = parts.bootstraps
    app.state.provisioner = parts.provisioner
    app.state.log_readers = Readers()
    app.state.webchat_sockets = parts.sockets
    app.state.verifier = parts.verifier
    app.state.replays = Replays(parts.house.database, parts.commits, parts.house.clock)
    app.state.storage = parts.storage
    app.state.transfers = parts.transfers
    app.state.realtime = parts.realtime
    app.state.web_pages = web_pages
    errors.install(app)
    # Routes are tried one after the other: what platforms call all the time comes first.
    app.include_router(channels.public_router)
    for router in ROUTERS:
        app.include_router(router, prefix=API)
    for router in (webchat.router, media.link_router, system):
        app.include_router(router)
    app.router.routes.extend(probes.routes())
    for path, folder in (("/webchat-assets", "webchat"), ("/api-docs-assets", "api-docs")):
        app.mount(path, StaticFiles(directory=web_pages / folder, check_dir=False))
    openapi.install(app)
    shares = Shares(parts.house.rates.events, now=time.monotonic, random=SystemRandom())
    intake = Intake(parts.verifier, parts.commits, parts.house.clock, shares)
    return Application(app, Gateway(Front(app), intake, parts.house))


class Application:
    """What a server runs; `app` is what answers inside."""

    def __init__(self, app: FastAPI, gateway: Gateway) -> None:
        self.app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._gateway(scope, receive, send)


class Front:
    """In front of FastAPI: bodies are bounded.

    Uploads to a link have bounds of their own, which their reservation knows.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif _holds_nul(scope):
            error = BadRequest("impossible_character", "An address holds no U+0000.")
            await problem_response(error)(scope, receive, send)
        elif is_upload(scope):
            await self.app(scope, receive, send)
        elif _declared_length(scope) > MAX_BODY_BYTES:
            await _too_large(scope, receive, send)
        else:
            await self.app(scope, _bounded(receive), send)


def _bounded(receive: Receive) -> Callable[[], Awaitable[Message]]:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise TooLarge("body_too_large", f"A body has at most {MAX_BODY_BYTES} bytes.")
        return message

    return bounded


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _holds_nul(scope: Scope) -> bool:
    """PostgreSQL cannot even look for such a thing; bodies are looked at as they are read."""
    return "\0" in scope["path"] or b"%00" in scope["query_string"]


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    error = TooLarge("body_too_large", f"A body has at most {MAX_BODY_BYTES} bytes.")
    await problem_response(error)(scope, receive, send)


def _docs_policy(page: str) -> str:
    """Only the page's own inline script runs; Swagger writes styles into its elements."""
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [hashlib.sha256(script.encode()).digest() for script in inline]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _operation_id(route: APIRoute) -> str:
    return route.name
