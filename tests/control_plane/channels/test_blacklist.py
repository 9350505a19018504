"""Whom a tenant's bots do not hear: over REST, and on to the agent."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from control_plane.access.permissions import Role
from control_plane.channels import blacklist
from control_plane.channels.blacklist import WORK
from control_plane.channels.blacklist_push import BlacklistPush
from control_plane.kit.ids import new_id
from instance_agent.protocol import BlacklistUpdate
from tests.control_plane.conversations.scene import Bot, Worker, make_bot

HOUR = timedelta(hours=1)


class StandInAgent:
    """Has a version, and takes what is pushed."""

    def __init__(self) -> None:
        self.version: int | None = 0
        self.pushed: list[BlacklistUpdate] = []
        self.status = 200
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def serve(self) -> uvicorn.Server:
        routes = [
            Route("/astrbot-api/v1/health", self._health),
            Route("/astrbot-api/v1/config/update", self._update, methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), lifespan="off", log_config=None)
        return uvicorn.Server(config)

    @property
    def socket(self) -> socket.socket:
        return self._socket

    async def _health(self, _: Request) -> Response:
        config = {"applied": 0, "applied_sha256": "", "last_good": 0, "rejected": None}
        health = {
            "version": "1",
            "instance_id": new_id(),
            "ready": True,
            "draining": False,
            "journal_id": new_id(),
            "config": config,
            "channels": [],
            "spool_depth": 0,
            "blacklist": self.version,
        }
        return Response(msgspec.json.encode(health))

    async def _update(self, request: Request) -> Response:
        update = msgspec.json.decode(await request.body(), type=BlacklistUpdate)
        if self.status == 200:
            self.pushed.append(update)
            self.version = update.version if update.base == self.version else self.version
        return Response(msgspec.json.encode({"version": self.version}), self.status)


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner())


@pytest.fixture
async def agent(bot: Bot) -> AsyncIterator[StandInAgent]:
    stand_in = StandInAgent()
    server = await stand_in.serve()
    serving = asyncio.create_task(server.serve(sockets=[stand_in.socket]))
    await bot.attach(stand_in.url, new_id())
    yield stand_in
    server.should_exit = True
    await serving


@pytest.fixture
def worker(parts) -> Worker:
    push = BlacklistPush(parts.house.database, parts.house.keys, parts.agents)
    return Worker(parts.house.database, WORK, push.push)


async def add(bot: Bot, **body: Any) -> dict[str, Any]:
    answer = await bot.owner.post("/blacklist", {"platform_id": "lin"} | body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def version(bot: Bot) -> int:
    return int((await bot.owner.get("/blacklist/standing")).json()["version"])


async def contact_of(bot: Bot, conversation_id: UUID) -> dict[str, Any]:
    answer = await bot.owner.get(f"/conversations/{conversation_id}")
    contact: dict[str, Any] = answer.json()["contact"]
    return contact


class TestEntry:
    async def test_says_who_where_why_until_when_and_by_whom(self, bot, clock):
        ends = (clock.now() + timedelta(days=1)).isoformat().replace("+00:00", "Z")

        made = await add(bot, channel_id=str(bot.channel_id), reason="spam", expires_at=ends)

        read = (await bot.owner.get(f"/blacklist/{made['id']}")).json()
        assert read == made
        assert {name: made[name] for name in ("platform_id", "kind", "reason", "hits")} == {
            "platform_id": "lin",
            "kind": "webchat",
            "reason": "spam",
            "hits": 0,
        }
        assert (made["channel_id"], made["instance_id"]) == (
            str(bot.channel_id),
            str(bot.instance_id),
        )
        assert (made["expires_at"], made["author_id"]) == (ends, str(bot.owner.member_id))
        assert made["version"] == await version(bot)

    async def test_of_the_same_person_is_changed_not_doubled(self, bot):
        first = await add(bot, kind="webchat", reason="spam")
        second = await add(bot, kind="webchat", reason="abuse")
        elsewhere = await add(bot)

        assert (second["id"], second["reason"]) == (first["id"], "abuse")
        assert second["version"] > first["version"]
        assert elsewhere["id"] != first["id"]

    async def test_of_a_contact_is_for_the_kind_of_their_channel(self, bot):
        contact = await contact_of(bot, await bot.hears("hello"))

        made = await bot.owner.post("/blacklist", {"contact_id": contact["id"]})

        assert (made.json()["platform_id"], made.json()["kind"]) == ("lin", "webchat")
        assert made.json()["channel_id"] is None

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({}, 422, "one_person"),
            ({"platform_id": ""}, 422, None),
            ({"platform_id": "x" * 501}, 422, None),
            ({"platform_id": "x\0"}, 422, None),
            ({"platform_id": "x", "contact_id": str(new_id())}, 422, "one_person"),
            ({"contact_id": str(new_id())}, 404, "contact_not_found"),
            ({"platform_id": "x", "instance_id": str(new_id())}, 404, "instance_not_found"),
            ({"platform_id": "x", "channel_id": str(new_id())}, 404, "channel_not_found"),
            ({"platform_id": "x", "kind": "smoke signals"}, 422, "unknown_kind"),
            ({"platform_id": "x", "expires_at": "2026-01-01T00:00:00Z"}, 422, None),
        ],
    )
    async def test_that_makes_no_sense_is_refused(self, bot, body, status, code):
        answer = await bot.owner.post("/blacklist", body)

        assert answer.status_code == status, answer.text
        assert code in (None, answer.json()["code"])
        assert await version(bot) == 0

    async def test_whose_channel_is_of_another_kind_is_refused(self, bot):
        body = {"platform_id": "x", "kind": "wecom", "channel_id": str(bot.channel_id)}

        answer = await bot.owner.post("/blacklist", body)

        assert (answer.status_code, answer.json()["code"]) == (422, "kinds_differ")

    async def test_is_removed_once(self, bot):
        made = await add(bot)

        assert (await bot.owner.delete(f"/blacklist/{made['id']}")).status_code == 204
        assert (await bot.owner.delete(f"/blacklist/{made['id']}")).status_code == 404
        assert (await bot.owner.get("/blacklist")).json()["items"] == []

    async def test_members_write_viewers_read(self, bot, people):
        member = await people.member(bot.tenant_id, Role.MEMBER)
        viewer = await people.member(bot.tenant_id, Role.VIEWER)

        assert (await member.post("/blacklist", {"platform_id": "x"})).status_code == 201
        assert (await viewer.post("/blacklist", {"platform_id": "y"})).status_code == 403
        assert len((await viewer.get("/blacklist")).json()["items"]) == 1


class TestList:
    async def test_is_filtered_and_paged(self, bot, clock):
        await add(bot, platform_id="a", kind="wecom")
        await add(bot, platform_id="b", channel_id=str(bot.channel_id))
        soon = (clock.now() + timedelta(minutes=1)).isoformat()
        await add(bot, platform_id="c", expires_at=soon)
        clock.advance(timedelta(minutes=1))

        async def names(query: str) -> list[str]:
            answer = await bot.owner.get(f"/blacklist?{query}")
            return [item["platform_id"] for item in answer.json()["items"]]

        assert await names("") == ["a", "b", "c"]
        assert await names("kind=wecom") == ["a"]
        assert await names(f"channel_id={bot.channel_id}") == ["b"]
        assert await names("expired=true") == ["c"]
        assert await names("expired=false") == ["a", "b"]
        assert await names("platform_id=c") == ["c"]
        first = (await bot.owner.get("/blacklist?limit=2")).json()
        assert await names(f"limit=2&cursor={first['next']}") == ["c"]

    async def test_ended_entries_go_after_a_while(self, bot, clock, monkeypatch):
        monkeypatch.setattr(blacklist, "KEPT", HOUR / 10)
        soon = (clock.now() + timedelta(minutes=1)).isoformat()
        await add(bot, platform_id="a", expires_at=soon)
        clock.advance(HOUR / 10 + timedelta(minutes=2))

        await add(bot, platform_id="b")

        assert [e["platform_id"] for e in (await bot.owner.get("/blacklist")).json()["items"]] == [
            "b"
        ]

    async def test_is_bounded_and_what_has_ended_makes_room(self, bot, clock, monkeypatch):
        monkeypatch.setattr(blacklist, "MAX_BLACKLIST", 2)
        soon = (clock.now() + timedelta(minutes=1)).isoformat()
        await add(bot, platform_id="a", expires_at=soon)
        await add(bot, platform_id="b")

        full = await bot.owner.post("/blacklist", {"platform_id": "c"})
        assert (full.status_code, full.json()["code"]) == (409, "quota_exceeded")
        clock.advance(timedelta(minutes=1))
        await add(bot, platform_id="c")

        assert (await bot.owner.get("/blacklist/standing")).json()["entries"] == 2


class TestBulk:
    async def test_removes_and_adds_under_one_version(self, bot, superuser):
        old, kept = await add(bot, platform_id="old"), await add(bot, platform_id="kept")
        body = {
            "add": [{"platform_id": "new"}, {"platform_id": "kept", "reason": "spam"}],
            "remove": [old["id"], str(new_id())],
        }

        done = (await bot.owner.post("/blacklist/bulk", body)).json()

        assert done == {"added": 1, "changed": 1, "removed": 1, "version": await version(bot)}
        items = (await bot.owner.get("/blacklist")).json()["items"]
        assert {(e["id"] == kept["id"], e["reason"]) for e in items} == {
            (True, "spam"),
            (False, None),
        }
        told = "SELECT count(*) FROM stream WHERE type = 'blacklist.changed'"
        assert await superuser.fetchval(told) == 3

    async def test_is_all_or_nothing(self, bot):
        made = await add(bot)
        body = {
            "add": [{"platform_id": "x"}, {"platform_id": "y", "channel_id": str(new_id())}],
            "remove": [made["id"]],
        }

        assert (await bot.owner.post("/blacklist/bulk", body)).status_code == 404

        assert [e["id"] for e in (await bot.owner.get("/blacklist")).json()["items"]] == [
            made["id"]
        ]

    async def test_the_same_person_twice_is_one_entry(self, bot):
        body = {"add": [{"platform_id": "x"}, {"platform_id": "x", "reason": "last"}]}

        done = (await bot.owner.post("/blacklist/bulk", body)).json()

        [entry] = (await bot.owner.get("/blacklist")).json()["items"]
        assert (done["added"], entry["reason"]) == (1, "last")


class TestPush:
    async def test_gives_the_agent_what_it_lacks(self, bot, agent, worker):
        first = await add(bot)
        await worker.all()
        await bot.owner.delete(f"/blacklist/{first['id']}")
        second = await add(bot, platform_id="wang")
        await worker.all()

        assert agent.version == await version(bot)
        assert [(u.base, len(u.entries), len(u.removed)) for u in agent.pushed] == [
            (0, 1, 0),
            (first["version"], 1, 1),
        ]
        assert agent.pushed[1].removed == [UUID(first["id"])]
        assert agent.pushed[1].entries[0].id == UUID(second["id"])

    async def test_that_was_lost_is_made_up_for_by_the_next(self, bot, agent, worker):
        agent.status = 503
        await add(bot)
        await worker.all()
        agent.status = 200
        await add(bot, platform_id="wang")

        await worker.all()

        assert [len(update.entries) for update in agent.pushed] == [2]
        assert agent.version == await version(bot)

    @pytest.mark.parametrize("known", [1, 2**62])
    async def test_has_one_pull_whose_version_is_unknown(
        self, bot, agent, worker, known, superuser
    ):
        await add(bot)
        await superuser.execute("UPDATE blacklists SET floor = 5")
        agent.version = known

        await worker.all()

        assert [(u.base, u.entries, u.version) for u in agent.pushed] == [
            (None, [], await version(bot))
        ]

    async def test_of_more_than_a_page_is_a_pull(self, bot, agent, worker, monkeypatch):
        monkeypatch.setattr(blacklist, "MAX_BLACKLIST_PAGE", 2)
        body = {"add": [{"platform_id": str(n)} for n in range(3)]}
        await bot.owner.post("/blacklist/bulk", body)

        await worker.all()

        assert [update.base for update in agent.pushed] == [None]

    async def test_leaves_agents_of_before_alone(self, bot, agent, worker):
        agent.version = None
        await add(bot)

        await worker.all()

        assert agent.pushed == []

    async def test_is_not_due_without_an_agent_and_harmless_when_it_is_away(self, bot, worker):
        await add(bot)
        assert await worker.claim() is None
        await bot.attach("http://127.0.0.1:9", new_id())
        await add(bot, platform_id="wang")

        assert await worker.once() is None

    async def test_forgotten_removals_are_known_to_be(self, bot, agent, worker, clock, monkeypatch):
        monkeypatch.setattr(blacklist, "KEPT", HOUR / 10)
        first = await add(bot)
        await worker.all()
        known = agent.version
        await bot.owner.delete(f"/blacklist/{first['id']}")
        clock.advance(HOUR / 5)
        await add(bot, platform_id="wang")
        assert agent.version == known

        await worker.all()

        assert [update.base for update in agent.pushed] == [0, None]

    async def test_versions_never_come_twice_after_a_restored_database(self, bot, clock, superuser):
        await add(bot)
        before = await version(bot)
        await add(bot, platform_id="wang")
        newest = await version(bot)
        await superuser.execute("UPDATE blacklists SET version = $1", before)
        clock.advance(timedelta(seconds=1))

        await add(bot, platform_id="chen")

        assert await version(bot) > newest > before


class TestContact:
    async def test_shows_that_they_are_not_heard(self, bot, clock, parts, people):
        conversation = await bot.hears("hello")
        assert (await contact_of(bot, conversation))["blocked"] is False
        await add(bot, kind="wecom")
        assert (await contact_of(bot, conversation))["blocked"] is False

        made = await add(bot, expires_at=(clock.now() + timedelta(minutes=1)).isoformat())

        assert (await contact_of(bot, conversation))["blocked"] is True
        [listed] = (await bot.owner.get("/conversations")).json()["items"]
        [found] = (await bot.owner.get("/messages/search?text=hello")).json()["items"]
        assert (listed["contact"]["blocked"], found["contact"]["blocked"]) == (True, True)
        clock.advance(timedelta(minutes=1))
        assert (await contact_of(bot, conversation))["blocked"] is False
        assert made["expires_at"] is not None

    async def test_erased_is_named_by_no_entry_any_more(self, bot, agent, worker, superuser):
        contact = await contact_of(bot, await bot.hears("hello"))
        await add(bot, reason="they said 13912345678")
        await add(bot, platform_id="wang")
        await worker.all()

        exported = await bot.owner.get(f"/contacts/{contact['id']}/export")
        erased = (await bot.owner.post(f"/contacts/{contact['id']}/erase")).json()
        await worker.all()

        assert b"blacklist.json" in exported.content
        assert erased["blacklisted"] == 1
        left = (await bot.owner.get("/blacklist")).json()["items"]
        assert [entry["platform_id"] for entry in left] == ["wang"]
        assert len(agent.pushed[-1].removed) == 1
        kept = await superuser.fetch("SELECT after::text || before::text AS said FROM audit")
        assert not any("13912345678" in (row["said"] or "") for row in kept)
        again = await bot.owner.post("/blacklist", {"contact_id": contact["id"]})
        assert again.status_code == 404
