"""API keys: made, shown once, used, signed with, revoked; through the whole application."""

import json
from datetime import timedelta

import asyncpg
import httpx2
import pytest

from adapters import standard_webhooks
from control_plane.access.api_keys import MAX_KEYS, USED_EVERY, message_id
from control_plane.access.permissions import Role
from control_plane.kit.ids import new_id

CREATE = "/api/v1/instances"


async def make(person, *scopes: str, **more) -> dict:
    body = {"name": "shop", "scopes": list(scopes) or ["instances.read"]} | more
    answer = await person.post("/api-keys", body)
    assert answer.status_code == 201, answer.text
    made: dict = answer.json()
    return made


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class Caller:
    """A program that holds a key."""

    def __init__(self, client: httpx2.AsyncClient, made: dict, clock) -> None:
        self._client = client
        self._made = made
        self._clock = clock

    async def call(self, method: str, path: str, **more) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self._made['key']}"} | more.pop("headers", {})
        return await self._client.request(method, path, headers=headers, **more)

    def sign(self, method: str, target: str, body: bytes = b"", nonce: str = "") -> dict[str, str]:
        return standard_webhooks.sign(
            self._made["signing_secret"],
            message_id=message_id(nonce or new_id().hex, method=method, target=target),
            timestamp=int(self._clock.now().timestamp()),
            body=body,
        )


@pytest.fixture
def caller(client, clock):
    return lambda made: Caller(client, made, clock)


class TestCreate:
    async def test_shows_the_secret_once_and_keeps_its_digest(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        answer = await owner.post(
            "/api-keys",
            {"name": "shop", "scopes": ["instances.read"], "signed": True},
            headers={"idempotency-key": "once"},
        )
        made = answer.json()
        again = await owner.post(
            "/api-keys",
            {"name": "shop", "scopes": ["instances.read"], "signed": True},
            headers={"idempotency-key": "once"},
        )
        listed = (await owner.get("/api-keys")).json()["items"]

        assert again.json() == made
        assert answer.headers["cache-control"] == "no-store"
        assert made["key"].startswith(made["prefix"])
        assert [key["id"] for key in listed] == [made["id"]]
        assert not {"key", "signing_secret"} & set(listed[0])
        for table in ("credentials", "api_keys", "audit", "stream", "idempotency"):
            rows = await superuser.fetch(f"SELECT t::text FROM {table} AS t")  # noqa: S608
            shown = "".join(row[0] for row in rows)
            for secret in (made["key"], made["signing_secret"]):
                assert secret not in shown
                assert secret.encode().hex() not in shown

    async def test_nobody_gives_what_they_do_not_have(self, people) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)
        for scope in ("tenant.delete", "tenants.list", "api_keys.write"):
            answer = await admin.post("/api-keys", {"name": "x", "scopes": [scope]})
            assert code(answer) == (403, "scope_not_yours")

    @pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
    async def test_is_not_for_everybody(self, people, role: Role) -> None:
        somebody = await people.member((await people.owner()).tenant_id, role)
        answer = await somebody.post("/api-keys", {"name": "x", "scopes": ["instances.read"]})

        assert code(answer) == (403, "forbidden")

    async def test_there_is_a_limit(self, people, superuser: asyncpg.Connection) -> None:
        owner = await people.owner()
        await superuser.execute(
            "INSERT INTO api_keys (id, tenant_id, name, prefix, scopes, created_by, created_at) "
            "SELECT gen_random_uuid(), $1, 'x', 'x', '{}', $1, now() FROM generate_series(1, $2)",
            owner.tenant_id,
            MAX_KEYS,
        )
        answer = await owner.post("/api-keys", {"name": "x", "scopes": ["instances.read"]})

        assert code(answer) == (409, "too_many_api_keys")


