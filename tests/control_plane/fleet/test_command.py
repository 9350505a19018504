"""`botyard instances` at the terminal: the whole program over a real database."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from control_plane.cli import cli
from control_plane.kit.ids import new_id

KEY = "k" * 32
KEYS = [
    "id",
    "tenant_id",
    "tenant",
    "name",
    "cell",
    "desired",
    "phase",
    "generation",
    "observed_generation",
    "asleep_at",
    "conditions",
    "created_at",
    "updated_at",
]


@pytest.fixture
def types(app_url: str, tmp_path: Path) -> Callable[..., Any]:
    """Somebody types a command; what comes of it has `exit_code`, `stdout` and `stderr`."""
    environment = {
        "BOTYARD_DATABASE_URL": app_url,
        "BOTYARD_SECRET_KEYS": KEY,
        "BOTYARD_DATA_DIR": str(tmp_path),
    }

    async def type_(*words: str, **more: str) -> Any:
        # The program has a loop of its own.
        return await asyncio.to_thread(
            CliRunner().invoke, cli, ["instances", *words], env=environment | more
        )

    return type_


class TestList:
    async def test_shows_what_each_bot_waits_for(self, fleet, types) -> None:
        running, _ = await fleet.run()
        waiting = await fleet.create()
        await fleet.look(waiting)

        shown = await types("list")

        lines = shown.stdout.splitlines()
        assert shown.exit_code == 0
        assert lines[0].split("  ")[0] == "ID"
        assert [line.split()[0] for line in lines[1:]] == [str(running), str(waiting)]
        assert "running" in lines[1]
        assert "starting" in lines[2]
        assert "no_session" in lines[2]

    async def test_can_be_narrowed_down(self, fleet, types, people, superuser) -> None:
        running, _ = await fleet.run()
        elsewhere = await fleet.create()
        await superuser.execute("UPDATE instances SET cell = 'eu' WHERE id = $1", elsewhere)
        other = await people.owner()
        theirs = (await other.post("/instances", {"name": "Other"})).json()["id"]

        async def ids(*words: str) -> list[str]:
            return [one["id"] for one in json.loads((await types(*words, "-o", "json")).stdout)]

        assert await ids("list") == [str(running), str(elsewhere), theirs]
        assert await ids("list", "--tenant", str(other.tenant_id)) == [theirs]
        assert await ids("list", "--phase", "running") == [str(running)]
        assert await ids("list", "--cell", "eu") == [str(elsewhere)]

    async def test_says_when_there_are_more(self, fleet, types) -> None:
        for _ in range(2):
            await fleet.create(channel=False)

        shown = await types("list", "--limit", "1", "-o", "json")

        assert len(json.loads(shown.stdout)) == 1
        assert "more than 1" in shown.stderr

    async def test_the_keys_for_programs_stay(self, fleet, types) -> None:
        await fleet.run()

        [one] = json.loads((await types("list", "-o", "json")).stdout)

        assert list(one) == KEYS
        assert list(one["conditions"][0]) == ["at", "type", "reason", "status", "message"]

    async def test_a_tenant_has_no_say_over_the_terminal(self, fleet, types, superuser) -> None:
        await fleet.create(channel=False)
        await superuser.execute("UPDATE instances SET name = $1", "[red]\x1b[2Jx[/red]")

        shown = await types("list")

        assert "[red]\ufffd[2Jx[/red]" in shown.stdout


class TestGet:
    async def test_shows_each_condition_and_the_agent(self, fleet, types) -> None:
        instance_id, _ = await fleet.run()

        shown = await types("get", str(instance_id))
        one = json.loads((await types("get", str(instance_id), "-o", "json")).stdout)

        assert shown.exit_code == 0
        for said in ("Phase:", "running", "generation 1", "active, version test"):
            assert said in shown.stdout
        for kind in ("WorkloadRunning", "AgentConnected", "ConfigApplied", "ChannelConnected"):
            assert kind in shown.stdout
        assert list(one) == [*KEYS, "agent"]
        assert one["agent"]["state"] == "active"
        # A token opens nothing that a table shows.
        assert "token" not in str(one)

    async def test_one_that_is_not_there(self, types) -> None:
        shown = await types("get", str(new_id()))

        assert (shown.exit_code, shown.stdout) == (1, "")
        assert "There is no bot" in shown.stderr
        assert "botyard instances list" in shown.stderr

    async def test_what_is_no_id_is_asked_wrongly(self, types) -> None:
        assert (await types("get", "mine")).exit_code == 2


class TestDoing:
    async def test_restart_replaces_the_agent_and_is_audited(
        self, fleet, types, superuser: asyncpg.Connection
    ) -> None:
        instance_id, _ = await fleet.run()
        before = fleet.place.get(instance_id).ref

        done = await types("restart", str(instance_id))
        await fleet.look(instance_id)

        assert done.exit_code == 0
        assert f"botyard instances get {instance_id}" in done.stdout
        assert fleet.place.get(instance_id).ref != before
        assert await _audited(superuser, "instance.restart") == [("system", instance_id)]

    async def test_reconcile_makes_it_due_and_is_audited(
        self, fleet, types, superuser: asyncpg.Connection
    ) -> None:
        instance_id, _ = await fleet.run()
        due = "SELECT due_at <= now() FROM work WHERE kind = 'instance' AND key = $1"
        before = await superuser.fetchval(due, instance_id)

        done = await types("reconcile", str(instance_id))

        assert (before, done.exit_code) == (False, 0)
        assert await superuser.fetchval(due, instance_id)
        assert await _audited(superuser, "instance.reconcile") == [("system", instance_id)]

    async def test_hibernate_lets_it_sleep_and_is_audited(
        self, fleet, types, superuser: asyncpg.Connection
    ) -> None:
        instance_id, _ = await fleet.run()

        done = await types("hibernate", str(instance_id))
        await fleet.look(instance_id)
        one = json.loads((await types("get", str(instance_id), "-o", "json")).stdout)

        assert (done.exit_code, one["phase"]) == (0, "hibernated")
        assert await _audited(superuser, "instance.hibernate") == [("system", instance_id)]

    async def test_what_cannot_be_done_says_what_to_do(self, fleet, types) -> None:
        instance_id, _ = await fleet.run()
        await fleet.owner.post(f"/instances/{instance_id}/stop")

        shown = await types("restart", str(instance_id))

        assert shown.exit_code == 1
        assert "The instance is stopped; start it." in shown.stderr

    async def test_a_database_that_is_away(self, types) -> None:
        nowhere = "postgresql+asyncpg://app:hush@127.0.0.1:1/botyard"
        shown = await types("list", BOTYARD_DATABASE_URL=nowhere)

        assert (shown.exit_code, shown.stdout) == (1, "")
        assert "The database cannot be asked" in shown.stderr
        assert "hush" not in shown.stderr


class TestLogs:
    async def test_of_a_process_are_read_where_it_runs(self, fleet, types, tmp_path: Path) -> None:
        instance_id = await fleet.create(channel=False)
        home = tmp_path / "instances" / str(instance_id) / "log"
        home.mkdir(parents=True)
        (home / "agent.log").write_text("one\ntwo\n\x1b[2Jthree\n", encoding="utf-8")

        shown = await types("logs", str(instance_id), "--tail", "2")

        assert (shown.exit_code, shown.stdout) == (0, "two\n[2Jthree\n")

    async def test_elsewhere_are_none_and_it_says_where_to_ask(self, fleet, types) -> None:
        instance_id = await fleet.create(channel=False)

        shown = await types("logs", str(instance_id))

        assert (shown.exit_code, shown.stdout) == (1, "")
        assert "There is no log of it here." in shown.stderr
        assert "--data-dir" in shown.stderr


class TestOrphans:
    async def test_are_shown_oldest_first(self, types, superuser: asyncpg.Connection) -> None:
        none = await types("orphans")
        lost = new_id()
        await superuser.execute(
            "INSERT INTO orphans (id, cell, instance_id, first_seen_at, last_seen_at)"
            " VALUES ($1, '', $2, now(), now())",
            new_id(),
            lost,
        )
        shown = await types("orphans")
        [one] = json.loads((await types("orphans", "-o", "json")).stdout)

        assert none.stdout.strip() == "There are none."
        assert str(lost) in shown.stdout
        assert (one["instance_id"], one["state"]) == (str(lost), "reported")


async def _audited(superuser: asyncpg.Connection, action: str) -> list[tuple[Any, ...]]:
    rows = await superuser.fetch(
        "SELECT actor_kind, target_id FROM audit WHERE action = $1", action
    )
    return [tuple(row) for row in rows]
