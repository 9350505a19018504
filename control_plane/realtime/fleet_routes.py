"""`/fleet/changes`: tells operators when to look again, and nothing else.

Operators have no stream: the platform would need one head that every change of every bot waits
for. So a hint is passed on, at most one a second, and a look is asked for every few seconds all the
same: for a hint that was lost, and for figures that nobody hints at, such as queues.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from control_plane.access import tokens
from control_plane.access.gate import address_of, bearer_of
from control_plane.access.http import House, HouseDep, admit
from control_plane.access.permissions import Actor, Permission
from control_plane.bus.hints import POLL_S
from control_plane.instances.service import FLEET
from control_plane.kit.errors import BotyardError
from control_plane.realtime.connections import Connections

# Seconds between looks without a hint: a person who watches hardly notices.
LOOK_EVERY_S = 10.0
# Seconds between lines at least: a busy fleet changes all the time.
PAUSE_S = 1.0

router = APIRouter(include_in_schema=False)


@router.get("/fleet/changes")
async def changes(
    request: Request, house: HouseDep, _: Annotated[Actor, admit(Permission.QUEUES_READ)]
) -> StreamingResponse:
    """A line of JSON whenever something may look different; ends with the access token."""
    claims = tokens.read_access(house.keys, bearer_of(request.scope) or "", now=house.clock.now())
    lines = _lines(
        request.app.state.realtime,
        house,
        address=address_of(request.scope),
        until=datetime.fromtimestamp(claims["exp"], tz=house.clock.now().tzinfo),
    )
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


async def _lines(
    connections: Connections, house: House, *, address: str, until: datetime
) -> AsyncIterator[bytes]:
    try:
        with connections.arrival(address), house.bus.listen(FLEET) as wake:
            yield _line("look")
            quiet = 0.0
            while not house.draining.is_set() and house.clock.now() < until:
                if await wake.wait(POLL_S):
                    quiet = 0.0
                    yield _line("changed")
                    await asyncio.sleep(PAUSE_S)
                elif (quiet := quiet + POLL_S) >= LOOK_EVERY_S:
                    quiet = 0.0
                    yield _line("look")
    except BotyardError as error:
        yield _line("refused", error.code)


def _line(kind: str, code: str | None = None) -> bytes:
    return msgspec.json.encode({"type": kind, "code": code}) + b"\n"
