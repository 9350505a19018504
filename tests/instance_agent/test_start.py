import asyncio
import json
import os
import stat
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from starlette.responses import JSONResponse

from instance_agent import process

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30
CHANNEL = uuid4()

# Runs the agent as the command line does, then writes down what it had loaded.
LISTING = """
import atexit, json, runpy, sys
atexit.register(lambda: open("{file}", "w").write(json.dumps(list(sys.modules))))
runpy.run_module("instance_agent", run_name="__main__", alter_sys=True)
"""


def states(control_plane):
    return [event.data["state"] for event in control_plane.of_type("channel.status")]


class TestStart:
    async def test_takes_an_identity_connects_the_channel_and_says_so(
        self, agents, control_plane, revision, web
    ):
        control_plane.newest = revision(3, {CHANNEL: web})
        agent = await agents.start()
        await control_plane.until(lambda: "connected" in states(control_plane))
        await control_plane.until(lambda: control_plane.of_type("instance.heartbeat"))

        health = await agent.health()
        assert control_plane.bootstraps[0].generation == 7
        assert (health["ready"], health["draining"]) == (True, False)
        assert health["config"]["applied"] == 3
        assert [channel["state"] for channel in health["channels"]] == ["connected"]
        assert [event.data for event in control_plane.of_type("config.applied")] == [
            {"revision": 3, "sha256": control_plane.newest.sha256}
        ]
        assert (await agent.call("GET", "/readyz")).status_code == 200
        assert (
            "botyard_agent_heartbeat_success_seconds" in (await agent.call("GET", "/metrics")).text
        )

    async def test_speaks_tls_on_loopback_where_it_is_told_to(self, agents, control_plane):
        await agents.start(program=("-m", "instance_agent", "--tls", "always"))
        [told] = control_plane.bootstraps
        assert told.endpoint.startswith("https://127.0.0.1:")
        assert "PUBLIC KEY" in told.public_key

    async def test_leaves_no_token_and_no_file_that_others_can_read(
        self, agents, control_plane, revision, web
    ):
        control_plane.newest = revision(1, {CHANNEL: web})
        await agents.start()
        assert not agents.bootstrap_file.exists()
        assert stat.S_IMODE(agents.data_dir.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in agents.data_dir.iterdir()} == {0o600}

    async def test_that_is_broken_off_ends_in_order(self, tmp_path):
        """As a container's first process it would not end at all without a handler of its own."""
        os.mkfifo(tmp_path / "bootstrap")
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "instance_agent"),
            *("--instance-id", str(uuid4()), "--generation", "1"),
            *("--control-url", "http://127.0.0.1:9", "--data-dir", str(tmp_path / "data")),
            # Nobody writes to it: the start goes no further.
            *("--bootstrap-file", str(tmp_path / "bootstrap")),
            cwd=ROOT,
        )
        async with asyncio.timeout(PATIENCE_S):
            while not (tmp_path / "data" / "lock").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            agent.terminate()
            assert await agent.wait() == 0

    async def test_without_any_document_it_is_ready_and_empty(self, agents, control_plane):
        agent = await agents.start()
        await control_plane.until(lambda: control_plane.of_type("instance.heartbeat"))
        health = await agent.health()
        assert (health["ready"], health["config"]["applied"], health["channels"]) == (
            True,
            None,
            [],
        )

    async def test_never_loads_what_only_the_control_plane_needs(
        self, agents, control_plane, revision, web, tmp_path
    ):
        control_plane.newest = revision(1, {CHANNEL: web})
        listing = tmp_path / "modules.json"
        agent = await agents.start(program=("-c", LISTING.format(file=listing)))
        await control_plane.until(lambda: "connected" in states(control_plane))
        agent.terminate()
        assert await agent.wait() == 0
        loaded = {name.partition(".")[0] for name in json.loads(listing.read_text())}
        assert "instance_agent" in loaded
        heavy = {
            "fastapi",
            "sqlalchemy",
            "sqlmodel",
            "kubernetes",
            "control_plane",
            "opentelemetry",
        }
        assert not loaded & heavy

    async def test_every_line_it_logs_is_one_object_without_secrets(
        self, agents, control_plane, revision, web
    ):
        control_plane.newest = revision(1, {CHANNEL: web})
        agent = await agents.start()
        agent.terminate()
        assert await agent.wait() == 0
        assert agent.errors == b""
        fields = {"timestamp", "level", "service", "traceId", "spanId", "message", "data"}
        assert agent.lines
        assert {frozenset(line) for line in agent.lines} == {frozenset(fields)}
        assert web["secret"] not in json.dumps(agent.lines)


class TestIdentity:
    @pytest.mark.parametrize("status", [401, 403, 410])
    async def test_a_refused_identity_ends_the_process(self, agents, control_plane, status):
        control_plane.bootstrap_answers = [JSONResponse({}, status)]
        agent = await agents.spawn()
        assert await agent.wait() == process.EXIT_IDENTITY_REFUSED

    async def test_a_used_token_ends_the_process(self, agents):
        agent = await agents.spawn(token="used before")
        assert await agent.wait() == process.EXIT_IDENTITY_REFUSED

    async def test_a_busy_control_plane_is_asked_again(self, agents, control_plane):
        control_plane.bootstrap_answers = [
            JSONResponse({}, 503),
            JSONResponse({}, 429, headers={"retry-after": "0"}),
        ]
        agent = await agents.start()
        assert agent.process.returncode is None

    async def test_an_absent_control_plane_is_waited_for(self, agents, control_plane):
        await control_plane.stop()
        agent = await agents.spawn()
        line = json.loads(await agent.process.stdout.readline())
        assert line["message"] == "no identity yet"
        await control_plane.start()
        await control_plane.until(lambda: control_plane.bootstraps)

    async def test_told_to_stop_while_waiting_it_stops(self, agents, control_plane):
        await control_plane.stop()
        agent = await agents.spawn()
        await agent.process.stdout.readline()
        agent.terminate()
        assert await agent.wait() == 0
        await control_plane.start()


class TestDataDirectory:
    async def test_a_second_agent_is_refused_and_keeps_its_token(self, agents, control_plane):
        await agents.start()
        second = await agents.spawn()
        assert await second.wait() == process.EXIT_DATA_DIR_IN_USE
        assert "in use" in second.lines[0]["message"]
        assert agents.bootstrap_file.exists()

    async def test_the_folder_is_free_again_after_kill_9(self, agents):
        first = await agents.start()
        first.kill()
        await first.wait()
        second = await agents.start()
        assert second.journal_id == first.control_plane.bootstraps[0].journal_id
