"""How a request becomes a call: one transaction, one actor, one permission in the signature.

A route class opens the transaction and commits it before the answer leaves; `permit` says in the
signature of each route what its caller must be allowed to do. Routes that take strangers say so
with `public`; a test fails for a route with neither.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.datastructures import Headers

from adapters.outbound import Outbound
from control_plane.access import api_keys, idempotency, support, tokens, view
from control_plane.access.api_keys import Sent
from control_plane.access.audit import PLATFORM
from control_plane.access.idempotency import Replay, Ticket
from control_plane.access.limits import Limiter, Rates
from control_plane.access.mail import Mailer
from control_plane.access.permissions import (
    WORKS_IN_STATE,
    Actor,
    Permission,
    Role,
    role_permissions,
)
from control_plane.access.providers import Providers
from control_plane.bus.hints import Bus
from control_plane.db.session import Database, Scope, driver, enter
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import BotyardError, Forbidden, Unauthorized

_ACTOR = """
SELECT i.email, i.operator, m.id AS member_id, m.name, m.role, r.permissions AS granted,
       t.id AS tenant_id, t.state, t.mask_numbers, coalesce(s.required, false) AS sign_on_required
FROM identities AS i
LEFT JOIN members AS m ON m.identity_id = i.id AND m.tenant_id = $2
LEFT JOIN tenants AS t ON t.id = m.tenant_id
LEFT JOIN roles AS r ON r.id = m.role_id
LEFT JOIN sign_ons AS s ON s.tenant_id = m.tenant_id
WHERE i.id = $1
"""
_FAMILY = """
SELECT sign_on_tenant_id FROM credentials
WHERE family_id = $1 AND identity_id = $2 AND revoked_at IS NULL LIMIT 1
"""

bearer_token = HTTPBearer(
    auto_error=False, description="The access token from /auth/login, or an API key."
)

# The family of a caller that is no sign-in: an API key.
NO_SIGN_IN = UUID(int=0)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, kw_only=True)
class House:
    """What every request may use; made once by the composition root."""

    database: Database
    bus: Bus
    keys: Keyring
    clock: Clock
    public_url: str
    mailer: Mailer
    # Whether registrations wait for an operator ("manual") or not ("automatic").
    approval: str = "manual"
    limiter: Limiter
    rates: Rates
    # Set once this process has been asked to stop: from then on it says that it is not ready.
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    # The only way to addresses that tenants chose.
    outbound: Outbound
    providers: Providers


@dataclass(frozen=True, kw_only=True)
class Call:
    """One permitted request, inside its transaction."""

    session: AsyncSession
    actor: Actor
    family_id: UUID
    now: datetime
    keys: Keyring
    house: House


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Somebody who is signed in, and with which family of tokens."""

    actor: Actor
    family_id: UUID


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


HouseDep = Annotated[House, Depends(house_of)]


class TransactionRoute(APIRoute):
    """One request, one transaction: committed before the answer is sent, or not at all."""

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def in_transaction(request: Request) -> Response:
            kept: BotyardError | None = None
            async with house_of(request).database.session() as session:
                request.state.session = session
                try:
                    response = await handler(request)
                    await _keep_answer(request, session, response)
                except Replay as replay:
                    response = _again(request, replay)
                except BotyardError as error:
                    if not error.keeps_changes:
                        raise
                    kept = error
            if kept is not None:
                raise kept
            return response

        return in_transaction


def permit(permission: Permission) -> Any:
    """`call: Annotated[Call, permit(Permission.X)]` in a route's signature."""

    async def permitted(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_token)],
    ) -> Call:
        call = await authenticate(request, bearer.credentials if bearer else None)
        check(call.actor, permission)
        await _take_key(request, call)
        return call

    permitted.permission = permission  # type: ignore[attr-defined]
    # For the OpenAPI document: a POST takes an Idempotency-Key.
    permitted.takes_key = True  # type: ignore[attr-defined]
    return Depends(permitted)


