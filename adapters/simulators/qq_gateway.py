"""The gateway of the stand-in of QQ: sessions that go on over many connections.

A session remembers what it said. Whoever resumes it hears all behind the number that it names.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

# What any bot may hear: direct talks and groups, buttons.
ALLOWED = (1 << 25) | (1 << 26)
# Dispatches that a session remembers.
MAX_REMEMBERED = 20_000


@dataclass(eq=False, kw_only=True)
class Session:
    """What one identify opened."""

    id: str
    said: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0
    heard: int = 0
    """The highest number that a heartbeat or a resume named."""
    socket: WebSocket | None = None
    line: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def say(self, t: str, d: Any, id_: str = "") -> bool:
        """Number it, remember it, and hand it over if somebody is there."""
        async with self.line:
            self.number += 1
            frame = {"op": 0, "s": self.number, "t": t, "id": id_ or f"{t}:{self.number}", "d": d}
            self.said.append(frame)
            del self.said[:-MAX_REMEMBERED]
            return await self._hand(frame)

    async def go_on(self, seq: int) -> None:
        """All behind this number again, and then that it is all."""
        async with self.line:
            self.heard = max(self.heard, seq)
            for frame in [each for each in self.said if each["s"] > seq]:
                await self._hand(frame)
            self.number += 1
            await self._hand({"op": 0, "s": self.number, "t": "RESUMED", "d": ""})

    async def _hand(self, frame: dict[str, Any]) -> bool:
        if self.socket is None:
            return False
        try:
            await self.socket.send_text(json.dumps(frame, ensure_ascii=False))
        except (WebSocketDisconnect, RuntimeError):
            self.socket = None
            return False
        return True

    @property
    def waiting(self) -> int:
        """Messages that a resume would bring again."""
        return sum(1 for each in self.said if each["s"] > self.heard and each["t"] != "READY")


class Gateway:
    """Takes connections of one bot."""

    def __init__(self, *, good_token: Callable[[str], bool], heartbeat_ms: int = 41_250) -> None:
        self._good_token = good_token
        self.heartbeat_ms = heartbeat_ms
        self.allowed = ALLOWED
        self.logins_left = 1000
        self.sessions: dict[str, Session] = {}
        self.current: Session | None = None
        self.silent = False
        """Heartbeats are not answered any more."""
        self.greets = True
        """Whether a connection is greeted at all."""
        self.beats: list[int | None] = []
        self.resumed: list[int] = []
        self.identified: list[dict[str, Any]] = []
        self.news = asyncio.Condition()

    @property
    def connected(self) -> bool:
        return self.current is not None and self.current.socket is not None

    async def close(self, code: int = 4009) -> None:
        """End the connection that there is."""
        session = self.current
        if session is not None and session.socket is not None:
            socket, session.socket = session.socket, None
            await socket.close(code)

    async def ask(self, op: int, d: Any = None) -> None:
        """Say something that is no dispatch: 7 connect again, 9 the session is over."""
        if self.current is not None and self.current.socket is not None:
            await self.current.socket.send_text(json.dumps({"op": op, "d": d}))

    def forget(self) -> None:
        """No session can be resumed any more."""
        self.sessions.clear()

    async def until(self, true: Callable[[], bool], *, patience_s: float = 20) -> None:
        async with asyncio.timeout(patience_s), self.news:
            await self.news.wait_for(true)

    async def serve(self, socket: WebSocket) -> None:
        """One connection from beginning to end."""
        await socket.accept()
        if self.greets:
            hello = {"op": 10, "d": {"heartbeat_interval": self.heartbeat_ms}}
            await socket.send_text(json.dumps(hello))
        session: Session | None = None
        try:
            while True:
                frame = json.loads(await socket.receive_text())
                if frame["op"] == 1:
                    await self._beat(socket, session, frame["d"])
                elif session is None and frame["op"] in (2, 6):
                    begin = self._identify if frame["op"] == 2 else self._resume
                    session = await begin(socket, frame["d"])
                    await self._tell()
                else:
                    await socket.close(4001)
                    return
        except (WebSocketDisconnect, RuntimeError):
            return
        except (ValueError, KeyError, TypeError):
            await socket.close(4002)
        finally:
            if session is not None and session.socket is socket:
                session.socket = None
            await self._tell()

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()

    async def _beat(self, socket: WebSocket, session: Session | None, number: int | None) -> None:
        self.beats.append(number)
        if session is not None and number is not None:
            session.heard = max(session.heard, number)
        if not self.silent:
            await socket.send_text('{"op":11}')
        await self._tell()

    async def _identify(self, socket: WebSocket, d: dict[str, Any]) -> Session | None:
        if not self._good_token(d["token"]):
            await socket.close(4004)
            return None
        if d["intents"] & ~self.allowed:
            await socket.close(4014)
            return None
        if d["shard"] != [0, 1]:
            await socket.close(4010)
            return None
        self.identified.append(d)
        self.logins_left -= 1
        # A bot has one connection here: the former one is let go.
        await self.close(4009)
        session = Session(id=secrets.token_hex(16), socket=socket)
        self.sessions[session.id] = self.current = session
        user = {"id": "9001", "username": "客服", "bot": True}
        ready = {"version": 1, "session_id": session.id, "user": user, "shard": [0, 1]}
        await session.say("READY", ready)
        return session

    async def _resume(self, socket: WebSocket, d: dict[str, Any]) -> Session | None:
        if not self._good_token(d["token"]):
            await socket.close(4004)
            return None
        session = self.sessions.get(d["session_id"])
        if session is None:
            await socket.send_text('{"op":9,"d":false}')
            return None
        if not 0 <= d["seq"] <= session.number:
            await socket.close(4007)
            return None
        self.resumed.append(d["seq"])
        await self.close(4009)
        session.socket, self.current = socket, session
        await session.go_on(d["seq"])
        return session
