"""What went wrong elsewhere, in public, must not go wrong here.

One test for each that has no better place; docs/fleet.md lists them all.
"""

import asyncio
import json
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from control_plane.bus import loop as loops
from control_plane.bus.hints import LocalBus
from control_plane.bus.loop import LoopSettings, WorkLoop
from control_plane.bus.redis import RedisBus
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.fleet.plan import Desired, Observed, Start, Want, plan
from control_plane.fleet.provision import kubernetes_api
from control_plane.fleet.provision.base import SMALLEST, InstanceSpec, WorkloadState
from control_plane.fleet.provision.kubernetes import KubernetesProvisioner
from control_plane.fleet.provision.kubernetes_api import Cluster
from control_plane.fleet.provision.kubernetes_manifests import Placement
from control_plane.fleet.provision.process_log import MAX_TAIL_BYTES, LogReader, rotate
from control_plane.kit.errors import Gone
from control_plane.kit.ids import new_id
from instance_agent.protocol import ConfigState, Heartbeat
from tests.cluster.substrate.plan import SIMULATED
from tests.control_plane.fleet.provision.pods import PodBench, placement

PATIENCE_S = 60.0
LOG_BYTES = 2**30


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what must happen soon."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


@pytest.fixture
async def pods(cluster, cluster_prefix) -> AsyncIterator[PodBench]:
    bench = PodBench(cluster, placement(cluster_prefix, SIMULATED if cluster.simulated else None))
    await bench.open()
    yield bench
    await bench.close()


class TestAgentSandbox1215:
    """A cache that lagged behind made the controller create again what it had just created."""

    async def test_a_stale_watch_and_a_fast_loop_make_one(self, pods: PodBench) -> None:
        some = replace(SMALLEST, bots=3)
        spec = InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=1, allowance=some)
        provisioner = pods.caller()
        provisioner.changes()
        mirrors = (provisioner._deployments, provisioner._pods)
        await until(lambda: all(each.synced for each in mirrors))
        # From now on the watches are open and tell nothing of what happens.
        for mirror in mirrors:
            mirror._take = lambda what, live: None  # type: ignore[method-assign]
        mark, starts = pods.cluster.mark(), 0
        wanted = Desired(want=Want.RUNNING, generation=1, config="c", allowance=some)
        for _ in range(20):
            seen = (await provisioner.observe([spec.instance_id]))[spec.instance_id]
            for action in plan(wanted, Observed(workload=seen), datetime.now(UTC)):
                if isinstance(action, Start):
                    starts += 1
                    await provisioner.ensure(spec)
        namespace = pods.placement.namespace(spec.tenant_id)
        written = [
            write
            for write in pods.cluster.audit(mark, prefix=namespace)
            if write.resource == "deployments"
        ]

        assert starts == 1
        assert len(written) == 1


class SilentServer:
    """A Kubernetes API that lists nothing and whose watches open and never say a word."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[Path]:
        """The kubeconfig that leads to it."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        file = folder / "kubeconfig"
        name = "silent"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": name, "user": {"token": "t"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }
        file.write_text(json.dumps(config), encoding="utf-8")
        try:
            yield file
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            target = request.split(b" ")[1].decode()
            if "watch=true" in target:
                self.asked.append("watch")
                if self.asked.count("watch") > 2:
                    # Those that come again are not even answered.
                    continue
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                await writer.drain()
                continue
            self.asked.append("list")
            body = b'{"kind":"List","metadata":{"resourceVersion":"7"},"items":[]}'
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()


class TestKubespawner209:
    """A watch that died without a word left the hub believing an old picture for ever."""

    async def test_a_silent_watch_is_counted_given_up_and_not_believed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kubernetes_api, "QUIET_S", 0.2)
        silent, instance_id = SilentServer(), uuid4()
        where = Placement(
            name="silent",
            image="agent:1",
            control_url="http://127.0.0.1:1",
            control_namespace="botyard-system",
        )

        def lost() -> float:
            found = REGISTRY.get_sample_value(
                "botyard_loop_failures_total", {"loop": "fleet.deployments"}
            )
            return found or 0.0

        async with silent.running(tmp_path) as file:
            way = await Cluster.open(kubeconfig=file, context=None, rate=1000, burst=1000)
            provisioner, before = KubernetesProvisioner(way, where), lost()
            provisioner.changes()
            await until(lambda: lost() > before)
            asked = silent.asked.count("list")
            seen = await provisioner.observe([instance_id])
            directly = silent.asked.count("list") - asked
            await until(lambda: silent.asked.count("watch") > 2)
            await provisioner.close()

        assert seen[instance_id].state == WorkloadState.ABSENT
        # Deployments and pods were asked for, not believed; and it watches again by itself.
        assert directly >= 2