def admit(permission: Permission) -> Any:
    """`actor: Annotated[Actor, admit(...)]`: like `permit`, but no transaction stays open."""

    async def admitted(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_token)],
    ) -> Actor:
        async with house_of(request).database.session() as session:
            request.state.session = session
            call = await authenticate(request, bearer.credentials if bearer else None)
        check(call.actor, permission)
        return call.actor

    admitted.permission = permission  # type: ignore[attr-defined]
    return Depends(admitted)


def signed_in() -> Any:
    """`call: Annotated[Call, signed_in()]`: for one's own account, whatever one may do."""

    async def recognised(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_token)],
    ) -> Call:
        return await authenticate_person(request, bearer.credentials if bearer else None)

    recognised.permission = None  # type: ignore[attr-defined]
    return Depends(recognised)


def caller() -> Any:
    """`caller: Annotated[Caller, caller()]`: like `signed_in`, but no transaction stays open."""

    async def recognised(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_token)],
    ) -> Caller:
        async with house_of(request).database.session() as session:
            request.state.session = session
            call = await authenticate_person(request, bearer.credentials if bearer else None)
        return Caller(actor=call.actor, family_id=call.family_id)

    recognised.permission = None  # type: ignore[attr-defined]
    return Depends(recognised)


def own_origin(request: Request) -> None:
    """Dependency of routes that act on a cookie: no other site's page may call them.

    Ours is the public address, and whatever address the browser itself used to reach us.
    """
    origin = request.headers.get("origin")
    if origin is None or is_ours(origin, house_of(request).public_url, request.headers):
        return
    raise Forbidden("wrong_origin", "This was sent by a page of another site.")


def is_ours(origin: str, public_url: str, headers: Headers) -> bool:
    """Whether a page of that origin is one of our own."""
    parts = urlsplit(public_url)
    host = headers.get("host", "")
    return origin in {f"{parts.scheme}://{parts.netloc}", f"http://{host}", f"https://{host}"}


def public() -> Any:
    """`session: Annotated[AsyncSession, public()]` in the signature of a route for strangers."""

    async def anyone(request: Request) -> AsyncSession:
        session: AsyncSession = request.state.session
        return session

    anyone.permission = None  # type: ignore[attr-defined]
    return Depends(anyone)


def check(actor: Actor, permission: Permission) -> None:
    """Raises Forbidden unless the actor may do it, in the state that their tenant is in."""
    if permission not in actor.permissions:
        raise Forbidden("forbidden", f"This needs the permission {permission.value}.")
    state = actor.tenant_state
    if state is not None and permission not in WORKS_IN_STATE[state]:
        raise Forbidden("tenant_not_active", f"The tenant is {state}: this does not work then.")


async def authenticate(request: Request, token: str | None) -> Call:
    """Who calls, read fresh: a removed member or an ended sign-in stops at the next request."""
    house = house_of(request)
    now = house.clock.now()
    session: AsyncSession = request.state.session
    if token is None:
        raise Unauthorized("not_signed_in", "Send an access token as a bearer token.")
    family_id = NO_SIGN_IN
    if api_keys.is_key(token):
        sent = await _sent(request)
        actor = await api_keys.authenticate(session, house.keys, token, sent, now=now)
    else:
        actor, family_id = await _person(session, house.keys, token, now=now)
    wanted = request.headers.get(support.HEADER)
    if wanted is not None:
        actor = await support.lend(session, actor, wanted, now=now)
        await enter(session, scope_of(actor))
    request.state.actor = actor
    view.look_as(actor)
    return Call(
        session=session,
        actor=actor,
        family_id=family_id,
        now=now,
        keys=house.keys,
        house=house,
    )


async def authenticate_person(
    request: Request, token: str | None, *, own_account: bool = True
) -> Call:
    """Like `authenticate`, for what only a person who signed in has.

    With `own_account`, what is asked for reaches beyond one tenant: passwords, other sign-ins,
    other tenants. A tenant's provider vouches for none of that, whoever it says this is.
    """
    call = await authenticate(request, token)
    if call.actor.scopes is not None:
        raise Forbidden("not_a_person", "An API key is nobody's sign-in.")
    if call.actor.confined and own_account:
        raise Forbidden(
            "signed_on_by_company", "A sign-in through the company is for its own work alone."
        )
    return call


