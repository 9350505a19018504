"""When nobody heard a channel whose platform says everything once, people see from when to when."""

import json
from datetime import timedelta
from uuid import UUID

import asyncpg
import msgspec
import pytest
from prometheus_client import REGISTRY

from adapters import registry
from control_plane.channels import gaps
from control_plane.ingest.dispatch import Dispatcher
from instance_agent.protocol import ChannelStatus, Heartbeat

DINGTALK = {"client_id": "dingabc", "client_secret": "s", "robot_code": "dingabc"}
SECOND = timedelta(seconds=1)


class Line:
    """An agent that tells how its channel does."""

    def __init__(self, agent, owner, agents, dispatcher: Dispatcher) -> None:
        self.agent, self.owner, self._agents = agent, owner, agents
        self._dispatcher = dispatcher
        self.clock = agent.clock

    async def open(self, kind: str, settings: dict) -> None:
        body = {"kind": kind, "name": "it", "settings": settings}
        made = await self.owner.post(f"/instances/{self.agent.instance_id}/channels", body)
        assert made.status_code == 201, made.text
        self.agent.channel_id = UUID(made.json()["id"])

    def status(self, state: str, proof_at=None, reason=None) -> ChannelStatus:
        return ChannelStatus(
            channel_id=self.agent.channel_id, state=state, proof_at=proof_at, reason=reason
        )

    async def says(self, state: str, proof_at=None, reason=None) -> None:
        status = self.status(state, proof_at, reason)
        await self._write(self.agent.event("channel.status", status))

    async def connects(self):
        at = self.clock.now()
        await self.says("connecting")
        await self.says("connected", at)
        return at

    async def beats(self) -> None:
        beat = self.agent.beat()
        channels = [self.status("connected", self.clock.now())]
        told = msgspec.structs.replace(msgspec.convert(beat.data, Heartbeat), channels=channels)
        await self._write(self.agent.event("instance.heartbeat", told))

    async def is_killed(self) -> None:
        """Its successor comes, and knows nothing of it."""
        self.agent.session_id = await self._agents.succeed(self.agent)

    async def gaps(self) -> list[tuple]:
        shown = (await self.owner.get(f"/channels/{self.agent.channel_id}")).json()
        return [(each["from_at"], each["to_at"]) for each in shown["gaps"]]

    async def shown(self) -> dict:
        return (await self.owner.get(f"/channels/{self.agent.channel_id}")).json()

    async def _write(self, event) -> None:
        await self._dispatcher.write([self.agent.pending(event)])


@pytest.fixture
async def line(agents, people, parts) -> Line:
    owner = await people.owner()
    agent = await agents.make(owner=owner)
    line = Line(agent, owner, agents, Dispatcher(parts.house.database))
    await line.open("dingtalk", DINGTALK)
    return line


def iso(at) -> str:
    return at.isoformat().replace("+00:00", "Z")


