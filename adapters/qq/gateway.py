"""One connection to QQ's gateway: what is said when, and what an end means; pure.

A session goes on over many connections. What of it is safe is a number: what came behind it, the
platform says again to whoever resumes there. So neither a heartbeat nor a resume ever names a
number that is not safe yet.
"""

from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from adapters.qq.callback import Call

HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID, HELLO, BEAT_HEARD = 1, 2, 6, 7, 9, 10, 11
DISPATCH = 0

Action = Literal["resume", "identify", "refresh_then_resume", "backoff_then_resume", "stop"]

_CODES: dict[int, Action] = {
    4001: "stop",
    4002: "stop",
    4004: "refresh_then_resume",
    4006: "identify",
    4007: "identify",
    4008: "backoff_then_resume",
    4009: "resume",
    4010: "stop",
    4011: "stop",
    4012: "stop",
    4013: "stop",
    4014: "stop",
    4914: "stop",
    4915: "stop",
}
_INTERNAL = range(4900, 4914)
# Seconds between two heartbeats that make sense; the platform asks for some forty.
_SHORTEST_S, _LONGEST_S = 1.0, 300.0


class Session(NamedTuple):
    """A session of the platform, and the number behind which all is safe."""

    id: str
    seq: int


class Step(NamedTuple):
    """What a frame calls for."""

    send: dict[str, Any] | None = None
    heard: Call | None = None
    ends: Action | None = None


class _Place(Struct):
    app: str
    session: str
    seq: int


def after_close(code: int) -> Action:
    """What to do behind a close code; whatever is not listed was the network."""
    return _CODES.get(code, "identify" if code in _INTERNAL else "resume")


class Conversation:
    """One connection, from its first frame on."""

    def __init__(self, *, token: str, intents: int, session: Session | None) -> None:
        self._token = f"QQBot {token}"
        self._intents = intents
        self._session_id = session.id if session else ""
        self._safe = session.seq if session else None
        self._resuming = session is not None
        self.state: Literal["connecting", "waiting", "ready"] = "connecting"
        self.interval_s = 0.0
        self.unanswered = False
        self.self_id = ""

    @property
    def session(self) -> Session | None:
        """What can be resumed."""
        return Session(self._session_id, self._safe or 0) if self._session_id else None

    def take(self, call: Call) -> Step:
        """What a frame calls for; frames that make no sense call for nothing."""
        match call.op:
            case 10 if self.state == "connecting":
                return self._hello(call)
            case 0:
                return self._heard(call)
            case 1:
                return Step(send=self.beat())
            case 11:
                self.unanswered = False
                return Step()
            case 7:
                return Step(ends="resume")
            case 9:
                return Step(ends="resume" if call.d is True else "identify")
            case _:
                return Step()

    def beat(self) -> dict[str, Any]:
        """A heartbeat with the last safe number."""
        return {"op": HEARTBEAT, "d": self._safe}

    def settle(self, seq: int) -> None:
        """All up to this number is safe; never lower."""
        self._safe = max(self._safe or 0, seq)

    def _hello(self, call: Call) -> Step:
        asked = call.d.get("heartbeat_interval") if isinstance(call.d, dict) else None
        if not isinstance(asked, int | float) or isinstance(asked, bool):
            return Step(ends="resume")
        self.interval_s = min(max(asked / 1000, _SHORTEST_S), _LONGEST_S)
        self.state = "waiting"
        if self._resuming:
            d: dict[str, Any] = {
                "token": self._token,
                "session_id": self._session_id,
                "seq": self._safe,
            }
            return Step(send={"op": RESUME, "d": d})
        d = {"token": self._token, "intents": self._intents, "shard": [0, 1], "properties": {}}
        return Step(send={"op": IDENTIFY, "d": d})

    def _heard(self, call: Call) -> Step:
        if self.state == "connecting":
            return Step()
        if call.t == "READY" and isinstance(call.d, dict):
            session_id = call.d.get("session_id")
            if not isinstance(session_id, str) or not session_id:
                return Step(ends="identify")
            self._session_id, self._safe, self.state = session_id, None, "ready"
            user = call.d.get("user")
            self.self_id = str(user.get("id", "")) if isinstance(user, dict) else ""
        elif call.t == "RESUMED":
            self.state = "ready"
        return Step(heard=call)


def position(app_id: str, session: Session) -> str:
    """Where the platform goes on, as our host keeps it."""
    return msgspec.json.encode(_Place(app_id, session.id, session.seq)).decode()


def read_position(text: str | None, app_id: str) -> Session | None:
    """None at the beginning, for another bot's, and for what cannot be read."""
    if not text:
        return None
    try:
        place = msgspec.json.decode(text, type=_Place)
    except (msgspec.MsgspecError, ValueError):
        return None
    if place.app != app_id or not place.session or place.seq < 0:
        return None
    return Session(place.session, place.seq)
