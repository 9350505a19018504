"""The routes of webhooks, through the whole application."""

import asyncio
import json
from datetime import timedelta

import asyncpg
import pytest
from standardwebhooks import Webhook

from control_plane.access.permissions import Role
from control_plane.db.session import driver
from control_plane.fleet.upkeep import KEEP_WEBHOOKS_DEAD, KEEP_WEBHOOKS_SENT
from control_plane.kit.ids import new_id
from control_plane.webhooks import service
from control_plane.webhooks.events import EVENTS
from control_plane.webhooks.schedule import MAX_ATTEMPTS
from tests.control_plane.webhooks.conftest import CHANGED

BODY = {"url": "https://hooks.example.com/in?token=path-secret", "events": [CHANGED]}
PRUNE = "SELECT prune_webhook_messages($1, $2, 100)"


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture
async def dead(hook, teller, receiver, monkeypatch: pytest.MonkeyPatch):
    """A webhook with three dead messages, whose receiver works again."""
    monkeypatch.setattr(
        "control_plane.webhooks.schedule.WAITS", (timedelta(seconds=1),) * (MAX_ATTEMPTS - 1)
    )
    receiver.default = (500, {})
    await hook.happens(1, 2, 3)
    await teller.all()
    for _ in range(MAX_ATTEMPTS - 1):
        await teller.after(hook, timedelta(minutes=1))
    assert {message["state"] for message in await hook.messages()} == {"dead"}
    receiver.requests.clear()
    receiver.default = (204, {})
    return hook


class TestCreate:
    async def test_shows_the_secret_once_and_keeps_it_sealed(
        self, people, keys, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        made = (await owner.post("/webhooks", BODY)).json()

        assert made["secret"].startswith("whsec_")
        for path in ("/webhooks", f"/webhooks/{made['id']}", "/audit"):
            assert made["secret"] not in (await owner.get(path)).text
        sealed = await superuser.fetchval("SELECT secret FROM webhooks")
        assert keys.open(sealed).decode() == made["secret"]

    async def test_the_audit_knows_the_host_and_not_the_rest_of_the_address(self, people) -> None:
        owner = await people.owner()
        made = (await owner.post("/webhooks", BODY)).json()
        await owner.delete(f"/webhooks/{made['id']}")

        audit = await owner.get("/audit")
        actions = [item["action"] for item in audit.json()["items"]]
        assert actions[:2] == ["webhook.delete", "webhook.create"]
        assert audit.json()["items"][1]["after"]["host"] == "hooks.example.com"
        assert "path-secret" not in audit.text

    async def test_a_quota_holds_while_many_are_made_at_once(
        self, people, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "MAX_WEBHOOKS", 3)
        owner = await people.owner()

        answers = await asyncio.gather(*(owner.post("/webhooks", BODY) for _ in range(10)))

        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 7
        assert {code(a)[1] for a in answers if a.status_code == 409} == {"too_many_webhooks"}

    async def test_repeated_under_one_key_is_made_once(self, people) -> None:
        owner = await people.owner()
        answers = [
            await owner.post("/webhooks", BODY, headers={"idempotency-key": "one"})
            for _ in range(2)
        ]

        assert answers[0].json() == answers[1].json()
        assert len((await owner.get("/webhooks")).json()["items"]) == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"events": []},
            {"events": ["message.invented"]},
            {"events": ["webhook.test"]},
            {"url": ""},
            {"url": "https://" + "a" * 2000},
            {"secret": "mine"},
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, people, change: dict) -> None:
        owner = await people.owner()

        assert code(await owner.post("/webhooks", BODY | change)) == (422, "invalid_request")


class TestPermissions:
    async def test_are_for_owners_and_admins(self, people) -> None:
        owner = await people.owner()
        made = (await owner.post("/webhooks", BODY)).json()
        admin = await people.member(owner.tenant_id, Role.ADMIN)
        assert (await admin.get("/webhooks")).status_code == 200
        assert (await admin.post("/webhooks", BODY)).status_code == 201
        for role in (Role.MEMBER, Role.VIEWER):
            person = await people.member(owner.tenant_id, role)
            for answer in (
                await person.get("/webhooks"),
                await person.get(f"/webhooks/{made['id']}/messages"),
                await person.post("/webhooks", BODY),
                await person.post(f"/webhooks/{made['id']}/secret"),
                await person.post(f"/webhooks/{made['id']}/test"),
            ):
                assert code(answer) == (403, "forbidden")

    async def test_nobody_sends_away_what_they_may_not_see(self, people) -> None:
        owner = await people.owner()
        made = (await owner.post("/webhooks", BODY | {"events": ["message.received"]})).json()
        permissions = ["webhooks.read", "webhooks.write", "tenant.read"]
        role = (await owner.post("/roles", {"name": "hooks", "permissions": permissions})).json()
        person = await people.member(owner.tenant_id, Role.VIEWER)
        await owner.patch(f"/members/{person.member_id}", {"role": role["id"]})

        assert (await person.post("/webhooks", BODY)).status_code == 201
        for answer in (
            await person.post("/webhooks", BODY | {"events": ["message.received"]}),
            await person.patch(f"/webhooks/{made['id']}", {"url": "https://mine.example.com"}),
            await person.post(f"/webhooks/{made['id']}/secret"),
        ):
            assert code(answer) == (403, "beyond_own_permissions")

    async def test_no_key_makes_what_would_outlive_it(self, people) -> None:
        owner = await people.owner()
        body = {"name": "shop", "scopes": ["webhooks.write"]}

        assert code(await owner.post("/api-keys", body)) == (403, "scope_not_yours")


