"""What operators may ask of releases and rollouts, and what they hear when it cannot be."""

from typing import Any

import asyncpg
import pytest

from control_plane.kit.ids import new_id
from control_plane.rollouts.standing import BEFORE, earlier, unwell_since, well
from tests.control_plane.rollouts.conftest import Scene


class TestReleases:
    async def test_are_numbered_and_never_change(self, scene: Scene) -> None:
        body = {"image": "registry.example/agent@sha256:" + "a" * 64, "note": "faster"}
        first = (await scene.operator.post("/releases", body)).json()
        second = (
            await scene.operator.post("/releases", {"settings": {"log_level": "debug"}})
        ).json()

        listed = (await scene.operator.get("/releases")).json()["items"]
        assert listed == [second, first]
        assert (first["image"], first["note"], first["settings"]) == (*body.values(), {})
        assert (second["number"] - first["number"], second["image"]) == (1, None)
        assert not first["newcomers"]

    @pytest.mark.parametrize(
        "body",
        [
            {"image": "agent 2"},
            {"image": "-agent"},
            {"image": "agent@sha256:abc"},
            {"settings": {"outbound_allow": "0.0.0.0/0"}},
            {"settings": {"log_level": "loud"}},
            {"settings": {"max_connections": 1}},
        ],
    )
    async def test_hold_only_what_is_on_the_list(self, scene: Scene, body: dict) -> None:
        answer = await scene.operator.post("/releases", body)

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


class TestRollouts:
    async def test_are_one_at_a_time(self, scene: Scene) -> None:
        release = await scene.release(image="agent:2")
        await scene.start(release)

        answer = await scene.operator.post("/rollouts", {"release": release})

        assert (answer.status_code, answer.json()["code"]) == (409, "rollout_under_way")

    async def test_need_a_release_that_there_is(self, scene: Scene) -> None:
        answer = await scene.operator.post("/rollouts", {"release": 7})

        assert (answer.status_code, answer.json()["code"]) == (404, "release_not_found")

    @pytest.mark.parametrize(
        "waves",
        [[5, 100], [0, 5], [0, 50, 5, 100], [0, 5, 5, 100], [0], [0, 101], [0, *range(92, 101)]],
    )
    async def test_have_waves_that_rise_from_the_canaries_to_all(
        self, scene: Scene, waves: list[int]
    ) -> None:
        release = await scene.release(image="agent:2")

        answer = await scene.operator.post("/rollouts", {"release": release, "waves": waves})

        assert answer.status_code == 422

    async def test_have_everybody_but_who_has_it_already(self, scene: Scene) -> None:
        first = await scene.add()
        release = await scene.release(image="agent:2")
        await scene.until_over(await scene.start(release))
        # Who came back with a former release, as a failed one does.
        other = await scene.add()
        await scene.superuser.execute("UPDATE instances SET release_id = NULL WHERE id = $1", other)

        rollout = await scene.start(release)

        assert set(await scene.members(rollout)) == {other}
        assert first not in await scene.members(rollout)

    async def test_answer_twice_asked_as_once(self, scene: Scene) -> None:
        rollout = await scene.start(await scene.release(image="agent:2"))
        for word in ("pause", "pause", "resume", "resume", "abort", "abort"):
            await scene.say(rollout, word)

    @pytest.mark.parametrize(
        ("said", "word", "code"),
        [
            ([("abort", {"roll_back": True})], "pause", "rollout_state"),
            ([("abort", {"roll_back": True})], "resume", "rollout_state"),
            ([("abort", {"roll_back": True})], "abort", "rollout_state"),
            ([("abort", None)], "resume", "rollout_state"),
        ],
    )
    async def test_do_not_go_where_they_cannot(
        self, scene: Scene, said: list[tuple[str, Any]], word: str, code: str
    ) -> None:
        rollout = await scene.start(await scene.release(image="agent:2"))
        for each, body in said:
            await scene.say(rollout, each, body)

        answer = await scene.operator.post(f"/rollouts/{rollout}/{word}")

        assert (answer.status_code, answer.json()["code"]) == (409, code)

    @pytest.mark.parametrize("word", ["pause", "resume", "abort"])
    async def test_that_are_over_stay_over(self, scene: Scene, word: str) -> None:
        rollout = await scene.start(await scene.release(image="agent:2"))
        await scene.until_over(rollout)

        answer = await scene.operator.post(f"/rollouts/{rollout}/{word}")

        assert (answer.status_code, answer.json()["code"]) == (409, "rollout_ended")

    async def test_that_nobody_knows_are_not_found(self, scene: Scene) -> None:
        for method, rest in (("GET", ""), ("GET", "/members"), ("POST", "/pause")):
            answer = await scene.operator.call(method, f"/rollouts/{new_id()}{rest}")
            assert (answer.status_code, answer.json()["code"]) == (404, "rollout_not_found")

    async def test_come_in_pages(self, scene: Scene) -> None:
        release = await scene.release(image="agent:2")
        bots = sorted([await scene.add(up=False) for _ in range(3)])
        rollouts = [await scene.start(release)]
        first = (await scene.operator.get(f"/rollouts/{rollouts[0]}/members?limit=2")).json()
        rest = (
            await scene.operator.get(
                f"/rollouts/{rollouts[0]}/members?limit=2&cursor={first['next']}&state=waiting"
            )
        ).json()

        ids = [each["instance_id"] for each in first["items"] + rest["items"]]
        assert ids == [str(bot) for bot in bots]
        assert rest["next"] is None

    async def test_are_no_business_of_tenants(self, scene: Scene) -> None:
        bot = await scene.add(up=False)
        owner = scene.bots[bot].owner
        rollout = await scene.start(await scene.release(image="agent:2"))

        for method, path in (
            ("GET", "/releases"),
            ("POST", "/releases"),
            ("GET", f"/rollouts/{rollout}"),
            ("POST", f"/rollouts/{rollout}/abort"),
            ("GET", f"/tenants/{owner.tenant_id}/rollout-group"),
        ):
            answer = await owner.call(method, path)
            assert answer.status_code == 403, (method, path)


