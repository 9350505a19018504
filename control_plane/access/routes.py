"""/auth: sign in, stay signed in, sign out, who am I."""

from typing import Annotated

from fastapi import APIRouter, Cookie, Depends, Request, Response
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import second_factor, service, tokens
from control_plane.access.http import (
    HouseDep,
    TransactionRoute,
    authenticate_person,
    bearer_token,
    own_origin,
    public,
)
from control_plane.access.schemas import IdentityOut, LoginIn, MeOut, SwitchIn, TokenOut
from control_plane.access.service import SignIn
from control_plane.access.tokens import Device
from control_plane.db.session import Scope, enter
from control_plane.kit.errors import Unauthorized
from control_plane.kit.openapi import fails

COOKIE = "botyard_refresh"
_COOKIE_PATH = "/api/v1/auth"
# Characters that are kept of what a browser calls itself.
MAX_LABEL = 200

router = APIRouter(prefix="/auth", tags=["auth"], route_class=TransactionRoute)
# Sign-in keeps no transaction open while it computes bcrypt.
plain = APIRouter(prefix="/auth", tags=["auth"])

Refresh = Annotated[str | None, Cookie(alias=COOKIE, include_in_schema=False)]


def stranger() -> None:
    """Marks a route without a transaction that takes strangers."""


stranger.permission = None  # type: ignore[attr-defined]


def device_of(request: Request) -> Device:
    """What the request came from, as far as a person would recognise it."""
    label = request.headers.get("user-agent", "")[:MAX_LABEL]
    return Device(label=label or None, address=request.client.host if request.client else None)


DeviceDep = Annotated[Device, Depends(device_of)]


@plain.post("/login", dependencies=[Depends(stranger)], responses=fails(401))
async def login(body: LoginIn, house: HouseDep, device: DeviceDep, response: Response) -> TokenOut:
    """Sign in with e-mail and password, and the second factor if it is on."""
    signed_in = await service.sign_in(house, body, device)
    return _give(response, signed_in, secure=house.public_url.startswith("https://"))


@router.post("/refresh", dependencies=[Depends(own_origin)], responses=fails(401))
async def refresh(
    session: Annotated[AsyncSession, public()],
    house: HouseDep,
    device: DeviceDep,
    response: Response,
    token: Refresh = None,
) -> TokenOut:
    """Trade the refresh cookie for a new access token and a new cookie."""
    if token is None:
        raise Unauthorized("not_signed_in", "There is no refresh cookie; please sign in.")
    renewed = await service.refresh(
        session, house.keys, token=token, now=house.clock.now(), device=device
    )
    return _give(response, renewed, secure=house.public_url.startswith("https://"))


@router.post("/switch", dependencies=[Depends(own_origin)])
async def switch(
    request: Request,
    body: SwitchIn,
    session: Annotated[AsyncSession, public()],
    house: HouseDep,
    response: Response,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_token)],
) -> TokenOut:
    """Go on in another of one's tenants, in the same sign-in."""
    call = await authenticate_person(request, bearer.credentials if bearer else None)
    switched = await service.switch(
        session,
        house.keys,
        identity_id=call.actor.identity_id,
        family_id=call.family_id,
        tenant_id=body.tenant_id,
        now=call.now,
    )
    return _give(response, switched, secure=house.public_url.startswith("https://"))


@router.post("/logout", status_code=204, dependencies=[Depends(own_origin)])
async def logout(
    session: Annotated[AsyncSession, public()],
    house: HouseDep,
    response: Response,
    token: Refresh = None,
) -> None:
    """End this sign-in on every token it has."""
    if token is not None:
        await service.sign_out(session, token=token, now=house.clock.now())
    response.delete_cookie(COOKIE, path=_COOKIE_PATH)


@router.get("/me")
async def me(
    request: Request,
    session: Annotated[AsyncSession, public()],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_token)],
) -> MeOut:
    """Who is signed in and what they may do."""
    call = await authenticate_person(
        request, bearer.credentials if bearer else None, own_account=False
    )
    actor = call.actor
    # In all their tenants, not only in the one they act for; unless one tenant's provider vouches.
    if not actor.confined:
        await enter(session, Scope(identity=actor.identity_id))
    return MeOut(
        identity=IdentityOut(
            id=actor.identity_id,
            email=actor.email,
            operator=actor.operator,
            second_factor=await second_factor.is_on(session, actor.identity_id),
        ),
        confined=actor.confined,
        tenant_id=actor.tenant_id,
        member_id=actor.member_id,
        memberships=await service.memberships(session, actor.identity_id),
        permissions=sorted(actor.permissions),
    )


def set_refresh(response: Response, signed_in: SignIn, *, secure: bool) -> None:
    """Give the browser the sign-in; no script can read it."""
    response.set_cookie(
        COOKIE,
        signed_in.refresh,
        max_age=int(tokens.REFRESH_LIFE.total_seconds()),
        path=_COOKIE_PATH,
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def _give(response: Response, signed_in: SignIn, *, secure: bool) -> TokenOut:
    set_refresh(response, signed_in, secure=secure)
    return TokenOut(
        access_token=signed_in.access,
        expires_in=int(tokens.ACCESS_LIFE.total_seconds()),
        tenant_id=signed_in.tenant_id,
    )