class TestCoder13789:
    """Agents of a workspace's former life went on talking with the tokens of that life."""

    async def test_a_ghost_of_an_older_generation_hears_that_it_is_over(self, fleet) -> None:
        instance_id, ghost = await fleet.run()
        old = InstanceSpec(instance_id=instance_id, tenant_id=fleet.owner.tenant_id, generation=1)
        bootstraps = fleet.parts.bootstraps
        token = bootstraps.mint(old)
        await fleet.owner.post(f"/instances/{instance_id}/restart")
        await fleet.look(instance_id)
        nothing = ConfigState(applied=None, applied_sha256=None, last_good=None, rejected=None)
        beat = Heartbeat(config=nothing, channels=[], spool_depth=0, spool_bytes=0)

        with pytest.raises(Gone) as again:
            await bootstraps.exchange(instance_id, token, fleet.request())
        with pytest.raises(Gone) as heard:
            await fleet.report(instance_id, ghost.session_id, ("instance.heartbeat", beat))

        assert (again.value.code, heard.value.code) == ("stale_generation", "session_ended")


class TestSvix1844:
    """A restart of Redis lost messages, and what waited for it ran hot."""

    async def test_redis_flushed_and_stopped_in_the_middle_loses_no_work(
        self, database, redis_server
    ) -> None:
        bus, done, all_done = RedisBus(redis_server.url), set[UUID](), asyncio.Event()
        rows = [(new_id(), new_id()) for _ in range(40)]
        database.on_hints = bus.publish

        async def handle(lease: Lease) -> None:
            assert lease.key not in done, "worked on twice"
            done.add(lease.key)
            if len(done) == len(rows):
                all_done.set()

        def failures() -> float:
            found = REGISTRY.get_sample_value("botyard_loop_failures_total", {"loop": "bus"})
            return found or 0.0

        loop = WorkLoop(
            "turn", handle, database=database, bus=bus, settings=LoopSettings(concurrency=2)
        )
        tasks = [asyncio.create_task(bus.run()), asyncio.create_task(loop.run())]
        before = failures()
        for number, row in enumerate(rows):
            if number == 10:
                redis_server.kill()
            async with database.session() as session:
                await leases.call(session, "turn", [row])
        async with asyncio.timeout(PATIENCE_S):
            await all_done.wait()
        loop.stop()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert done == {key for key, _ in rows}
        # It comes back ever later: a loop that ran hot would have tried thousands of times.
        assert failures() - before < 100


class TestEndatix956:
    """One slow item outlived the lease of its batch, and the others were done twice."""

    async def test_a_slow_item_does_not_duplicate_its_neighbours(
        self, database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        renew, renewals = leases.renew, asyncio.Semaphore(0)

        async def counted(*arguments: Any) -> None:
            await renew(*arguments)
            renewals.release()

        monkeypatch.setattr(loops, "RENEW_EVERY_S", 0.25)
        monkeypatch.setattr(loops.leases, "renew", counted)
        bus, done, ended = LocalBus(), Counter[UUID](), asyncio.Event()
        rows = [(new_id(), new_id()) for _ in range(8)]
        slow = rows[0][0]

        async def handle(lease: Lease) -> None:
            done[lease.key] += 1
            if lease.key == slow:
                # Twice as long as a lease lasts that nobody renews.
                for _ in range(8):
                    await renewals.acquire()
                ended.set()

        settings = LoopSettings(concurrency=4, lease=timedelta(seconds=1))
        pair = [
            WorkLoop("turn", handle, database=database, bus=bus, settings=settings)
            for _ in range(2)
        ]
        async with database.session() as session:
            await leases.call(session, "turn", rows)
        tasks = [asyncio.create_task(loop.run()) for loop in pair]
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        for loop in pair:
            loop.stop()
        await asyncio.gather(*tasks)

        assert done == Counter({key: 1 for key, _ in rows})


class TestDstack2789:
    """An agent that logged without end filled the server's memory."""

    def test_a_gigabyte_of_log_is_read_and_rotated_in_little_memory(self, tmp_path: Path) -> None:
        log = tmp_path / "agent.log"
        with log.open("wb") as sink:
            sink.truncate(LOG_BYTES)
            sink.seek(0, 2)
            sink.write(b"\n" + b"said again and again\n" * 500)
        tracemalloc.start()
        reader = LogReader(log, keep=2)
        lines = reader.tail(200)
        with log.open("ab") as sink:
            sink.write(b"more\n" * (MAX_TAIL_BYTES // 2))
        more = reader.more()
        rotate(log, max_bytes=10 * 2**20, keep=2)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert lines == ["said again and again"] * 200
        assert set(more) == {"more"}
        # A chunk as bytes, the lines made of it, and room: nothing grows with the log.
        assert peak < 64 * MAX_TAIL_BYTES
        left = sum(each.stat().st_size for each in tmp_path.iterdir())
        assert left <= 3 * 10 * 2**20
