"""Sockets that platforms open to us, carried to the channel's agent and back.

Invariants:
1. Nobody is let in without the channel's address and the platform's own proof, and no database
   session is held while a socket lives.
2. A frame is read only when the one before was taken by the other side: nothing piles up here.
3. Without an agent there is no socket: the platform's client is sent away and comes back by itself.
"""

import asyncio
from collections import Counter
from uuid import UUID

import structlog
from prometheus_client import Gauge
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from adapters.model import RawCallback
from control_plane.access.gate import address_of
from control_plane.access.http import House
from control_plane.access.limits import Charge
from control_plane.channels import settings
from control_plane.channels.callbacks import Callbacks, Known
from control_plane.db.session import DATABASE_ERRORS
from control_plane.instances import service as instances
from control_plane.instances.client import AgentAway, AgentClient, AgentRefused, AgentSilent
from control_plane.instances.sessions import AgentAddress, NoAgent
from control_plane.kit import frames
from control_plane.kit.backoff import come_back
from control_plane.kit.errors import (
    BotyardError,
    Forbidden,
    TooMany,
    Unauthorized,
    Unavailable,
    not_found,
)
from control_plane.kit.problems import problem_response

# One frame of a client: an event with its texts. Media come by address, so a whole megabyte is
# room enough, and a thousand sockets that fill theirs at once still fit into memory.
MAX_FRAME_BYTES = 1024 * 1024
# Sockets of this process; past that clients are told to come back.
MAX_SOCKETS = 1_000
# Of one channel: the agent ends the older as soon as it has the newer, so two overlap for moments.
MAX_PER_CHANNEL = 3
# What one socket is read in a second; beyond it the client is slowed down. A busy account has some
# events a second, so this only keeps one tenant from taking the process for itself.
MAX_FRAMES_PER_S = 200
MAX_BYTES_PER_S = 4 * 1024 * 1024
# A client that takes longer than this to take a frame is cut; it connects anew.
SEND_WITHIN_S = 20.0
# What stops waits so long for sockets to end.
STOP_WITHIN_S = 5.0
# When a client that was sent away may come again.
RETRY_S = 5.0

RESTARTING = 1012
TRY_LATER = 1013
# Codes from here on are the adapter's own words for its client.
_ADAPTERS = range(4000, 5000)

_LATER = Unavailable("try_later", "Connect again.", retry_after_s=RETRY_S)

OPEN = Gauge("botyard_platform_sockets", "Sockets of platforms' clients to this process.")

log = structlog.get_logger()


