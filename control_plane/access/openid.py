"""OpenID Connect as we take part in it: what a provider says of itself, where a browser is sent,
what an ID token proves.

Nothing here calls anybody (see `providers`). What a provider sent is quoted nowhere: the words of
an error are ours.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # type: ignore[import-untyped]
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
from authlib.oidc.core.claims import CodeIDToken  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import Key, KeySet, import_key

# Signatures by a key pair alone: with HS* the public key could pass for a secret, `none` is none.
ALGORITHMS = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
)
# Seconds that a provider's clock may be off.
LEEWAY_S = 60
# Keys of one provider that are read; they have a handful.
MAX_KEYS = 50
# Characters of a subject, by the standard.
MAX_SUBJECT = 255
_SCOPE = "openid email profile"
# Key pairs; a key of another kind could sign for nobody here.
_KINDS = {"RSA", "EC"}


class Untrusted(Exception):
    """What the provider sent does not hold; the message is for the tenant."""


class UnknownKey(Untrusted):
    """Signed by a key that the provider did not publish when we last looked."""


class Metadata(msgspec.Struct, frozen=True):
    """What a provider says of itself at its well-known address, as far as we use it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    id_token_signing_alg_values_supported: list[str] = msgspec.field(default_factory=list)
    token_endpoint_auth_methods_supported: list[str] | None = None
    code_challenge_methods_supported: list[str] | None = None
    authorization_response_iss_parameter_supported: bool = False


@dataclass(frozen=True, kw_only=True)
class Party:
    """We, as one tenant registered us at its provider."""

    tenant_id: UUID
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-on on its way: what only the browser that began it knows."""

    tenant_id: UUID
    issuer: str
    client_id: str
    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, kw_only=True)
class Vouched:
    """Whom a provider vouches for; `email` only as far as it says that it has verified it."""

    subject: str
    email: str
    email_verified: bool
    name: str


def well_known(issuer: str) -> str:
    """Where a provider describes itself."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def read_metadata(body: bytes, issuer: str) -> Metadata:
    """What the provider says of itself; raises Untrusted with the first thing that is wrong."""
    try:
        metadata = msgspec.json.decode(body, type=Metadata)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Untrusted(
            "The answer at the issuer's well-known address is no OpenID provider's description."
        ) from None
    wrong = what_is_wrong(metadata, issuer)
    if wrong:
        raise Untrusted(wrong[0])
    return metadata


def what_is_wrong(metadata: Metadata, issuer: str) -> list[str]:
    """In plain words, why we could not sign people in there."""
    found = []
    if metadata.issuer != issuer:
        found.append("The provider calls itself by another issuer than the one that was given.")
    offered = metadata.id_token_signing_alg_values_supported
    if not set(offered) & set(ALGORITHMS):
        found.append("The provider signs with no algorithm that is accepted here.")
    if "S256" not in (metadata.code_challenge_methods_supported or ["S256"]):
        found.append("The provider does not know PKCE with S256.")
    if not set(auth_methods(metadata)) & {"client_secret_basic", "client_secret_post"}:
        found.append("The provider does not take a client secret at its token endpoint.")
    return found


def auth_methods(metadata: Metadata) -> Sequence[str]:
    """How a client may show its secret; the standard's default where nothing is said."""
    return metadata.token_endpoint_auth_methods_supported or ["client_secret_basic"]


def begin(party: Party) -> Pending:
    """A new sign-on with secrets of its own."""
    return Pending(
        tenant_id=party.tenant_id,
        issuer=party.issuer,
        client_id=party.client_id,
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(48),
    )


def authorization_url(metadata: Metadata, party: Party, pending: Pending) -> str:
    """Where the browser goes to sign in."""
    url: str = prepare_grant_uri(
        metadata.authorization_endpoint,
        party.client_id,
        "code",
        redirect_uri=party.redirect_uri,
        scope=_SCOPE,
        state=pending.state,
        nonce=pending.nonce,
        code_challenge=create_s256_code_challenge(pending.verifier),
        code_challenge_method="S256",
    )
    return url


def check_sender(metadata: Metadata, iss: str | None) -> None:
    """The answer must come from the provider that was asked (mix-up); raises Untrusted."""
    needed = metadata.authorization_response_iss_parameter_supported
    if iss != metadata.issuer and (needed or iss is not None):
        raise Untrusted("The answer came from another provider than the one that was asked.")


def read_keys(body: bytes) -> KeySet:
    """The keys that a provider signs with; those that we cannot use are left out."""
    try:
        listed = msgspec.json.decode(body, type=dict[str, Any]).get("keys")
    except (msgspec.DecodeError, UnicodeDecodeError):
        listed = None
    if not isinstance(listed, list):
        raise Untrusted("The provider's list of keys cannot be read.")
    usable = [key for entry in listed[:MAX_KEYS] if (key := _key(entry)) is not None]
    if not usable:
        raise Untrusted("The provider publishes no key that can be used.")
    return KeySet(usable)


def read_id_token(
    token: str, keys: KeySet, *, party: Party, nonce: str, access_token: str | None, now: datetime
) -> dict[str, Any]:
    """The claims of an ID token that was made for this sign-on; raises Untrusted."""
    try:
        read = jwt.decode(token, keys, algorithms=ALGORITHMS)
        claims: dict[str, Any] = CodeIDToken(
            read.claims,
            read.header,
            options={
                "iss": {"essential": True, "value": party.issuer},
                "sub": {"essential": True},
                "aud": {"essential": True, "value": party.client_id},
            },
            params={
                "nonce": nonce,
                "client_id": party.client_id,
                "access_token": access_token,
            },
        )
        claims.validate(now=int(now.timestamp()), leeway=LEEWAY_S)  # type: ignore[attr-defined]
    except InvalidKeyIdError:
        raise UnknownKey("The ID token is signed by an unknown key.") from None
    except (JoseError, ValueError, TypeError, KeyError):
        # Whatever a hostile token makes the library stumble over, it is refused.
        raise Untrusted("The provider's ID token is not valid for this sign-in.") from None
    if len(claims["sub"]) > MAX_SUBJECT:
        raise Untrusted("The provider's name for this person is too long.")
    return claims


def read_person(claims: dict[str, Any]) -> Vouched:
    """Whom checked claims are about."""
    email, name = claims.get("email"), claims.get("name")
    return Vouched(
        subject=claims["sub"],
        email=email if isinstance(email, str) else "",
        # A word or a number in the place of `true` is not taken for it.
        email_verified=claims.get("email_verified") is True,
        name=name if isinstance(name, str) else "",
    )


def _key(entry: object) -> Key | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    try:
        return import_key(entry) if entry.get("kty") in _KINDS else None
    except (JoseError, ValueError, TypeError, KeyError):
        return None
