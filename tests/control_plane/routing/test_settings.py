"""The tenant's document: what is refused, and who may change it."""

from typing import Any
from uuid import UUID

import pytest

from control_plane.access.permissions import Role
from tests.control_plane.routing.conftest import Desk

TEA = {"key": "tea", "name": "Tea"}


class TestSettings:
    async def test_are_off_until_somebody_switches_routing_on(self, desk: Desk) -> None:
        shown = (await desk.owner.get("/routing/settings")).json()

        assert (shown["enabled"], shown["version"], shown["open"]) == (False, 0, True)
        assert (await desk.routes())["version"] == 1

    async def test_are_replaced_only_by_who_saw_the_last_ones(self, desk: Desk) -> None:
        await desk.routes()
        answer = await desk.owner.call("PUT", "/routing/settings", json={"version": 0})

        assert (answer.status_code, answer.json()["code"]) == (409, "settings_changed")

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"skills": [TEA, TEA]}, "skill_twice"),
            ({"needs": [{"channel_id": str(UUID(int=1)), "skill": "tea"}]}, "unknown_skill"),
            (
                {"skills": [TEA], "needs": [{"channel_id": str(UUID(int=1)), "skill": "tea"}]},
                "channel_not_found",
            ),
            (
                {
                    "skills": [TEA],
                    "needs": [{"channel_id": str(UUID(int=1)), "skill": "tea"}] * 2,
                },
                "channel_twice",
            ),
            ({"hours": {"time_zone": "Mars/Olympus"}}, "unknown_time_zone"),
            (
                {"closing": {"after_min": 5, "warning": "?", "warn_before_min": 5}},
                "warning_too_early",
            ),
        ],
    )
    async def test_that_do_not_fit_each_other_are_refused(
        self, desk: Desk, body: dict[str, Any], code: str
    ) -> None:
        answer = await desk.owner.call("PUT", "/routing/settings", json=body)

        assert answer.json()["code"] == code
        assert (await desk.owner.get("/routing/settings")).json()["version"] == 0

    async def test_are_the_managers_and_ones_state_is_ones_own(self, desk: Desk) -> None:
        member = await desk.hires("busy")
        refused = await member.call("PUT", "/routing/settings", json={})
        other = await member.call("PUT", f"/routing/members/{member.member_id}", json={})
        viewer = await desk.people.member(desk.bot.tenant_id, Role.VIEWER)
        looking = await viewer.call("PUT", "/routing/me", json={"state": "online"})

        assert [refused.status_code, other.status_code, looking.status_code] == [403] * 3
        assert (await desk.member(member))["said"] == "busy"

    async def test_a_key_is_nobody_who_could_be_there(self, desk: Desk) -> None:
        body = {"name": "k", "scopes": ["conversations.write"]}
        key = (await desk.owner.post("/api-keys", body)).json()["key"]
        answer = await desk.owner.call(
            "PUT",
            "/routing/me",
            json={"state": "online"},
            headers={"authorization": f"Bearer {key}"},
        )

        assert (answer.status_code, answer.json()["code"]) == (403, "not_a_member")

    async def test_a_members_skills_are_among_the_tenants(self, desk: Desk) -> None:
        await desk.routes(skills=[TEA])
        member = await desk.hires()
        path = f"/routing/members/{member.member_id}"
        unknown = await desk.owner.call("PUT", path, json={"skills": {"coffee": 1}})
        known = await desk.owner.call("PUT", path, json={"skills": {"tea": 4}, "capacity": 3})

        assert unknown.json()["code"] == "unknown_skill"
        assert (known.json()["skills"], known.json()["capacity"]) == ({"tea": 4}, 3)
        assert known.json()["state"] == "online"
