"""Channels: a tenant's IM accounts, through the whole application."""

import json

import asyncpg
import pytest

from control_plane.access.permissions import Role
from control_plane.channels.service import MAX_CHANNELS
from control_plane.kit.ids import fingerprint, new_id


async def instance(person) -> str:
    return (await person.post("/instances", {"name": "Bot"})).json()["id"]


async def create(person, instance_id: str, **settings) -> dict:
    answer = await person.post(
        f"/instances/{instance_id}/channels",
        {"kind": "webchat", "name": "Site", "settings": settings},
    )
    assert answer.status_code == 201
    return answer.json()


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture
async def owner(people):
    return await people.owner()


class TestCreate:
    async def test_connects_an_account(self, owner) -> None:
        made = await create(owner, await instance(owner), title="Tea")

        assert {name: made[name] for name in ("kind", "name", "settings", "state")} == {
            "kind": "webchat",
            "name": "Site",
            "settings": {"title": "Tea"},
            "state": "connecting",
        }
        assert made["callback_url"] is None
        assert made["webchat_url"].startswith("http://botyard.test/webchat/")
        assert (await owner.get(f"/channels/{made['id']}")).json() == made

    async def test_a_secret_is_never_shown_and_lies_sealed(
        self, owner, keys, superuser: asyncpg.Connection
    ) -> None:
        chosen = "a-secret-that-nobody-is-to-see-1234567"
        made = await create(owner, await instance(owner), secret=chosen)

        answers = [
            await owner.get(f"/channels/{made['id']}"),
            await owner.get(f"/instances/{made['instance_id']}/channels"),
            await owner.get(f"/instances/{made['instance_id']}/timeline"),
        ]
        everything = json.dumps(made) + "".join(answer.text for answer in answers)
        kept = await superuser.fetch(
            "SELECT channels::text FROM channels UNION ALL SELECT audit::text FROM audit"
            " UNION ALL SELECT stream::text FROM stream UNION ALL SELECT routes::text FROM routes"
        )

        assert made["secrets_set"] == ["secret"]
        assert chosen not in everything
        assert not any(chosen in row[0] or chosen.encode().hex() in row[0] for row in kept)
        sealed = await superuser.fetchval("SELECT secrets FROM channels")
        assert json.loads(keys.open(sealed)) == {"secret": chosen}

    async def test_the_secret_that_we_make_up_is_new_each_time(
        self, owner, keys, superuser: asyncpg.Connection
    ) -> None:
        bot = await instance(owner)
        for _ in range(2):
            await create(owner, bot)

        rows = await superuser.fetch("SELECT secrets FROM channels")
        assert len({json.loads(keys.open(row[0]))["secret"] for row in rows}) == 2

    async def test_routes_lead_to_it_by_digest_only(
        self, owner, keys, superuser: asyncpg.Connection
    ) -> None:
        made = await create(owner, await instance(owner))
        token = made["webchat_url"].rpartition("/")[2]
        secret = json.loads(keys.open(await superuser.fetchval("SELECT secrets FROM channels")))

        rows = await superuser.fetch("SELECT kind, sha256, tenant_id, channel_id::text FROM routes")

        assert {tuple(row) for row in rows} == {
            ("callback", fingerprint(token), owner.tenant_id, made["id"]),
            ("platform", fingerprint(secret["secret"]), owner.tenant_id, made["id"]),
        }

    async def test_wrong_settings_are_refused_with_each_path_and_without_the_value(
        self, owner
    ) -> None:
        answer = await owner.post(
            f"/instances/{await instance(owner)}/channels",
            {
                "kind": "webchat",
                "name": "Site",
                "settings": {"title": "x" * 81, "secret": "too-short", "colour": "red"},
            },
        )

        assert code(answer) == (422, "invalid_settings")
        assert [error["path"] for error in answer.json()["errors"]] == [
            "/settings/title",
            "/settings/secret",
            "/settings/colour",
        ]
        assert "too-short" not in answer.text

    async def test_an_unknown_kind_is_refused_with_those_that_exist(self, owner) -> None:
        answer = await owner.post(
            f"/instances/{await instance(owner)}/channels", {"kind": "telex", "name": "Old"}
        )

        assert code(answer) == (422, "unknown_kind")
        assert "webchat" in answer.json()["detail"]

    async def test_an_instance_has_so_many_and_no_more(
        self, owner, superuser: asyncpg.Connection
    ) -> None:
        bot = await instance(owner)
        await create(owner, bot)
        await superuser.execute(
            "INSERT INTO channels (id, tenant_id, instance_id, kind, name, secrets, public_token,"
            " created_at) SELECT gen_random_uuid(), tenant_id, instance_id, kind, name, secrets,"
            " 'token', now() FROM channels, generate_series(2, $1)",
            MAX_CHANNELS,
        )

        answer = await owner.post(
            f"/instances/{bot}/channels", {"kind": "webchat", "name": "One too many"}
        )

        assert code(answer) == (409, "quota_exceeded")

    async def test_makes_the_instance_due(self, owner, superuser: asyncpg.Connection) -> None:
        bot = await instance(owner)
        await superuser.execute("DELETE FROM work WHERE kind = 'instance'")
        await create(owner, bot)

        assert await superuser.fetchval("SELECT key::text FROM work WHERE kind = 'instance'") == bot


