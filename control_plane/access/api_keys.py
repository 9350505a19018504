"""A tenant's API keys: made once, shown once, kept as SHA-256, refused as soon as revoked.

A key may be made `signed`. Each of its requests then carries the Standard Webhooks headers over
its body, and its `webhook-id` is `<nonce>_<SHA-256 of "METHOD target">` in hex, the target being
the path and query as sent. So a signature speaks for one method, one target and one body, once:
an id that had its effect is refused for as long as its timestamp could pass. A request that was
refused or rolled back changed nothing and does not use its id up.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters import standard_webhooks
from control_plane.access import audit
from control_plane.access.models import ApiKey, Credential
from control_plane.access.permissions import Actor, Permission
from control_plane.access.schemas import ApiKeyIn
from control_plane.db.session import Scope, driver, enter
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Conflict, Forbidden, Invalid, Unauthorized, not_found
from control_plane.kit.ids import fingerprint, new_id, new_token
from control_plane.stream import log as stream

PREFIX = "by_"
# Keys that a tenant has at one time: one for each integration, and room.
MAX_KEYS = 100
# Between updates of `last_used_at`: a busy key must not write at each request.
USED_EVERY = timedelta(seconds=60)
# Ids of signed requests are kept this long: twice what a signature's timestamp may differ.
SEEN_FOR = timedelta(seconds=2 * standard_webhooks.TOLERANCE_S)
# Characters of the key that people see in lists; the other forty are the secret.
_SHOWN = len(PREFIX) + 6
# What only a person may do: a key that makes keys, or sends itself what happens, would outlive
# being revoked.
NOT_FOR_KEYS = frozenset({Permission.API_KEYS_WRITE, Permission.WEBHOOKS_WRITE})
# A permission that a later version took away is in no key any more.
_KNOWN = frozenset(Permission)

_MESSAGE_ID = re.compile(r"[A-Za-z0-9-]{8,64}_([0-9a-f]{64})")

_FIND = """
SELECT id, tenant_id, sealed FROM credentials
WHERE kind = 'api_key' AND sha256 = $1 AND revoked_at IS NULL
AND (expires_at IS NULL OR expires_at > $2)
"""
_KEY = """
SELECT k.name, k.scopes, t.state, t.mask_numbers
FROM api_keys AS k JOIN tenants AS t ON t.id = k.tenant_id
WHERE k.id = $1
"""
# Whoever finds the row locked leaves it: requests of one key do not wait for each other.
_USED = """
UPDATE api_keys SET last_used_at = $2 WHERE id = (
    SELECT id FROM api_keys WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)
    FOR UPDATE SKIP LOCKED
)
"""
_SEEN = """
INSERT INTO signed_requests (key_id, message_id, tenant_id, seen_at) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
"""
_FORGET = "DELETE FROM signed_requests WHERE key_id = $1 AND seen_at < $2"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a signature covers of a request."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Made:
    """A new key with its secrets, which nobody sees again."""

    key: ApiKey
    secret: str
    signing_secret: str | None


def is_key(token: str) -> bool:
    """Whether a bearer token has the form of an API key."""
    return token.startswith(PREFIX)


def message_id(nonce: str, *, method: str, target: str) -> str:
    """The `webhook-id` of a signed request."""
    return f"{nonce}_{hashlib.sha256(f'{method} {target}'.encode()).hexdigest()}"


async def create(
    session: AsyncSession, keyring: Keyring, *, body: ApiKeyIn, actor: Actor, now: datetime
) -> Made:
    """A new key; it can do no more than who makes it."""
    scopes = sorted(scope.value for scope in set(body.scopes))
    _check(actor, body.scopes, body.expires_at, now=now)
    connection = await driver(session)
    # The lock keeps the count true while several are made at once.
    await connection.execute("SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE", actor.tenant)
    living = select(func.count()).select_from(ApiKey).where(col(ApiKey.revoked_at).is_(None))
    if (await session.exec(living)).one() >= MAX_KEYS:
        raise Conflict("too_many_api_keys", f"A tenant has at most {MAX_KEYS} API keys.")
    secret = PREFIX + new_token()
    signing = standard_webhooks.make_secret(secrets.token_bytes(32)) if body.signed else None
    key = ApiKey(
        id=new_id(),
        tenant_id=actor.tenant,
        name=body.name,
        prefix=secret[:_SHOWN],
        scopes=scopes,
        signed=body.signed,
        created_by=actor.identity_id,
        created_at=now,
        expires_at=body.expires_at,
    )
    session.add(key)
    session.add(
        Credential(
            id=key.id,
            kind="api_key",
            sha256=fingerprint(secret),
            sealed=keyring.seal(signing.encode()) if signing else None,
            tenant_id=actor.tenant,
            created_at=now,
            expires_at=body.expires_at,
        )
    )
    after = {"name": key.name, "scopes": scopes, "signed": key.signed, "expires_at": _text(key)}
    await _tell(session, key, "create", actor=actor, now=now, after=after)
    return Made(key=key, secret=secret, signing_secret=signing)


async def list_keys(session: AsyncSession, *, after: UUID | None, limit: int) -> Sequence[ApiKey]:
    """The tenant's keys, newest first, revoked ones too; one more than `limit` if any."""
    query = select(ApiKey).order_by(col(ApiKey.id).desc()).limit(limit + 1)
    if after is not None:
        query = query.where(col(ApiKey.id) < after)
    return (await session.exec(query)).all()


