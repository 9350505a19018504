"""The agent in a pod: its own image on a real node, or a process that stands for one."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest

from control_plane.fleet.provision.base import ABSENT, InstanceSpec, WorkloadState
from control_plane.fleet.provision.kubernetes_manifests import PORT
from control_plane.fleet.provision.kubernetes_reviews import Reviews
from tests.cluster.handle import Cluster
from tests.cluster.nodes import Nodes
from tests.cluster.substrate.plan import REAL
from tests.control_plane.fleet.provision.pods import PodBench, placement
from tests.e2e.conftest import command_lines

WITHIN_S = 150
SPEC = InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=2)


class Door:
    """Where agents knock; nobody is let in, and their tokens are kept."""

    def __init__(self) -> None:
        self.tokens: asyncio.Queue[str] = asyncio.Queue()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            for line in head.splitlines():
                name, _, value = line.partition(": ")
                if name.lower() == "authorization":
                    self.tokens.put_nowait(value.removeprefix("Bearer "))
            writer.write(
                b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nretry-after: 1\r\n"
                b"connection: close\r\n\r\n"
            )
            await writer.drain()
        writer.close()


@pytest.fixture
async def door() -> AsyncIterator[tuple[Door, int]]:
    door = Door()
    server = await asyncio.start_server(door.answer, "127.0.0.1", 0)
    yield door, server.sockets[0].getsockname()[1]
    server.close()


async def test_runs_proves_itself_is_started_again_and_leaves_nothing(
    cluster: Cluster, nodes: Nodes, cluster_prefix: str, door: tuple[Door, int]
) -> None:
    visitor, port = door
    spec = replace(SPEC, instance_id=uuid4(), tenant_id=uuid4())
    with cluster.expose(port) as address:
        where = placement(
            cluster_prefix, nodes.kind, image=nodes.image, control_url=f"http://{address}"
        )
        pods = PodBench(cluster, where)
        await pods.open()
        provisioner = pods.caller()
        try:
            async with asyncio.timeout(WITHIN_S):
                await live(cluster, nodes, pods, provisioner, visitor, spec)
        finally:
            await pods.close()


async def live(
    cluster: Cluster, nodes: Nodes, pods: PodBench, provisioner, door: Door, spec
) -> None:
    async def until(as_expected):
        while True:
            seen = (await provisioner.observe([spec.instance_id]))[spec.instance_id]
            if as_expected(seen):
                return seen
            await asyncio.sleep(0.3)

    provisioner.changes()
    await provisioner.ensure(spec)
    first = await until(lambda seen: seen.state is WorkloadState.RUNNING)

    # Its node's token proves who it is.
    way = await pods.way()
    reviews = Reviews({"": (way, pods.placement)})
    token = await door.tokens.get()
    proof = await reviews.vouch(spec.instance_id, spec.tenant_id, "", token)
    await way.close()
    assert proof is not None
    assert proof.generation == spec.generation
    address = (await pods.pod(spec.instance_id))["status"]["podIP"]
    assert proof.endpoint == f"https://{address}:{PORT}"

    # The node's probes reach it by TLS.
    while True:
        status = (await pods.pod(spec.instance_id))["status"]
        if status["containerStatuses"][0]["started"]:
            break
        await asyncio.sleep(0.3)

    # Its log is read and followed.
    lines = [line async for line in provisioner.logs(spec.instance_id, tail=50, follow=False)]
    assert any("no identity yet" in line for line in lines)
    followed = provisioner.logs(spec.instance_id, tail=0, follow=True)
    assert "no identity yet" in await anext(followed)

    # Killed from outside, its node starts it again in the same pod.
    uid = first.ref.partition(".")[0]
    for pid in pids(cluster, nodes, uid):
        os.kill(pid, signal.SIGKILL)
    second = await until(lambda seen: seen.state is WorkloadState.RUNNING and seen.ref != first.ref)
    assert second.ref == f"{uid}.1"
    last = (await pods.pod(spec.instance_id))["status"]["containerStatuses"][0]["lastState"]
    assert last["terminated"]["exitCode"] == 137

    left = await provisioner.destroy(spec.instance_id)
    while left != ABSENT:
        await asyncio.sleep(0.5)
        left = await provisioner.destroy(spec.instance_id)
    assert [owned async for owned in provisioner.inventory()] == []
    async for _ in followed:
        """What follows a log comes to an end with it."""


def pids(cluster: Cluster, nodes: Nodes, uid: str) -> list[int]:
    """Of the agent, but not of the pause container."""
    lines = command_lines()
    if nodes.kind == REAL:
        files = cluster.cgroup("pids", uid).rglob("cgroup.procs")
        inside = {int(pid) for file in files for pid in file.read_text().split()}
    else:
        # Its folder is named by it.
        inside = {pid for pid, words in lines.items() if uid in str(words)}
    found = [pid for pid in inside if "instance_agent" in lines.get(pid, [])]
    assert found
    return found