class TestGroups:
    async def test_put_a_tenants_bots_first(
        self, scene: Scene, superuser: asyncpg.Connection
    ) -> None:
        bot, other = await scene.add(group="canary", up=False), await scene.add(up=False)
        path = f"/tenants/{scene.bots[bot].owner.tenant_id}/rollout-group"
        assert (await scene.operator.get(path)).json()["group"] == "canary"

        members = await scene.members(await scene.start(await scene.release(image="agent:2")))

        assert members[bot]["wave"] == 0
        assert members[other]["wave"] > 0

    async def test_are_of_tenants_that_there_are(self, scene: Scene) -> None:
        answer = await scene.operator.call(
            "PUT", f"/tenants/{new_id()}/rollout-group", json={"group": "canary"}
        )
        assert answer.json()["code"] == "tenant_not_found"


class TestABotIsWell:
    @pytest.mark.parametrize(
        ("before", "phase", "as_well"),
        [
            ("running", "running", True),
            ("running", "degraded", False),
            ("running", "connecting", False),
            ("running", "starting", False),
            ("degraded", "degraded", True),
            ("connecting", "connecting", True),
            ("connecting", "running", True),
            ("starting", "starting", False),
            ("starting", "connecting", True),
            ("crash_loop", "crash_loop", False),
            (None, "running", True),
        ],
    )
    def test_when_it_runs_as_it_did(self, before: str | None, phase: str, as_well: bool) -> None:
        assert well(before, phase) is as_well

    def test_since_its_first_condition_does_not_hold(self, scene: Scene) -> None:
        moved = scene.clock.now()
        conditions = [
            {"status": True, "at": "2030-01-01T00:00:00+00:00"},
            {"status": False, "at": "2026-06-01T00:00:00+00:00"},
            {"status": False, "at": "2027-01-01T00:00:00+00:00"},
        ]

        since = unwell_since("running", "configuring", conditions, moved)
        assert since is not None
        assert since.month == 6
        assert unwell_since("running", "running", conditions, moved) is None
        assert unwell_since("running", "starting", [], moved) == moved


def test_an_id_of_before_sorts_before_all_that_came_since() -> None:
    mark = new_id()
    day = earlier(mark, BEFORE)

    assert day < mark
    assert (mark.int >> 80) - (day.int >> 80) == 24 * 3600 * 1000
