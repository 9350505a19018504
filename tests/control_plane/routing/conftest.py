"""A tenant with a bot that hands everything over, and people who answer."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from control_plane.access.permissions import Role
from control_plane.conversations import service as conversations
from control_plane.parts import Parts
from control_plane.routing import worker as routing
from control_plane.routing.worker import Router
from control_plane.turns import worker as turns
from control_plane.turns.worker import Turns
from tests.conftest import People, Person, SetClock
from tests.control_plane.conversations.scene import Bot, Worker, make_bot


@dataclass(kw_only=True)
class Desk:
    """Customers who ask for a person, and the work that gives them one."""

    bot: Bot
    people: People
    clock: SetClock
    turns: Worker
    router: Worker

    @property
    def owner(self) -> Person:
        owner: Person = self.bot.owner
        return owner

    async def routes(self, **settings: Any) -> dict[str, Any]:
        """Routing is switched on, with these settings."""
        body = {"enabled": True, **settings}
        answer = await self.owner.call("PUT", "/routing/settings", json=body)
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def hires(self, state: str = "online", **ability: Any) -> Person:
        """Somebody new who says how they are."""
        person = await self.people.member(self.bot.tenant_id, Role.MEMBER)
        if ability:
            path = f"/routing/members/{person.member_id}"
            answer = await self.owner.call("PUT", path, json=ability)
            assert answer.status_code == 200, answer.text
        await self.says(person, state)
        return person

    async def says(self, person: Person, state: str) -> None:
        answer = await person.call("PUT", "/routing/me", json={"state": state})
        assert answer.status_code == 200, answer.text

    async def asks(self, key: str = "lin", text: str = "A person, please") -> UUID:
        """A customer writes, and the bot hands them over."""
        conversation = await self.bot.hears(text, key=key)
        await self.turns.all()
        return conversation

    async def look(self) -> None:
        """Whatever the routing of the tenant has to do now."""
        await self.router.again(self.bot.tenant_id)
        await self.router.all()

    async def shown(self, conversation: UUID) -> dict[str, Any]:
        answer = await self.owner.get(f"/conversations/{conversation}")
        found: dict[str, Any] = answer.json()
        return found

    async def who(self, conversation: UUID) -> tuple[str, UUID | None]:
        """(owner, member) of a conversation."""
        found = await self.shown(conversation)
        member = found["owner_member_id"]
        return found["owner"], UUID(member) if member else None

    async def who_in_table(self, conversation: UUID) -> str:
        """The owner, when everybody's token has ended."""
        async with self.bot.session() as session:
            found, _contact = await conversations.get(session, conversation)
        return found.owner

    async def told(self, conversation: UUID) -> list[str]:
        """What the system said to the customer."""
        said = await self.bot.texts(conversation)
        return [text for kind, text in said if kind == "system"]

    async def member(self, person: Person) -> dict[str, Any]:
        """How routing shows somebody."""
        answer = await self.owner.get("/routing/members?limit=200")
        [found] = [
            one for one in answer.json()["items"] if one["member_id"] == str(person.member_id)
        ]
        shown: dict[str, Any] = found
        return shown


@pytest.fixture
async def desk(parts: Parts, people: People, clock: SetClock) -> Desk:
    owner = await people.owner()
    house = parts.house
    turn = Turns(house.database, house.keys, house.clock, parts.agents)
    return Desk(
        bot=await make_bot(parts, owner),
        people=people,
        clock=clock,
        turns=Worker(house.database, turns.WORK, turn.run),
        router=Worker(house.database, routing.WORK, Router(house.database, clock).look),
    )
