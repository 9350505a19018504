"""What a client may ask over its socket: the same functions, checks and answers as over REST.

A command that changes something is kept under its id in the transaction that does it, like a
request with an Idempotency-Key: a client that lost the acknowledgement repeats it safely.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

import pydantic
from pydantic import BaseModel

from control_plane.access import idempotency
from control_plane.access.http import Call, House, check, load_actor
from control_plane.access.idempotency import Replay, Ticket
from control_plane.access.permissions import Permission
from control_plane.access.schemas import Body
from control_plane.access.standing import SignIn
from control_plane.conversations import routes, service
from control_plane.conversations.schemas import MessageIn, OwnershipIn
from control_plane.kit.errors import BadRequest, Invalid
from control_plane.realtime.frames import Said
from control_plane.realtime.notes import Note


class Owning(OwnershipIn):
    conversation_id: UUID


class Replying(MessageIn):
    conversation_id: UUID


class Being(Body):
    state: Literal["online", "away"]


class Typing(Body):
    conversation_id: UUID
    state: Literal["on", "off"] = "on"


class Viewing(Body):
    """No conversation: the member looks at none."""

    conversation_id: UUID | None = None


Answer = TypeVar("Answer", BaseModel, Note)


@dataclass(frozen=True, kw_only=True)
class Command(Generic[Answer]):
    """What it takes, who may ask for it, and what it does."""

    data: type[BaseModel]
    permission: Permission
    act: Callable[[Call, Any], Awaitable[Answer]]


async def _take_over(call: Call, data: Owning) -> BaseModel:
    return await routes.take_over(data.conversation_id, call, data)


async def _hand_back(call: Call, data: Owning) -> BaseModel:
    return await routes.hand_back(data.conversation_id, call, data)


async def _close(call: Call, data: Owning) -> BaseModel:
    return await routes.close(data.conversation_id, call, data)


async def _reply(call: Call, data: Replying) -> BaseModel:
    return await routes.send_message(data.conversation_id, data, call)


async def _presence(call: Call, data: Being) -> Note:
    return _note(call, "presence", data.state)


async def _typing(call: Call, data: Typing) -> Note:
    await service.get(call.session, data.conversation_id)
    state = "on" if data.state == "on" else ""
    return _note(call, "typing", state, data.conversation_id)


async def _viewing(call: Call, data: Viewing) -> Note:
    if data.conversation_id is None:
        return _note(call, "viewing", "")
    await service.get(call.session, data.conversation_id)
    return _note(call, "viewing", "on", data.conversation_id)


def _note(call: Call, kind: str, state: str, conversation_id: UUID | None = None) -> Note:
    actor = call.actor
    assert actor.member_id is not None  # noqa: S101 - only members have sockets
    return Note(
        tenant_id=actor.tenant,
        kind=kind,
        member_id=actor.member_id,
        name=actor.member_name,
        state=state,
        conversation_id=conversation_id,
    )


_READ, _WRITE = Permission.CONVERSATIONS_READ, Permission.CONVERSATIONS_WRITE
CHANGES: dict[str, Command[BaseModel]] = {
    "conversation.take_over": Command(data=Owning, permission=_WRITE, act=_take_over),
    "conversation.hand_back": Command(data=Owning, permission=_WRITE, act=_hand_back),
    "conversation.close": Command(data=Owning, permission=_WRITE, act=_close),
    "conversation.reply": Command(data=Replying, permission=_WRITE, act=_reply),
}
NOTES: dict[str, Command[Note]] = {
    "presence": Command(data=Being, permission=_READ, act=_presence),
    "typing": Command(data=Typing, permission=_WRITE, act=_typing),
    "viewing": Command(data=Viewing, permission=_READ, act=_viewing),
}


async def run(house: House, who: SignIn, said: Said) -> tuple[Any, Note | None]:
    """Do what a member asks, in one transaction; the acknowledgement's data, and a note to pass on.

    Raises BotyardError. Who they are and what they may is read fresh, as for every request.
    """
    if (change := CHANGES.get(said.type)) is not None:
        data = _fit(change, said.data)
        async with _call(house, who, change) as call:
            return await _once(call, change, said, data), None
    if (noting := NOTES.get(said.type)) is not None:
        data = _fit(noting, said.data)
        async with _call(house, who, noting) as call:
            return None, await noting.act(call, data)
    raise BadRequest("unknown_command", "There is no such command.")


@asynccontextmanager
async def _call(house: House, who: SignIn, command: Command[Any]) -> AsyncIterator[Call]:
    async with house.database.session() as session:
        actor = await load_actor(
            session,
            identity_id=who.actor.identity_id,
            tenant_id=who.actor.tenant_id,
            family_id=who.family_id,
        )
        check(actor, command.permission)
        yield Call(
            session=session,
            actor=actor,
            family_id=who.family_id,
            now=house.clock.now(),
            keys=house.keys,
            house=house,
        )


async def _once(call: Call, change: Command[BaseModel], said: Said, data: BaseModel) -> Any:
    ticket = Ticket(
        tenant_id=call.actor.tenant,
        actor_id=call.actor.identity_id,
        # Requests over REST have keys of their own.
        key=f"socket:{said.id}",
    )
    body = data.model_dump_json().encode()
    try:
        await idempotency.begin(call.session, ticket, target=said.type, body=body, now=call.now)
    except Replay as replay:
        return json.loads(call.keys.open(replay.body))
    answer = (await change.act(call, data)).model_dump_json()
    await idempotency.end(call.session, ticket, status=200, body=call.keys.seal(answer.encode()))
    return json.loads(answer)


def _fit(command: Command[Any], data: dict[str, Any]) -> BaseModel:
    try:
        return command.data.model_validate(data)
    except pydantic.ValidationError as error:
        wrong = [
            {
                "path": "".join(f"/{step}" for step in ("data", *item["loc"])),
                "code": item["type"],
                "message": item["msg"],
            }
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise Invalid(
            "invalid_command", "The data does not fit the command; see errors.", errors=wrong
        ) from None
