"""A rollout from its start to its end: agents in memory, everything else real."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from control_plane.access.http import House
from control_plane.db.leases import LeaseLost
from control_plane.db.session import Database, Scope
from control_plane.fleet.provision.fake import ScriptedExit
from control_plane.kit.ids import new_id
from control_plane.rollouts import standing
from control_plane.rollouts.figures import MEMBERS, WAVE, WAVE_AGE, Figures
from control_plane.rollouts.worker import Rollouts
from tests.control_plane.rollouts.conftest import Scene

GOOD, BAD, MUTE = "agent:2", "agent:crashes", "agent:mute"
DIES = ScriptedExit(after=timedelta(0), lines=("no such module",))


@pytest.fixture
async def three(scene: Scene) -> tuple[UUID, UUID, UUID]:
    """Bots of three tenants; the first is a canary."""
    scene.place.spoil(BAD, DIES)
    scene.mute.add(MUTE)
    return await scene.add(group="canary"), await scene.add(), await scene.add()


class TestAGoodRelease:
    async def test_reaches_everybody_wave_by_wave(self, scene: Scene, three) -> None:
        """R1, R4."""
        canary, *others = three
        rollout = await scene.start(await scene.release(image=GOOD))
        seen = []

        async def over() -> bool:
            got = set(scene.images().values())
            seen.append((scene.images()[canary], [scene.images()[each] for each in others]))
            assert got <= {None, GOOD}
            return (await scene.get(rollout))["ended_at"] is not None

        await scene.until(rollout, over)

        assert (GOOD, [None, None]) in seen
        assert (None, [GOOD, None]) not in seen
        assert set(scene.images().values()) == {GOOD}
        assert await scene.phases() == {"running"}
        found = await scene.get(rollout)
        assert found["state"] == "done"
        assert found["members"] == {
            "waiting": 0,
            "moved": 0,
            "good": 3,
            "failed": 0,
            "rolled_back": 0,
        }
        assert len(found["began"]) == len(found["waves"])
        assert found["began"] == sorted(found["began"])

    async def test_is_one_start_for_each_bot(self, scene: Scene, three) -> None:
        before = scene.place.calls["ensure"]
        await scene.until_over(await scene.start(await scene.release(image=GOOD)))

        assert scene.place.calls["ensure"] == before + 3
        assert {await scene.generation(bot) for bot in scene.bots} == {2}

    async def test_is_what_new_bots_get_afterwards(self, scene: Scene, three) -> None:
        await scene.until_over(await scene.start(await scene.release(image=GOOD)))

        assert (await scene.operator.get("/releases")).json()["items"][0]["newcomers"]
        newcomer = await scene.add()
        assert scene.images()[newcomer] == GOOD

    async def test_reaches_who_came_while_it_went_on(self, scene: Scene, three) -> None:
        rollout = await scene.start(await scene.release(image=GOOD))
        await scene.tick(rollout)
        late = await scene.add()

        await scene.until_over(rollout)

        assert (await scene.states(rollout))[late] == "good"
        assert set(scene.images().values()) == {GOOD}

    async def test_may_be_of_settings_alone(self, scene: Scene) -> None:
        bot = await scene.add()
        settings = {"log_level": "debug", "max_connections": 64}
        await scene.until_over(await scene.start(await scene.release(settings=settings)))

        made = scene.place.made_of(bot)
        assert made is not None
        assert made.image is None
        assert made.environment == {
            "BOTYARD_AGENT_LOG_LEVEL": "debug",
            "BOTYARD_AGENT_MAX_CONNECTIONS": "64",
        }

    async def test_is_told_to_its_people_and_to_the_audit(
        self, scene: Scene, superuser: asyncpg.Connection
    ) -> None:
        bot = await scene.add()
        release = await scene.release(image=GOOD)
        await scene.until_over(await scene.start(release))

        timeline = (await scene.bots[bot].owner.get(f"/instances/{bot}/timeline")).json()["items"]
        noted = [each["data"] for each in timeline if each["type"] == "instance.release"]
        streamed = await superuser.fetchval(
            "SELECT data->>'release' FROM stream WHERE data->>'action' = 'instance.release'"
        )
        audit = (await scene.operator.get("/audit?limit=200")).json()["items"]
        assert noted == [{"generation": 2, "release": release, "reason": "rollout 1"}]
        assert streamed == str(release)
        assert [each["action"] for each in reversed(audit) if "rollout" in each["action"]] == [
            "rollout.start",
            *(["rollout.wave"] * 3),
            "rollout.end",
        ]

    async def test_passes_by_who_is_stopped_and_counts_them_as_good(self, scene: Scene) -> None:
        bot = await scene.add()
        await scene.bots[bot].owner.post(f"/instances/{bot}/stop")
        await scene.live(bot)

        rollout = await scene.start(await scene.release(image=BAD))
        assert (await scene.until_over(rollout))["state"] == "done"
        assert await scene.phases() == {"stopped"}

    async def test_does_not_wait_for_who_is_deleted(self, scene: Scene, three) -> None:
        rollout = await scene.start(await scene.release(image=GOOD))
        await scene.tick(rollout)
        for bot in three[:2]:
            await scene.bots[bot].owner.delete(f"/instances/{bot}")
            await scene.bots.pop(bot).look(bot)

        assert (await scene.until_over(rollout))["state"] == "done"


class TestABadRelease:
    @pytest.mark.parametrize(("image", "reason"), [(BAD, "crash_loop"), (MUTE, "not_ready")])
    async def test_ends_with_the_canary_and_everybody_has_what_they_had(
        self, scene: Scene, three, image: str, reason: str
    ) -> None:
        """R2, R3."""
        canary, *others = three
        rollout = await scene.start(await scene.release(image=image))

        found = await scene.until_over(rollout)

        members = await scene.members(rollout)
        assert (found["state"], found["reason"]) == ("rolled_back", "budget")
        assert (members[canary]["state"], members[canary]["reason"]) == ("failed", reason)
        assert {members[each]["state"] for each in others} == {"waiting"}
        assert set(scene.images().values()) == {None}
        assert await scene.phases() == {"running"}

    async def test_goes_back_to_the_release_of_before(self, scene: Scene, three) -> None:
        await scene.until_over(await scene.start(await scene.release(image=GOOD)))

        await scene.until_over(await scene.start(await scene.release(image=BAD)))

        assert set(scene.images().values()) == {GOOD}
        assert await scene.phases() == {"running"}

    async def test_takes_back_also_those_that_it_did_no_harm(self, scene: Scene, three) -> None:
        """R3: here the second wave fails."""
        canary = three[0]
        rollout = await scene.start(await scene.release(image=GOOD), waves=[0, 100])

        await scene.tick(rollout)
        assert scene.images()[canary] == GOOD
        # Whoever starts from now on.
        scene.place.spoil(GOOD, DIES)
        found = await scene.until_over(rollout)

        assert found["state"] == "rolled_back"
        assert (await scene.states(rollout))[canary] == "rolled_back"
        assert set(scene.images().values()) == {None}

    @pytest.mark.parametrize("word", ["pause", "abort"])
    @pytest.mark.parametrize("image", [BAD, MUTE])
    async def test_leaves_no_bot_down_while_nobody_brings_it_on(
        self, scene: Scene, three, word: str, image: str
    ) -> None:
        """R2, also when the controllers alone are left to act."""
        canary = three[0]
        rollout = await scene.start(await scene.release(image=image), budget_percent=50)
        await scene.tick(rollout)
        assert scene.images()[canary] == image
        await scene.say(rollout, word)

        async def back() -> bool:
            return scene.images()[canary] is None and await scene.phase(canary) == "running"

        await scene.until(rollout, back)
        assert (await scene.states(rollout))[canary] == "failed"

    async def test_is_not_blamed_for_who_was_in_trouble_before(self, scene: Scene) -> None:
        ill, well = await scene.add(group="canary"), await scene.add()
        scene.place.script(ill, *[DIES] * 40)
        scene.place.exit(ill)
        for _ in range(6):
            scene.clock.advance(timedelta(seconds=10))
            await scene.live(ill)
            await scene.live(well)
        assert await scene.phase(ill) == "crash_loop"

        rollout = await scene.start(await scene.release(image=GOOD))
        found = await scene.until_over(rollout)

        assert found["state"] == "done"
        assert await scene.states(rollout) == {ill: "failed", well: "good"}


class TestConversations:
    async def said(self, scene: Scene, bot: UUID, count: int, reason: str | None) -> None:
        """So many turns of the bot, just now."""
        fleet = scene.bots[bot]
        channel = (await fleet.owner.get(f"/instances/{bot}/channels")).json()["items"][0]["id"]
        contact, conversation = new_id(), new_id()
        tenant = fleet.owner.tenant_id
        await scene.superuser.execute(
            "INSERT INTO contacts (id, tenant_id, channel_id, platform_id, created_at)"
            " VALUES ($1, $2, $3, $4, now())",
            contact,
            tenant,
            channel,
            str(contact),
        )
        await scene.superuser.execute(
            "INSERT INTO conversations (id, tenant_id, instance_id, channel_id, contact_id,"
            " key_type, key, last_message_at, created_at)"
            " VALUES ($1, $2, $3, $4, $5, 'private', $6, now(), now())",
            conversation,
            tenant,
            bot,
            channel,
            contact,
            str(contact),
        )
        await scene.superuser.executemany(
            "INSERT INTO turns (id, tenant_id, conversation_id, number, from_number,"
            " through_number, owner_version, state, reason, created_at, ended_at)"
            " VALUES ($1, $2, $3, $4, 1, 1, 1, 'fell_back', $5, now(), now())",
            [(new_id(), tenant, conversation, n, reason) for n in range(count)],
        )

    async def test_that_go_worse_take_it_back(self, scene: Scene, three) -> None:
        """R3: its agents run, and answer nobody."""
        canary = three[0]
        await self.said(scene, canary, 30, None)
        rollout = await scene.start(await scene.release(image=GOOD), watch_s=60)
        await scene.tick(rollout)
        await self.said(scene, canary, 30, "model_failed")

        found = await scene.until_over(rollout)

        assert found["state"] == "rolled_back"
        assert (await scene.members(rollout))[canary]["reason"] == "answers"

    async def test_that_go_as_badly_as_before_do_not(self, scene: Scene, three) -> None:
        canary = three[0]
        await self.said(scene, canary, 30, "model_failed")
        rollout = await scene.start(await scene.release(image=GOOD), watch_s=60)
        await scene.tick(rollout)
        await self.said(scene, canary, 30, "model_failed")

        assert (await scene.until_over(rollout))["state"] == "done"

    async def test_are_counted_by_an_index(self, scene: Scene) -> None:
        bot = await scene.add()
        await scene.superuser.execute("SET enable_seqscan = off")
        ids = [[each] for each in (scene.bots[bot].owner.tenant_id, bot, UUID(int=0), new_id())]
        plan = await scene.superuser.fetch(
            f"EXPLAIN {standing._TALKS}", *ids, standing.MOST, new_id()
        )
        text = "\n".join(row[0] for row in plan)

        for table in ("turns", "deliveries"):
            assert text.count(f"using {table}_tenant_id_id_key") == 2, text


class TestAnOperator:
    async def test_pauses_and_resumes(self, scene: Scene, three) -> None:
        """R1."""
        canary, *others = three
        rollout = await scene.start(await scene.release(image=GOOD))
        await scene.tick(rollout)
        await scene.say(rollout, "pause")
        for _ in range(12):
            await scene.tick(rollout)

        assert (await scene.states(rollout))[canary] == "good"
        assert {scene.images()[each] for each in others} == {None}
        await scene.say(rollout, "resume")
        assert (await scene.until_over(rollout))["state"] == "done"

    async def test_who_pauses_between_a_look_and_its_steps_wins(
        self, scene: Scene, three, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rollout = await scene.start(await scene.release(image=GOOD))
        count = Rollouts._count

        async def pausing(*arguments):
            await scene.say(rollout, "pause")
            return await count(*arguments)

        monkeypatch.setattr(Rollouts, "_count", pausing)
        await scene.look(rollout)

        assert set((await scene.states(rollout)).values()) == {"waiting"}

    async def test_aborts_and_who_has_it_keeps_it(self, scene: Scene, three) -> None:
        canary, *others = three
        rollout = await scene.start(await scene.release(image=GOOD))
        await scene.tick(rollout)
        await scene.say(rollout, "abort")

        found = await scene.until_over(rollout)

        assert found["state"] == "aborted"
        assert scene.images() == {canary: GOOD} | dict.fromkeys(others)

    async def test_aborts_and_takes_everybody_back(self, scene: Scene, three) -> None:
        rollout = await scene.start(await scene.release(image=GOOD))
        await scene.tick(rollout)
        await scene.say(rollout, "abort", {"roll_back": True})

        found = await scene.until_over(rollout)

        assert (found["state"], found["reason"]) == ("rolled_back", "asked")
        assert set(scene.images().values()) == {None}


class Killed(Exception):
    """The process ends here."""


class Mortal(Database):
    """A database whose caller dies at its n-th transaction, before or after the commit."""

    def __init__(self, house: House, dies_at: int, *, after: bool) -> None:
        self._inner, self.left, self._after = house.database, dies_at, after

    @asynccontextmanager
    async def session(self, scope: Scope = Scope()) -> AsyncIterator:  # noqa: B008
        self.left -= 1
        async with self._inner.session(scope) as session:
            yield session
            if self.left == 0 and not self._after:
                raise Killed
        if self.left == 0:
            raise Killed

    def plain(self, scope: Scope = Scope()):  # noqa: B008
        return self._inner.plain(scope)

    async def close(self) -> None:
        return None


class TestACrash:
    """R5."""

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    async def test_between_any_two_effects_changes_nothing_of_the_end(
        self, scene: Scene, after: bool
    ) -> None:
        bots = [await scene.add(group=group, up=False) for group in ("canary", "", "")]
        await scene.converge()
        dies_at, died = 0, True
        while died:
            dies_at += 1
            before = [await scene.generation(bot) for bot in bots]
            rollout = await scene.start(
                await scene.release(image=f"agent:{dies_at}"), watch_s=0, waves=[0, 50, 100]
            )
            mortal = Mortal(scene.parts.house, dies_at, after=after)
            scene.worker = Rollouts(mortal, scene.clock)
            died = await self._to_the_end(scene, rollout)

            assert (await scene.get(rollout))["state"] == "done"
            assert set((await scene.states(rollout)).values()) == {"good"}
            # Each was moved once, however often somebody began.
            now = [await scene.generation(bot) for bot in bots]
            assert now == [each + 1 for each in before]
        assert dies_at > 12

    async def test_between_any_two_effects_of_a_roll_back(self, scene: Scene) -> None:
        bots = [await scene.add(group=group, up=False) for group in ("canary", "", "")]
        await scene.converge()
        dies_at, died = 0, True
        while died:
            dies_at += 1
            rollout = await scene.start(
                await scene.release(image=f"agent:{dies_at}"), watch_s=20, waves=[0, 100]
            )
            for _ in range(3):
                await scene.look(rollout)
                await scene.converge()
                scene.clock.advance(timedelta(seconds=10))
            before = [await scene.generation(bot) for bot in bots]
            await scene.say(rollout, "abort", {"roll_back": True})
            scene.worker = Rollouts(Mortal(scene.parts.house, dies_at, after=True), scene.clock)
            died = await self._to_the_end(scene, rollout)
            scene.worker = scene.new_worker()

            assert (await scene.get(rollout))["state"] == "rolled_back"
            had_it = {"rolled_back": 1, "waiting": 0}
            states = await scene.states(rollout)
            now = [await scene.generation(bot) for bot in bots]
            assert now == [was + had_it[states[bot]] for bot, was in zip(bots, before, strict=True)]
        assert dies_at > 4

    async def _to_the_end(self, scene: Scene, rollout: UUID) -> bool:
        """Whether anybody died on the way; who died is followed by somebody new."""
        died = False
        for _ in range(40):
            await scene.converge()
            try:
                await scene.look(rollout)
            except Killed:
                died = True
                scene.worker = scene.new_worker()
            if (await scene.get(rollout))["ended_at"] is not None:
                return died
        raise AssertionError("it never ends")

    async def test_leaves_a_lease_that_changes_nothing_once_somebody_else_has_it(
        self, scene: Scene, three
    ) -> None:
        rollout = await scene.start(await scene.release(image=GOOD))
        lease = await scene.lease(rollout)
        await next(iter(scene.bots.values())).take_over()

        with pytest.raises(LeaseLost):
            await scene.worker.bring_on(lease)

        assert set((await scene.states(rollout)).values()) == {"waiting"}


class TestFigures:
    async def test_say_how_far_it_is(self, scene: Scene, three) -> None:
        figures = Figures(scene.parts.house.database, scene.clock)
        rollout = await scene.start(await scene.release(image=GOOD))
        scene.clock.advance(timedelta(seconds=7))
        await scene.look(rollout)
        await figures.measure()

        counted = {s: MEMBERS.labels(s)._value.get() for s in ("waiting", "moved", "good")}
        assert counted == {"waiting": 2, "moved": 1, "good": 0}
        assert (WAVE._value.get(), WAVE_AGE._value.get()) == (1, 7)

        await scene.until_over(rollout)
        await figures.measure()
        assert WAVE._value.get() == 0
        assert MEMBERS.labels("good")._value.get() == 0
