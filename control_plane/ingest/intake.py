"""POST /instances/{id}/events: the busiest call of all goes without FastAPI's machinery."""

import re
from functools import lru_cache
from uuid import UUID

import msgspec
from starlette.types import Receive, Scope

from adapters.standard_webhooks import is_id_of_a_body
from control_plane.ingest import batch as batches
from control_plane.ingest.batch import Batch
from control_plane.ingest.commit import GroupCommit
from control_plane.ingest.shares import Shares
from control_plane.ingest.store import reused
from control_plane.ingest.verify import Verifier
from control_plane.kit.clock import Clock
from control_plane.kit.errors import BadRequest, TooLarge, not_found
from instance_agent.protocol import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, EventResults

PATH = re.compile(r"^/api/v1/instances/([0-9a-fA-F-]{36})/events$")

# Paths whose instance is known without reading them again.
_MAX_REMEMBERED = 10_000

_encoder = msgspec.json.Encoder()


class Left(Exception):
    """The agent went away before its batch was here."""


class Intake:
    """Verify, decode, hand to the group commit, answer after it."""

    def __init__(
        self, verifier: Verifier, commits: GroupCommit, clock: Clock, shares: Shares
    ) -> None:
        self._verifier = verifier
        self._commits = commits
        self._clock = clock
        self._shares = shares

    async def take(self, scope: Scope, receive: Receive) -> bytes:
        """The body of the answer 202 (`EventResults`); raises BotyardError or Left."""
        instance_id = _instance(scope["path"])
        body = await _read(receive)
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name.startswith(b"webhook-")
        }
        proven = await self._verifier.prove(instance_id, headers, body)
        if not proven.named_by_body and is_id_of_a_body(proven.webhook_id):
            raise reused()
        try:
            batch = batches.read(body)
        except msgspec.DecodeError as error:
            raise BadRequest("malformed_batch", str(error)[:256]) from None
        if len(batch.events) > MAX_BATCH_EVENTS:
            raise BadRequest("too_many_events", f"A batch has at most {MAX_BATCH_EVENTS} events.")
        _check_checkpoints(batch)
        # What came in a batch without events costs as much as one.
        self._shares.take(proven.tenant_id, max(len(batch.events), 1))
        results = await self._commits.submit(proven, batch, self._clock.now())
        return _encoder.encode(EventResults(results=results))


@lru_cache(maxsize=_MAX_REMEMBERED)
def _instance(path: str) -> UUID:
    match = PATH.match(path)
    try:
        return UUID(match.group(1) if match else "")
    except ValueError:
        raise not_found("instance") from None


def _check_checkpoints(batch: Batch) -> None:
    """What could never be stored is refused here, or its agent would repeat it for ever."""
    for channel, value in batch.checkpoints.items():
        try:
            UUID(channel)
        except ValueError:
            raise BadRequest("malformed_batch", "A checkpoint names no channel.") from None
        if "\0" in value:
            raise BadRequest("malformed_batch", "A checkpoint holds U+0000.")


async def _read(receive: Receive) -> bytes:
    """The body, refused while it comes in as soon as it is too long."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Left
        body += message.get("body", b"")
        if len(body) > MAX_BATCH_BYTES:
            raise TooLarge("batch_too_large", f"A batch has at most {MAX_BATCH_BYTES} bytes.")
        if not message.get("more_body", False):
            return bytes(body)
