"""Somebody who works for two tenants: what they are in one is nothing in the other."""

from uuid import UUID

import pytest

from control_plane.access.permissions import Role
from control_plane.db.session import Scope
from control_plane.kit.ids import new_id
from control_plane.tenants.models import Member


@pytest.fixture
async def both(people, house):
    """An owner of one tenant, alone, who is an owner of another one, too: (person, the other)."""
    person, other = await people.owner("Ant"), await people.owner("Bee")
    async with house.database.session(Scope(tenants=(other.tenant_id,))) as session:
        member = Member(
            id=new_id(),
            tenant_id=other.tenant_id,
            identity_id=person.identity_id,
            role=Role.OWNER,
            name="In both",
            created_at=house.clock.now(),
        )
        session.add(member)
    return person, other, member.id


class TestWhoWorksForTwo:
    async def test_sees_the_people_of_the_one_they_act_for(self, both) -> None:
        person, _other, elsewhere = both
        shown = (await person.get("/members")).json()["items"]

        assert [UUID(one["id"]) for one in shown] == [person.member_id]
        for answer in (
            await person.patch(f"/members/{elsewhere}", {"name": "x"}),
            await person.delete(f"/members/{elsewhere}"),
            await person.post(f"/members/{elsewhere}/reset-link"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "member_not_found")

    async def test_cannot_leave_a_tenant_without_an_owner(self, both) -> None:
        person, _other, _elsewhere = both
        for answer in (
            await person.delete(f"/members/{person.member_id}"),
            await person.patch(f"/members/{person.member_id}", {"role": "viewer"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")

    async def test_reads_a_tenant_only_as_its_member(self, both) -> None:
        person, other, _elsewhere = both

        assert (await person.get(f"/tenants/{other.tenant_id}")).status_code == 404

    async def test_neither_sees_nor_gives_a_role_of_the_other(self, both) -> None:
        person, other, elsewhere = both
        theirs = await other.post("/roles", {"name": "Desk", "permissions": []})
        role_id = theirs.json()["id"]
        assert (await other.patch(f"/members/{elsewhere}", {"role": role_id})).status_code == 200

        assert (await person.get("/roles")).json()["items"] == []
        for answer in (
            await person.post("/invitations", {"email": "a@example.com", "role": role_id}),
            await person.patch(f"/roles/{role_id}", {"name": "Mine"}),
            await person.delete(f"/roles/{role_id}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "role_not_found")
        assert (await person.post("/roles", {"name": "Desk", "permissions": []})).status_code == 201

    async def test_is_told_of_both_when_they_ask_who_they_are(self, both) -> None:
        person, other, _elsewhere = both
        told = (await person.get("/auth/me")).json()["memberships"]

        assert {UUID(one["tenant_id"]) for one in told} == {person.tenant_id, other.tenant_id}
