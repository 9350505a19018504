"""Tenants with one of everything, made through the application itself."""

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import httpx2

from control_plane.access.api_keys import NOT_FOR_KEYS
from control_plane.access.permissions import ROLE_PERMISSIONS, Role
from control_plane.kit.ids import new_id, new_token
from control_plane.parts import Parts
from control_plane.webchat import store
from control_plane.webchat.store import Place
from tests.conftest import People, Person
from tests.control_plane.conversations.scene import dead_callback, make_bot

SIGN_ON = {
    "issuer": "https://localhost:9",
    "client_id": "botyard",
    "client_secret": "a secret of the provider",
    "domains": ["example.com"],
}
WEBHOOK = {"url": "https://localhost:9/hook", "events": ["turn.ended"]}
CANNED = {"code": "new", "title": "New", "text": "New"}
DEAD_MESSAGE = """
INSERT INTO webhook_messages (id, tenant_id, webhook_id, epoch, seq, type, body, state,
    due_at, ended_at, created_at)
VALUES (gen_random_uuid(), $1, $2, 1, 1, 'turn.ended', '{}', 'dead', now(), now(), now())
RETURNING id
"""
RAW_MESSAGE = """
INSERT INTO raw_messages (message_id, tenant_id, body, received_at)
SELECT id, tenant_id, $2, created_at FROM messages WHERE conversation_id = $1
RETURNING message_id
"""

Headers = dict[str, str]
"""What a request says about who sends it."""


@dataclass(kw_only=True)
class Tenant:
    """One company: who works there, and how to name one of each of its things in a path."""

    name: str
    owner: Person
    ids: dict[str, Any] = field(default_factory=dict)
    callers: dict[str, Headers] = field(default_factory=dict, repr=False)

    @property
    def marks(self) -> set[str]:
        """What only this tenant's data has: its ids, and its name, which all its words hold."""
        public = {"name", "rest", "path", "rollout_id"}
        return {str(value) for name, value in self.ids.items() if name not in public} | {self.name}


@dataclass(kw_only=True)
class World:
    """Two tenants that are alike, a third one that is suspended, and who runs the platform."""

    mine: Tenant
    theirs: Tenant
    suspended: Tenant
    operator: Headers = field(repr=False)

    def caller(self, name: str) -> tuple[Headers, Tenant]:
        """Who calls, and whose things they ask for: their own."""
        if name == "suspended owner":
            return self.suspended.callers["owner"], self.suspended
        if name == "operator":
            return self.operator, self.mine
        return self.mine.callers.get(name, {}), self.mine


CALLERS = (
    "owner",
    "admin",
    "member",
    "viewer",
    "custom without permissions",
    "key with every scope",
    "key without scopes",
    "support access",
    "suspended owner",
    "operator",
    "nobody",
)


async def furnish(parts: Parts, client: httpx2.AsyncClient, superuser: asyncpg.Connection) -> World:
    """Fill an empty database."""
    people = People(parts.house, client)
    operator = await people.operator()
    builder = Builder(parts, people, operator, superuser)
    mine, theirs, suspended = [await builder.tenant(name) for name in ("Ant", "Bee", "Cat")]
    said = await operator.post(f"/tenants/{suspended.ids['tenant_id']}/suspend")
    assert said.status_code == 200
    rollout = await rolled_out(operator)
    for tenant in (mine, theirs, suspended):
        tenant.ids["rollout_id"] = rollout
    return World(
        mine=mine,
        theirs=theirs,
        suspended=suspended,
        operator=bearer(operator.token),
    )


async def rolled_out(operator: Person) -> str:
    """A rollout of the platform's, which is everybody's and nobody's."""
    await made(operator, "/releases", {"image": "agent:2"})
    return str(await made(operator, "/rollouts", {"release": 1}))


