"""A stand-in of WeCom customer service: a list that is pulled, a bell, and sessions.

What customers say lies in a list for three days; a call to the address says that there is more. It
shows what the platform shows, and refuses what it refuses: a sixth message, a send in a session
that somebody else has, a cursor it does not know, pulls without a token that come too often.
"""

import itertools
import json
import re
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapters.simulators.platform import Line
from adapters.simulators.wecom_company import (
    MAX_TEXT_BYTES,
    MEDIA,
    Company,
    CutOff,
    Faults,
    Handler,
    Refusal,
    Seen,
    content_of,
)

ROWS_LIVE_S = 3 * 86_400
HINT_LIFE_S = 600
WELCOME_LIFE_S = 20
REPLY_WITHIN_S = 48 * 3600
MAX_REPLIES = 5
MAX_LIMIT = 1000
UNTREATED, ASSISTANT, WAITING, PERSON, OVER = range(5)
# Where a session may go from each state; one that is over begins again when its customer writes.
_MOVES = {
    UNTREATED: {ASSISTANT, WAITING, PERSON, OVER},
    ASSISTANT: {ASSISTANT, WAITING, PERSON, OVER},
    WAITING: {WAITING, PERSON, OVER},
    PERSON: {PERSON, OVER},
    OVER: set(),
}
_ID = re.compile(r"[0-9a-zA-Z_-]{1,32}")


@dataclass(kw_only=True)
class PullFaults(Faults):
    """What goes wrong besides, or otherwise than we would like."""

    sends_too_often: int = 0
    unasked_per_minute: int = 10
    """Pulls without a token that are answered."""
    page_rows: int = 70
    """Rows that a page has at most, whatever is asked for."""
    stuck: int = 0
    """Pages that say there is more and do not go on."""
    quiet: int = 0
    """Calls that are not made though there is something."""


@dataclass(kw_only=True)
class Customer:
    """A session, and what may be said in it."""

    state: int = UNTREATED
    said_at: float = 0.0
    replies: int = 0


