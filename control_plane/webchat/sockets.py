"""A visitor's socket: what they write goes up like any platform's callback, answers come down.

A page resumes by the id of the last message it saw; the rows, not the socket, are the truth. A
message is acknowledged only after the callback path has taken it, so the page repeats what was
not, and repeats are recognised by the page's own id.
"""

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

import msgspec
import structlog
from prometheus_client import Gauge
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters import standard_webhooks
from adapters.model import Image, RawCallback, Ref, Segment, Text
from adapters.webchat import callback
from adapters.webchat.settings import Settings
from control_plane.access.http import House, is_ours
from control_plane.access.limits import Charge
from control_plane.channels.callbacks import Callbacks
from control_plane.channels.settings import unseal
from control_plane.conversations import service as conversations
from control_plane.conversations.models import Owner
from control_plane.conversations.segments import encode
from control_plane.db.session import DATABASE_ERRORS, Database, Scope
from control_plane.kit import tracing
from control_plane.kit.backoff import come_back
from control_plane.kit.errors import BotyardError
from control_plane.kit.ids import fingerprint, new_id, new_token
from control_plane.media import links, refs
from control_plane.routing import ratings
from control_plane.routing.ratings import Question
from control_plane.tenants import service as tenants
from control_plane.webchat import frames, pictures, store
from control_plane.webchat.frames import BadFrame, Frame, Picture, Resume, Write
from control_plane.webchat.lookout import Lookout, Page
from control_plane.webchat.models import Welcome
from control_plane.webchat.store import Place

# Visitors connected to one process; past that they are told to come back.
MAX_SOCKETS = 10_000
# A page that takes longer than this to take a frame is cut; it resumes.
SEND_WITHIN_S = 20.0
# Between looks for a stranger's first word in another of their tabs, should its hint be lost.
_STRANGER_POLL_S = 30.0
# Between looks for what became of the tenant and the channel, should a hint be lost.
_TENANT_POLL_S = 60.0
# Own messages remembered to be not echoed to the page that wrote them.
_MAX_OWN = 500

WRONG_ORIGIN = 4403
UNKNOWN_CHANNEL = 4404
CHANNEL_ENDED = 4410
RESTARTING = 1012
TRY_LATER = 1013

OPEN = Gauge("botyard_webchat_sockets", "Visitors connected to this process.")

log = structlog.get_logger()


@dataclass(kw_only=True)
class Guest:
    """One connected page."""

    token: str
    place: Place
    settings: Settings
    secret: str = ""
    visitor: UUID | None = None
    seq: int = 0
    owner: tuple[str, int] | None = None
    question: UUID | None = None
    own: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_OWN))

    @property
    def scope(self) -> Scope:
        return Scope(tenants=(self.place.tenant_id,))