class TestChange:
    async def test_changes_what_is_given_and_nothing_else(
        self, owner, keys, superuser: asyncpg.Connection
    ) -> None:
        made = await create(owner, await instance(owner), title="Tea", greeting="Hello")
        before = keys.open(await superuser.fetchval("SELECT secrets FROM channels"))

        answer = await owner.patch(f"/channels/{made['id']}", {"settings": {"greeting": "你好"}})

        assert answer.json() == made | {"settings": {"title": "Tea", "greeting": "你好"}}
        assert keys.open(await superuser.fetchval("SELECT secrets FROM channels")) == before

    async def test_null_goes_back_to_the_default(self, owner) -> None:
        made = await create(owner, await instance(owner), title="Tea", greeting="Hello")

        answer = await owner.patch(f"/channels/{made['id']}", {"settings": {"greeting": None}})

        assert answer.json()["settings"] == {"title": "Tea"}

    async def test_a_name_alone_leaves_the_settings(self, owner) -> None:
        made = await create(owner, await instance(owner), title="Tea")

        answer = await owner.patch(f"/channels/{made['id']}", {"name": "Shop"})

        assert answer.json() == made | {"name": "Shop"}

    @pytest.mark.parametrize("value", ["another-secret-of-at-least-32-characters", None])
    async def test_the_secret_that_we_made_up_stays(self, owner, value: str | None) -> None:
        made = await create(owner, await instance(owner))

        answer = await owner.patch(f"/channels/{made['id']}", {"settings": {"secret": value}})

        assert code(answer) == (409, "generated_setting")

    async def test_what_would_not_be_valid_is_refused_with_its_path(self, owner) -> None:
        made = await create(owner, await instance(owner))

        answer = await owner.patch(
            f"/channels/{made['id']}", {"settings": {"base_url": "ftp://example.com"}}
        )

        assert code(answer) == (422, "invalid_settings")
        assert [error["path"] for error in answer.json()["errors"]] == ["/settings/base_url"]
        assert (await owner.get(f"/channels/{made['id']}")).json() == made

    async def test_is_audited_without_secrets(self, owner, superuser: asyncpg.Connection) -> None:
        made = await create(owner, await instance(owner), title="Tea")
        await owner.patch(f"/channels/{made['id']}", {"settings": {"title": "Shop"}})

        row = await superuser.fetchrow(
            "SELECT before::text, after::text FROM audit WHERE action = 'channel.change'"
        )
        shown = {"kind": "webchat", "name": "Site", "keep_raw": True}
        assert [json.loads(text) for text in row] == [
            shown | {"settings": {"title": "Tea", "secret": "***"}},
            shown | {"settings": {"title": "Shop", "secret": "***"}},
        ]


class TestDelete:
    async def test_disconnects_and_closes_every_way_in(
        self, owner, client, superuser: asyncpg.Connection
    ) -> None:
        bot = await instance(owner)
        made = await create(owner, bot)
        token = made["webchat_url"].rpartition("/")[2]

        assert (await owner.delete(f"/channels/{made['id']}")).status_code == 204

        assert await superuser.fetchval("SELECT count(*) FROM routes") == 0
        assert code(await owner.get(f"/channels/{made['id']}")) == (404, "channel_not_found")
        assert (await owner.get(f"/instances/{bot}/channels")).json()["items"] == []
        assert code(await client.post(f"/im/{token}", content=b"{}")) == (404, "channel_not_found")
        # What was said on it is kept.
        assert await superuser.fetchval("SELECT state FROM channels") == "stopped"

    async def test_twice_finds_nothing(self, owner) -> None:
        made = await create(owner, await instance(owner))
        await owner.delete(f"/channels/{made['id']}")

        answer = await owner.delete(f"/channels/{made['id']}")

        assert code(answer) == (404, "channel_not_found")


class TestWalls:
    async def test_a_foreign_channel_is_not_there(self, owner, people) -> None:
        theirs = await people.owner()
        foreign = await create(theirs, await instance(theirs))

        for channel_id in (foreign["id"], new_id()):
            path = f"/channels/{channel_id}"
            answers = [
                await owner.get(path),
                await owner.patch(path, {"name": "Mine"}),
                await owner.delete(path),
            ]
            assert {code(answer) for answer in answers} == {(404, "channel_not_found")}
        for answer in (
            await owner.get(f"/instances/{foreign['instance_id']}/channels"),
            await owner.post(
                f"/instances/{foreign['instance_id']}/channels", {"kind": "webchat", "name": "X"}
            ),
        ):
            assert code(answer) == (404, "instance_not_found")

    async def test_a_member_looks_and_does_not_touch(self, owner, people) -> None:
        made = await create(owner, await instance(owner))
        member = await people.member(owner.tenant_id, Role.MEMBER)

        assert (await member.get(f"/channels/{made['id']}")).json() == made
        assert code(await member.delete(f"/channels/{made['id']}")) == (403, "forbidden")