class Relays:
    """Carries platforms' sockets; as a part, it asks them to come back when the process stops."""

    name = "relays"

    def __init__(self, house: House, callbacks: Callbacks, agents: AgentClient) -> None:
        self._house = house
        self._callbacks = callbacks
        self._agents = agents
        self._open: Counter[UUID] = Counter()
        self._stopping = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    async def run(self) -> None:
        """Wait for the end, and then, bounded, for everybody to leave."""
        await self._stopping.wait()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self._empty.wait()
        except TimeoutError:
            log.warning("platform sockets were cut", open=self._open.total())

    def stop(self) -> None:
        self._stopping.set()

    async def serve(self, websocket: WebSocket, token: str, rest: str) -> None:
        """One socket, from its handshake to its end."""
        try:
            known = await self._admit(websocket, token, rest)
            agent = await self._agent(known)
        except BotyardError as error:
            await _deny(websocket, error)
        except DATABASE_ERRORS as error:
            log.warning("socket without a database", error=type(error).__name__)
            await _deny(websocket, _LATER)
        else:
            self._open[known.channel_id] += 1
            self._count()
            try:
                await self._connect(websocket, known, agent)
            finally:
                self._open[known.channel_id] -= 1
                self._open += Counter()
                self._count()

    async def _admit(self, websocket: WebSocket, token: str, rest: str) -> Known:
        """The channel, once its platform has proved itself; raises BotyardError."""
        known = await self._callbacks.find(token)
        kind = settings.kind_of(known.kind)
        if not kind.takes_sockets:
            raise not_found("channel")
        whose = f"{known.channel_id}:{address_of(websocket.scope)}"
        charge = Charge("relays", whose, self._house.rates.relays)
        verdict = await self._house.limiter.take([charge])
        if not verdict.allowed:
            raise TooMany("rate_limited", "Wait.", retry_after_s=max(1.0, verdict.wait_s))
        handshake = RawCallback(
            method="GET",
            path="/" + rest,
            query=websocket.url.query,
            headers=dict(websocket.headers.items()),
            body=b"",
            received_at=self._house.clock.now().timestamp(),
        )
        refused = kind.admit(handshake, self._callbacks.settings_of(known))
        if refused is not None:
            error = Unauthorized if refused.status == 401 else Forbidden
            raise error("callback_rejected", refused.reason)
        return known

    async def _agent(self, known: Known) -> AgentAddress:
        """Who takes it; raises Unavailable or TooMany."""
        if self._stopping.is_set() or self._open.total() >= MAX_SOCKETS:
            raise _LATER
        if self._open[known.channel_id] >= MAX_PER_CHANNEL:
            raise TooMany("too_many_sockets", "Connect once.", retry_after_s=RETRY_S)
        if known.agent is None:
            async with self._house.database.plain(known.scope) as session:
                await instances.wake(session, known.instance_id, now=self._house.clock.now())
            raise NoAgent
        return known.agent

    async def _connect(self, websocket: WebSocket, known: Known, agent: AgentAddress) -> None:
        try:
            async with self._agents.socket(agent, known.channel_id) as inner:
                frames.take_up_to(MAX_FRAME_BYTES, websocket.scope)
                if not await _accepted(websocket):
                    return
                code, reason = await self._carry(websocket, inner)
        except (AgentAway, AgentSilent, AgentRefused) as error:
            log.info("socket not taken by the agent", reason=type(error).__name__)
            await _deny(websocket, _LATER)
        else:
            await _close(websocket, code, reason)

    async def _carry(self, websocket: WebSocket, inner: ClientConnection) -> tuple[int, str]:
        """Both ways until one side ends; with what code the platform's is closed."""
        up = asyncio.create_task(_up(websocket, inner), name="relay-up")
        down = asyncio.create_task(_down(inner, websocket), name="relay-down")
        stop = asyncio.create_task(self._stopping.wait(), name="relay-stop")
        tasks = {up, down, stop}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._stopping.is_set():
            return RESTARTING, come_back()
        for task in (up, down):
            if not task.cancelled():
                task.result()
        # Known when the agent ended it; 1005 and 1006 are no codes to say.
        code = inner.close_code or TRY_LATER
        is_word = code in _ADAPTERS or code in (RESTARTING, TRY_LATER)
        return (code if is_word else TRY_LATER), ""

    def _count(self) -> None:
        OPEN.set(self._open.total())
        if self._open:
            self._empty.clear()
        else:
            self._empty.set()


class Meter:
    """How much one socket has said in this second."""

    def __init__(self) -> None:
        self._began = 0.0
        self._frames = 0
        self._bytes = 0

    def pause_s(self, size: int, *, now: float) -> float:
        """How long to wait before the next is read, after one of this size."""
        if now - self._began >= 1.0:
            self._began, self._frames, self._bytes = now, 0, 0
        self._frames += 1
        self._bytes += size
        if self._frames < MAX_FRAMES_PER_S and self._bytes < MAX_BYTES_PER_S:
            return 0.0
        return self._began + 1.0 - now


async def _up(websocket: WebSocket, inner: ClientConnection) -> None:
    """What the platform says; each frame is taken before the next is read."""
    meter, clock = Meter(), asyncio.get_running_loop().time
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        frame: str | bytes = message["bytes"] if text is None else text
        try:
            await inner.send(frame)
        except ConnectionClosed:
            return
        await asyncio.sleep(meter.pause_s(len(frame), now=clock()))


async def _down(inner: ClientConnection, websocket: WebSocket) -> None:
    """What the adapter says."""
    while True:
        try:
            frame = await inner.recv()
        except ConnectionClosed:
            return
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                if isinstance(frame, str):
                    await websocket.send_text(frame)
                else:
                    await websocket.send_bytes(frame)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            return


async def _accepted(websocket: WebSocket) -> bool:
    try:
        await websocket.accept()
    except (OSError, WebSocketDisconnect):
        # The server's and Starlette's words for a client that did not wait.
        log.debug("client left during the handshake")
        return False
    return True


async def _deny(websocket: WebSocket, error: BotyardError) -> None:
    try:
        await websocket.send_denial_response(problem_response(error))
    except (OSError, RuntimeError, WebSocketDisconnect):
        log.debug("client left during the handshake")


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    try:
        await websocket.close(code, reason)
    except (RuntimeError, WebSocketDisconnect):
        log.debug("socket was gone already")
