"""A load generator that costs little beside what it measures: HTTP/1.1 by hand, bodies ready."""

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import msgspec

from adapters import standard_webhooks
from adapters.model import ConversationKey, Sender, Text
from benchmarks.ground import Agent
from control_plane.kit.ids import new_id
from instance_agent.protocol import Event, EventBatch, MessageReceived, event_id

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class _Connection(asyncio.Protocol):
    """Sends the next ready request as soon as the last was answered."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[int]) -> None:
        self._requests = requests
        self._done = done
        self._answered = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(_END)
        if not end:
            return
        length = _length(head.lower())
        if len(rest) < length:
            return
        status = head[9:12]
        if status[:1] != b"2":
            self._fail(RuntimeError(f"answered {status!r}: {rest[:200]!r}"))
            return
        self._buffer = rest[length:]
        self._answered += 1
        self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        self._fail(ConnectionError("cut"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)
            return
        if not self._done.done():
            self._done.set_result(self._answered)
        self._transport.close()

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)
        self._transport.close()


def _length(head: bytes) -> int:
    start = head.find(_LENGTH)
    if start < 0:
        return 0
    return int(head[start + len(_LENGTH) :].split(b"\r\n", 1)[0])


async def flood(port: int, requests: Sequence[bytes], *, connections: int) -> float:
    """Seconds until all requests were answered, so many at a time."""
    loop = asyncio.get_running_loop()
    shared = iter(requests)
    futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for future in futures:
        await loop.create_connection(
            lambda future=future: _Connection(shared, future),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
    answered = sum(await asyncio.gather(*futures))
    took = time.perf_counter() - began
    assert answered == len(requests)
    return took


def message(agent: Agent, contact: str, text: str) -> Event:
    """A new message of a contact."""
    key = str(new_id())
    said = MessageReceived(
        channel_id=agent.channel_id,
        dedupe_key=key,
        message_id=key,
        conversation=ConversationKey(type="direct", id=contact),
        sender=Sender(id=contact, name="Lin"),
        segments=[Text(text=text)],
        reply_handle={"visitor": contact},
    )
    return Event(
        id=event_id(said.channel_id, key),
        type="message.received",
        occurred_at=datetime.fromtimestamp(time.time(), UTC),
        data=msgspec.to_builtins(said),
    )


def signed(agent: Agent, events: Sequence[Event], session_id: UUID | None = None) -> bytes:
    """A whole request with a signed batch."""
    batch = EventBatch(session_id=session_id or agent.session_id, events=list(events))
    body = msgspec.json.encode(batch)
    headers = standard_webhooks.sign(
        agent.secret,
        message_id=standard_webhooks.id_of(hashlib.sha256(body).digest()),
        timestamp=int(time.time()),
        body=body,
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST /api/v1/instances/{agent.instance_id}/events HTTP/1.1\r\nhost: bench\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
    )
    return head.encode() + body
