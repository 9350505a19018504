"""The tenant's store of pictures, voices and files, as adapters use it.

Bytes that a platform delivers go through a file, since their size must be known before room is
asked for and an upload may have to be repeated. The agent itself keeps none of them.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import BinaryIO, TypeVar, cast
from uuid import UUID, uuid4

import httpx2
import msgspec
import structlog

from adapters import standard_webhooks
from adapters.base import Content, MediaRefused, NotAccepted
from adapters.model import Ref
from instance_agent.backoff import Backoff, retry_after
from instance_agent.protocol import (
    MAX_MEDIA_BYTES,
    MediaLink,
    MediaRequest,
    MediaReserved,
    Problem,
    media_target,
)

# Objects on their way at a time, up and down: what they may cost in memory and on disk.
MAX_RUNNING = 4
# Below this a file stays in memory.
IN_MEMORY = 256 * 1024
CHUNK = 64 * 1024
# Tries of one call, some seconds in all; platforms and lanes try again by themselves.
MAX_TRIES = 4
# Between two pieces of an answer; a whole upload takes longer.
TIMEOUT = httpx2.Timeout(30.0, connect=5.0)

# "Never": too large, the plan is full, gone. A tenant that is not active may be so again.
_REFUSED = frozenset({404, 409, 410, 413, 422})
_OURS = "media"

Answer = TypeVar("Answer")

log = structlog.get_logger()


class _Again(Exception):
    """This try failed; another may not."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class MediaStore:
    """See `adapters.base.Media`."""

    def __init__(
        self,
        *,
        http: httpx2.AsyncClient,
        control_url: str,
        instance_id: UUID,
        secret: Callable[[], str],
        folder: Path,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._http = http
        self._control_url = control_url.rstrip("/")
        self._instance_id = instance_id
        self._secret = secret
        self._folder = folder
        self._clock = clock
        self._random = random
        self._room = asyncio.Semaphore(MAX_RUNNING)

    async def store(
        self, chunks: AsyncIterator[bytes], *, name: str = "", content_type: str = ""
    ) -> Ref:
        """Keep the bytes; raises MediaRefused, or NotAccepted when it may work later."""
        async with self._room:
            with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(self._folder)) as file:
                body = cast(BinaryIO, file)
                size = await _spool(chunks, body)
                request = MediaRequest(size=size, name=name[:500], content_type=content_type)
                return await self._upload(request, body)

    async def read(self, ref: Ref) -> Content:
        """The bytes of a stored segment; raises MediaRefused when they are gone, or NotAccepted."""
        media_id = _media_id(ref)
        async with self._room:
            return await self._again(lambda: self._download(media_id))

    async def _upload(self, request: MediaRequest, body: BinaryIO) -> Ref:
        # The same id for every try: a lost answer must not take room twice.
        webhook_id = f"med_{uuid4()}"
        raw = msgspec.json.encode(request)

        async def reserve() -> MediaReserved:
            answer = await self._call("POST", f"{self._base}", raw, webhook_id, raw)
            return _decoded(answer, MediaReserved)

        reserved = await self._again(reserve)

        async def put() -> None:
            body.seek(0)
            answer = await self._http.put(
                self._control_url + reserved.upload_url,
                content=_pieces(body),
                headers={
                    "content-length": str(request.size),
                    "content-type": "application/octet-stream",
                },
                timeout=TIMEOUT,
            )
            _check(answer)

        await self._again(put)
        return Ref(via=_OURS, id=str(reserved.media_id))

    async def _download(self, media_id: UUID) -> Content:
        target = media_target(self._instance_id, media_id)
        answer = await self._call("GET", f"{self._base}/{media_id}", target, f"med_{uuid4()}", b"")
        link = _decoded(answer, MediaLink)
        if link.size > MAX_MEDIA_BYTES:
            raise MediaRefused("the object is larger than any may be")
        body = bytearray()
        async with self._http.stream(
            "GET", self._control_url + link.url, timeout=TIMEOUT
        ) as stream:
            if stream.status_code != 200:
                await stream.aread()
            _check(stream)
            async for chunk in stream.aiter_bytes():
                body += chunk
                if len(body) > link.size:
                    break
        if hashlib.sha256(body).hexdigest() != link.sha256:
            raise _Again("the bytes are not those that were stored")
        return Content(
            body=bytes(body), name=link.name, content_type=link.content_type, sha256=link.sha256
        )

    @property
    def _base(self) -> str:
        return f"{self._control_url}/api/v1/instances/{self._instance_id}/media"

    async def _call(
        self, method: str, url: str, signed: bytes, webhook_id: str, body: bytes
    ) -> httpx2.Response:
        headers = standard_webhooks.sign(
            self._secret(), message_id=webhook_id, timestamp=int(self._clock()), body=signed
        )
        if body:
            headers["content-type"] = "application/json"
        answer = await self._http.request(
            method, url, content=body or None, headers=headers, timeout=TIMEOUT
        )
        _check(answer)
        return answer

    async def _again(self, act: Callable[[], Awaitable[Answer]]) -> Answer:
        backoff = Backoff(base_s=0.5, cap_s=5, random=self._random)
        for attempt in range(1, MAX_TRIES + 1):
            try:
                return await act()
            except (_Again, httpx2.TransportError) as error:
                reason = str(error) if isinstance(error, _Again) else type(error).__name__
                asked = error.retry_after_s if isinstance(error, _Again) else None
            if attempt < MAX_TRIES:
                await asyncio.sleep(backoff.next(min(asked or 0.0, 5.0)))
        log.warning("media not moved", reason=reason)
        raise NotAccepted(f"the media store did not answer: {reason}")


async def _spool(chunks: AsyncIterator[bytes], body: BinaryIO) -> int:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_MEDIA_BYTES:
            raise MediaRefused(f"more than {MAX_MEDIA_BYTES} bytes")
        try:
            # The disk may be slow, and the other channels need not wait for it.
            await asyncio.to_thread(body.write, chunk)
        except OSError as error:
            raise NotAccepted(f"no room on the disk ({type(error).__name__})") from error
    if size == 0:
        raise MediaRefused("there are no bytes")
    return size


async def _pieces(body: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(body.read, CHUNK):
        yield chunk


def _check(answer: httpx2.Response) -> None:
    if answer.status_code in (200, 201):
        return
    if answer.status_code in _REFUSED:
        raise MediaRefused(f"the control plane refused: {_code(answer)}")
    raise _Again(
        f"the control plane answered {answer.status_code}",
        retry_after(answer.headers.get("retry-after")),
    )


def _code(answer: httpx2.Response) -> str:
    try:
        return msgspec.json.decode(answer.content, type=Problem).code
    except msgspec.MsgspecError:
        return str(answer.status_code)


def _decoded(answer: httpx2.Response, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.MsgspecError as error:
        raise _Again("an unfit answer") from error


def _media_id(ref: Ref) -> UUID:
    if ref.via != _OURS:
        raise MediaRefused(f"kept by {ref.via}, not by us")
    try:
        return UUID(ref.id)
    except ValueError:
        raise MediaRefused("this is no media id") from None
