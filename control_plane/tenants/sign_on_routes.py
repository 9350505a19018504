"""/sign-on: a tenant's own provider; /auth/sign-on: signing in through it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse

from adapters.outbound import OutboundError, Refused
from control_plane.access.http import Call, House, HouseDep, TransactionRoute, admit, permit
from control_plane.access.models import SignOn
from control_plane.access.openid import Untrusted
from control_plane.access.permissions import Actor, Permission
from control_plane.access.providers import plain_words
from control_plane.access.routes import DeviceDep, set_refresh, stranger
from control_plane.kit.errors import Invalid
from control_plane.tenants import sign_on, sign_on_flow
from control_plane.tenants.schemas import (
    SignOnCheckIn,
    SignOnCheckOut,
    SignOnIn,
    SignOnOut,
    SignOnSettingsOut,
)
from control_plane.tenants.sign_on_flow import PENDING_LIFE, SignOnRefused, Why

COOKIE = "botyard_sign_on"
_COOKIE_PATH = "/api/v1/auth/sign-on/callback"
_SIGN_IN_PAGE = "/app/sign-in"
_START_PAGE = "/app/"

router = APIRouter(tags=["sign-on"], route_class=TransactionRoute)
# These call providers, and keep no transaction open meanwhile.
plain = APIRouter(tags=["sign-on"])

Reader = Annotated[Call, permit(Permission.SIGN_ON_READ)]
Writer = Annotated[Call, permit(Permission.SIGN_ON_WRITE)]
Checker = Annotated[Actor, admit(Permission.SIGN_ON_WRITE)]


@router.get("/sign-on")
async def get_sign_on(call: Reader) -> SignOnOut:
    """How the tenant's people sign in through their company's provider, if they do."""
    return _shown(call.house, call.actor, await sign_on.find(call.session))


@router.put("/sign-on")
async def put_sign_on(body: SignOnIn, call: Writer) -> SignOnOut:
    """Set the provider; another one than before ends the sign-ins through the old one."""
    try:
        call.house.outbound.check(body.issuer)
    except Refused as refused:
        raise Invalid("invalid_issuer", str(refused)) from None
    return _shown(call.house, call.actor, await sign_on.save(call, body))


@router.delete("/sign-on", status_code=204)
async def delete_sign_on(call: Writer) -> None:
    """End sign-on through the provider, and the sign-ins that came by it."""
    await sign_on.remove(call)


@plain.post("/sign-on/check")
async def check_sign_on(body: SignOnCheckIn, actor: Checker, house: HouseDep) -> SignOnCheckOut:
    """Read what a provider says of itself and its keys, and say what is wrong with it."""
    try:
        await house.providers.examine(actor.tenant, body.issuer)
    except (OutboundError, Untrusted) as failure:
        return SignOnCheckOut(works=False, detail=plain_words(failure))
    return SignOnCheckOut(works=True, detail="The provider can be used.")


@plain.get(
    "/auth/sign-on",
    status_code=303,
    response_class=RedirectResponse,
    dependencies=[Depends(stranger)],
)
async def begin_sign_on(tenant: str, request: Request, house: HouseDep) -> RedirectResponse:
    """Go to the company's provider; started from our own page only."""
    try:
        tenant_id = UUID(tenant)
    except ValueError:
        # Somebody typed it.
        return _back(SignOnRefused(Why.UNAVAILABLE))
    if not _ours(request, house):
        return RedirectResponse(f"{_SIGN_IN_PAGE}?tenant={tenant_id}", status_code=303)
    try:
        url, cookie = await sign_on_flow.begin(house, tenant_id)
    except SignOnRefused as refused:
        return _back(refused)
    answer = RedirectResponse(url, status_code=303)
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=int(PENDING_LIFE.total_seconds()),
        path=_COOKIE_PATH,
        secure=house.public_url.startswith("https://"),
        httponly=True,
        # The provider's page sends the browser back, so it is no same-site request.
        samesite="lax",
    )
    return answer


@plain.get(
    "/auth/sign-on/callback/{tenant_id}",
    status_code=303,
    response_class=RedirectResponse,
    dependencies=[Depends(stranger)],
)
async def end_sign_on(
    tenant_id: UUID, request: Request, house: HouseDep, device: DeviceDep
) -> RedirectResponse:
    """Come back from the provider; the answer is a sign-in, or the sign-in page with a code."""
    try:
        signed_in = await sign_on_flow.finish(
            house, tenant_id, request.query_params, request.cookies.get(COOKIE), device
        )
    except SignOnRefused as refused:
        answer = _back(refused)
    else:
        answer = RedirectResponse(_START_PAGE, status_code=303)
        set_refresh(answer, signed_in, secure=house.public_url.startswith("https://"))
    answer.delete_cookie(COOKIE, path=_COOKIE_PATH)
    return answer


def _ours(request: Request, house: House) -> bool:
    """Whether our own page, or the person's own hand, led here.

    Another site could else sign its visitors in to a tenant of its own, or borrow our name to send
    them anywhere. Browsers say where a request came from, over TLS at least.
    """
    site = request.headers.get("sec-fetch-site")
    if site is None:
        return not house.public_url.startswith("https://")
    return site in {"same-origin", "none"}


def _back(refused: SignOnRefused) -> RedirectResponse:
    return RedirectResponse(f"{_SIGN_IN_PAGE}?problem={refused.why}", status_code=303)


def _shown(house: House, actor: Actor, settings: SignOn | None) -> SignOnOut:
    return SignOnOut(
        redirect_uri=sign_on_flow.redirect_uri(house, actor.tenant),
        settings=settings
        and SignOnSettingsOut(
            **sign_on.shown(settings),
            created_at=settings.created_at,
            updated_at=settings.updated_at,
        ),
    )
