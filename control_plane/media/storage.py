"""Where bytes are: a folder of this machine, or whatever speaks the S3 protocol.

Keys are ids of ours, never names from people. An object is whole or not there.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store
from prometheus_client import Counter

from control_plane.kit.errors import Unavailable, not_found

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

# Bytes handed on at a time on the way out.
CHUNK = 256 * 1024
# Bytes of one part on the way in: the least that S3 takes, and what an upload costs in memory.
PART = 5 * 1024 * 1024
# A store that does not answer within this is away; callers repeat.
_TIMEOUT_S = 30
_CONNECT_S = 3
_RETRIES = 2
_RETRY_WITHIN = timedelta(seconds=5)
_AGAIN_S = 5

FAILURES = Counter(
    "botyard_media_storage_failures_total", "Calls that the media storage did not answer well."
)

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One object in a listing."""

    key: str
    size: int
    modified_at: datetime


def key_of(tenant_id: UUID, media_id: UUID, attempt: UUID) -> str:
    """Where an upload's bytes go."""
    return f"{tenant_id}/{media_id}.{attempt}"


def ids_of(key: str) -> tuple[UUID, UUID] | None:
    """(media, attempt) of a key; None for what we never wrote."""
    media_id, _, attempt = key.rpartition("/")[2].partition(".")
    try:
        return UUID(media_id), UUID(attempt)
    except ValueError:
        return None


class Storage:
    """Put, get, delete, list. Whatever is wrong with the store is `storage_unavailable`."""

    def __init__(self, connect: Callable[[], "ObjectStore"]) -> None:
        self._connect = connect

    @cached_property
    def _objects(self) -> "ObjectStore":
        return self._connect()

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a new object; an error of `chunks` passes through and leaves nothing behind."""
        with _away():
            await obstore.put_async(self._objects, key, chunks, chunk_size=PART, max_concurrency=1)

    async def get(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end`; raises before the first one is asked for."""
        with _away():
            try:
                found = await obstore.get_async(self._objects, key, options={"range": (start, end)})
            except FileNotFoundError:
                raise not_found("media") from None
        return _chunks(found)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; what is not there is fine."""
        for key in keys:
            with _away():
                try:
                    await obstore.delete_async(self._objects, key)
                except FileNotFoundError:
                    continue

    async def list(self, folder: str) -> AsyncIterator[Sequence[Stored]]:
        """Everything below a folder, some at a time."""
        with _away():
            async for page in obstore.list(self._objects, folder, chunk_size=500):
                yield [
                    Stored(key=item["path"], size=item["size"], modified_at=item["last_modified"])
                    for item in page
                ]


class Folder(Storage):
    """A folder of this machine; an object that was put survives the machine's power."""

    def __init__(self, path: Path) -> None:
        super().__init__(lambda: LocalStore(path, mkdir=True, automatic_cleanup=True))
        self._path = path

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        await super().put(key, chunks)
        with _away():
            await asyncio.to_thread(_sync, self._path / key)


def folder(path: Path) -> Storage:
    """Storage in a folder, which is made when it is first used."""
    return Folder(path)


def bucket(
    url: str,
    *,
    key: str | None,
    secret: str | None,
    endpoint: str | None = None,
    region: str = "us-east-1",
) -> Storage:
    """Storage in `s3://bucket/prefix`; without a key, whatever the machine's role allows."""
    place = urlsplit(url)
    config: dict[str, Any] = {"region": region}
    if key is not None and secret is not None:
        config |= {"access_key_id": key, "secret_access_key": secret}
    if endpoint is not None:
        config |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    return Storage(
        lambda: S3Store(
            place.netloc,
            prefix=place.path.strip("/") or None,
            client_options={
                "allow_http": (endpoint or "").startswith("http://"),
                "timeout": timedelta(seconds=_TIMEOUT_S),
                "connect_timeout": timedelta(seconds=_CONNECT_S),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_WITHIN},
            **config,
        )
    )


async def _chunks(found: "obstore.GetResult") -> AsyncIterator[bytes]:
    with _away():
        async for chunk in found.stream(min_chunk_size=CHUNK):
            yield bytes(chunk)


@contextmanager
def _away() -> "Iterator[None]":
    try:
        yield
    except (BaseError, OSError) as error:
        # Only the type: the text may hold addresses and keys.
        FAILURES.inc()
        log.warning("media storage failed", error=type(error).__name__)
        raise Unavailable(
            "storage_unavailable", "The media storage cannot be reached.", retry_after_s=_AGAIN_S
        ) from None


def _sync(path: Path) -> None:
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
