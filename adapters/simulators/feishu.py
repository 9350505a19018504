"""A stand-in of Feishu for one bot: its events, over long connections or as callbacks.

It refuses what the platform refuses (`feishu_api`), gives every event to one connection at random,
and repeats what is not acknowledged in time after 15 s, 5 min, 1 h and 6 h.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters.simulators import feishu_wire as wire
from adapters.simulators.feishu_api import Api
from adapters.simulators.feishu_wire import Packet
from adapters.simulators.platform import Line
from adapters.simulators.serving import serving

# An answer must be there by then; a check of the address is less patient.
DEADLINE_S = 3.0
CHECK_DEADLINE_S = 1.0
REDELIVER_AFTER_S = (15.0, 300.0, 3600.0, 21_600.0)
MAX_CONNECTIONS = 50
SERVICE_ID = 33554678


@dataclass(eq=False)
class Link:
    """One long connection."""

    socket: WebSocket
    waiting: dict[int, asyncio.Future[Packet]] = field(default_factory=dict)


@dataclass(eq=False)
class Event:
    """Something that happened, until it is acknowledged or given up."""

    id: str
    body: bytes
    due: asyncio.Event = field(default_factory=asyncio.Event)
    tries: int = 0


class Feishu(Api):
    """The platform as one application and its users know it."""

    def __init__(
        self,
        *,
        transport: str = "long_connection",
        app_id: str = "cli_a0123456789abcde",
        clock: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
        check_deadline_s: float = CHECK_DEADLINE_S,
        redeliver_after_s: Sequence[float] = REDELIVER_AFTER_S,
        encrypted: bool = True,
        callback_url: str = "",
    ) -> None:
        super().__init__(app_id=app_id, clock=clock)
        self.transport = transport
        self.verification_token = secrets.token_urlsafe(24)
        self.encrypt_key = secrets.token_hex(12) if encrypted else ""
        self.callback_url = callback_url
        self.events: list[Event] = []
        self.pings = 0
        self.late: list[bytes] = []
        """Payloads of acknowledgements that came after the deadline."""
        self._deadline_s = deadline_s
        self._check_deadline_s = check_deadline_s
        self._redeliver_after_s = redeliver_after_s
        self._links: list[Link] = []
        self._linked = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: dict[str, Event] = {}
        self._tickets: set[str] = set()
        self._packets = itertools.count(1)
        self._dice = random.Random(0)  # noqa: S311 - which connection gets it is no secret

    @property
    def settings(self) -> dict[str, Any]:
        """What a tenant copies from the console."""
        secret: dict[str, Any] = {"app_id": self.app_id, "app_secret": self.app_secret}
        common = {"transport": self.transport, "base_url": self.url, **secret}
        if self.transport != "callback":
            return common
        key = {"encrypt_key": self.encrypt_key} if self.encrypt_key else {}
        return common | {"verification_token": self.verification_token} | key

    async def __aenter__(self) -> "Feishu":
        # Certificates are read for https alone: reading them takes longer than most tests.
        plain = httpx2.AsyncHTTPTransport(verify=self.callback_url.startswith("https://"))
        self._http = httpx2.AsyncClient(transport=plain)
        app = self.app([WebSocketRoute("/ws/v2", self._connection)])
        self._serving = serving(app, sockets=True)
        self.url = await self._serving.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.disconnect()
        await self._http.aclose()
        await self._serving.__aexit__(None, None, None)

    # --- long connections ---

    def new_ticket(self) -> str:
        ticket = secrets.token_urlsafe(16)
        self._tickets.add(ticket)
        address = self.url.replace("http", "ws", 1)
        return f"{address}/ws/v2?device_id=7&service_id={SERVICE_ID}&ticket={ticket}"

    @property
    def connections(self) -> int:
        return len(self._links)

    async def until_connections(self, count: int, *, patience_s: float = 20) -> None:
        async with asyncio.timeout(patience_s), self._linked:
            await self._linked.wait_for(lambda: len(self._links) == count)

    async def _connection(self, socket: WebSocket) -> None:
        ticket = socket.query_params.get("ticket", "")
        if ticket not in self._tickets:
            await self._deny(socket, {"Handshake-Status": "403"})
            return
        self._tickets.discard(ticket)
        if self.faults.handshake or len(self._links) >= MAX_CONNECTIONS:
            too_many = {"Handshake-Status": "514", "Handshake-Autherrcode": "1000040350"}
            await self._deny(socket, self.faults.handshake or too_many)
            return
        await socket.accept()
        link = Link(socket)
        await self._enter(link)
        try:
            while True:
                await self._packet(link, wire.unpack(await socket.receive_bytes()))
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            await self._leave(link)

    async def _deny(self, socket: WebSocket, headers: dict[str, str]) -> None:
        await socket.send_denial_response(Response(status_code=403, headers=headers))

    async def _enter(self, link: Link) -> None:
        self._links.append(link)
        async with self._linked:
            self._linked.notify_all()

    async def _leave(self, link: Link) -> None:
        self._links.remove(link)
        for answer in link.waiting.values():
            answer.cancel()
        async with self._linked:
            self._linked.notify_all()

    async def _packet(self, link: Link, packet: Packet) -> None:
        if packet.method == 0:
            if packet.headers.get("type") != "ping" or packet.service != SERVICE_ID:
                raise RuntimeError("not a ping of this service")
            self.pings += 1
            if not self.faults.mute:
                config = json.dumps({"PingInterval": self.faults.ping_interval}).encode()
                pong = Packet(service=packet.service, headers={"type": "pong"}, payload=config)
                await link.socket.send_bytes(wire.pack(pong))
            return
        answer = link.waiting.pop(packet.seq, None)
        if answer is None or answer.done():
            self.late.append(packet.payload)
        elif "biz_rt" not in packet.headers or "message_id" not in packet.headers:
            raise RuntimeError("not the frame that was sent")
        else:
            answer.set_result(packet)

    async def disconnect(self) -> None:
        """Cut every long connection."""
        for link in list(self._links):
            # The other side may have been faster.
            with contextlib.suppress(RuntimeError):
                await link.socket.close(1001)

    async def _push(self, body: bytes, kind: str = "event") -> dict[str, Any] | None:
        """To one connection; its answer, None without one in time."""
        if not self._links:
            return None
        link, size = self._dice.choice(self._links), max(self.faults.parts, 1)
        cuts = [len(body) * index // size for index in range(size + 1)]
        seq, name = 0, secrets.token_hex(8)
        answer = asyncio.get_running_loop().create_future()
        try:
            for index in range(size):
                seq = next(self._packets)
                headers = {
                    "type": kind,
                    "message_id": name,
                    "sum": str(size),
                    "seq": str(index),
                    "trace_id": "t",
                }
                part = body[cuts[index] : cuts[index + 1]]
                packet = Packet(
                    seq=seq, log=9, service=SERVICE_ID, method=1, headers=headers, payload=part
                )
                if index == size - 1:
                    link.waiting[seq] = answer
                await link.socket.send_bytes(wire.pack(packet))
            async with asyncio.timeout(self._deadline_s):
                found: dict[str, Any] = json.loads((await answer).payload)
        except (TimeoutError, asyncio.CancelledError, RuntimeError, WebSocketDisconnect):
            link.waiting.pop(seq, None)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return None
        return None if self.strikes("drop_acks") else found

    # --- callbacks ---

    async def _post(self, body: bytes, *, signed: bool, deadline_s: float) -> Any:
        """The answer to a call of our address; None where it is not 200 in time."""
        headers = {"content-type": "application/json"}
        if self.encrypt_key:
            body = json.dumps({"encrypt": wire.close(self.encrypt_key, body)}).encode()
            stamp, nonce = str(int(self.clock())), secrets.token_hex(4)
            if signed:
                headers["X-Lark-Request-Timestamp"] = stamp
                headers["X-Lark-Request-Nonce"] = nonce
                signature = wire.signature(stamp, nonce, self.encrypt_key, body)
                headers["X-Lark-Signature"] = signature
        try:
            answer = await self._http.post(
                self.callback_url, content=body, headers=headers, timeout=deadline_s
            )
            if answer.status_code != 200 or self.strikes("drop_acks"):
                return None
            return answer.json()
        except (httpx2.HTTPError, ValueError):
            return None

    async def check_address(self) -> bool:
        """What the console does when somebody saves the callback address."""
        challenge = secrets.token_hex(8)
        body = {"challenge": challenge, "token": self.verification_token}
        asked = json.dumps(body | {"type": "url_verification"}).encode()
        answer = await self._post(asked, signed=False, deadline_s=self._check_deadline_s)
        return bool(answer == {"challenge": challenge})

    # --- what happens ---

    async def bring(self, line: Line) -> bool:
        """Somebody says something; whether we acknowledged it at once."""
        return await self.happen("im.message.receive_v1", self.said(line), line.id)

    async def press(self, user: str, message_id: str, value: dict[str, Any]) -> Any:
        """Somebody presses a card's button; what the card is answered."""
        happened = {
            "operator": {"open_id": self.open_id(user)},
            "token": "c-1",
            "action": {"value": value, "tag": "button"},
            "context": {"open_message_id": message_id, "open_chat_id": self.chat_of(user)},
        }
        body = self._event("card.action.trigger", happened, secrets.token_hex(8))
        if self.transport == "callback":
            return await self._post(body, signed=True, deadline_s=self._deadline_s)
        answer = await self._push(body)
        data = (answer or {}).get("data")
        return json.loads(base64.b64decode(data)) if data else None

    async def happen(self, kind: str, happened: dict[str, Any], event_id: str = "") -> bool:
        """An event; False while it is not acknowledged, and then it comes again."""
        event = Event(event_id or secrets.token_hex(16), b"")
        event.body = self._event(kind, happened, event.id)
        self.events.append(event)
        self._pending[event.id] = event
        for _ in range(1 + self.faults.redeliver):
            acknowledged = await self._deliver(event)
        if not acknowledged:
            task = asyncio.create_task(self._repeat(event), name="feishu-redelivery")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return acknowledged

    def _event(self, kind: str, happened: dict[str, Any], event_id: str) -> bytes:
        header = {
            "event_id": event_id,
            "event_type": kind,
            "create_time": str(int(self.clock() * 1000)),
            "token": self.verification_token,
            "app_id": self.app_id,
            "tenant_key": "t",
        }
        return json.dumps({"schema": "2.0", "header": header, "event": happened}).encode()

    async def _repeat(self, event: Event) -> None:
        for delay in self._redeliver_after_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await event.due.wait()
            event.due.clear()
            if await self._deliver(event):
                return
        self._pending.pop(event.id, None)

    async def _deliver(self, event: Event) -> bool:
        event.tries += 1
        if self.transport == "callback":
            answer = await self._post(event.body, signed=True, deadline_s=self._deadline_s)
            acknowledged = answer is not None
        else:
            answer = await self._push(event.body)
            acknowledged = answer is not None and answer.get("code") == 200
        if acknowledged:
            self._pending.pop(event.id, None)
        return acknowledged

    def redeliver_now(self) -> None:
        """The time of everybody's next redelivery has come."""
        for event in self._pending.values():
            event.due.set()

    @property
    def unacknowledged(self) -> int:
        return len(self._pending)


PLATFORM = Feishu
