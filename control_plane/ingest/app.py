"""POST /instances/{id}/events as a small plain ASGI app: the hot path skips FastAPI's machinery."""

import re
from uuid import UUID

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from control_plane.ingest.commit import GroupCommit
from control_plane.ingest.verify import Verifier
from control_plane.kit.clock import Clock
from control_plane.kit.errors import BadRequest, BotyardError, TooLarge, not_found
from control_plane.kit.problems import problem_response
from instance_agent.protocol import (
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    EventBatch,
    EventResults,
)

PATH = re.compile(r"^/api/v1/instances/([0-9a-fA-F-]{36})/events$")

_decoder = msgspec.json.Decoder(EventBatch)
_encoder = msgspec.json.Encoder()


class IngestApp:
    """Verify, decode, hand to the group commit, answer 202 after it."""

    def __init__(self, verifier: Verifier, commits: GroupCommit, clock: Clock) -> None:
        self._verifier = verifier
        self._commits = commits
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except BotyardError as error:
            response = problem_response(error)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        instance_id = _instance(request)
        body = await _read(request)
        proven = await self._verifier.prove(instance_id, request.headers, body)
        try:
            batch = _decoder.decode(body)
        except msgspec.DecodeError as error:
            raise BadRequest("malformed_batch", str(error)[:256]) from None
        if len(batch.events) > MAX_BATCH_EVENTS:
            raise BadRequest("too_many_events", f"A batch has at most {MAX_BATCH_EVENTS} events.")
        _check_checkpoints(batch)
        results = await self._commits.submit(proven, batch, self._clock.now())
        answer = _encoder.encode(EventResults(results=results))
        return Response(answer, 202, media_type="application/json")


def _instance(request: Request) -> UUID:
    match = PATH.match(request.scope["path"])
    try:
        return UUID(match.group(1) if match else "")
    except ValueError:
        raise not_found("instance") from None


def _check_checkpoints(batch: EventBatch) -> None:
    """What could never be stored is refused here, or its agent would repeat it for ever."""
    for channel, value in batch.checkpoints.items():
        try:
            UUID(channel)
        except ValueError:
            raise BadRequest("malformed_batch", "A checkpoint names no channel.") from None
        if "\0" in value:
            raise BadRequest("malformed_batch", "A checkpoint holds U+0000.")


async def _read(request: Request) -> bytes:
    """The body, refused while it comes in as soon as it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BATCH_BYTES:
            raise TooLarge("batch_too_large", f"A batch has at most {MAX_BATCH_BYTES} bytes.")
    return bytes(body)