async def _sent(request: Request) -> Sent:
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return Sent(
        method=request.method,
        target=(path + (b"?" + query if query else b"")).decode("latin-1"),
        headers=request.headers,
        body=await request.body(),
    )


async def _person(
    session: AsyncSession, keys: Keyring, token: str, *, now: datetime
) -> tuple[Actor, UUID]:
    claims = tokens.read_access(keys, token, now=now)
    family_id = UUID(claims["sid"])
    actor = await load_actor(
        session,
        identity_id=UUID(claims["sub"]),
        tenant_id=UUID(claims["tid"]) if claims.get("tid") else None,
        family_id=family_id,
    )
    return actor, family_id


async def load_actor(
    session: AsyncSession, *, identity_id: UUID, tenant_id: UUID | None, family_id: UUID
) -> Actor:
    """The actor as the database knows them now; the transaction then speaks for them.

    Here, and in `scope_of`, is where a sign-in through a tenant's provider is kept to that tenant.
    """
    mine = (tenant_id,) if tenant_id else ()
    await enter(session, Scope(tenants=mine, identity=identity_id))
    connection = await driver(session)
    family = await connection.fetchrow(_FAMILY, family_id, identity_id)
    confined_to = family and family["sign_on_tenant_id"]
    if family is None or confined_to not in (None, tenant_id):
        raise Unauthorized("session_ended", "This sign-in was ended; please sign in again.")
    row = await connection.fetchrow(_ACTOR, identity_id, tenant_id)
    if row is None or (tenant_id is not None and row["tenant_id"] is None):
        raise Unauthorized("not_a_member", "This account is no longer a member of the tenant.")
    if row["sign_on_required"] and confined_to is None and row["role"] != Role.OWNER:
        raise Unauthorized("sign_on_required", "This company signs in through its own provider.")
    actor = Actor(
        identity_id=identity_id,
        email=row["email"],
        operator=row["operator"] and confined_to is None,
        tenant_id=row["tenant_id"],
        tenant_state=row["state"],
        member_id=row["member_id"],
        member_name=row["name"] or row["email"].partition("@")[0],
        role=Role(row["role"]) if row["role"] else None,
        granted=role_permissions(row["granted"] or ()),
        confined=confined_to is not None,
        mask_numbers=bool(row["mask_numbers"]),
    )
    await enter(session, scope_of(actor))
    return actor


def scope_of(actor: Actor) -> Scope:
    """What the actor's transactions may see.

    Whoever acts for one tenant is nobody in their others: their rows there are not among its.
    """
    if actor.tenant_id is not None:
        return Scope(tenants=(actor.tenant_id,))
    return Scope(identity=actor.identity_id, operator=actor.as_operator)


async def _take_key(request: Request, call: Call) -> None:
    key = request.headers.get("idempotency-key")
    if request.method != "POST" or key is None:
        return
    idempotency.check(key)
    # An operator's keys are the platform's, like their part of the audit.
    owner = call.actor.tenant_id or PLATFORM
    ticket = Ticket(tenant_id=owner, actor_id=call.actor.identity_id, key=key)
    body = await request.body()
    await enter(call.session, Scope(tenants=(owner,)))
    await idempotency.begin(call.session, ticket, target=request.url.path, body=body, now=call.now)
    await enter(call.session, scope_of(call.actor))
    request.state.ticket = ticket


async def _keep_answer(request: Request, session: AsyncSession, response: Response) -> None:
    ticket: Ticket | None = getattr(request.state, "ticket", None)
    if ticket is not None:
        # Sealed, because some answers hold secrets that are shown once.
        body = house_of(request).keys.seal(bytes(response.body))
        # What is unwritten belongs to the scope that the route ended in.
        await session.flush()
        await enter(session, Scope(tenants=(ticket.tenant_id,)))
        await idempotency.end(session, ticket, status=response.status_code, body=body)


def _again(request: Request, replay: Replay) -> Response:
    body = house_of(request).keys.open(replay.body)
    return Response(body, replay.status, media_type="application/json")
