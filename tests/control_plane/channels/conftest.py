"""The application on a port, and all that works around it, for channels' journeys."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.app import create_app
from control_plane.fleet.provision.process import ProcessProvisioner
from control_plane.parts import Background, Parts, Stoppable, run_until
from control_plane.serve import HttpServer, listen

# The agent of this tree, whichever one is installed.
RUN_AGENT = f"""
import runpy, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
runpy.run_module("instance_agent", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
async def port(parts: Parts, tmp_path: Path) -> AsyncIterator[int]:
    """The application on a port."""
    listener = listen("127.0.0.1", 0)
    server = HttpServer(create_app(parts, web_pages=tmp_path), listener)
    task = asyncio.create_task(server.run())
    yield listener.getsockname()[1]
    server.stop()
    await task


@pytest.fixture
async def house_at_work(parts: Parts, port: int, tmp_path: Path) -> AsyncIterator[None]:
    """Workers, controllers and agents as real processes, around the application on its port."""
    provisioner = ProcessProvisioner(
        tmp_path / "instances",
        control_url=f"http://127.0.0.1:{port}",
        mint=parts.bootstraps.mint,
        clock=parts.house.clock,
        command=(sys.executable, "-P", "-c", RUN_AGENT),
        outbound_allow="127.0.0.0/8",
    )
    parts.provisioner = provisioner
    deciding, working = asyncio.Event(), asyncio.Event()
    controllers = asyncio.create_task(run_until([parts.controllers(provisioner, "")], deciding))
    workers: list[Stoppable] = [*parts.api(), *parts.workers()]
    bus: list[Stoppable] = [Background("bus", parts.bus.run())]
    rest = asyncio.create_task(run_until([workers, bus], working))
    yield
    deciding.set()
    await controllers
    # The agents end while there is still somebody to tell.
    for instance_id in [item.instance_id async for item in provisioner.inventory()]:
        await provisioner.stop(instance_id, grace=timedelta(seconds=5))
    working.set()
    await rest
    await provisioner.close()
