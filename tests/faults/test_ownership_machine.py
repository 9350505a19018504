"""Who answers in a conversation, in any order of events: the real code over a real database.

Customers write, two members take over, give back, close, answer and send again; the bot's turns
and the lane run between, and in the middle of each anything of that may happen. Only the agent is
a model: it shows what it is asked to send, fails, forgets its journal or says nothing.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from control_plane.access import tokens
from control_plane.access.limits import Rates
from control_plane.access.permissions import Role
from control_plane.app import create_app
from control_plane.conversations.models import Owner
from control_plane.db import leases
from control_plane.delivery import lanes
from control_plane.delivery.lanes import Lanes
from control_plane.instances.client import AgentAway, AgentSilent
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.media.storage import folder
from control_plane.parts import Parts, build
from control_plane.turns import worker as turns
from control_plane.turns.worker import Turns
from instance_agent.protocol import PartOutcome, SendRequest, SendResult
from tests.conftest import PUBLIC_URL, Ground, People, Person, SetClock
from tests.control_plane.conversations.scene import LEASE, Bot, make_bot

QUESTION, ANSWER = "你们几点开门？", "九点开门。"
EXAMPLES = 600 if os.environ.get("SCALE") == "full" else 25
STEPS = 15
ROUNDS = 40
"""Looks after which something will never be done."""

MINUTES = timedelta(minutes=11)
"""Longer than any pause before a further attempt."""

OUTCOMES = ("sent", "rate_limited", "content_invalid", "unknown", "away", "silent", "forgets")
BEHAVIOUR = st.sampled_from(OUTCOMES)
MEANWHILE = st.sampled_from(
    ("nothing", "take-over 0", "take-over 1", "hand-back", "close", "write")
)

_STATE = "SELECT owner, owner_member_id, owner_version FROM conversations WHERE id = $1"
_MESSAGES = """
SELECT m.id, m.number, m.sender_kind, d.id AS delivery_id, d.state, d.decision
FROM messages AS m LEFT JOIN deliveries AS d ON d.message_id = m.id
WHERE m.conversation_id = $1 ORDER BY m.number
"""
_COVERED = """
SELECT n, count(*) FROM turns, generate_series(from_number, through_number) AS n
WHERE conversation_id = $1 GROUP BY n HAVING count(*) > 1
"""
_UNHEARD = """
SELECT m.number FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id
WHERE c.id = $1 AND m.sender_kind = 'contact' AND m.number > c.turned_number
"""


@dataclass
class Agent:
    """Stands in for calls to it. `begun`: what it was asked for the first time, and by whom."""

    scene: "Scene"
    behaviour: str = "sent"
    meanwhile: Callable[[], Awaitable[None]] | None = None
    journal: dict[tuple[UUID, int], SendResult] = field(default_factory=dict)
    known: set[tuple[UUID, int]] = field(default_factory=set)
    shown: list[UUID] = field(default_factory=list)
    began_against_a_person: list[UUID] = field(default_factory=list)

    async def send(self, _agent: Any, request: SendRequest) -> SendResult:
        this = (request.message_id, request.attempt)
        fresh = this not in self.known
        if fresh and await self.scene.is_a_persons(request.message_id):
            self.began_against_a_person.append(request.message_id)
        self.known.add(this)
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            await act()
        behaviour, self.behaviour = self.behaviour, "sent"
        if behaviour == "away":
            if fresh:
                # Not begun after all: a next call begins it.
                self.known.discard(this)
            raise AgentAway
        if this not in self.journal:
            self.journal[this] = SendResult(parts=[self._outcome(behaviour, request.message_id)])
        if behaviour == "silent":
            raise AgentSilent
        if behaviour == "forgets":
            self.journal.clear()
            await self.scene.new_agent()
            raise AgentSilent
        return self.journal[this]

    def _outcome(self, behaviour: str, message_id: UUID) -> PartOutcome:
        if behaviour in ("rate_limited", "content_invalid"):
            return PartOutcome(outcome="failed", error_class=behaviour)
        if message_id not in self.shown:
            # The platform recognises a repeat, as our web chat does.
            self.shown.append(message_id)
        return PartOutcome(outcome="unknown" if behaviour == "unknown" else "sent")


class Scene:
    """A bot, its two members, and a conversation for each story."""

    def __init__(self, ground: Ground, keys: Keyring, data: Path) -> None:
        self.clock = SetClock()
        self._ground, self._keys, self._data = ground, keys, data
        self._database = f"test_{new_id().hex[-12:]}"
        self.agent = Agent(self)

    async def open(self) -> None:
        await self._ground.create(self._database)
        self.superuser = await asyncpg.connect(
            self._ground.url(None, self._database).replace("+asyncpg", "")
        )
        self.parts: Parts = build(
            database_url=self._ground.url(self._ground.app, self._database),
            keys=self._keys,
            clock=self.clock,
            public_url=PUBLIC_URL,
            media=folder(self._data),
            rates=Rates(user="1000000/minute", tenant="1000000/minute"),  # type: ignore[arg-type]
        )
        app = create_app(self.parts, web_pages=self._data)
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url=PUBLIC_URL
        )
        people = People(self.parts.house, self._client)
        owner = await people.owner()
        self.members = [owner, await people.member(owner.tenant_id, Role.ADMIN)]
        self.bot: Bot = await make_bot(self.parts, owner)
        items = [{"question": QUESTION, "answer": ANSWER}]
        assert (await owner.call("PUT", "/answers", json={"items": items})).status_code == 200
        house = self.parts.house
        self.turns = Turns(house.database, house.keys, self.clock, self.parts.agents)
        self.lanes = Lanes(house.database, house.keys, self.clock, self.parts.agents)
        self._decide, self.meanwhile = self.turns._decide, None
        self.turns._decide = self._decide_slowly  # type: ignore[method-assign]
        self.parts.agents.send = self.agent.send  # type: ignore[method-assign]

    async def close(self) -> None:
        await self._client.aclose()
        await self.parts.close()
        await self.superuser.close()
        await self._ground.drop(self._database)

    async def _decide_slowly(self, *arguments: Any) -> Any:
        decision = await self._decide(*arguments)
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            await act()
        return decision

    async def new_agent(self) -> None:
        await self.bot.attach("http://agent", new_id())

    async def is_a_persons(self, message_id: UUID) -> bool:
        """Whether the bot should not begin to send this."""
        return bool(
            await self.superuser.fetchval(
                "SELECT d.author_kind = 'bot' AND d.decision IS DISTINCT FROM 'resend'"
                " AND c.owner IN ('human', 'closed') FROM deliveries AS d"
                " JOIN conversations AS c ON c.id = d.conversation_id WHERE d.message_id = $1",
                message_id,
            )
        )

    async def forget(self) -> None:
        """What an earlier story left to do."""
        await self.superuser.execute(
            "DELETE FROM work WHERE kind = ANY ($1)", [turns.WORK, lanes.WORK]
        )
        self.agent = Agent(self)
        self.parts.agents.send = self.agent.send  # type: ignore[method-assign]
        await self.new_agent()

    async def work(self, kind: str, key: UUID) -> bool:
        """One look of a worker at this row; whether there is more to do."""
        handler = self.turns.run if kind == turns.WORK else self.lanes.deliver
        async with self.parts.house.database.plain() as session:
            await leases.call(session, kind, [(key, self.bot.tenant_id)])
            [lease] = await leases.claim(session, kind, owner="me", limit=1, lease=LEASE)
        assert lease.key == key
        again = await handler(lease)
        async with self.parts.house.database.plain() as session:
            await leases.finish(session, lease, again_after=again)
        return again is not None

    async def later(self, pause: timedelta) -> None:
        """So much time passes, on our clock and on the database's."""
        self.clock.advance(pause)
        await self.superuser.execute("UPDATE deliveries SET due_at = due_at - $1::interval", pause)

    async def asks(self, who: int, path: str, body: Any = None) -> httpx2.Response:
        """A request of a member, whose token never ends."""
        member: Person = self.members[who]
        token = tokens.make_access(
            self._keys,
            identity_id=member.identity_id,
            tenant_id=member.tenant_id,
            family_id=member.family_id,
            now=self.clock.now(),
        )
        return await replace(member, token=token).post(path, body)


