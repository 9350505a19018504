"""A rollout over pods of a real Kubernetes, whose containers really run; their talk is played."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import asyncpg
import pytest

from control_plane.fleet.provision.base import ProvisionError, WorkloadState
from control_plane.fleet.provision.kubernetes_manifests import INSTANCE
from control_plane.kit.ids import new_id
from tests.cluster.handle import Cluster
from tests.cluster.substrate.plan import REAL
from tests.control_plane.fleet.conftest import Fleet
from tests.control_plane.fleet.provision.pods import PodBench, placement
from tests.control_plane.rollouts.conftest import Scene

WITHIN_S = 600
NO_SUCH_IMAGE = "registry.invalid/agent:none"
TERMS = {"watch_s": 3, "ready_within_s": 20, "budget_percent": 0, "waves": [0, 50, 100]}
PATIENT = TERMS | {"ready_within_s": 200}
"""For pods that do get ready: on a busy machine that takes its time."""

_NEW_RELEASE = """
INSERT INTO releases (id, number, settings, created_at)
SELECT $1, max(number) + 1, $2, now() FROM releases RETURNING number
"""
_BOOTED = """
SELECT i.generation, r.settings FROM instances AS i LEFT JOIN releases AS r ON r.id = i.release_id
WHERE i.id = $1
"""


class Now:
    """The pods' clock is the real one, so ours is."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def advance(self, by: timedelta) -> None:
        """It goes by itself."""


@pytest.fixture
def clock() -> Now:
    return Now()


class PodScene(Scene):
    """The same bots as pods."""

    async def open(self, bench: PodBench) -> None:
        self.bench, self.pods = bench, bench.caller()
        self._sessions = {}

    async def add(self, *, group: str = "", up: bool = True) -> UUID:
        bot = await super().add(group=group, up=False)
        fleet: Fleet = self.bots[bot]
        fleet.reconciler = fleet.reconciler_over(self.pods)
        return bot

    async def live(self, bot: UUID) -> None:
        fleet = self.bots[bot]
        with suppress(ProvisionError):  # the loop would try again
            await fleet.look(bot)
        seen = (await self.pods.observe([bot]))[bot]
        row = await self.superuser.fetchrow(_BOOTED, bot)
        if seen.state is not WorkloadState.RUNNING or seen.generation != row["generation"]:
            return
        if "max_connections" in (row["settings"] or ""):
            # Its container ends before it can say anything.
            return
        if (bot, seen.ref) not in self._sessions:
            given = self._sessions[bot, seen.ref] = await fleet.bootstrap(bot)
            await fleet.look(bot)
            await fleet.beat(bot, given)
            await fleet.look(bot)
        else:
            await fleet.beat(bot, self._sessions[bot, seen.ref])

    async def pass_by(self, rollout: UUID | None = None) -> None:
        """A moment; real pods take theirs."""
        await asyncio.sleep(0.5)
        if rollout is not None:
            await self.look(rollout)
        for bot in self.bots:
            await self.live(bot)

    async def until_all_run(self) -> None:
        while await self.phases() != {"running"}:
            await self.pass_by()

    async def until_over(self, rollout: UUID) -> dict:
        while (found := await self.get(rollout))["ended_at"] is None:
            await self.pass_by(rollout)
        return found

    async def containers(self) -> list[tuple[str, dict[str, str], int]]:
        """Image and options of every Deployment, and its wished replicas."""
        async with self.bench.cluster.api() as api:
            found = await api.get(
                "/apis/apps/v1/deployments",
                labelSelector=f"{INSTANCE} in ({','.join(map(str, self.bots))})",
            )
        return [
            (
                container["image"],
                {each["name"]: each["value"] for each in container["env"] if "value" in each},
                item["spec"]["replicas"],
            )
            for item in found["items"]
            for container in item["spec"]["template"]["spec"]["containers"]
        ]


async def test_goes_wave_by_wave_and_bad_ones_go_back(
    cluster: Cluster, cluster_prefix: str, scene: Scene, superuser: asyncpg.Connection
) -> None:
    """R1 to R4."""
    if not cluster.real or not cluster.agent_image:
        pytest.skip("no node here runs real pods")
    where = placement(cluster_prefix, REAL, image=cluster.agent_image)
    bench = PodBench(cluster, where)
    await bench.open()
    pods = PodScene(scene.parts, scene.clock, scene.people, superuser, scene.url)
    pods.operator = scene.operator
    await pods.open(bench)
    try:
        async with asyncio.timeout(WITHIN_S):
            for group in ("canary", "", ""):
                await pods.add(group=group)
            await pods.until_all_run()
            await good_one(pods, cluster.agent_image)
            await image_that_is_nowhere(pods, cluster.agent_image)
            await container_that_exits(pods, cluster.agent_image)
    finally:
        await bench.close()


async def good_one(pods: PodScene, image: str) -> None:
    rollout = await pods.start(await pods.release(settings={"log_level": "debug"}), **PATIENT)
    found = await pods.until_over(rollout)

    assert found["state"] == "done"
    began = {}
    for member in (await pods.members(rollout)).values():
        began.setdefault(member["wave"], []).append(member["moved_at"])
    waves = sorted(began)
    assert waves[0] == 0
    assert all(max(began[a]) < min(began[b]) for a, b in pairwise(waves))
    await as_after_the_good_one(pods, image)


async def image_that_is_nowhere(pods: PodScene, image: str) -> None:
    rollout = await pods.start(await pods.release(image=NO_SUCH_IMAGE), **TERMS)
    found = await pods.until_over(rollout)

    assert (found["state"], found["reason"]) == ("rolled_back", "budget")
    assert {m["reason"] for m in (await pods.members(rollout)).values()} == {"not_ready", None}
    await as_after_the_good_one(pods, image)


async def container_that_exits(pods: PodScene, image: str) -> None:
    """A release that no route would take: its agents end with "bad options"."""
    number = await pods.superuser.fetchval(_NEW_RELEASE, new_id(), '{"max_connections": "none"}')
    rollout = await pods.start(number, **TERMS)
    await pods.look(rollout)
    # Nobody is there to bring it on, and still nobody stays down.
    await pods.say(rollout, "abort")
    found = await pods.until_over(rollout)

    assert found["state"] == "aborted"
    assert found["members"]["failed"] == 1
    await as_after_the_good_one(pods, image)


async def as_after_the_good_one(pods: PodScene, image: str) -> None:
    await pods.until_all_run()
    for found, options, replicas in await pods.containers():
        assert (found, replicas) == (image, 1)
        assert options["BOTYARD_AGENT_LOG_LEVEL"] == "debug"
        assert "BOTYARD_AGENT_MAX_CONNECTIONS" not in options
