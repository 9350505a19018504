"""POST /instances/{id}/events as a small plain ASGI app: the hot path skips FastAPI's machinery."""

import re
from functools import lru_cache
from uuid import UUID

import msgspec
from starlette.types import Receive, Scope, Send

from control_plane.ingest import batch as batches
from control_plane.ingest.batch import Batch
from control_plane.ingest.commit import GroupCommit
from control_plane.ingest.shares import Shares
from control_plane.ingest.verify import Verifier
from control_plane.kit.clock import Clock
from control_plane.kit.errors import BadRequest, BotyardError, TooLarge, not_found
from control_plane.kit.problems import problem_response
from instance_agent.protocol import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, EventResults

PATH = re.compile(r"^/api/v1/instances/([0-9a-fA-F-]{36})/events$")

# Paths whose instance is known without reading them again.
_MAX_REMEMBERED = 10_000

_encoder = msgspec.json.Encoder()


class _Left(Exception):
    """The agent went away before its batch was here."""


class IngestApp:
    """Verify, decode, hand to the group commit, answer 202 after it."""

    def __init__(
        self, verifier: Verifier, commits: GroupCommit, clock: Clock, shares: Shares
    ) -> None:
        self._verifier = verifier
        self._commits = commits
        self._clock = clock
        self._shares = shares

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except BotyardError as error:
            await problem_response(error)(scope, receive, send)
            return
        except _Left:
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
        ]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        instance_id = _instance(scope["path"])
        body = await _read(receive)
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name.startswith(b"webhook-")
        }
        proven = await self._verifier.prove(instance_id, headers, body)
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
            raise _Left
        body += message.get("body", b"")
        if len(body) > MAX_BATCH_BYTES:
            raise TooLarge("batch_too_large", f"A batch has at most {MAX_BATCH_BYTES} bytes.")
        if not message.get("more_body", False):
            return bytes(body)