class WeComKf(Company):
    """The platform as one account, its customers and its colleagues know it."""

    faults: PullFaults

    def __init__(
        self, *, open_kfid: str = "wkAJ2GCAAASSm4FhToWMFea0xAFfd3Q", **company: Any
    ) -> None:
        super().__init__(**company)
        self.faults = PullFaults()
        self.open_kfid = open_kfid
        self.others: list[str] = []
        """More accounts that the same application may speak for."""
        self.customers: dict[str, Customer] = {}
        self.rows: list[dict[str, Any]] = []
        self._cursors: dict[str, int] = {}
        self._passed = 0
        self._hints: dict[str, float] = {}
        self._welcomes: dict[str, tuple[str, float]] = {}
        self._sent: set[str] = set()
        self._unasked: deque[float] = deque()
        self._numbers = itertools.count(4_622_416_642_169_452_483)

    @property
    def settings(self) -> dict[str, Any]:
        return super().settings | {"open_kfid": self.open_kfid}

    # --- the API ---

    def api(self) -> dict[str, tuple[str, Handler]]:
        return super().api() | {
            "kf/account/list": ("POST", self._list_accounts),
            "kf/sync_msg": ("POST", self._sync),
            "kf/send_msg": ("POST", self._send),
            "kf/send_msg_on_event": ("POST", self._send_on_event),
            "kf/service_state/get": ("POST", self._get_state),
            "kf/service_state/trans": ("POST", self._move),
        }

    async def _list_accounts(self, request: Request) -> Response:
        asked = await self._asked(request)
        found = [self.open_kfid, *self.others]
        start = asked.get("offset", 0)
        named = [
            {"open_kfid": each, "name": f"客服{number}", "avatar": ""}
            for number, each in enumerate(found[start : start + asked.get("limit", 100)], start)
        ]
        return JSONResponse({"errcode": 0, "errmsg": "ok", "account_list": named})

    async def _sync(self, request: Request) -> Response:
        asked = await self._asked(request)
        account, cursor = asked.get("open_kfid", ""), asked.get("cursor", "")
        self._known(account)
        self._may_pull(asked.get("token", ""))
        if cursor and cursor not in self._cursors:
            raise Refusal(40058, "invalid cursor")
        start = self._cursors[cursor] if cursor else self._oldest()
        limit = asked.get("limit", MAX_LIMIT)
        if not 0 < limit <= MAX_LIMIT:
            raise Refusal(40058, "invalid limit")
        self._passed = max(self._passed, start) if cursor else self._passed
        end = min(start + min(limit, self.faults.page_rows), len(self.rows))
        found = [row for row in self.rows[start:end] if row["open_kfid"] == account]
        answer = {"errcode": 0, "errmsg": "ok", "msg_list": found}
        if self._strikes("stuck"):
            answer |= {"next_cursor": cursor, "has_more": 1}
        else:
            more = int(end < len(self.rows))
            answer |= {"next_cursor": self._cursor(end), "has_more": more}
        # In ASCII: what a customer typed may be half a character.
        return Response(json.dumps(answer), media_type="application/json")

    def _may_pull(self, hint: str) -> None:
        now = self._clock()
        if hint:
            if now >= self._hints.get(hint, 0.0):
                raise Refusal(95007, "invalid msg token")
            return
        while self._unasked and now - self._unasked[0] >= 60:
            self._unasked.popleft()
        if len(self._unasked) >= self.faults.unasked_per_minute:
            raise Refusal(45009, "api freq out of limit")
        self._unasked.append(now)

    def _oldest(self) -> int:
        now = self._clock()
        lives = (i for i, row in enumerate(self.rows) if now - row["send_time"] < ROWS_LIVE_S)
        return next(lives, len(self.rows))

    def _cursor(self, index: int) -> str:
        cursor = secrets.token_urlsafe(24)
        self._cursors[cursor] = index
        return cursor

    async def _send(self, request: Request) -> Response:
        asked = await self._asked(request)
        if self._strikes("sends_too_often"):
            raise Refusal(45009, "api freq out of limit")
        self._known(asked.get("open_kfid", ""))
        user, message_id = asked.get("touser", ""), asked.get("msgid") or secrets.token_hex(16)
        if not isinstance(message_id, str) or not _ID.fullmatch(message_id):
            raise Refusal(40058, "invalid msgid")
        customer = self._customer(user)
        answer = {"errcode": 0, "errmsg": "ok", "msgid": message_id}
        if message_id in self._sent:
            return JSONResponse(answer)
        payload = self._payload(asked)
        self._may_say(customer)
        customer.replies += 1
        self._sent.add(message_id)
        self.seen.append(Seen(user=user, msgtype=asked["msgtype"], payload=payload, id=message_id))
        await self._shown()
        if self._strikes("drop_reply"):
            raise CutOff
        return JSONResponse(answer)

    def _may_say(self, customer: Customer) -> None:
        if customer.state == OVER:
            raise Refusal(95013, "conversation end")
        if customer.state not in (UNTREATED, ASSISTANT):
            raise Refusal(95018, "send msg session status invalid")
        if self._clock() - customer.said_at > REPLY_WITHIN_S:
            raise Refusal(95002, "send msg time limit")
        if customer.replies >= MAX_REPLIES:
            raise Refusal(95001, "send msg count limit")

    async def _send_on_event(self, request: Request) -> Response:
        asked = await self._asked(request)
        user, until = self._welcomes.pop(asked.get("code", ""), ("", 0.0))
        if self._clock() >= until:
            raise Refusal(40058, "invalid code")
        if asked.get("msgtype") not in ("text", "msgmenu"):
            raise Refusal(40008, "invalid message type")
        seen = Seen(user=user, msgtype=asked["msgtype"], payload=self._payload(asked), id="welcome")
        self.seen.append(seen)
        await self._shown()
        return JSONResponse({"errcode": 0, "errmsg": "ok", "msgid": seen.id})

    async def _get_state(self, request: Request) -> Response:
        asked = await self._asked(request)
        self._known(asked.get("open_kfid", ""))
        state = self._customer(asked.get("external_userid", "")).state
        return JSONResponse({"errcode": 0, "errmsg": "ok", "service_state": state})

    async def _move(self, request: Request) -> Response:
        asked = await self._asked(request)
        self._known(asked.get("open_kfid", ""))
        customer = self._customer(asked.get("external_userid", ""))
        if asked.get("service_state") not in _MOVES[customer.state]:
            raise Refusal(95018, "session status invalid")
        customer.state = asked["service_state"]
        return JSONResponse({"errcode": 0, "errmsg": "ok"})

    def _payload(self, asked: dict[str, Any]) -> dict[str, Any]:
        msgtype = asked.get("msgtype")
        payload = asked.get(msgtype) if isinstance(msgtype, str) else None
        if not isinstance(payload, dict):
            raise Refusal(40008, "invalid message type")
        if msgtype == "text":
            if len(content_of(payload).encode()) > MAX_TEXT_BYTES:
                raise Refusal(45002, "content size out of limit")
        elif msgtype in MEDIA:
            self._medium(payload.get("media_id"), msgtype)
        elif msgtype == "link":
            self._medium(payload.get("thumb_media_id"), "image")
        elif msgtype == "location":
            if not all(isinstance(payload.get(name), float) for name in ("latitude", "longitude")):
                raise Refusal(40058, "a location needs latitude and longitude")
        elif msgtype != "msgmenu":
            raise Refusal(40008, "invalid message type")
        return payload

    def _known(self, open_kfid: Any) -> None:
        if open_kfid not in (self.open_kfid, *self.others):
            raise Refusal(95000, "invalid open_kfid")

    def _customer(self, user: Any) -> Customer:
        if user not in self.customers:
            raise Refusal(40003, "invalid external_userid")
        return self.customers[user]

    # --- what happens ---

    async def bring(self, line: Line) -> bool:
        """A customer says something; the platform knows neither groups nor quotes here."""
        media = {"image": line.picture, "voice": line.voice, "file": line.file}
        for kind, body in media.items():
            if body:
                payload = {"media_id": self.keep(kind, body, name=line.name)}
                self.put(line.user, kind, payload, message_id=line.id)
                return await self.ring()
        return await self.say(line.user, line.text, message_id=line.id)

    async def say(self, user: str, text: str, *, message_id: str = "") -> bool:
        """A customer writes; whether the call was answered well."""
        self.put(user, "text", {"content": text}, message_id=message_id)
        return await self.ring()

    async def burst(self, user: str, texts: Sequence[str]) -> bool:
        """All of it behind one call."""
        for text in texts:
            self.put(user, "text", {"content": text})
        return await self.ring()

    def put(
        self,
        user: str,
        kind: str,
        payload: dict[str, Any],
        *,
        message_id: str = "",
        origin: int = 3,
    ) -> str:
        """Into the list, without a call; its id."""
        customer = self.customers.setdefault(user, Customer())
        if origin == 3:
            customer.said_at, customer.replies = self._clock(), 0
            customer.state = UNTREATED if customer.state == OVER else customer.state
        return self.add(
            {"external_userid": user, "origin": origin, "msgtype": kind, kind: payload},
            message_id=message_id,
        )

    def event(self, kind: str, user: str, **more: Any) -> str:
        """Something happened, and lies in the list too."""
        event = {"event_type": kind, "open_kfid": self.open_kfid, "external_userid": user, **more}
        return self.add({"origin": 4, "msgtype": "event", "event": event})

    def add(self, row: dict[str, Any], *, message_id: str = "", open_kfid: str = "") -> str:
        message_id = message_id or f"msg_{next(self._numbers)}"
        head = {"msgid": message_id, "open_kfid": open_kfid or self.open_kfid}
        self.rows.append(head | {"send_time": int(self._clock())} | row)
        return message_id

    async def ring(self, open_kfid: str = "") -> bool:
        """Call the address, if there is one; a call that gets lost is nobody's fault."""
        if self._strikes("quiet") or not self.callback_url:
            return False
        return await self.call(self.hint(open_kfid))

    def hint(self, open_kfid: str = "") -> dict[str, str]:
        """What a call says, with a token that pulls are answered for."""
        token = f"ENC{secrets.token_urlsafe(24)}"
        self._hints[token] = self._clock() + HINT_LIFE_S
        return {
            "ToUserName": self.corp_id,
            "CreateTime": str(int(self._clock())),
            "MsgType": "event",
            "Event": "kf_msg_or_event",
            "Token": token,
            "OpenKfId": open_kfid or self.open_kfid,
        }

    async def enter(self, user: str) -> bool:
        """A customer opens the talk who has not written for two days."""
        self.customers.setdefault(user, Customer())
        code = secrets.token_urlsafe(16)
        self._welcomes[code] = (user, self._clock() + WELCOME_LIFE_S)
        self.event("enter_session", user, scene="123", welcome_code=code)
        return await self.ring()

    def take(self, user: str) -> None:
        """A colleague in WeCom takes the session."""
        self.customers[user].state = PERSON
        self.event("session_status_change", user, change_type=1, new_servicer_userid="lisi")

    def end(self, user: str) -> None:
        """A colleague ends it."""
        self.customers[user].state = OVER
        self.event("session_status_change", user, change_type=3, old_servicer_userid="lisi")

    # --- for tests, and for people who play a customer ---

    @property
    def unacknowledged(self) -> int:
        """Rows that no pull has gone on behind."""
        return len(self.rows) - self._passed

    def forget_cursors(self) -> None:
        """As after a move to another house: every cursor is one that nobody gave."""
        self._cursors.clear()

    def limit(self, calls: int) -> None:
        self.faults.sends_too_often = calls


PLATFORM = WeComKf
