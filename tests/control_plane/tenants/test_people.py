"""Members, roles and invitations: who may give, take and change what."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from control_plane.access.permissions import Permission, Role
from control_plane.kit.ids import new_id
from control_plane.tenants.invitations import LIFE
from tests.conftest import PASSWORD, People, Person
from tests.control_plane.conversations.scene import make_bot


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def invite(person: Person, email: str = "new@example.com", role: str = "viewer") -> dict:
    answer = await person.post("/invitations", {"email": email, "role": role})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def accept(client, token: str, **body):
    body = {"token": token, "password": PASSWORD, "name": "Wu"} | body
    return await client.post("/api/v1/invitations/accept", json=body)


async def sign_in(client, email: str, **body):
    body = {"email": email, "password": PASSWORD} | body
    return await client.post("/api/v1/auth/login", json=body)


async def make_role(person: Person, *permissions: str, name: str = "Helper") -> dict:
    body = {"name": name, "permissions": list(permissions)}
    answer = await person.post("/roles", body)
    assert answer.status_code == 201, answer.text
    return answer.json()


class TestMembers:
    async def test_are_listed_with_their_addresses(self, people: People) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)

        items = (await admin.get("/members")).json()["items"]

        assert [(i["email"], i["role"]) for i in items] == [
            (owner.email, "owner"),
            (admin.email, "admin"),
        ]

    async def test_get_another_role_from_their_next_request_on(self, people: People) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)

        changed = await owner.patch(f"/members/{admin.member_id}", {"role": "viewer", "name": "A"})

        assert (changed.json()["role"], changed.json()["name"]) == ("viewer", "A")
        assert code(await admin.post("/instances", {"name": "B"})) == (403, "forbidden")

    async def test_who_is_removed_is_out_at_the_next_request(
        self, people: People, superuser
    ) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)
        assert (await member.get("/instances")).status_code == 200

        assert (await owner.delete(f"/members/{member.member_id}")).status_code == 204

        assert code(await member.get("/instances")) == (401, "not_a_member")
        audited = await superuser.fetchrow(
            "SELECT actor_id, before->>'role' FROM audit WHERE action = 'member.remove'"
        )
        assert tuple(audited) == (owner.identity_id, "member")

    async def test_who_is_removed_leaves_their_conversations_to_the_others(
        self, parts, people: People, superuser
    ) -> None:
        bot = await make_bot(parts, await people.owner())
        member = await people.member(bot.tenant_id, Role.MEMBER)
        conversation = await bot.hears("hello")
        await member.post(f"/conversations/{conversation}/take-over")

        assert (await bot.owner.delete(f"/members/{member.member_id}")).status_code == 204

        shown = (await bot.owner.get(f"/conversations/{conversation}")).json()
        assert (shown["owner"], shown["owner_member_id"]) == ("waiting", None)
        assert shown["waiting_reason"] == "member_removed"
        told = await superuser.fetchval(
            "SELECT data->>'owner' FROM stream WHERE type = 'conversation.owner_changed'"
            " ORDER BY seq DESC LIMIT 1"
        )
        assert told == "waiting"

    async def test_an_admin_changes_no_owner(self, people: People) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)
        path = f"/members/{owner.member_id}"

        for answer in (await admin.patch(path, {"name": "X"}), await admin.delete(path)):
            assert code(answer) == (403, "beyond_own_permissions")

    async def test_an_admin_makes_no_owner(self, people: People) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)

        answer = await admin.patch(f"/members/{admin.member_id}", {"role": "owner"})

        assert code(answer) == (403, "beyond_own_permissions")

    async def test_a_member_changes_nobody(self, people: People) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)

        answer = await member.patch(f"/members/{member.member_id}", {"role": "admin"})

        assert code(answer) == (403, "forbidden")

    async def test_of_another_tenant_are_not_there(self, people: People) -> None:
        owner, other = await people.owner(), await people.owner()

        for member_id in (other.member_id, new_id()):
            assert code(await owner.delete(f"/members/{member_id}")) == (404, "member_not_found")


class TestLastOwner:
    async def test_neither_leaves_nor_steps_down(self, people: People) -> None:
        owner = await people.owner()
        path = f"/members/{owner.member_id}"

        assert code(await owner.delete(path)) == (409, "last_owner")
        assert code(await owner.patch(path, {"role": "admin"})) == (409, "last_owner")
        assert (await owner.patch(path, {"role": "owner"})).status_code == 200

    async def test_leaves_when_there_is_another(self, people: People) -> None:
        owner = await people.owner()
        await people.member(owner.tenant_id, Role.OWNER)

        assert (await owner.delete(f"/members/{owner.member_id}")).status_code == 204

    async def test_two_who_leave_at_once_leave_one(self, people: People, superuser) -> None:
        one = await people.owner()
        two = await people.member(one.tenant_id, Role.OWNER)

        answers = await asyncio.gather(
            one.delete(f"/members/{one.member_id}"), two.delete(f"/members/{two.member_id}")
        )

        assert Counter(answer.status_code for answer in answers) == {204: 1, 409: 1}
        assert await superuser.fetchval("SELECT count(*) FROM members") == 1


class TestLeave:
    async def test_needs_no_permission(self, people: People, superuser) -> None:
        owner = await people.owner()
        viewer = await people.member(owner.tenant_id, Role.VIEWER)

        assert (await viewer.delete("/members/me")).status_code == 204

        assert (await viewer.get("/conversations")).json()["code"] == "not_a_member"
        left = await superuser.fetchrow(
            "SELECT actor_id, target_id FROM audit WHERE action = 'member.remove'"
        )
        assert tuple(left) == (viewer.identity_id, viewer.member_id)

    async def test_is_not_for_the_last_owner_nor_for_who_is_no_member(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()

        assert (await owner.delete("/members/me")).json()["code"] == "last_owner"
        assert (await operator.delete("/members/me")).json()["code"] == "member_not_found"

    async def test_works_while_the_tenant_is_suspended(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()
        member = await people.member(owner.tenant_id, Role.MEMBER)
        await operator.post(f"/tenants/{owner.tenant_id}/suspend")

        assert (await member.delete("/members/me")).status_code == 204


class TestInvitation:
    async def test_makes_a_new_person_a_member(self, people: People, client, superuser) -> None:
        owner = await people.owner()
        invited = await invite(owner, "Wu@Example.com", "member")

        joined = await accept(client, invited["token"])

        assert joined.status_code == 200
        assert joined.json()["tenant_id"] == str(owner.tenant_id)
        assert (await sign_in(client, "wu@example.com")).status_code == 200
        items = (await owner.get("/members")).json()["items"]
        assert [(i["name"], i["email"], i["role"]) for i in items[1:]] == [
            ("Wu", "wu@example.com", "member")
        ]
        assert (await owner.get("/invitations")).json()["items"] == []
        kept = await superuser.fetchval("SELECT sha256 FROM credentials WHERE kind = 'invitation'")
        assert invited["token"].encode() != kept
        assert invited["url"].endswith(f"#{invited['token']}")

    async def test_asks_who_has_an_account_for_its_password(self, people: People, client) -> None:
        owner, known = await people.owner(), await people.owner("Other")
        invited = await invite(owner, known.email)

        wrong = await accept(client, invited["token"], password="another password")
        none = await accept(client, invited["token"], password=None)
        right = await accept(client, invited["token"])

        assert code(wrong) == code(none) == (401, "wrong_credentials")
        assert right.status_code == 200
        tenants = {m["tenant_id"] for m in (await known.get("/auth/me")).json()["memberships"]}
        assert tenants == {str(owner.tenant_id), str(known.tenant_id)}

    async def test_wants_a_good_password_of_who_is_new(self, people: People, client) -> None:
        invited = await invite(await people.owner())

        for password in (None, "short"):
            answer = await accept(client, invited["token"], password=password)
            assert code(answer) == (422, "password_needed")

    async def test_is_good_for_one_use(self, people: People, client, superuser) -> None:
        invited = await invite(await people.owner())

        answers = await asyncio.gather(*(accept(client, invited["token"]) for _ in range(4)))

        assert Counter(answer.status_code for answer in answers)[200] == 1
        assert {answer.status_code for answer in answers} <= {200, 401, 409, 410}
        assert await superuser.fetchval("SELECT count(*) FROM members") == 2
        assert code(await accept(client, invited["token"])) == (410, "invitation_gone")

    async def test_expires(self, people: People, client, clock) -> None:
        invited = await invite(await people.owner())
        clock.advance(LIFE + timedelta(seconds=1))

        assert code(await accept(client, invited["token"])) == (410, "invitation_gone")

    async def test_can_be_withdrawn(self, people: People, client) -> None:
        owner = await people.owner()
        invited = await invite(owner)

        assert (await owner.delete(f"/invitations/{invited['id']}")).status_code == 204

        assert code(await accept(client, invited["token"])) == (410, "invitation_gone")

    async def test_is_worth_what_its_maker_may_give_by_then(self, people: People, client) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)
        invited = await invite(admin, role="admin")

        await owner.patch(f"/members/{admin.member_id}", {"role": "viewer"})

        assert code(await accept(client, invited["token"])) == (410, "invitation_gone")

    async def test_goes_with_its_maker(self, people: People, client) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)
        invited = await invite(admin)

        await owner.delete(f"/members/{admin.member_id}")

        assert code(await accept(client, invited["token"])) == (410, "invitation_gone")
        assert (await owner.get("/invitations")).json()["items"] == []

    async def test_joins_no_tenant_that_is_suspended(self, people: People, client) -> None:
        owner, operator = await people.owner(), await people.operator()
        invited = await invite(owner)

        await operator.post(f"/tenants/{owner.tenant_id}/suspend")

        assert code(await accept(client, invited["token"])) == (410, "invitation_gone")

    async def test_gives_no_more_than_its_maker_has(self, people: People) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)

        answer = await admin.post("/invitations", {"email": "a@example.com", "role": "owner"})

        assert code(answer) == (403, "beyond_own_permissions")

    async def test_is_not_made_twice_or_for_a_member(self, people: People) -> None:
        owner = await people.owner()
        await invite(owner, "a@example.com")

        for email, why in (("a@example.com", "already_invited"), (owner.email, "already_member")):
            answer = await owner.post("/invitations", {"email": email, "role": "viewer"})
            assert code(answer) == (409, why)

    async def test_makes_no_operator_a_member(self, people: People, client) -> None:
        operator = await people.operator()
        invited = await invite(await people.owner(), operator.email)

        assert code(await accept(client, invited["token"])) == (403, "operator_account")

    async def test_with_a_made_up_token_is_gone(self, client) -> None:
        assert code(await accept(client, "made-up")) == (410, "invitation_gone")


class TestRoles:
    async def test_of_ones_own_hold_at_once(self, people: People) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)
        role = await make_role(owner, "answers.read")

        await owner.patch(f"/members/{member.member_id}", {"role": role["id"]})

        me = (await member.get("/auth/me")).json()
        assert me["permissions"] == ["answers.read"]
        assert me["memberships"][0]["role"] == role["id"]
        assert code(await member.get("/instances")) == (403, "forbidden")
        await owner.patch(f"/roles/{role['id']}", {"permissions": ["instances.read"]})
        assert (await member.get("/instances")).status_code == 200

    async def test_are_given_by_invitation(self, people: People, client) -> None:
        owner = await people.owner()
        role = await make_role(owner, "answers.read", "answers.write")
        invited = await invite(owner, role=role["id"])

        await accept(client, invited["token"])

        items = (await owner.get("/members")).json()["items"]
        assert items[1]["role"] == role["id"]

    @pytest.mark.parametrize(
        "permission", [Permission.TENANTS_DECIDE, Permission.PLANS_WRITE, "everything"]
    )
    async def test_take_permissions_from_the_tenants_list_only(
        self, people: People, permission: str
    ) -> None:
        body = {"name": "Boss", "permissions": [permission]}

        answer = await (await people.owner()).post("/roles", body)

        assert code(answer) == (422, "invalid_request")

    async def test_hold_no_more_than_their_maker_has(self, people: People) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)
        mighty = await make_role(owner, "tenant.delete", name="Mighty")
        weak = await make_role(admin, "answers.read", name="Weak")

        attempts = [
            await admin.post("/roles", {"name": "B", "permissions": ["tenant.delete"]}),
            await admin.patch(f"/roles/{weak['id']}", {"permissions": ["tenant.delete"]}),
            await admin.patch(f"/roles/{mighty['id']}", {"permissions": []}),
            await admin.delete(f"/roles/{mighty['id']}"),
            await admin.patch(f"/members/{admin.member_id}", {"role": mighty["id"]}),
            await admin.post("/invitations", {"email": "a@example.com", "role": mighty["id"]}),
        ]

        assert {code(answer) for answer in attempts} == {(403, "beyond_own_permissions")}

    async def test_are_not_removed_while_somebody_has_them(self, people: People, client) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)
        role = await make_role(owner, "answers.read")
        invited = await invite(owner, role=role["id"])
        await owner.patch(f"/members/{member.member_id}", {"role": role["id"]})

        used = await owner.delete(f"/roles/{role['id']}")
        await owner.patch(f"/members/{member.member_id}", {"role": "viewer"})
        unused = await owner.delete(f"/roles/{role['id']}")

        assert code(used) == (409, "role_in_use")
        assert unused.status_code == 204
        assert code(await accept(client, invited["token"])) == (410, "invitation_gone")
        assert (await owner.get("/roles")).json()["items"] == []

    async def test_have_names_of_their_own(self, people: People) -> None:
        owner = await people.owner()
        await make_role(owner, name="Helper")

        for name in ("Helper", "owner"):
            answer = await owner.post("/roles", {"name": name, "permissions": []})
            assert code(answer) == (409, "role_exists")

    async def test_of_another_tenant_are_not_there(self, people: People) -> None:
        owner, other = await people.owner(), await people.owner()
        theirs = await make_role(other, "answers.read")

        for answer in (
            await owner.patch(f"/roles/{theirs['id']}", {"name": "X"}),
            await owner.patch(f"/members/{owner.member_id}", {"role": theirs["id"]}),
        ):
            assert code(answer) == (404, "role_not_found")


class TestSwitch:
    async def test_goes_on_in_another_of_ones_tenants(self, people: People, client) -> None:
        owner, known = await people.owner(), await people.owner("Other")
        await accept(client, (await invite(owner, known.email))["token"])

        switched = await known.post("/auth/switch", {"tenant_id": str(owner.tenant_id)})

        assert switched.json()["tenant_id"] == str(owner.tenant_id)
        headers = {"authorization": f"Bearer {switched.json()['access_token']}"}
        me = (await client.get("/api/v1/auth/me", headers=headers)).json()
        assert me["tenant_id"] == str(owner.tenant_id)
        renewed = await client.post("/api/v1/auth/refresh")
        assert renewed.json()["tenant_id"] == str(owner.tenant_id)

    async def test_to_a_foreign_tenant_is_not_there(self, people: People) -> None:
        owner, other = await people.owner(), await people.owner()

        answer = await owner.post("/auth/switch", {"tenant_id": str(other.tenant_id)})

        assert code(answer) == (404, "tenant_not_found")

    async def test_is_for_who_is_signed_in(self, client) -> None:
        answer = await client.post("/api/v1/auth/switch", json={"tenant_id": str(new_id())})

        assert code(answer) == (401, "not_signed_in")
