"""Who sent a batch: proven by its signature over the raw bytes, before anything is parsed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from msgspec import Struct

from adapters.standard_webhooks import Key, SignatureError, id_of, verify
from control_plane.db.session import Database, driver
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Unauthorized

# Secrets of an instance are read again after this, so that a rotation is noticed.
_REMEMBER_S = 30.0
# A signature that does not fit has them read again, at most once in so long.
_READ_AGAIN_S = 1.0
# Instances remembered; the oldest goes first.
_MAX_REMEMBERED = 10_000

_SECRETS = """
SELECT tenant_id, sealed FROM credentials
WHERE instance_id = $1 AND kind = 'webhook' AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > $2)
ORDER BY id DESC LIMIT 2
"""


class Proven(Struct, frozen=True, kw_only=True):
    """What the signature proves: this instance of this tenant sent these bytes under this id."""

    tenant_id: UUID
    instance_id: UUID
    webhook_id: str
    sha256: bytes

    @property
    def named_by_body(self) -> bool:
        """The id is made of these bytes, so it cannot come with others: nobody need remember it."""
        return self.webhook_id == id_of(self.sha256)


@dataclass(frozen=True, kw_only=True)
class _Remembered:
    tenant_id: UUID
    secrets: tuple[Key, ...]
    read_at: float

    @property
    def until(self) -> float:
        return self.read_at + _REMEMBER_S


class Verifier:
    """Checks signatures; keeps the secrets of recent instances in memory for a moment."""

    def __init__(self, database: Database, keys: Keyring, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._known: dict[UUID, _Remembered] = {}

    async def prove(self, instance_id: UUID, headers: Mapping[str, str], body: bytes) -> Proven:
        """Raises Unauthorized for a bad, missing or stale signature, all alike."""
        now = self._clock.now().timestamp()
        known = self._known.get(instance_id)
        if known is None or known.until <= now:
            known = await self._load(instance_id, now)
        try:
            try:
                webhook_id = verify(known.secrets, headers, body, now=now)
            except SignatureError:
                if known.read_at + _READ_AGAIN_S > now:
                    raise
                # The secrets may just have been replaced.
                known = await self._load(instance_id, now)
                webhook_id = verify(known.secrets, headers, body, now=now)
        except SignatureError as error:
            raise Unauthorized("invalid_signature", str(error)) from None
        return Proven(
            tenant_id=known.tenant_id,
            instance_id=instance_id,
            webhook_id=webhook_id,
            sha256=hashlib.sha256(body).digest(),
        )

    async def _load(self, instance_id: UUID, now: float) -> _Remembered:
        async with self._database.session() as session:
            rows = await (await driver(session)).fetch(_SECRETS, instance_id, self._clock.now())
        if not rows:
            raise Unauthorized("invalid_signature", "no signature matches")
        known = _Remembered(
            tenant_id=rows[0]["tenant_id"],
            secrets=tuple(Key(self._keys.open(row["sealed"]).decode()) for row in rows),
            read_at=now,
        )
        while len(self._known) >= _MAX_REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[instance_id] = known
        return known
