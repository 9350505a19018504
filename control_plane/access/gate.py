"""Which buckets a request is charged to, told from its path and its bearer token alone.

No database is asked. A person is known by the signature of their token. An API key is known once
a request with it went well in this process; until then, as with every token that proves nothing,
the address pays, so that guessing keys is as slow as calling without one.
"""

import ipaddress
import re
import string
from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from starlette.types import Scope

from control_plane.access import api_keys, tokens
from control_plane.access.limits import Charge, Rates, Verdict
from control_plane.access.permissions import Actor
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Unauthorized
from control_plane.kit.ids import fingerprint

API = "/api/v1/"
# API keys that one process knows by their use; the one used longest ago is learnt again.
_MAX_KEYS = 10_000
# A household has a /64, so its addresses count as one.
_IPV6_PREFIX = 64

_BOOTSTRAP = re.compile(r"/api/v1/instances/([^/]+)/bootstrap")
MEDIA_LINK = re.compile(r"/media/[^/]+")
_AGENTS_MEDIA = re.compile(r"/api/v1/instances/[^/]+/media(/[^/]+)?")
_AUTH = "/api/v1/auth/"
# Part of /auth, and asked for by every open dashboard: no password is tried there.
_NO_SIGN_IN = frozenset({f"{_AUTH}refresh", f"{_AUTH}logout"})
# Browsers come here by GET, and each visit may cost a call to a provider.
_SIGN_ON = f"{_AUTH}sign-on"


class Gate:
    """Knows who is charged for what."""

    def __init__(self, keys: Keyring, clock: Clock, rates: Rates) -> None:
        self._keys = keys
        self._clock = clock
        self._rates = rates
        self._known: OrderedDict[bytes, tuple[UUID, UUID]] = OrderedDict()

    def charges(self, scope: Scope) -> Sequence[Charge]:
        """The buckets of a request; none for files, health and agents' signed events."""
        rates, path, address = self._rates, scope["path"], address_of(scope)
        if scope["type"] == "websocket":
            return [Charge("sockets", address, rates.sockets)]
        if path.startswith("/im/"):
            return [Charge("callbacks", address, rates.callbacks)]
        if start := _BOOTSTRAP.fullmatch(path):
            return [
                Charge("bootstraps", address, rates.bootstraps),
                Charge("bootstrap", f"{_bare(start[1])}:{address}", rates.bootstrap),
            ]
        if MEDIA_LINK.fullmatch(path) or _AGENTS_MEDIA.fullmatch(path):
            return [Charge("media", address, rates.media)]
        if not path.startswith(API):
            return []
        bearer = bearer_of(scope)
        charges = self._caller(bearer) if bearer else []
        signs_in = scope["method"] == "POST" and path.startswith(_AUTH) and path not in _NO_SIGN_IN
        if signs_in or path.startswith(_SIGN_ON):
            return [*charges, Charge("sign_in", address, rates.sign_in)]
        return charges or [Charge("anonymous", address, rates.anonymous)]

    def learn(self, scope: Scope, actor: Actor) -> None:
        """A request with this key went well: from now on the key pays, and its tenant."""
        bearer = bearer_of(scope)
        if bearer is None or actor.scopes is None or actor.tenant_id is None:
            return
        known = fingerprint(bearer)
        self._known[known] = (actor.identity_id, actor.tenant_id)
        self._known.move_to_end(known)
        if len(self._known) > _MAX_KEYS:
            self._known.popitem(last=False)

    def forget(self, scope: Scope) -> None:
        """A request with this key was refused as nobody's."""
        bearer = bearer_of(scope)
        if bearer is not None:
            self._known.pop(fingerprint(bearer), None)

    def _caller(self, bearer: str) -> list[Charge]:
        if api_keys.is_key(bearer):
            known = self._known.get(fingerprint(bearer))
            return self._of("key", *known) if known else []
        try:
            claims = tokens.read_access(self._keys, bearer, now=self._clock.now())
        except Unauthorized:
            return []
        return self._of("user", claims["sub"], claims.get("tid"))

    def _of(self, name: str, caller: object, tenant: object | None) -> list[Charge]:
        charges = [Charge(name, str(caller), getattr(self._rates, name))]
        if tenant is not None:
            charges.append(Charge("tenant", str(tenant), self._rates.tenant))
        return charges


def _bare(instance_id: str) -> str:
    """However somebody spells it, it is one instance."""
    return "".join(each for each in instance_id.lower() if each in string.hexdigits)[-32:]


def headers(charges: Sequence[Charge], verdict: Verdict) -> dict[str, str]:
    """`RateLimit-Policy` with every bucket, `RateLimit` with the one that runs out first."""
    policies = [f'"{one.name}";q={one.rate.amount};w={one.rate.window_s}' for one in charges]
    now = f'"{verdict.tightest.name}";r={verdict.left};t={round(verdict.full_in_s)}'
    return {"ratelimit-policy": ", ".join(policies), "ratelimit": now}


def address_of(scope: Scope) -> str:
    """Who is on the other side, as far as the network tells."""
    host: str = (scope.get("client") or ("unknown", 0))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))


def bearer_of(scope: Scope) -> str | None:
    """The bearer token, not yet believed."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
    return None