@dataclass
class Builder:
    """Makes tenants like a person with a lot of patience."""

    parts: Parts
    people: People
    operator: Person
    superuser: asyncpg.Connection

    async def tenant(self, word: str) -> Tenant:
        """A new tenant with one of everything; `word` is in the name of each thing."""
        name = f"{word} Tea House {new_token()[:6]}"
        tenant = Tenant(name=name, owner=await self.people.owner(name))
        tenant.ids |= {"tenant_id": tenant.owner.tenant_id, "session_id": tenant.owner.family_id}
        tenant.ids |= {"name": "business", "rest": "x", "path": "index.html"}
        await self._people(tenant)
        await self._bot(tenant)
        await self._keys(tenant)
        await self._support(tenant)
        await self._systems(tenant)
        return tenant

    async def _people(self, tenant: Tenant) -> None:
        owner, name = tenant.owner, tenant.name
        tenant.callers["owner"] = bearer(owner.token)
        for role in (Role.ADMIN, Role.MEMBER, Role.VIEWER):
            person = await self.people.member(owner.tenant_id, role)
            tenant.callers[role.value] = bearer(person.token)
        body = {"name": f"Role of {word_of(name)}", "permissions": ["instances.read"]}
        tenant.ids["role_id"] = await made(owner, "/roles", body)
        empty = await made(owner, "/roles", {"name": f"None of {name}"[:60], "permissions": []})
        custom = await self.people.member(owner.tenant_id, Role.VIEWER)
        given = await owner.patch(f"/members/{custom.member_id}", {"role": str(empty)})
        assert given.status_code == 200
        tenant.callers["custom without permissions"] = bearer(custom.token)
        # Somebody whom a test may remove.
        tenant.ids["member_id"] = (await self.people.member(owner.tenant_id, Role.VIEWER)).member_id
        invited = {"email": f"guest@{word_of(name)}.example.com", "role": "viewer"}
        tenant.ids["invitation_id"] = await made(owner, "/invitations", invited)

    async def _bot(self, tenant: Tenant) -> None:
        owner, ids = tenant.owner, tenant.ids
        bot = await make_bot(self.parts, owner, greeting=f"Welcome to {tenant.name}")
        renamed = await owner.patch(f"/channels/{bot.channel_id}", {"name": tenant.name})
        assert renamed.status_code == 200
        ids |= {"instance_id": bot.instance_id, "channel_id": bot.channel_id, "token": bot.token}
        visitor = await self._visitor(tenant, bot)
        ids["visitor_id"] = visitor
        conversation = await bot.hears(f"Is this {tenant.name}?", key=str(visitor))
        ids["conversation_id"] = conversation
        ids["raw_message_id"] = await self.superuser.fetchval(
            RAW_MESSAGE, conversation, json.dumps({"to": tenant.name})
        )
        await bot.says(conversation, f"This is {tenant.name}.")
        taken = await owner.post(f"/conversations/{conversation}/take-over")
        [delivery] = (await owner.get("/deliveries")).json()["items"]
        ids["delivery_id"] = UUID(delivery["id"])
        letter = json.dumps({"to": tenant.name}).encode()
        ids["letter_id"] = await dead_callback(self.superuser, bot, body=letter)
        # As if nobody knew whether it was sent.
        await self.superuser.execute(
            "UPDATE deliveries SET state = 'unconfirmed' WHERE id = $1", ids["delivery_id"]
        )
        ids["contact_id"] = taken.json()["contact"]["id"]
        said = {"segments": [{"type": "text", "text": f"{tenant.name}, at your service."}]}
        await made(owner, f"/conversations/{conversation}/messages", said)
        await self._desk(tenant)
        path = f"/instances/{bot.instance_id}/revisions"
        ids["revision_id"] = await made(owner, path, {"document": {}, "note": tenant.name})
        account = {"name": tenant.name, "kind": "openai", "base_url": "https://localhost:9"}
        ids["provider_id"] = await made(owner, "/providers", account | {"api_key": "sk-1"})
        listed = {"platform_id": "unheard", "reason": f"{tenant.name} does not hear them"}
        ids["entry_id"] = await made(owner, "/blacklist", listed)
        items = [{"question": f"{tenant.name}?", "answer": f"{tenant.name}!"}]
        assert (await owner.call("PUT", "/answers", json={"items": items})).status_code == 200
        await bot.attach("http://127.0.0.1:9", new_id())

    async def _desk(self, tenant: Tenant) -> None:
        """What its members wrote for each other."""
        owner, ids, name = tenant.owner, tenant.ids, tenant.name
        talk, contact = (f"/{one}s/{ids[f'{one}_id']}" for one in ("conversation", "contact"))
        ids["tag_id"] = await made(owner, "/tags", {"name": name})
        for path in (talk, contact):
            worn = await owner.call("PUT", f"{path}/tags/{ids['tag_id']}")
            assert worn.status_code == 200, worn.text
        known = await owner.patch(contact, {"remark": name, "fields": {"from": name}})
        assert known.status_code == 200, known.text
        mentions = [str(owner.member_id)]
        ids["note_id"] = await made(owner, f"{talk}/notes", {"text": name, "mentions": mentions})
        ids["contact_note_id"] = await made(owner, f"{contact}/notes", {"text": name})
        canned = {"title": name, "text": name}
        ids["reply_id"] = await made(owner, "/canned-replies", canned | {"code": "a"})
        ids["own_reply_id"] = await made(owner, "/canned-replies/own", canned | {"code": "a"})

    async def _visitor(self, tenant: Tenant, bot: Any) -> UUID:
        place = Place(
            tenant_id=bot.tenant_id, instance_id=bot.instance_id, channel_id=bot.channel_id
        )
        async with bot.session() as session:
            visitor = await store.ensure_visitor(
                session, place, new_token(), now=self.parts.house.clock.now()
            )
            await store.add(
                session,
                place,
                visitor,
                key=store.from_visitor("1"),
                sender=("contact", tenant.name),
                segments='[{"type":"text","text":"hello"}]',
                now=self.parts.house.clock.now(),
            )
        return visitor

    async def _keys(self, tenant: Tenant) -> None:
        every = sorted(ROLE_PERMISSIONS[Role.OWNER] - NOT_FOR_KEYS)
        body = {"name": tenant.name, "scopes": every}
        tenant.ids["key_id"] = await made(tenant.owner, "/api-keys", body)
        for name in ("key with every scope", "key without scopes"):
            key = (await tenant.owner.post("/api-keys", body)).json()
            tenant.callers[name] = bearer(key["key"])
        # What a later version that knows none of its scopes any more would make of it.
        await self.superuser.execute(
            "UPDATE api_keys SET scopes = '{}' WHERE id = $1", UUID(key["id"])
        )

    async def _systems(self, tenant: Tenant) -> None:
        owner, ids = tenant.owner, tenant.ids
        set_up = await owner.call("PUT", "/sign-on", json=SIGN_ON)
        assert set_up.status_code == 200, set_up.text
        body = WEBHOOK | {"description": tenant.name}
        ids["webhook_id"] = await made(owner, "/webhooks", body)
        ids["message_id"] = await self.superuser.fetchval(
            DEAD_MESSAGE, owner.tenant_id, ids["webhook_id"]
        )
        reserved = await owner.post("/media", {"size": 1, "name": f"{tenant.name}.png"})
        ids["media_id"] = UUID(reserved.json()["media_id"])

    async def _support(self, tenant: Tenant) -> None:
        path = f"/tenants/{tenant.ids['tenant_id']}/support"
        body = {"reason": f"asked by {tenant.name}", "minutes": 60}
        tenant.ids["grant_id"] = await made(self.operator, path, body)
        header = {"x-botyard-tenant": str(tenant.ids["tenant_id"])}
        tenant.callers["support access"] = bearer(self.operator.token) | header
        # The first use is written down; a test looks for what a later one changes.
        assert (await self.operator.get("/members", headers=header)).status_code == 200


def bearer(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


async def made(person: Person, path: str, body: Any) -> UUID:
    """The id of what this request makes."""
    answer = await person.post(path, body)
    assert answer.status_code in {201, 202}, answer.text
    return UUID(answer.json()["id"])


def word_of(name: str) -> str:
    return name.partition(" ")[0].lower()