class TestUse:
    async def test_does_what_its_scopes_say_and_no_more(self, people, caller) -> None:
        owner = await people.owner()
        key = caller(await make(owner, "instances.read", "instances.write"))
        made = await key.call("POST", CREATE, json={"name": "Bot"})

        assert made.status_code == 201
        assert len((await key.call("GET", CREATE)).json()["items"]) == 1
        assert code(await key.call("GET", "/api/v1/conversations")) == (403, "forbidden")
        assert code(await key.call("GET", "/api/v1/auth/me")) == (403, "not_a_person")

    async def test_sees_its_own_tenant_only(self, people, caller) -> None:
        other = await people.owner("Other")
        theirs = (await other.post("/instances", {"name": "Bot"})).json()
        key = caller(await make(await people.owner()))

        assert (await key.call("GET", f"{CREATE}/{theirs['id']}")).status_code == 404
        assert (await key.call("GET", CREATE)).json()["items"] == []

    async def test_what_it_did_stands_in_the_audit_under_its_id(
        self, people, caller, superuser: asyncpg.Connection
    ) -> None:
        made = await make(await people.owner(), "instances.write")
        await caller(made).call("POST", CREATE, json={"name": "Bot"})
        rows = await superuser.fetch("SELECT actor_id FROM audit WHERE actor_kind = 'key'")

        assert {str(row[0]) for row in rows} == {made["id"]}

    async def test_a_suspended_tenants_key_only_looks(self, people, caller, superuser) -> None:
        key = caller(await make(await people.owner(), "instances.read", "instances.write"))
        await superuser.execute("UPDATE tenants SET state = 'suspended'")

        assert (await key.call("GET", CREATE)).status_code == 200
        answer = await key.call("POST", CREATE, json={"name": "Bot"})
        assert code(answer) == (403, "tenant_not_active")

    async def test_ends_when_it_is_revoked(self, people, caller) -> None:
        owner = await people.owner()
        made = await make(owner)
        key = caller(made)
        assert (await key.call("GET", CREATE)).status_code == 200
        assert (await owner.delete(f"/api-keys/{made['id']}")).status_code == 204
        assert (await owner.delete(f"/api-keys/{made['id']}")).status_code == 204

        assert code(await key.call("GET", CREATE)) == (401, "invalid_api_key")

    async def test_ends_when_it_expires(self, people, caller, clock) -> None:
        end = clock.now() + timedelta(minutes=5)
        key = caller(await make(await people.owner(), expires_at=end.isoformat()))
        assert (await key.call("GET", CREATE)).status_code == 200
        clock.advance(timedelta(minutes=5))

        assert code(await key.call("GET", CREATE)) == (401, "invalid_api_key")

    async def test_another_tenant_cannot_revoke_it(self, people) -> None:
        made = await make(await people.owner())

        answer = await (await people.owner("Other")).delete(f"/api-keys/{made['id']}")
        assert code(answer) == (404, "api_key_not_found")

    async def test_its_last_use_is_written_once_a_minute(
        self, people, caller, clock, superuser
    ) -> None:
        key = caller(await make(await people.owner()))
        seen = []
        for step in (timedelta(0), USED_EVERY - timedelta(seconds=1), timedelta(seconds=1)):
            clock.advance(step)
            await key.call("GET", CREATE)
            seen.append(await superuser.fetchval("SELECT last_used_at FROM api_keys"))

        assert seen[0] == seen[1] == clock.now() - USED_EVERY
        assert seen[2] == clock.now()


class TestSigned:
    async def test_a_signed_request_passes_once(self, people, caller) -> None:
        key = caller(await make(await people.owner(), "instances.write", signed=True))
        body = json.dumps({"name": "Bot"}).encode()
        headers = key.sign("POST", CREATE, body) | {"content-type": "application/json"}

        assert (await key.call("POST", CREATE, content=body, headers=headers)).status_code == 201
        again = await key.call("POST", CREATE, content=body, headers=headers)
        assert code(again) == (401, "request_replayed")

    async def test_the_query_is_signed_too(self, people, caller) -> None:
        key = caller(await make(await people.owner(), signed=True))
        headers = key.sign("GET", f"{CREATE}?limit=5")

        answer = await key.call("GET", f"{CREATE}?limit=6", headers=headers)
        assert code(answer) == (401, "invalid_signature")
        assert (await key.call("GET", f"{CREATE}?limit=5", headers=headers)).status_code == 200

    async def test_anything_else_is_refused(self, people, caller, clock) -> None:
        key = caller(await make(await people.owner(), signed=True))
        stale = key.sign("GET", CREATE)
        clock.advance(timedelta(seconds=standard_webhooks.TOLERANCE_S + 1))
        plain = standard_webhooks.sign(
            key._made["signing_secret"],
            message_id="msg_1",
            timestamp=int(clock.now().timestamp()),
            body=b"",
        )
        for headers in ({}, stale, plain, key.sign("POST", CREATE), key.sign("GET", CREATE, b"x")):
            answer = await key.call("GET", CREATE, headers=headers)
            assert code(answer) == (401, "invalid_signature")

    async def test_ids_are_forgotten_after_ten_minutes(
        self, people, caller, clock, superuser
    ) -> None:
        key = caller(await make(await people.owner(), signed=True))
        kept = []
        for step in (timedelta(0), timedelta(minutes=10), timedelta(seconds=1)):
            clock.advance(step)
            await key.call("GET", CREATE, headers=key.sign("GET", CREATE))
            kept.append(await superuser.fetchval("SELECT count(*) FROM signed_requests"))

        assert kept == [1, 2, 2]
