"""Where agents run, as the settings say: processes of this machine, or pods of a cell's cluster."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from control_plane.fleet.provision.base import Provisioner
from control_plane.fleet.provision.process import ProcessProvisioner
from control_plane.parts import Parts
from control_plane.settings import Settings


@asynccontextmanager
async def agents_place(settings: Settings, parts: Parts) -> AsyncIterator[Provisioner]:
    """For a controller: where the agents of its cell run."""
    if settings.provisioner == "kubernetes":
        async with _pods(settings) as provisioner:
            yield provisioner
        return
    processes = ProcessProvisioner(
        settings.data_dir.absolute() / "instances",
        control_url=settings.control_url or settings.base_url,
        outbound_allow=settings.outbound_allow,
        mint=parts.bootstraps.mint,
        clock=parts.house.clock,
    )
    try:
        yield processes
    finally:
        await processes.close()


@asynccontextmanager
async def known_to_api(settings: Settings, parts: Parts) -> AsyncIterator[None]:
    """For an api process: pods of every cell may prove themselves, logs of its own are shown."""
    if settings.provisioner != "kubernetes":
        yield
        return
    from control_plane.fleet.provision.kubernetes_reviews import Reviews

    kubernetes = settings.kubernetes
    async with AsyncExitStack() as stack:
        clusters = {}
        for cell in {settings.cell, *kubernetes.cells}:
            cluster = await kubernetes.cluster(cell)
            stack.push_async_callback(cluster.close)
            clusters[cell] = (cluster, settings.placement(cell))
        parts.bootstraps.voucher = Reviews(clusters)
        parts.provisioner = await stack.enter_async_context(_pods(settings))
        yield


@asynccontextmanager
async def _pods(settings: Settings) -> AsyncIterator[Provisioner]:
    # Half a second of imports that processes as agents do not need.
    from control_plane.fleet.provision.kubernetes import KubernetesProvisioner

    placement = settings.placement(settings.cell)
    provisioner = KubernetesProvisioner(await settings.kubernetes.cluster(settings.cell), placement)
    try:
        yield provisioner
    finally:
        await provisioner.close()