async def revoke(session: AsyncSession, key_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Refuse a key from the next request on; doing it twice is doing it once."""
    found = await session.exec(select(ApiKey).where(ApiKey.id == key_id).with_for_update())
    key = found.one_or_none()
    if key is None:
        raise not_found("api_key")
    if key.revoked_at is not None:
        return
    key.revoked_at = now
    session.add(key)
    connection = await driver(session)
    await connection.execute("UPDATE credentials SET revoked_at = $2 WHERE id = $1", key_id, now)
    await _tell(session, key, "revoke", actor=actor, now=now, before={"name": key.name})


async def authenticate(
    session: AsyncSession, keyring: Keyring, token: str, sent: Sent, *, now: datetime
) -> Actor:
    """The actor of a key; the transaction then speaks for its tenant. Raises Unauthorized."""
    connection = await driver(session)
    found = await connection.fetchrow(_FIND, fingerprint(token), now)
    if found is None:
        raise Unauthorized("invalid_api_key", "The API key is unknown, revoked or expired.")
    key_id, tenant_id = found["id"], found["tenant_id"]
    await enter(session, Scope(tenants=(tenant_id,)))
    if found["sealed"] is not None:
        signed = _verify(keyring.open(found["sealed"]).decode(), sent, now=now)
        await connection.execute(_FORGET, key_id, now - SEEN_FOR)
        if await connection.execute(_SEEN, key_id, signed, tenant_id, now) != "INSERT 0 1":
            raise Unauthorized("request_replayed", "A request with this webhook-id was taken.")
    row = await connection.fetchrow(_KEY, key_id)
    await connection.execute(_USED, key_id, now, now - USED_EVERY)
    return Actor(
        identity_id=key_id,
        email="",
        operator=False,
        tenant_id=tenant_id,
        tenant_state=row["state"],
        member_id=None,
        member_name=row["name"],
        role=None,
        scopes=frozenset(Permission(scope) for scope in row["scopes"] if scope in _KNOWN),
        mask_numbers=row["mask_numbers"],
    )


def _verify(secret: str, sent: Sent, *, now: datetime) -> str:
    try:
        given = standard_webhooks.verify([secret], sent.headers, sent.body, now=now.timestamp())
    except standard_webhooks.SignatureError as error:
        raise Unauthorized("invalid_signature", f"This key signs its requests: {error}.") from None
    form = _MESSAGE_ID.fullmatch(given)
    if form is None or given != message_id(
        given.partition("_")[0], method=sent.method, target=sent.target
    ):
        raise Unauthorized("invalid_signature", "The webhook-id is not of this method and target.")
    return given


def _check(
    actor: Actor, scopes: Sequence[Permission], expires_at: datetime | None, *, now: datetime
) -> None:
    beyond = [scope for scope in scopes if scope not in actor.permissions - NOT_FOR_KEYS]
    if beyond:
        raise Forbidden("scope_not_yours", f"You cannot give: {', '.join(sorted(beyond))}.")
    if expires_at is not None and expires_at <= now:
        raise Invalid("expired_already", "A key's end lies in the future.")


async def _tell(
    session: AsyncSession,
    key: ApiKey,
    action: str,
    *,
    actor: Actor,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Audit and stream; flushed first, for the stream's lock comes last."""
    audit.record(
        session,
        actor=actor,
        tenant_id=key.tenant_id,
        action=f"api_key.{action}",
        target=("api_key", key.id),
        now=now,
        before=before,
        after=after,
    )
    await session.flush()
    entry = stream.Entry(type=f"api_key.{action}d", data={"id": key.id, "name": key.name})
    await stream.append(session, key.tenant_id, [entry])


def _text(key: ApiKey) -> str | None:
    return key.expires_at.isoformat() if key.expires_at else None
