"""Calls to tenants' OpenID providers: what they say of themselves, their keys, codes for tokens.

Each tenant has a few calls at a time and no more, so that a provider which never answers keeps
nobody else waiting.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote_plus
from uuid import UUID

import msgspec
from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import prepare_token_request  # type: ignore[import-untyped]
from joserfc.jwk import KeySet

from adapters.outbound import Answer, Outbound, OutboundError, Refused, Unanswered
from control_plane.access import openid
from control_plane.access.openid import Metadata, Party, Pending, UnknownKey, Untrusted, Vouched
from control_plane.kit.clock import Clock

# Time for one call; a sign-on makes five at most, and an answer to a browser has 30 s.
WITHIN = timedelta(seconds=5)
# Calls at once for one tenant, whichever providers it names.
AT_ONCE = 4
# How long a provider's description and keys are believed without another look.
FRESH = timedelta(minutes=10)
# How long a provider that failed is not asked again: strangers may begin sign-ons.
REST = timedelta(seconds=5)
# Providers that one process remembers, some kilobytes each; the one used longest ago is read again.
MAX_KNOWN = 1000

K = TypeVar("K")
V = TypeVar("V")

_FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}


@dataclass(kw_only=True)
class _Known:
    turn: asyncio.Semaphore
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    metadata: Metadata | None = None
    keys: KeySet | None = None
    read_at: datetime | None = None
    keys_at: datetime | None = None
    failed_at: datetime | None = None
    failure: tuple[type[Exception], str] | None = None


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str
    access_token: str | None = None


class Providers:
    """Tenants' providers, as this process knows them."""

    def __init__(self, outbound: Outbound, clock: Clock) -> None:
        self._outbound = outbound
        self._clock = clock
        self._known: OrderedDict[tuple[UUID, str], _Known] = OrderedDict()
        self._turns: OrderedDict[UUID, asyncio.Semaphore] = OrderedDict()

    async def discover(self, tenant_id: UUID, issuer: str) -> Metadata:
        """What the provider says of itself. Raises OutboundError or Untrusted."""
        known = self._of(tenant_id, issuer)
        async with known.reading:
            now = self._clock.now()
            if known.metadata is not None and _fresh(known.read_at, now, FRESH):
                return known.metadata
            if known.failure is not None and _fresh(known.failed_at, now, REST):
                kind, words = known.failure
                raise kind(words)
            try:
                answer = await self._ask(known, "GET", openid.well_known(issuer))
                metadata = openid.read_metadata(_body(answer, "description"), issuer)
                # It is where browsers will be sent.
                self._outbound.check(metadata.authorization_endpoint)
            except (OutboundError, Untrusted) as failure:
                known.failure = (type(failure), str(failure))
                known.failed_at = self._clock.now()
                raise
            known.metadata, known.read_at, known.failure = metadata, now, None
            return metadata

    async def examine(self, tenant_id: UUID, issuer: str) -> None:
        """Read all that a sign-on needs, anew. Raises OutboundError or Untrusted."""
        self._known.pop((tenant_id, issuer), None)
        metadata = await self.discover(tenant_id, issuer)
        self._outbound.check(metadata.token_endpoint)
        await self._read_keys(self._of(tenant_id, issuer), metadata)

    async def redeem(
        self, party: Party, pending: Pending, *, code: str, iss: str | None
    ) -> Vouched:
        """Whom the provider vouches for, for its code. Raises OutboundError or Untrusted."""
        known = self._of(party.tenant_id, party.issuer)
        metadata = await self.discover(party.tenant_id, party.issuer)
        openid.check_sender(metadata, iss)
        tokens = await self._exchange(known, metadata, party, code, pending.verifier)
        claims = await self._verified(known, metadata, party, pending, tokens)
        if "email" not in claims and metadata.userinfo_endpoint and tokens.access_token:
            claims |= await self._user_info(
                known, metadata.userinfo_endpoint, tokens.access_token, claims["sub"]
            )
        return openid.read_person(claims)

    async def _exchange(
        self, known: _Known, metadata: Metadata, party: Party, code: str, verifier: str
    ) -> _Tokens:
        body = prepare_token_request(
            "authorization_code",
            code=code,
            redirect_uri=party.redirect_uri,
            code_verifier=verifier,
        )
        headers, body = _show_secret(metadata, party, body)
        answer = await self._ask(known, "POST", metadata.token_endpoint, headers, body.encode())
        try:
            return msgspec.json.decode(_body(answer, "tokens"), type=_Tokens)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Untrusted("The provider's answer holds no ID token.") from None

    async def _verified(
        self, known: _Known, metadata: Metadata, party: Party, pending: Pending, tokens: _Tokens
    ) -> dict[str, Any]:
        def read(keys: KeySet) -> dict[str, Any]:
            return openid.read_id_token(
                tokens.id_token,
                keys,
                party=party,
                nonce=pending.nonce,
                access_token=tokens.access_token,
                now=self._clock.now(),
            )

        keys = known.keys
        if keys is None or not _fresh(known.keys_at, self._clock.now(), FRESH):
            return read(await self._read_keys(known, metadata))
        try:
            return read(keys)
        except UnknownKey:
            # Perhaps the provider has new ones.
            return read(await self._read_keys(known, metadata))

    async def _read_keys(self, known: _Known, metadata: Metadata) -> KeySet:
        answer = await self._ask(known, "GET", metadata.jwks_uri)
        known.keys, known.keys_at = openid.read_keys(_body(answer, "keys")), self._clock.now()
        return known.keys

    async def _user_info(
        self, known: _Known, url: str, access_token: str, subject: str
    ) -> dict[str, Any]:
        """Some providers say the e-mail address there only."""
        headers = {"authorization": f"Bearer {access_token}", "accept": "application/json"}
        answer = await self._ask(known, "GET", url, headers)
        try:
            said = msgspec.json.decode(_body(answer, "person"), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Untrusted("The provider's answer about the person cannot be read.") from None
        if said.get("sub") != subject:
            raise Untrusted("The provider's answer is about another person.")
        return {name: said[name] for name in ("email", "email_verified", "name") if name in said}

    async def _ask(
        self,
        known: _Known,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        try:
            async with asyncio.timeout(WITHIN.total_seconds()), known.turn:
                return await self._outbound.send(
                    method, url, headers=headers, content=content, within=WITHIN
                )
        except TimeoutError:
            raise Unanswered("There was no answer in time.") from None

    def _of(self, tenant_id: UUID, issuer: str) -> _Known:
        turn = _kept(self._turns, tenant_id, lambda: asyncio.Semaphore(AT_ONCE))
        return _kept(self._known, (tenant_id, issuer), lambda: _Known(turn=turn))


def _kept(kept: OrderedDict[K, V], key: K, make: Callable[[], V]) -> V:
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    if len(kept) > MAX_KNOWN:
        kept.popitem(last=False)
    return kept[key]


def plain_words(failure: OutboundError | Untrusted) -> str:
    """What a tenant is told about a provider that does not work."""
    said = str(failure)
    if isinstance(failure, Refused):
        return f"The provider cannot be called. {said}"
    return said


def _show_secret(metadata: Metadata, party: Party, body: str) -> tuple[dict[str, str], str]:
    if "client_secret_basic" in openid.auth_methods(metadata):
        # Written as in a form before they are joined, which the library leaves to us.
        name, secret = quote_plus(party.client_id), quote_plus(party.client_secret)
        method = "client_secret_basic"
    else:
        name, secret, method = party.client_id, party.client_secret, "client_secret_post"
    shown = ClientAuth(name, secret, auth_method=method)
    _uri, headers, body = shown.prepare("POST", metadata.token_endpoint, dict(_FORM), body)
    return headers, body


def _body(answer: Answer, what: str) -> bytes:
    if answer.status != 200:
        raise Untrusted(f"The provider answered with status {answer.status} ({what}).")
    return answer.body


def _fresh(at: datetime | None, now: datetime, life: timedelta) -> bool:
    return at is not None and timedelta(0) <= now - at < life