@dataclass(frozen=True)
class Owned:
    """What the conversation's owner must be."""

    owner: str = Owner.BOT
    member: UUID | None = None
    version: int = 1


class Owning(RuleBasedStateMachine):
    """One conversation, from a customer's first word."""

    def __init__(self, runner: asyncio.Runner, scene: Scene) -> None:
        super().__init__()
        self._run, self.scene = runner.run, scene
        self.key = new_id().hex

    @initialize()
    def a_customer_comes(self) -> None:
        self._run(self.scene.forget())
        self.id: UUID = self._run(self.scene.bot.hears(QUESTION, key=self.key))
        version = self._run(self.scene.superuser.fetchrow(_STATE, self.id))["owner_version"]
        self.owned = Owned(version=version)

    # --- what happens ---

    @rule(text=st.sampled_from([QUESTION, "能修自行车吗？"]))
    def customer_writes(self, text: str) -> None:
        self._run(self._write(text))

    @rule(
        who=st.integers(0, 1),
        action=st.sampled_from(["take-over", "hand-back", "close"]),
        insists=st.sampled_from([None, 0, 1]),
    )
    def member_acts(self, who: int, action: str, insists: int | None) -> None:
        self._run(self._act(who, action, insists))

    @rule(who=st.integers(0, 1))
    def member_answers(self, who: int) -> None:
        body = {"segments": [{"type": "text", "text": "我来"}]}
        answer = self._run(self.scene.asks(who, f"/conversations/{self.id}/messages", body))
        mine = self.owned.member == self._member(who)
        assert answer.status_code == (202 if mine else 409), answer.text

    @rule(meanwhile=MEANWHILE)
    def bot_takes_a_turn(self, meanwhile: str) -> None:
        self.scene.meanwhile = self._meanwhile(meanwhile)
        self._run(self._turn())
        self.scene.meanwhile = None

    @rule(behaviour=BEHAVIOUR, meanwhile=MEANWHILE, minutes=st.booleans())
    def lane_moves(self, behaviour: str, meanwhile: str, minutes: bool) -> None:
        if minutes:
            self._run(self.scene.later(MINUTES))
        self.scene.agent.behaviour = behaviour
        self.scene.agent.meanwhile = self._meanwhile(meanwhile)
        self._run(self.scene.work(lanes.WORK, self.id))
        self.scene.agent.meanwhile, self.scene.agent.behaviour = None, "sent"

    @precondition(lambda self: self.scene.agent.known)
    @rule(who=st.integers(0, 1), data=st.data())
    def member_sends_again(self, who: int, data: st.DataObject) -> None:
        rows = self._run(self._messages())
        ended = [row for row in rows if row["state"] in ("failed", "unconfirmed", "expired")]
        if not ended:
            return
        chosen = data.draw(st.sampled_from(ended))
        answer = self._run(self.scene.asks(who, f"/deliveries/{chosen['delivery_id']}/resend"))
        theirs = self.owned.owner != Owner.HUMAN or self.owned.member == self._member(who)
        assert answer.status_code == (200 if theirs else 409), answer.text

    # --- what always holds ---

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "owned"):
            self._run(self._look())

    async def _look(self) -> None:
        superuser, agent = self.scene.superuser, self.scene.agent
        row = await superuser.fetchrow(_STATE, self.id)
        assert Owned(*row.values()) == self.owned, "the owner is not who was asked for"
        assert agent.began_against_a_person == []
        rows = await self._messages()
        held = {row["id"] for row in rows if row["state"] == "withheld"}
        assert held.isdisjoint(agent.shown), "what was held back was shown"
        sent = {row["id"] for row in rows if row["state"] == "sent" and not row["decision"]}
        assert sent <= set(agent.shown), "what is sent was not shown"
        assert await superuser.fetch(_COVERED, self.id) == [], "a message is in two turns"

    def teardown(self) -> None:
        """At rest, and once more when the bot has it back: nothing is left to hear or to send."""
        if hasattr(self, "owned"):
            self._run(self._rest())

    async def _rest(self) -> None:
        await self._work()
        if self.owned.owner != Owner.BOT:
            await self._act(0, "take-over", 0)
            await self._act(0, "hand-back", 0)
            await self._work()
        rows = await self._messages()
        assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
        assert {row["state"] for row in rows} <= {
            *(None, "sent", "failed", "withheld", "unconfirmed", "expired")
        }
        assert await self.scene.superuser.fetch(_UNHEARD, self.id) == []
        await self._look()

    async def _work(self) -> None:
        for _ in range(ROUNDS):
            more = await self._turn()
            await self.scene.later(MINUTES)
            if not (await self.scene.work(lanes.WORK, self.id) or more):
                return
        raise AssertionError("there is always something left to do")

    # --- how ---

    async def _turn(self) -> bool:
        """One turn of the bot, which may hand over; whether there is more to do."""
        before = await self._handed_over()
        more = await self.scene.work(turns.WORK, self.id)
        if await self._handed_over() > before:
            self.owned = Owned(Owner.WAITING, None, self.owned.version + 1)
        return more

    def _member(self, who: int) -> UUID | None:
        return self.scene.members[who].member_id

    async def _messages(self) -> list[Any]:
        return list(await self.scene.superuser.fetch(_MESSAGES, self.id))

    async def _handed_over(self) -> int:
        query = "SELECT count(*) FROM turns WHERE conversation_id = $1 AND state = 'handed_over'"
        return int(await self.scene.superuser.fetchval(query, self.id))

    async def _write(self, text: str) -> None:
        await self.scene.bot.hears(text, key=self.key)
        if self.owned.owner == Owner.CLOSED:
            self.owned = Owned(Owner.BOT, None, self.owned.version + 1)

    async def _act(self, who: int, action: str, insists: int | None) -> None:
        """`insists`: names the version that is there, or one that is not yet."""
        body = None if insists is None else {"owner_version": self.owned.version + insists}
        answer = await self.scene.asks(who, f"/conversations/{self.id}/{action}", body)
        code, self.owned = self._expected(who, action, insists)
        assert answer.status_code == (409 if code else 200), answer.text
        assert answer.json().get("code") == code

    def _expected(self, who: int, action: str, insists: int | None) -> tuple[str | None, Owned]:
        now, me = self.owned, self._member(who)
        wanted = {
            "take-over": (Owner.HUMAN, me),
            "hand-back": (Owner.BOT, None),
            "close": (Owner.CLOSED, None),
        }[action]
        if insists == 1:
            return "owner_changed", now
        if (now.owner, now.member) == wanted:
            return None, now
        if now.owner == Owner.HUMAN and now.member != me and insists is None:
            return "owned_by_other", now
        if now.owner == Owner.CLOSED and action == "hand-back":
            return "conversation_closed", now
        return None, Owned(*wanted, now.version + 1)

    def _meanwhile(self, what: str) -> Callable[[], Awaitable[None]] | None:
        if what == "nothing":
            return None
        if what == "write":
            return lambda: self._write(QUESTION)
        action, _, who = what.partition(" ")
        return lambda: self._act(int(who or 0), action, 0)


@pytest.fixture
def scene(ground: Ground, keys: Keyring, tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Scene]]:
    with asyncio.Runner() as runner:
        scene = Scene(ground, keys, tmp_path)
        runner.run(scene.open())
        yield runner, scene
        runner.run(scene.close())


def test_whatever_happens_a_person_who_took_over_is_alone(
    scene: tuple[asyncio.Runner, Scene],
) -> None:
    run_state_machine_as_test(
        lambda: Owning(*scene),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