class TestWalls:
    async def test_another_tenants_webhook_is_not_there(self, dead, people) -> None:
        stranger = await people.owner()
        [message, *_] = await dead.messages()
        path = f"/webhooks/{dead.id}"
        calls = [
            ("GET", path, None),
            ("PATCH", path, {"enabled": False}),
            ("DELETE", path, None),
            ("POST", f"{path}/secret", None),
            ("POST", f"{path}/test", None),
            ("GET", f"{path}/messages", None),
            ("POST", f"{path}/messages/{message['id']}/replay", None),
            ("POST", f"{path}/replay", {"since": "2020-01-01T00:00:00Z"}),
        ]
        before = await dead.shown(), await dead.messages()

        for method, target, body in calls:
            answer = await stranger.call(method, target, json=body)
            assert code(answer) == (404, "webhook_not_found"), target
        assert (await stranger.get("/webhooks")).json()["items"] == []
        assert (await dead.shown(), await dead.messages()) == before

    async def test_a_message_is_found_under_its_own_webhook_only(self, dead, make_hook) -> None:
        other = await make_hook(owner=dead.owner)
        [message, *_] = await dead.messages()

        answer = await dead.owner.post(f"/webhooks/{other.id}/messages/{message['id']}/replay")

        assert code(answer) == (404, "webhook_message_not_found")


class TestChange:
    async def test_changes_what_is_given(self, people) -> None:
        owner = await people.owner()
        made = (await owner.post("/webhooks", BODY)).json()
        path = f"/webhooks/{made['id']}"
        names = ["tenant.changed", "message.received", "tenant.changed"]

        answer = await owner.patch(path, {"events": names, "description": " shop "})

        assert answer.json()["events"] == ["message.received", "tenant.changed"]
        assert answer.json()["description"] == "shop"
        assert answer.json()["url"] == BODY["url"]

    async def test_switched_off_it_waits_and_goes_on_where_it_stood(
        self, hook, teller, receiver, superuser: asyncpg.Connection
    ) -> None:
        path = f"/webhooks/{hook.id}"
        answer = await hook.owner.patch(path, {"enabled": False})
        assert (answer.json()["state"], answer.json()["reason"]) == ("disabled", "switched_off")
        await hook.happens(1)
        waiting = "SELECT count(*) FROM work WHERE kind = 'webhook'"
        assert await superuser.fetchval(waiting) == 0

        await hook.owner.patch(path, {"enabled": True})
        await teller.all()

        [request] = receiver.requests
        assert json.loads(request.body)["data"]["used"] == 1

    async def test_deleted_it_hears_nothing_more(
        self, hook, teller, receiver, superuser: asyncpg.Connection
    ) -> None:
        receiver.default = (500, {})
        await hook.happens(1)
        await teller.all()
        answer = await hook.owner.delete(f"/webhooks/{hook.id}")
        assert answer.status_code == 204
        await hook.happens(2)
        await teller.all()

        assert len(receiver.requests) == 1
        assert await superuser.fetchval("SELECT count(*) FROM webhook_messages") == 0
        assert code(await hook.owner.get(f"/webhooks/{hook.id}")) == (404, "webhook_not_found")

    async def test_a_page_follows_the_other(self, people) -> None:
        owner = await people.owner()
        made = [(await owner.post("/webhooks", BODY)).json()["id"] for _ in range(3)]

        first = (await owner.get("/webhooks?limit=2")).json()
        second = (await owner.get(f"/webhooks?limit=2&cursor={first['next']}")).json()

        assert [item["id"] for item in first["items"] + second["items"]] == made[::-1]
        assert second["next"] is None