class Closed(Exception):
    """Close the socket with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Sockets:
    """Serves visitors' sockets."""

    def __init__(self, house: House, callbacks: Callbacks) -> None:
        self._house = house
        self._callbacks = callbacks
        self._lookout = Lookout(house.database)
        self._open = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask every page to come back to another process."""
        self._stopping.set()

    async def serve(self, socket: WebSocket, token: str) -> None:
        """One page, from its connect to its end."""
        await socket.accept()
        self._open += 1
        OPEN.set(self._open)
        try:
            if self._stopping.is_set():
                raise Closed(RESTARTING, come_back())
            if self._open > MAX_SOCKETS:
                raise Closed(TRY_LATER, "busy")
            guest = await self._enter(token)
            self._welcome_from(socket, guest)
            await self._talk(socket, guest)
        except Closed as closed:
            await _close(socket, closed)
        except WebSocketDisconnect:
            log.debug("page left")
        except DATABASE_ERRORS as error:
            log.warning("socket lost the database", error=type(error).__name__)
            await _close(socket, Closed(TRY_LATER, "try again later"))
        finally:
            self._open -= 1
            OPEN.set(self._open)

    async def _enter(self, token: str) -> Guest:
        database: Database = self._house.database
        async with database.session() as session:
            place = await store.find_place(session, token, "callback")
        if place is None:
            raise Closed(UNKNOWN_CHANNEL, "unknown channel")
        async with database.session(Scope(tenants=(place.tenant_id,))) as session:
            chat = await store.find_channel(session, place.channel_id)
        if chat is None:
            raise Closed(UNKNOWN_CHANNEL, "unknown channel")
        settings = Settings.model_validate(chat.shown | unseal(self._house.keys, chat.sealed))
        return Guest(token=token, place=place, settings=settings)

    def _welcome_from(self, socket: WebSocket, guest: Guest) -> None:
        """Only our own page and the sites that the channel names; a program names none."""
        origin, allowed = socket.headers.get("origin"), guest.settings.allowed_origins
        if origin is None or not allowed or origin in allowed:
            return
        if not is_ours(origin, self._house.public_url, socket.headers):
            raise Closed(WRONG_ORIGIN, "this site may not show the chat")

    async def _talk(self, socket: WebSocket, guest: Guest) -> None:
        """Listen until the page says who it is, then listen and tell at the same time."""
        first = await self._receive(socket)
        while first is None:
            first = await self._receive(socket)
        resume = first if isinstance(first, Resume) else Resume()
        await self._welcome(socket, guest, resume)
        if not isinstance(first, Resume):
            await self._heard(socket, guest, first)
        tasks = [
            asyncio.create_task(self._listen(socket, guest)),
            asyncio.create_task(self._tell(socket, guest)),
            asyncio.create_task(self._watch(socket, guest)),
            asyncio.create_task(self._end()),
        ]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            task.result()

    async def _watch(self, socket: WebSocket, guest: Guest) -> None:
        """Tell the page when the tenant rests and when it is back; end when the channel does."""
        paused = False
        with self._house.bus.listen(tenants.topic(guest.place.tenant_id)) as wake:
            while True:
                async with self._house.database.session(guest.scope) as session:
                    chat = await store.find_channel(session, guest.place.channel_id)
                if chat is None:
                    raise Closed(CHANNEL_ENDED, "the channel has ended")
                if chat.paused != paused:
                    paused = chat.paused
                    await _send(socket, {"type": "service", "paused": paused})
                await wake.wait(_TENANT_POLL_S)

    async def _end(self) -> None:
        await self._stopping.wait()
        raise Closed(RESTARTING, come_back())

    async def _receive(self, socket: WebSocket) -> Frame | None:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        try:
            return frames.read(message.get("text") or message.get("bytes") or "")
        except BadFrame as bad:
            error = {"type": "error", "code": bad.code, "detail": bad.detail}
            await _send(socket, error | ({"id": bad.message_id} if bad.message_id else {}))
            return None

    async def _welcome(self, socket: WebSocket, guest: Guest, resume: Resume) -> None:
        guest.secret = resume.visitor or new_token()
        messages = []
        reset = resume.last_id is None
        async with self._house.database.session(guest.scope) as session:
            visitor = await store.find_visitor(session, guest.place.channel_id, guest.secret)
            if visitor is not None:
                guest.seq, reset = await store.position(session, visitor, resume.last_id)
                messages = await store.behind(session, visitor, guest.seq)
                guest.visitor = visitor
        if messages:
            guest.seq = messages[-1][0]
        await _send(
            socket,
            Welcome(
                visitor=guest.secret,
                messages=[shown for _, shown in messages],
                reset=reset,
                title=guest.settings.title,
                greeting=guest.settings.greeting,
                accent=guest.settings.accent,
            ),
        )

    async def _listen(self, socket: WebSocket, guest: Guest) -> None:
        while True:
            frame = await self._receive(socket)
            if frame is not None:
                await self._heard(socket, guest, frame)

    async def _heard(self, socket: WebSocket, guest: Guest, frame: Frame) -> None:
        if isinstance(frame, Resume):
            error = {"type": "error", "code": "resume_twice", "detail": "Reconnect to resume."}
            return await _send(socket, error)
        if await self._too_fast(socket, guest, frame):
            return None
        try:
            if isinstance(frame, Picture):
                return await self._make_room(socket, guest, frame)
            with tracing.span("visitor's message"):
                return await self._take(socket, guest, frame)
        except BotyardError as error:
            refusal = {"type": "error", "code": error.code, "detail": error.detail}
            return await _send(socket, refusal | {"id": frame.id})

    async def _make_room(self, socket: WebSocket, guest: Guest, frame: Picture) -> None:
        """Say where the page sends its picture's bytes."""
        now = self._house.clock.now()
        async with self._house.database.session(guest.scope) as session:
            visitor = await store.ensure_visitor(session, guest.place, guest.secret, now=now)
            media = await pictures.reserve(
                session, guest.place, visitor, key=frame.id, size=frame.size, now=now
            )
        guest.visitor = visitor
        link = links.make(
            self._house.keys,
            "upload",
            tenant_id=guest.place.tenant_id,
            media_id=media.id,
            now=now,
        )
        room = {"type": "upload", "id": frame.id, "media_id": str(media.id), "url": link.path}
        await _send(socket, room)

    async def _take(self, socket: WebSocket, guest: Guest, frame: Write) -> None:
        """Keep what the visitor wrote, pass it up, and acknowledge when it is safe."""
        now = self._house.clock.now()
        key = store.from_visitor(frame.id)
        text = frame.text.replace("\0", "\ufffd") if frame.text.strip() else ""
        async with self._house.database.session(guest.scope) as session:
            visitor = await store.ensure_visitor(session, guest.place, guest.secret, now=now)
            if frame.picture is not None:
                await pictures.check(session, visitor, frame.picture)
            guest.own.append(frame.id)
            message_id = await store.add(
                session,
                guest.place,
                visitor,
                key=key,
                sender=("visitor", ""),
                segments=encode(_segments(text, frame.picture)),
                now=now,
            )
        guest.visitor = visitor
        body: dict[str, object] = {
            "type": "message",
            "visitor": {"id": str(visitor)},
            "id": frame.id,
            "text": text,
            "at": now.timestamp(),
        }
        if frame.picture is not None:
            body["picture"] = str(frame.picture)
        try:
            answer = await self._callbacks.accept(guest.token, self._request(guest, body))
        except BotyardError as error:
            log.info("visitor's message not taken", code=error.code)
            raise Closed(TRY_LATER, "try again later") from None
        reply: dict[str, object] = {"type": "ack", "id": frame.id, "message_id": str(message_id)}
        if answer.status >= 400:
            reply = {"type": "error", "id": frame.id, "code": "refused", "detail": "Not taken."}
        await _send(socket, reply)

    async def _too_fast(self, socket: WebSocket, guest: Guest, frame: Write | Picture) -> bool:
        """Whether the visitor writes faster than they may; the page repeats it after the pause."""
        whose = f"{guest.place.channel_id}:{fingerprint(guest.secret).hex()}"
        charge = Charge("visitor", whose, self._house.rates.visitor)
        verdict = await self._house.limiter.take([charge])
        if not verdict.allowed:
            error = {"type": "error", "code": "rate_limited", "detail": "Wait, then repeat it."}
            pause_s = math.ceil(verdict.wait_s)
            await _send(socket, error | {"id": frame.id, "retry_after": pause_s})
        return not verdict.allowed

    def _request(self, guest: Guest, body: dict[str, object]) -> RawCallback:
        """The call that a platform elsewhere would make over HTTP, signed in the same way."""
        raw = msgspec.json.encode(body)
        now = self._house.clock.now().timestamp()
        headers = standard_webhooks.sign(
            callback.key(guest.settings),
            message_id=f"msg_{new_id()}",
            timestamp=int(now),
            body=raw,
        )
        return RawCallback(
            method="POST",
            path="/",
            query="",
            headers={**headers, "content-type": "application/json"},
            body=raw,
            received_at=now,
        )

    async def _tell(self, socket: WebSocket, guest: Guest) -> None:
        """Show new messages and who answers, whenever a hint or the lookout says look."""
        visitor_id = await self._visitor(guest)
        told = store.topic(visitor_id)
        owned = conversations.topic(guest.place.channel_id, str(visitor_id))
        place = guest.place
        with self._house.bus.listen(told, owned) as wake:
            page = Page(
                tenant_id=place.tenant_id,
                channel_id=place.channel_id,
                visitor_id=visitor_id,
                shown=guest,
                wake=wake,
            )
            with self._lookout.watching(page):
                while True:
                    if not await self._show_news(socket, guest, visitor_id):
                        await wake.wait(_TENANT_POLL_S)

    async def _visitor(self, guest: Guest) -> UUID:
        """Who this is, as soon as they have written, here or in another tab."""
        with self._house.bus.listen(store.arrival(guest.place.channel_id, guest.secret)) as wake:
            while guest.visitor is None:
                async with self._house.database.session(guest.scope) as session:
                    found = await store.find_visitor(session, guest.place.channel_id, guest.secret)
                if found is not None:
                    return found
                await wake.wait(_STRANGER_POLL_S)
        return guest.visitor

    async def _show_news(self, socket: WebSocket, guest: Guest, visitor_id: UUID) -> bool:
        """Send what is new; whether there may be more."""
        async with self._house.database.session(guest.scope) as session:
            news = await store.behind(session, visitor_id, guest.seq)
            conversation = await conversations.find(
                session, guest.place.channel_id, str(visitor_id)
            )
            question = None
            # It is asked behind an end.
            if conversation is not None and (guest.question or conversation.owner == Owner.CLOSED):
                now = self._house.clock.now()
                question = await ratings.question(session, conversation.id, now=now)
        for seq, shown in news:
            if shown.client_id is None or shown.client_id not in guest.own:
                await _send(socket, shown)
            guest.seq = seq
        if conversation is not None:
            owner = (conversation.owner, conversation.owner_version)
            if owner != guest.owner:
                guest.owner = owner
                await _send(socket, {"type": "state", "owner": conversation.owner})
        await _ask(socket, guest, question)
        return len(news) == store.PAGE


async def _ask(socket: WebSocket, guest: Guest, question: Question | None) -> None:
    """Have the page offer buttons for how it was, or take them away again."""
    asked = question.id if question else None
    if asked == guest.question:
        return
    guest.question = asked
    until = question.expires_at.isoformat() if question else None
    frame = {"type": "question", "id": str(asked) if asked else None, "until": until}
    await _send(socket, frame)


def _segments(text: str, picture: UUID | None) -> list[Segment]:
    said: list[Segment] = []
    if picture is not None:
        said.append(Image(ref=Ref(via=refs.OURS, id=str(picture))))
    return [*said, Text(text=text)] if text else said


async def _send(socket: WebSocket, frame: object) -> None:
    try:
        async with asyncio.timeout(SEND_WITHIN_S):
            await socket.send_text(msgspec.json.encode(frame).decode())
    except TimeoutError:
        raise Closed(TRY_LATER, "too slow") from None
    except RuntimeError:
        # Starlette's word for a socket that closed under us.
        raise WebSocketDisconnect(1006) from None


async def _close(socket: WebSocket, closed: Closed) -> None:
    try:
        await socket.close(closed.code, closed.reason)
    except (RuntimeError, WebSocketDisconnect):
        log.debug("socket was gone already")