class TestAGap:
    async def test_of_a_killed_agent_begins_with_its_last_heartbeat(
        self, line, clock, superuser: asyncpg.Connection
    ) -> None:
        await line.connects()
        clock.advance(600 * SECOND)
        await line.beats()
        last = clock.now()
        clock.advance(7 * SECOND)
        await line.is_killed()
        clock.advance(22 * SECOND)
        back = await line.connects()

        assert await line.gaps() == [(iso(last), iso(back))]
        [shown] = (await line.shown())["gaps"]
        assert shown["text"].startswith(
            f"Between {last:%Y-%m-%d %H:%M:%S} and {back:%Y-%m-%d %H:%M:%S} UTC nobody was"
        )
        assert "DingTalk robot does not deliver again" in shown["text"]
        assert "钉钉机器人不会补发" in shown["text_zh"]
        told = await superuser.fetch(
            "SELECT data FROM stream WHERE type = 'channel.status' ORDER BY seq"
        )
        found = [json.loads(row["data"]).get("gap") for row in told]
        assert found[:-1] == [None] * (len(found) - 1)
        assert found[-1] == {"from": last.isoformat(), "to": back.isoformat()}
        noted = await superuser.fetch("SELECT message FROM timeline WHERE type = 'channel.gap'")
        assert [row["message"] for row in noted] == [shown["text"]]

    async def test_of_a_cut_line_begins_where_it_was_cut(self, line, clock) -> None:
        await line.connects()
        clock.advance(600 * SECOND)
        cut = clock.now()
        await line.says("failed", cut, "the connection was lost")
        clock.advance(5 * SECOND)
        back = await line.connects()

        assert await line.gaps() == [(iso(cut), iso(back))]

    async def test_is_not_missed_where_no_other_state_came_between(self, line, clock) -> None:
        first = await line.connects()
        await line.is_killed()
        clock.advance(9 * SECOND)
        back = clock.now()
        await line.says("connected", back)

        assert await line.gaps() == [(iso(first), iso(back))]

    async def test_is_counted_once_however_often_it_is_told(self, line, clock) -> None:
        def counted() -> tuple:
            names = ("botyard_channel_gaps_total", "botyard_channel_gap_seconds_total")
            return tuple(REGISTRY.get_sample_value(n, {"kind": "dingtalk"}) or 0 for n in names)

        await line.connects()
        before = counted()
        cut = clock.now()
        clock.advance(5 * SECOND)
        back = clock.now()
        for _ in range(3):
            await line.says("failed", cut)
            await line.says("connected", back)

        assert await line.gaps() == [(iso(cut), iso(back))]
        assert tuple(b - a for a, b in zip(before, counted(), strict=True)) == (1, 5)

    async def test_the_newest_is_first_and_old_ones_go(self, line, clock, monkeypatch) -> None:
        await line.connects()
        for _ in range(gaps.MAX_SHOWN + 3):
            await line.says("failed", clock.now())
            clock.advance(SECOND)
            back = await line.connects()

        found = await line.gaps()
        assert len(found) == gaps.MAX_SHOWN
        assert found[0][1] == iso(back)
        assert found == sorted(found, reverse=True)


class TestNoGap:
    async def test_is_there_before_the_first_connection(self, line, clock) -> None:
        await line.says("failed", None, "wrong secret")
        clock.advance(60 * SECOND)
        await line.connects()

        assert await line.gaps() == []

    async def test_is_told_while_the_one_before_still_heard(self, line, clock) -> None:
        await line.connects()
        clock.advance(60 * SECOND)
        joined = clock.now()
        clock.advance(10 * SECOND)
        # Its last word came from after the new one's first.
        await line.beats()
        await line.is_killed()
        await line.says("connected", joined)

        assert await line.gaps() == []

    async def test_is_made_of_proofs_and_notes(self, line, clock) -> None:
        await line.connects()
        for note in ("one", None, "two"):
            clock.advance(10 * SECOND)
            await line.says("connected", clock.now(), note)

        assert await line.gaps() == []

    @pytest.mark.parametrize(
        ("kind", "settings"),
        [
            ("webchat", {}),
            ("qq", {"app_id": "1", "secret": "s", "transport": "gateway"}),
            ("dingtalk", DINGTALK | {"transport": "callback"}),
        ],
    )
    async def test_is_where_the_platform_or_we_keep_what_was_said(
        self, line, clock, kind: str, settings: dict
    ) -> None:
        await line.open(kind, settings)
        await line.connects()
        await line.says("failed", clock.now())
        clock.advance(60 * SECOND)
        await line.connects()

        assert await line.gaps() == []


@pytest.mark.parametrize(
    ("kind", "given", "loses"),
    [
        ("dingtalk", {}, True),
        ("dingtalk", {"transport": "callback"}, False),
        ("feishu", {}, False),
        ("http", {}, False),
        ("onebot", {}, True),
        ("onebot", {"transport": "http"}, False),
        ("qq", {"transport": "gateway"}, False),
        ("webchat", {}, False),
        ("wecom", {}, False),
        ("wecom_aibot", {}, True),
        ("wecom_aibot", {"transport": "callback"}, False),
        ("wecom_kf", {}, False),
    ],
)
def test_which_channels_lose_what_nobody_hears(kind: str, given: dict, loses: bool) -> None:
    assert registry.kind(kind).loses(given) is loses
