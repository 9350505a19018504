"""A process that calls `ensure` and may be killed at any moment: prints what it got, then waits."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from uuid import UUID

from control_plane.fleet.provision.base import InstanceSpec
from control_plane.fleet.provision.process import ProcessProvisioner
from control_plane.fleet.provision.process_home import Home, Record
from control_plane.kit.clock import SystemClock


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def mint(spec: InstanceSpec, place: str) -> str:
    if moment == "before the spawn":
        die()
    return f"token-{spec.generation}"


def write(home: Home, record: Record) -> Record:
    if record.process is not None and moment == "before the pid is written":
        die()
    if record.stopping and moment == "while it stops an older one":
        die()
    return written(home, record)


async def main(folder: str, url: str, command: list[str], spec: InstanceSpec) -> None:
    provisioner = ProcessProvisioner(
        Path(folder), control_url=url, mint=mint, clock=SystemClock(), command=command
    )
    workload = await provisioner.ensure(spec)
    print(workload.ref, flush=True)
    await asyncio.Event().wait()


written = Home.write
Home.write = write
folder, url, command, instance_id, generation, moment = json.loads(sys.argv[1])
spec = InstanceSpec(
    instance_id=UUID(instance_id), tenant_id=UUID(int=1), generation=int(generation)
)
asyncio.run(main(folder, url, command, spec))
