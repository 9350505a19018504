"""Sockets and event streams of a tenant's people, from the first frame to the reason of their end.

No connection has a task of its own besides the one that listens to it: what goes out is written
by the feed, and one loop for all of them looks at tokens that end and at people who left.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from uuid import UUID

import msgspec
import structlog
from prometheus_client import Gauge

from control_plane.access import standing, tokens
from control_plane.access.http import House, load_actor
from control_plane.access.limits import Charge
from control_plane.access.permissions import Actor
from control_plane.access.standing import SignIn
from control_plane.bus.hints import Wake
from control_plane.db.session import Scope
from control_plane.kit.backoff import come_back
from control_plane.kit.errors import (
    BadRequest,
    BotyardError,
    Forbidden,
    TooMany,
    Unauthorized,
    Unavailable,
)
from control_plane.kit.metrics import LOOP_FAILURES, LOOP_SUCCESS
from control_plane.realtime import events, notes
from control_plane.realtime.feed import Ended, Listener, seeing
from control_plane.realtime.frames import Form, Position, Resume
from control_plane.realtime.limits import SocketLimits
from control_plane.realtime.notes import Note
from control_plane.realtime.outlet import (
    FORBIDDEN,
    MALFORMED,
    RESTARTING,
    TOO_MANY,
    TRY_LATER,
    UNAUTHORIZED,
    Outlet,
)
from control_plane.realtime.rooms import Room, Rooms
from control_plane.routing import members

# Seconds between looks for tokens that ended and for entries whose hints were lost; with the time
# that a look takes, less than two.
POLL_S = 1.5
# Seconds between looks at everybody's standing, should a hint be lost; at least, and at most.
CHECK_S = 30.0
_CHECK_PAUSE_S = 1.0
# People of one statement.
_CHUNK = 500
# Seconds that ending rooms get.
_STOP_WITHIN_S = 5.0

_CODES: dict[type[BotyardError], int] = {
    BadRequest: MALFORMED,
    Unauthorized: UNAUTHORIZED,
    Forbidden: FORBIDDEN,
    TooMany: TOO_MANY,
}

OPEN = Gauge("botyard_realtime_connections", "People's sockets and event streams.")

log = structlog.get_logger()


@dataclass(eq=False, kw_only=True, slots=True)
class Connection:
    """One socket or event stream of somebody who has proved who they are."""

    who: SignIn
    expires_at: float
    listener: Listener

    @property
    def outlet(self) -> Outlet:
        return self.listener.outlet

    def heed(self, who: SignIn) -> None:
        """Somebody is now this; from here on they see what that may see."""
        self.who = who
        self.listener.sight = seeing(
            self.listener.sight.form, who.actor.permissions, who.actor.masked
        )

    def show(self, payload: bytes) -> None:
        self.outlet.push(self.listener.sight.form(payload, None))


class Connections:
    """Everybody who is connected to this process; as a part, it watches over them."""

    name = "realtime"

    def __init__(
        self,
        house: House,
        limits: SocketLimits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.house = house
        self._limits = limits
        self._monotonic = monotonic
        self._rooms = Rooms(house.database, house.bus, standing_changed=self._tenant_changed)
        self._open: set[Connection] = set()
        self._places: Counter[tuple[str, object]] = Counter()
        self._wake = Wake()
        self._stopping = False

    async def run(self) -> None:
        """Look after everybody until stopped, then ask them to come back elsewhere."""
        bus = self.house.bus
        polled = checked = self._monotonic()
        due = False
        with bus.listen(tokens.ENDED) as self._wake, bus.hear(self._heard):
            while not self._stopping:
                due = await self._wake.wait(max(0.0, polled + POLL_S - self._monotonic())) or due
                now = self._monotonic()
                self._end_expired()
                try:
                    if now - polled >= POLL_S:
                        polled = now
                        await self._rooms.poll()
                    since = now - checked
                    if since >= CHECK_S or (due and since >= _CHECK_PAUSE_S):
                        await self._check(tuple(self._open))
                        due, checked = False, now
                    LOOP_SUCCESS.labels(self.name).set_to_current_time()
                except Exception as error:  # it outlives whatever the database does
                    LOOP_FAILURES.labels(self.name).inc()
                    log.warning("connections not looked after", error=type(error).__name__)
        for connection in tuple(self._open):
            connection.outlet.close(RESTARTING, come_back())
        await self._rooms.stopped(_STOP_WITHIN_S)

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    @contextmanager
    def arrival(self, address: str) -> Iterator[None]:
        """A place for somebody who has not said who they are; raises TooMany, Unavailable."""
        if self._stopping:
            raise Unavailable("restarting", "This process is about to stop.")
        limits = self._limits
        with (
            self._place("total", "", limits.total),
            self._place("address", address, limits.per_address),
        ):
            yield

    async def prove(self, token: str) -> tuple[SignIn, float]:
        """Who has this token, and when it ends; raises Unauthorized, Forbidden."""
        now = self.house.clock.now()
        claims = tokens.read_access(self.house.keys, token, now=now)
        family_id = UUID(claims["sid"])
        async with self.house.database.session() as session:
            actor = await load_actor(
                session,
                identity_id=UUID(claims["sub"]),
                tenant_id=UUID(claims["tid"]) if claims.get("tid") else None,
                family_id=family_id,
            )
            if actor.member_id is not None:
                await members.seen(session, [actor.member_id], now)
        check_standing(actor)
        return SignIn(actor=actor, family_id=family_id), claims["exp"]

    @asynccontextmanager
    async def join(self, connection: Connection, resume: Resume | None) -> AsyncIterator[None]:
        """Let somebody listen: what they missed, who is here, and then what happens."""
        actor, listener = connection.who.actor, connection.listener
        tenant = self._place("tenant", actor.tenant_id, self._limits.per_tenant)
        with self._place("member", actor.member_id, self._limits.per_member), tenant:
            async with self._rooms.enter(actor.tenant) as room:
                self._open.add(connection)
                try:
                    at = resume.position if resume else room.feed.at
                    ready = _ready(connection, at)
                    connection.outlet.push(listener.sight.form(ready, at))
                    await room.feed.join(listener, at if resume else None)
                    for note in room.board.held():
                        if events.FLEETING[note.kind] in listener.sight.sees:
                            connection.show(note.payload())
                    yield
                finally:
                    self._open.discard(connection)
                    room.feed.leave(listener)
                    self._say_farewell(actor, room)

    async def charge(self, who: SignIn) -> None:
        """A frame costs its sender as much as a request; raises TooMany."""
        rates = self.house.rates
        charges = [
            Charge("user", str(who.actor.identity_id), rates.user),
            Charge("tenant", str(who.actor.tenant_id), rates.tenant),
        ]
        verdict = await self.house.limiter.take(charges)
        if not verdict.allowed:
            raise TooMany(
                "rate_limited", "Too many frames; wait.", retry_after_s=max(1.0, verdict.wait_s)
            )

    def tell(self, note: Note) -> None:
        """Pass a note on to everybody of the tenant who listens, wherever."""
        self.house.bus.tell(note.written())

    @contextmanager
    def _place(self, of: str, whose: object, most: int) -> Iterator[None]:
        place = (of, whose)
        if self._places[place] >= most:
            raise TooMany(f"too_many_of_{of}", f"At most {most} connections ({of}).")
        self._places[place] += 1
        OPEN.set(self._places["total", ""])
        try:
            yield
        finally:
            self._places[place] -= 1
            if not self._places[place]:
                del self._places[place]
            OPEN.set(self._places["total", ""])

    def _say_farewell(self, actor: Actor, room: Room) -> None:
        """The last connection of a member takes back what they said about themselves."""
        if self._places["member", actor.member_id] > 1:
            return
        for note in room.board.held():
            if note.member_id == actor.member_id:
                self.tell(msgspec.structs.replace(note, state=""))

    def _heard(self, text: str) -> None:
        note = notes.read(text)
        room = note and self._rooms.find(note.tenant_id)
        if not note or not room:
            return
        if isinstance(note, Note):
            room.board.pin(note)
        payload, needed = note.payload(), events.FLEETING[note.kind]
        wired: dict[Form, bytes] = {}
        for listener in tuple(room.feed.listeners):
            sight = listener.sight
            # Of a number that has only begun nobody can tell that it must be masked.
            if needed not in sight.sees or (sight.masked and note.kind == "answering"):
                continue
            # Who cannot take what lasts is not given what does not.
            if listener.outlet.idle:
                if sight.form not in wired:
                    wired[sight.form] = sight.form(payload, None)
                listener.outlet.push(wired[sight.form])

    def _end_expired(self) -> None:
        now = self.house.clock.now().timestamp()
        for connection in tuple(self._open):
            if connection.expires_at <= now:
                connection.outlet.close(UNAUTHORIZED, "token_expired")

    async def _tenant_changed(self, tenant_id: UUID) -> None:
        await self._check([one for one in self._open if one.who.actor.tenant_id == tenant_id])

    async def _check(self, connections: Sequence[Connection]) -> None:
        """See what these people may still do: less is heeded, nothing ends the connection."""
        for start in range(0, len(connections), _CHUNK):
            chunk = connections[start : start + _CHUNK]
            scope = Scope(tenants=tuple({one.who.actor.tenant for one in chunk}))
            async with self.house.database.session(scope) as session:
                found = await standing.again(session, [one.who for one in chunk])
                there = {actor.member_id for actor in found if actor and actor.member_id}
                await members.seen(session, there, self.house.clock.now())
            for connection, actor in zip(chunk, found, strict=True):
                _settle(connection, actor)


def _settle(connection: Connection, actor: Actor | None) -> None:
    try:
        if actor is None:
            raise Unauthorized("session_ended", "The sign-in or the membership ended.")
        check_standing(actor)
    except BotyardError as error:
        refuse(connection.outlet, error)
    else:
        connection.heed(SignIn(actor=actor, family_id=connection.who.family_id))


def check_standing(actor: Actor) -> None:
    """Only members of an active tenant are connected; others look over REST."""
    if actor.member_id is None:
        raise Forbidden("not_a_member", "Only a tenant's own people can connect.")
    if actor.tenant_state != "active":
        raise Forbidden("tenant_not_active", f"The tenant is {actor.tenant_state}.")


def refuse(outlet: Outlet, error: Exception) -> None:
    """Close with the code for this error and its problem code as the reason."""
    if isinstance(error, BotyardError):
        outlet.close(_CODES.get(type(error), TRY_LATER), error.code)
    elif isinstance(error, Ended):
        outlet.close(FORBIDDEN, "tenant_not_active")
    else:
        outlet.close(TRY_LATER, "database_unavailable")


def _ready(connection: Connection, at: Position) -> bytes:
    return msgspec.json.encode(
        {
            "type": "ready",
            "epoch": at.epoch,
            "seq": at.seq,
            "member_id": connection.who.actor.member_id,
            "expires_at": connection.expires_at,
        }
    )
