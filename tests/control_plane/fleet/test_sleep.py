"""A bot that sleeps has no agent, loses no message, and wakes for the first one."""

import dataclasses
import typing
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from adapters import registry, standard_webhooks
from adapters.model import RawCallback
from adapters.webchat.callback import key
from adapters.webchat.settings import Settings
from control_plane.channels import callbacks
from control_plane.db.leases import LeaseLost
from control_plane.db.session import NOBODY, Database, Scope
from control_plane.delivery import lanes
from control_plane.delivery.lanes import Lanes
from control_plane.fleet.provision.base import InstanceSpec, Workload, WorkloadState
from control_plane.fleet.provision.fake import FakePlace, FakeProvisioner
from control_plane.fleet.status import RESYNC
from control_plane.kit.errors import Gone
from control_plane.kit.ids import new_id
from tests.control_plane.conversations.scene import Worker, make_bot
from tests.control_plane.fleet.conftest import Fleet

SECRET = "a-secret-of-this-channel-1234567890"
IDLE = timedelta(minutes=30)
LATER = timedelta(seconds=1)


class Sleeper:
    """A bot whose plan lets it sleep, and the platform that calls it."""

    def __init__(self, fleet: Fleet, superuser: asyncpg.Connection) -> None:
        self.fleet = fleet
        self.id: UUID
        self.token = ""
        self.given: Any
        self._superuser = superuser
        house = fleet.parts.house
        self.waiting = Worker(house.database, callbacks.WORK, fleet.parts.callbacks.pass_on)
        lane = Lanes(house.database, house.keys, house.clock, fleet.parts.agents)
        self.lanes = Worker(house.database, lanes.WORK, lane.deliver)

    async def open(self, operator: Any, *, after: int = 30) -> None:
        owner = self.fleet.owner
        terms = {"quota_overrides": {"hibernate_after": after}}
        answer = await operator.patch(f"/tenants/{owner.tenant_id}", terms)
        assert answer.status_code == 200, answer.text
        self.id = await self.fleet.create(channel=False)
        body = {"kind": "webchat", "name": "Site", "settings": {"secret": SECRET}}
        channel = (await owner.post(f"/instances/{self.id}/channels", body)).json()
        self.token = channel["webchat_url"].rpartition("/")[2]
        await self.comes_up()

    async def comes_up(self) -> None:
        self.given = await self.fleet.bring_up(self.id)

    async def idles(self, by: timedelta = IDLE) -> timedelta | None:
        """Nobody writes; the agent reports and is looked at."""
        self.fleet.clock.advance(by)
        await self.fleet.beat(self.id, self.given)
        return await self.fleet.look(self.id)

    async def sleeps(self) -> None:
        answer = await self.fleet.owner.post(f"/instances/{self.id}/hibernate")
        assert answer.status_code == 202, answer.text
        await self.fleet.look(self.id)

    async def called(self, body: bytes) -> int:
        """The platform calls; what it is told."""
        now = self.fleet.clock.now().timestamp()
        headers = standard_webhooks.sign(
            key(Settings(secret=SecretStr(SECRET))),
            message_id=str(new_id()),
            timestamp=int(now),
            body=body,
        )
        request = RawCallback(
            method="POST", path="/", query="", headers=headers, body=body, received_at=now
        )
        return (await self.fleet.parts.callbacks.accept(self.token, request)).status

    async def row(self) -> asyncpg.Record:
        return await self._superuser.fetchrow(
            "SELECT i.*, i.xmin::text AS written, w.version, w.due_at <= now() AS due"
            " FROM instances AS i JOIN work AS w ON w.kind = 'instance' AND w.key = i.id"
            " WHERE i.id = $1",
            self.id,
        )

    async def stored(self) -> int:
        return await self._superuser.fetchval("SELECT count(*) FROM callbacks")

    @property
    def state(self) -> WorkloadState:
        return self.fleet.place.get(self.id).state

    async def phase(self) -> str:
        return await self.fleet.phase(self.id)


@pytest.fixture(autouse=True)
async def lasting(fleet: Fleet) -> None:
    """The tenant's own program: its key outlives any clock."""
    scopes = ["instances.read", "instances.write", "instances.operate", "channels.write"]
    body = {"name": "k", "scopes": [*scopes, "revisions.write"]}
    key = (await fleet.owner.post("/api-keys", body)).json()["key"]
    fleet.owner = dataclasses.replace(fleet.owner, token=key)