class TestTest:
    async def test_says_how_one_attempt_went(self, hook, receiver) -> None:
        answer = (await hook.owner.post(f"/webhooks/{hook.id}/test")).json()

        assert (answer["ok"], answer["status"], answer["error"]) == (True, 204, None)
        [request] = receiver.requests
        body = Webhook(hook.secret).verify(request.body, request.headers)
        assert (body["type"], body["data"]) == ("webhook.test", {"webhook_id": str(hook.id)})
        assert await hook.messages() == []

    async def test_says_what_is_wrong(self, hook, receiver) -> None:
        receiver.answers.append((500, {}))
        answer = (await hook.owner.post(f"/webhooks/{hook.id}/test")).json()

        assert (answer["ok"], answer["status"]) == (False, 500)
        assert answer["error"] == "The receiver answered 500."

    async def test_holds_no_connection_of_the_database_meanwhile(self, hook, receiver) -> None:
        receiver.may_answer.clear()
        waiting = asyncio.create_task(hook.owner.post(f"/webhooks/{hook.id}/test"))
        await receiver.arrived.wait()

        assert hook.parts.house.database.engine.pool.checkedout() == 0
        receiver.may_answer.set()
        assert (await waiting).status_code == 200


class TestReplay:
    async def test_of_one_sends_it_again_under_its_id(self, dead, teller, receiver) -> None:
        first, *rest = await dead.messages()
        answer = await dead.owner.post(f"/webhooks/{dead.id}/messages/{first['id']}/replay")
        assert answer.json()["state"] == "pending"
        await teller.all()

        assert [request.headers["webhook-id"] for request in receiver.requests] == [first["id"]]
        states = [message["state"] for message in await dead.messages()]
        assert states == ["sent", *["dead" for _ in rest]]

    async def test_of_one_that_is_not_dead_is_a_conflict(self, hook, teller) -> None:
        await hook.happens(1)
        await teller.all()
        [message] = await hook.messages()

        answer = await hook.owner.post(f"/webhooks/{hook.id}/messages/{message['id']}/replay")

        assert code(answer) == (409, "not_dead")

    async def test_of_all_since_goes_oldest_first_and_as_far_as_one_call_may(
        self, dead, teller, receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "REPLAY_AT_ONCE", 2)
        messages = await dead.messages()
        since = {"since": messages[0]["created_at"]}

        answers = [
            (await dead.owner.post(f"/webhooks/{dead.id}/replay", since)).json() for _ in range(2)
        ]
        await teller.all()

        assert answers == [{"replayed": 2, "more": True}, {"replayed": 1, "more": False}]
        sent = {request.headers["webhook-id"] for request in receiver.requests}
        assert sent == {message["id"] for message in messages}

    async def test_of_what_is_younger_leaves_the_older(self, dead, clock) -> None:
        since = {"since": clock.now().isoformat()}
        answer = await dead.owner.post(f"/webhooks/{dead.id}/replay", since)

        assert answer.json() == {"replayed": 0, "more": False}

    async def test_messages_are_listed_by_state(self, dead) -> None:
        path = f"/webhooks/{dead.id}/messages"

        assert len((await dead.owner.get(f"{path}?state=dead")).json()["items"]) == 3
        assert (await dead.owner.get(f"{path}?state=sent")).json()["items"] == []
        assert code(await dead.owner.get(f"{path}?state=lost")) == (422, "invalid_request")


class TestRetention:
    async def test_forgets_what_was_taken_and_later_what_is_dead(
        self, dead, teller, clock, superuser: asyncpg.Connection
    ) -> None:
        await dead.happens(4)
        await teller.all()
        await superuser.execute(
            "INSERT INTO webhook_messages (id, tenant_id, webhook_id, epoch, seq, type, body,"
            " due_at, created_at) VALUES ($1, $2, $3, 9, 9, 't', '', $4, $4)",
            new_id(),
            dead.tenant_id,
            dead.id,
            clock.now(),
        )

        async def states_after(age: timedelta) -> list[str]:
            now = clock.now() + age
            async with dead.parts.house.database.session() as session:
                connection = await driver(session)
                await connection.execute(PRUNE, now - KEEP_WEBHOOKS_SENT, now - KEEP_WEBHOOKS_DEAD)
            return sorted(message["state"] for message in await dead.messages())

        day = timedelta(days=1)
        assert await states_after(KEEP_WEBHOOKS_SENT - day) == ["dead"] * 3 + ["pending", "sent"]
        assert await states_after(KEEP_WEBHOOKS_SENT + day) == ["dead"] * 3 + ["pending"]
        assert await states_after(KEEP_WEBHOOKS_DEAD + day) == ["pending"]


class TestEvents:
    async def test_are_listed_with_a_sentence_each(self, people) -> None:
        owner = await people.owner()
        listed = (await owner.get("/webhook-events")).json()

        assert [event["name"] for event in listed] == list(EVENTS)
        assert all(event["description"].endswith(".") for event in listed)