@pytest.fixture
async def sleeper(fleet, people, superuser: asyncpg.Connection) -> Sleeper:
    sleeper = Sleeper(fleet, superuser)
    await sleeper.open(await people.operator())
    return sleeper


@pytest.fixture
def holds_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Web chat as if only a connected agent heard of its messages."""
    kind = dataclasses.replace(registry.kind("webchat"), calls_us=False)
    monkeypatch.setitem(registry._KINDS, "webchat", kind)


class TestFallingAsleep:
    async def test_comes_after_as_long_without_a_message_as_the_plan_says(
        self, sleeper, fleet
    ) -> None:
        await sleeper.idles(IDLE - LATER)
        before = await sleeper.phase()
        await sleeper.idles(LATER)
        again = await fleet.look(sleeper.id)

        assert before == "running"
        assert sleeper.state == WorkloadState.EXITED
        assert await sleeper.phase() == "hibernated"
        assert again == RESYNC
        assert await fleet.sessions(sleeper.id) == [("ended", 1)]
        shown = await fleet.get(sleeper.id)
        assert (shown["desired"], shown["asleep_at"] is not None) == ("running", True)
        page = (await fleet.owner.get(f"/instances/{sleeper.id}/timeline")).json()
        assert "no message for 30 min" in [item["message"] for item in page["items"]]
        # Falling asleep is nobody's failure.
        assert (await sleeper.row())["starts"].count('"failures": 0') == 1

    async def test_never_comes_where_the_plan_does_not_say(self, fleet) -> None:
        instance_id, given = await fleet.run()
        fleet.clock.advance(timedelta(days=30))
        await fleet.beat(instance_id, given)
        await fleet.look(instance_id)

        assert await fleet.phase(instance_id) == "running"

    async def test_a_message_puts_it_off(self, fleet, people) -> None:
        operator = await people.operator()
        terms = {"quota_overrides": {"hibernate_after": 30}}
        await operator.patch(f"/tenants/{fleet.owner.tenant_id}", terms)
        bot = await make_bot(fleet.parts, fleet.owner)
        given = await fleet.bring_up(bot.instance_id)
        phases = []
        for pause in (IDLE - LATER, LATER, IDLE):
            fleet.clock.advance(pause)
            await fleet.beat(bot.instance_id, given)
            await fleet.look(bot.instance_id)
            phases.append(await fleet.phase(bot.instance_id))
            if len(phases) == 1:
                await bot.hears("hello")

        assert phases == ["running", "running", "hibernated"]

    async def test_waits_for_what_is_still_to_be_said_or_posted(self, fleet, people) -> None:
        operator = await people.operator()
        terms = {"quota_overrides": {"hibernate_after": 30}}
        await operator.patch(f"/tenants/{fleet.owner.tenant_id}", terms)
        bot = await make_bot(fleet.parts, fleet.owner)
        given = await fleet.bring_up(bot.instance_id)
        conversation_id = await bot.hears("hello")
        await bot.says(conversation_id, "yes?")
        fleet.clock.advance(IDLE)
        await fleet.beat(bot.instance_id, given)
        await fleet.look(bot.instance_id)
        unsaid = await fleet.phase(bot.instance_id)
        async with bot.session() as session:
            await lanes.withhold(session, conversation_id)
        await fleet.beat(bot.instance_id, given, spool_depth=1)
        await fleet.look(bot.instance_id)
        unposted = await fleet.phase(bot.instance_id)
        await fleet.beat(bot.instance_id, given)
        await fleet.look(bot.instance_id)

        assert (unsaid, unposted) == ("running", "running")
        assert await fleet.phase(bot.instance_id) == "hibernated"

    async def test_never_comes_where_a_channel_could_not_wake_it(
        self, sleeper, holds_a_connection
    ) -> None:
        await sleeper.idles(IDLE * 2)

        assert await sleeper.phase() == "running"

    async def test_a_look_that_was_overtaken_puts_nobody_to_sleep(self, sleeper, fleet) -> None:
        fleet.clock.advance(IDLE)
        await fleet.beat(sleeper.id, sleeper.given)
        observe = FakeProvisioner.observe

        class Overtaken(FakeProvisioner):
            async def observe(self, ids):  # type: ignore[no-untyped-def]
                await fleet.take_over()
                return await observe(self, ids)

        fleet.reconciler = fleet.reconciler_over(Overtaken(fleet.place))
        with pytest.raises(LeaseLost):
            await fleet.look(sleeper.id)

        assert (await sleeper.row())["asleep_at"] is None


class TestByCall:
    async def test_it_sleeps_and_starting_wakes_it(self, sleeper, fleet) -> None:
        await sleeper.sleeps()
        asleep = await sleeper.phase()
        generation = (await fleet.get(sleeper.id))["generation"]
        first = await fleet.owner.post(f"/instances/{sleeper.id}/start")
        await sleeper.comes_up()

        assert asleep == "hibernated"
        assert (first.status_code, first.json()["asleep_at"]) == (202, None)
        assert await sleeper.phase() == "running"
        # What should run is the same as before.
        assert (await fleet.get(sleeper.id))["generation"] == generation
        assert await fleet.sessions(sleeper.id) == [("ended", 1), ("active", 2)]

    async def test_a_restart_wakes_it_too(self, sleeper, fleet) -> None:
        await sleeper.sleeps()
        await fleet.owner.post(f"/instances/{sleeper.id}/restart")
        await sleeper.comes_up()

        assert await sleeper.phase() == "running"

    async def test_asking_twice_changes_nothing(self, sleeper, fleet) -> None:
        await sleeper.sleeps()
        before = await fleet.versions()
        again = await fleet.owner.post(f"/instances/{sleeper.id}/hibernate")

        assert again.status_code == 202
        assert await fleet.versions() == before

    async def test_a_stopped_one_and_a_deaf_one_are_refused(
        self, sleeper, fleet, holds_a_connection
    ) -> None:
        deaf = await fleet.owner.post(f"/instances/{sleeper.id}/hibernate")
        await fleet.owner.post(f"/instances/{sleeper.id}/stop")
        stopped = await fleet.owner.post(f"/instances/{sleeper.id}/hibernate")

        assert (deaf.status_code, deaf.json()["code"]) == (409, "cannot_hibernate")
        assert (stopped.status_code, stopped.json()["code"]) == (409, "instance_not_running")

    async def test_an_agent_of_before_gets_no_session(self, sleeper, fleet) -> None:
        await sleeper.sleeps()

        with pytest.raises(Gone):
            await fleet.bootstrap(sleeper.id)

    async def test_suspending_and_deleting_go_first(self, sleeper, fleet, people) -> None:
        await sleeper.sleeps()
        operator = await people.operator()
        await operator.post(f"/tenants/{fleet.owner.tenant_id}/suspend")
        await fleet.look(sleeper.id)
        suspended = (await operator.get(f"/instances/{sleeper.id}")).json()["phase"]
        await operator.delete(f"/tenants/{fleet.owner.tenant_id}")
        await fleet.look(sleeper.id)

        assert suspended == "stopped"
        assert (await sleeper._superuser.fetchval("SELECT phase FROM instances")) == "deleted"


class TestWaking:
    async def test_calls_that_waited_wake_it_once_and_arrive_in_order(
        self, sleeper, fleet, stand_in
    ) -> None:
        await sleeper.sleeps()
        before = await sleeper.row()
        told = [await sleeper.called(str(n).encode()) for n in range(5)]
        kept = await sleeper.row()
        for _ in range(3):
            await sleeper.waiting.again(await self._channel(sleeper))
        woken = await sleeper.row()
        await sleeper.comes_up()
        await sleeper.waiting.all()

        assert told == [200] * 5
        # Keeping them touches nothing that they share; waking is one write for all.
        assert (kept["written"], kept["version"]) == (before["written"], before["version"])
        assert (woken["version"], woken["asleep_at"]) == (before["version"] + 1, None)
        assert woken["due"]
        assert stand_in.taken == [str(n).encode() for n in range(5)]
        assert (await sleeper.stored(), await sleeper.phase()) == (0, "running")

    async def test_an_answer_that_waits_wakes_it(self, fleet, people, superuser) -> None:
        bot = await make_bot(fleet.parts, fleet.owner)
        sleeper = Sleeper(fleet, superuser)
        sleeper.id = bot.instance_id
        await sleeper.comes_up()
        conversation_id = await bot.hears("hello")
        await sleeper.sleeps()
        await bot.says(conversation_id, "here I am")
        await sleeper.lanes.again(conversation_id)
        await fleet.look(sleeper.id)

        assert sleeper.state == WorkloadState.RUNNING

    async def test_so_do_a_configuration_and_a_channel(self, sleeper, fleet) -> None:
        owner = fleet.owner
        phases = []
        body = {"document": {"persona": {"name": "Mei"}}}
        written = await owner.post(f"/instances/{sleeper.id}/revisions", body)
        await sleeper.sleeps()
        await owner.post(f"/revisions/{written.json()['id']}/publish")
        await sleeper.comes_up()
        phases.append(await sleeper.phase())
        await sleeper.sleeps()
        channel = {"kind": "webchat", "name": "Shop"}
        await owner.post(f"/instances/{sleeper.id}/channels", channel)
        await sleeper.comes_up()
        phases.append(await sleeper.phase())

        assert phases == ["running", "running"]

    async def test_one_that_was_just_woken_is_left_awake(self, sleeper, fleet) -> None:
        fleet.clock.advance(IDLE * 3)
        await fleet.beat(sleeper.id, sleeper.given)
        await fleet.look(sleeper.id)
        await fleet.owner.post(f"/instances/{sleeper.id}/start")
        await sleeper.comes_up()
        await sleeper.idles(IDLE - LATER)
        awake = await sleeper.phase()
        await sleeper.idles(LATER)

        assert awake == "running"
        assert await sleeper.phase() == "hibernated"

    async def _channel(self, sleeper: Sleeper) -> UUID:
        return await sleeper._superuser.fetchval("SELECT id FROM channels")


class Falling(FakeProvisioner):
    """Something happens while the agent is being stopped, and again when it has ended."""

    def __init__(self, place: FakePlace, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(place)
        self._meanwhile = meanwhile

    async def stop(self, instance_id: UUID, *, grace: timedelta) -> Workload:
        await self._meanwhile()
        stopped = await super().stop(instance_id, grace=grace)
        await self._meanwhile()
        return stopped


class TestAMessageWhileItFallsAsleep:
    async def test_is_kept_and_wakes_it(self, sleeper, fleet, stand_in) -> None:
        said: list[bytes] = []
        stand_in.draining = True

        async def write() -> None:
            said.append(str(len(said)).encode())
            assert await sleeper.called(said[-1]) == 200
            await sleeper.waiting.all()

        usual = fleet.reconciler
        fleet.reconciler = fleet.reconciler_over(Falling(fleet.place, write))
        await sleeper.sleeps()
        fleet.reconciler, stand_in.draining = usual, False
        channel_id = await sleeper._superuser.fetchval("SELECT id FROM channels")
        await sleeper.waiting.again(channel_id)
        await sleeper.comes_up()
        await sleeper.waiting.all()

        assert stand_in.taken == said == [b"0", b"1"]
        assert (await sleeper.stored(), await sleeper.phase()) == (0, "running")


class Killed(BaseException):
    """kill -9."""


class Fate:
    """Counts the moments at which somebody may be killed, and kills at the chosen one."""

    def __init__(self, moment: int) -> None:
        self._left = moment

    def moment(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed

    @property
    def spared(self) -> bool:
        return self._left > 0


class MortalProvisioner(FakeProvisioner):
    """Its caller may be killed before and after each effect."""

    def __init__(self, place: FakePlace, fate: Fate) -> None:
        super().__init__(place)
        self._fate = fate

    async def ensure(self, spec: InstanceSpec) -> Workload:
        self._fate.moment()
        found = await super().ensure(spec)
        self._fate.moment()
        return found

    async def stop(self, instance_id: UUID, *, grace: timedelta) -> Workload:
        self._fate.moment()
        found = await super().stop(instance_id, grace=grace)
        self._fate.moment()
        return found


class MortalDatabase:
    """Its caller may be killed before and after each commit."""

    def __init__(self, database: Database, fate: Fate) -> None:
        self._database = database
        self._fate = fate

    @asynccontextmanager
    async def session(self, scope: Scope = NOBODY) -> AsyncIterator[Any]:
        async with self._database.session(scope) as session:
            yield session
            self._fate.moment()
        self._fate.moment()

    @asynccontextmanager
    async def plain(self, scope: Scope = NOBODY) -> AsyncIterator[Any]:
        async with self._database.plain(scope) as session:
            yield session
            self._fate.moment()
        self._fate.moment()

    @asynccontextmanager
    async def lone(self, *, durable: bool = False) -> AsyncIterator[Any]:
        async with self._database.lone(durable=durable) as session:
            yield session
        self._fate.moment()


class TestKilledAnywhere:
    """Whoever puts it to sleep or wakes it may be killed between any two effects."""

    async def look(self, sleeper: Sleeper, moment: int) -> bool:
        """One look by somebody who is killed then; whether there was such a moment."""
        fleet, fate = sleeper.fleet, Fate(moment)
        usual = fleet.reconciler
        fleet.reconciler = fleet.reconciler_over(MortalProvisioner(fleet.place, fate))
        fleet.reconciler._database = MortalDatabase(fleet.parts.house.database, fate)
        try:
            await fleet.look(sleeper.id)
        except Killed:
            pass
        finally:
            fleet.reconciler = usual
        return not fate.spared

    async def test_it_sleeps_in_the_end_and_wakes_with_its_message(
        self, sleeper, fleet, stand_in
    ) -> None:
        moment, killed = 0, True
        channel_id = await sleeper._superuser.fetchval("SELECT id FROM channels")
        said = []
        while killed:
            moment += 1
            await fleet.owner.post(f"/instances/{sleeper.id}/hibernate")
            killed = await self.look(sleeper, moment)
            await fleet.look(sleeper.id)
            assert (await sleeper.phase(), sleeper.state) == ("hibernated", WorkloadState.EXITED)
            assert {state for state, _ in await fleet.sessions(sleeper.id)} == {"ended"}

            said.append(str(moment).encode())
            assert await sleeper.called(said[-1]) == 200
            await sleeper.waiting.again(channel_id)
            killed |= await self.look(sleeper, moment)
            await sleeper.comes_up()
            await sleeper.waiting.again(channel_id)
            assert (await sleeper.phase(), stand_in.taken) == ("running", said)

        assert moment > 8
        assert await sleeper.stored() == 0


@pytest.mark.parametrize(
    ("kind", "settings", "may"),
    [
        ("dingtalk", {}, False),
        ("dingtalk", {"transport": "stream"}, False),
        ("dingtalk", {"transport": "callback"}, True),
        ("feishu", {}, False),
        ("feishu", {"transport": "callback"}, True),
        ("http", {}, True),
        ("onebot", {}, False),
        ("onebot", {"transport": "reverse_websocket"}, False),
        ("onebot", {"transport": "http"}, True),
        ("qq", {}, True),
        # Its gateway keeps nothing for long.
        ("qq", {"transport": "gateway"}, False),
        ("webchat", {}, True),
        ("wecom", {}, True),
        ("wecom_aibot", {}, False),
        ("wecom_aibot", {"transport": "callback"}, True),
        ("wecom_kf", {}, True),
    ],
)
def test_which_channels_let_a_bot_sleep(kind: str, settings: dict[str, str], may: bool) -> None:
    assert registry.kind(kind).may_wait(settings) is may


def test_every_transport_of_our_kinds_is_decided() -> None:
    for name in registry.OURS:
        kind = registry.kind(name)
        field = kind.settings().model_fields.get("transport")
        ways = () if field is None else typing.get_args(field.annotation)
        assert set(kind.calls_us_by) <= set(ways)
        assert len(kind.calls_us_by) == len(ways) - 1 or not ways


class TestAChannelWithTwoTransports:
    QQ: typing.ClassVar = {"app_id": "102001", "secret": "a-secret-of-a-bot"}

    async def add(self, sleeper: Sleeper, transport: str) -> str:
        body = {"kind": "qq", "name": "QQ", "settings": self.QQ | {"transport": transport}}
        answer = await sleeper.fleet.owner.post(f"/instances/{sleeper.id}/channels", body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def test_that_is_called_lets_the_bot_sleep(self, sleeper) -> None:
        await self.add(sleeper, "webhook")
        await sleeper.sleeps()

        assert await sleeper.phase() == "hibernated"

    async def test_that_holds_a_connection_does_not_until_it_is_changed(
        self, sleeper, fleet
    ) -> None:
        channel_id = await self.add(sleeper, "gateway")
        deaf = await fleet.owner.post(f"/instances/{sleeper.id}/hibernate")
        changed = await fleet.owner.patch(
            f"/channels/{channel_id}", {"settings": {"transport": "webhook"}}
        )

        assert (deaf.status_code, deaf.json()["code"]) == (409, "cannot_hibernate")
        assert changed.status_code == 200, changed.text
        await sleeper.sleeps()
        assert await sleeper.phase() == "hibernated"
