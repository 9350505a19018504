"""Agents as pods: a namespace for each tenant, a Deployment for each agent.

The truth is in the cluster. Each object says from which wish it was made, so any caller can see
whether it is as it should be; what is right is never written again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import structlog

from control_plane.fleet.provision import kubernetes_walls
from control_plane.fleet.provision.base import (
    SMALLEST,
    InstanceSpec,
    Ownership,
    ProvisionError,
    Stale,
    Transient,
    Workload,
)
from control_plane.fleet.provision.hints import Hints
from control_plane.fleet.provision.kubernetes_api import Cluster, path, path_of
from control_plane.fleet.provision.kubernetes_errors import Conflict
from control_plane.fleet.provision.kubernetes_manifests import (
    INSTANCE,
    TENANT,
    Document,
    Placement,
    Wish,
    deployment,
    documents,
    wish_of,
)
from control_plane.fleet.provision.kubernetes_mirror import Mirror, soon
from control_plane.fleet.provision.kubernetes_removal import Removal
from control_plane.fleet.provision.kubernetes_seen import (
    Deployed,
    Pod,
    newest,
    read_deployment,
    read_pod,
    workload,
)
from control_plane.fleet.provision.kubernetes_walls import Round, Sound, Standing

LAST_LINES = 20
"""Lines of an ended agent's log that a person takes in at a glance."""

RESYNC = timedelta(minutes=5)
"""Between looks at what is not watched: a handful of pages for thousands of tenants."""

BELIEVE_WITHIN = timedelta(seconds=30)
"""A watch shows what we wrote within this, or we stop waiting for it."""

FOLLOW_LOOK_S = 1.0
"""Cadence of the look for the next container of a log that is followed."""

LOG_BYTES = 4 * 2**20
"""The most of a log that is read at once."""

_TRIES = 4
"""Times that somebody may write between our read and our write."""

_IDS_AT_ONCE = 50
"""Instances that one selector names: 37 characters each, in an address of a few thousand."""

_ENDS_KEPT = 1000
"""Ended containers whose last lines are remembered."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """What we wrote, until the watch shows it; no generation: it goes."""

    uid: str
    generation: int | None
    until: float


class KubernetesProvisioner:
    """Runs agents in one cell's cluster."""

    refits_in_place = False

    def __init__(self, cluster: Cluster, placement: Placement) -> None:
        self._cluster = cluster
        self._placement = placement
        self._hints = Hints()
        self._closed = asyncio.Event()
        self._standing = Standing()
        self._removal = Removal(cluster, placement)
        ours = f"{placement.selector},{INSTANCE}"
        self._deployments: Mirror[Deployed] = Mirror(
            cluster, "Deployment", ours, read=self._deployed, changed=self._hints.put
        )
        self._pods: Mirror[Pod] = Mirror(
            cluster, "Pod", ours, read=read_pod, changed=self._hints.put
        )
        self._expected: dict[UUID, _Expected] = {}
        self._round: Round | None = None
        # What was written since the round under way began, which it may not have seen.
        self._made: Sound = {}
        self._ends: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []

    async def ensure(self, spec: InstanceSpec) -> Workload:
        """Make an agent of this generation run; write only what is not so already."""
        wish = Wish.of(spec)
        for _ in range(_TRIES):
            try:
                return await self._ensure(wish)
            except Conflict as conflict:
                error = conflict
                await self._namespace_stays(wish.tenant_id)
        raise error

    async def observe(self, ids: Collection[UUID]) -> Mapping[UUID, Workload]:
        """What runs for these instances: from the watches, or asked where those lag behind."""
        asked = [instance_id for instance_id in ids if not self._mirrored(instance_id)]
        seen = await self._ask(asked)
        for instance_id in ids:
            if instance_id not in seen:
                found = self._deployments.of(instance_id)
                seen[instance_id] = (found[0] if found else None, self._pods.of(instance_id))
        return {
            instance_id: await self._workload(*self._with_walls(*seen[instance_id]))
            for instance_id in ids
        }

    async def stop(self, instance_id: UUID, *, grace: timedelta) -> Workload:
        """Ask the agent to drain; its pod ends it after the drain time that it was made with."""
        for _ in range(_TRIES):
            live = await self._find(instance_id)
            pods = await self._pods_of([instance_id])
            if live is None:
                return workload(None, pods)
            wish = wish_of(live) or _nameless(live)
            if wish.up:
                last = newest(pods)
                wish = replace(wish, up=False, ended=last.ref if last else None)
            try:
                live = await self._write(deployment(wish, self._placement), live)
            except Conflict as conflict:
                error = conflict
                continue
            return workload(self._deployed(live), pods)
        raise error

    async def destroy(self, instance_id: UUID) -> Workload:
        """End it and remove everything; the namespace goes with the last agent in it."""
        for found in self._deployments.of(instance_id):
            self._expect(instance_id, found.uid, None)
        return await self._removal.go_on(instance_id)

    async def sweep(self, tenant_id: UUID) -> None:
        """Remove the tenant's namespace, if nobody has anything in it."""
        await self._removal.sweep(tenant_id)

    def changes(self) -> AsyncIterator[UUID]:
        """Instances whose Deployment or pods changed, from now on watched."""
        reader = self._hints.reader()
        if not self._tasks:
            runs = {
                self._deployments.name: self._deployments.run(),
                self._pods.name: self._pods.run(),
                "fleet.walls": self._look_around(),
            }
            self._tasks = [asyncio.create_task(run, name=name) for name, run in runs.items()]
        return reader

    async def inventory(self) -> AsyncIterator[Ownership]:
        """Every agent that has anything here, and namespaces of ours without one."""
        placement = self._placement
        selector = f"{placement.selector},{INSTANCE}"
        deployments = await self._cluster.list(path("Deployment"), selector)
        accounts = await self._cluster.list(path("ServiceAccount"), selector)
        pods = await self._cluster.list(path("Pod"), selector)
        homes = await self._cluster.list(path("Namespace"), placement.selector)
        by_instance: dict[UUID, list[Pod]] = {}
        for live in pods.items:
            pod = read_pod(live)
            by_instance.setdefault(pod.instance_id, []).append(pod)
        owners: dict[UUID, Ownership] = {}
        for live in (*accounts.items, *pods.items):
            instance_id = _id(live, INSTANCE)
            last = newest(by_instance.get(instance_id, []))
            owners[instance_id] = _owned(live, last.ref if last else None)
        for live in deployments.items:
            found = self._deployed(live)
            ref = workload(found, by_instance.get(found.instance_id, [])).ref
            owners[found.instance_id] = _owned(live, ref)
        for owned in owners.values():
            yield owned
        inhabited = {owned.tenant_id for owned in owners.values()}
        for live in homes.items:
            if (tenant_id := _id(live, TENANT)) not in inhabited:
                yield Ownership(instance_id=None, ref=None, tenant_id=tenant_id)

    async def logs(self, instance_id: UUID, *, tail: int, follow: bool) -> AsyncIterator[str]:
        """The last lines; with `follow`, those of later containers too, until it is destroyed."""
        read: str | None = None
        while True:
            pod = newest(await self._pods_of([instance_id]))
            if pod is not None and pod.begun and pod.ref != read:
                how = {} if read else {"tailLines": str(tail)}
                async for line in self._lines(pod, follow=follow, **how):
                    yield line
                read = pod.ref
            elif follow and pod is None and await self._find(instance_id) is None:
                return
            if not follow or await self._closes_within(FOLLOW_LOOK_S):
                return

    async def close(self) -> None:
        """Stop watching; agents keep running."""
        self._closed.set()
        self._hints.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cluster.close()

    async def _ensure(self, wish: Wish) -> Workload:
        wished = documents(wish, self._placement)
        live = await self._live(wished)
        former = live[-1]
        if former is not None:
            there = wish_of(former)
            if there is not None and there.generation > wish.generation:
                raise Stale(f"Generation {there.generation} is already there.")
        first, *around, own = zip(wished, live, strict=True)
        await self._write(*first)
        if former is not None and live[-2] is None:
            await self._end_pods(wish.instance_id)
        await asyncio.gather(*(self._write(*each) for each in around))
        # The walls stand before anybody moves in.
        made = await self._write(*own)
        home = self._placement.namespace(wish.tenant_id)
        for known in (self._made, *([self._round.sound] if self._round else [])):
            found = known.setdefault(home, {})
            found.update(kubernetes_walls.sound(wish, self._placement))
        # What was just made holds no pods; elsewhere one namespace is read, not the whole cluster.
        pods = await self._pods_of([wish.instance_id], home) if live[0] else []
        return await self._workload(self._deployed(made), pods)

    async def _live(self, wished: list[Document]) -> list[Document | None]:
        """The live objects; in a new namespace there are none."""
        home = await self._cluster.get(path_of(wished[0]))
        if home is None:
            return [None] * len(wished)
        _must_stay(home)
        rest = (self._cluster.get(path_of(document)) for document in wished[1:])
        return [home, *await asyncio.gather(*rest)]

    async def _end_pods(self, instance_id: UUID) -> None:
        """Before an account that was deleted is made again: their tokens died with the former."""
        for pod in await self._pods_of([instance_id]):
            if not pod.going:
                where = path("Pod", pod.namespace, pod.name)
                await self._cluster.delete(where, {"preconditions": {"uid": pod.uid}})

    async def _namespace_stays(self, tenant_id: UUID) -> None:
        home = await self._cluster.get(path("Namespace", name=self._placement.namespace(tenant_id)))
        if home is not None:
            _must_stay(home)

    async def _write(self, wished: Document, live: Document | None) -> Document:
        """Bring one object in line; what is so already is not written."""
        if live is not None and self._standing.holds(wished, live):
            return live
        only = wished["kind"] == "Deployment" and live is not None
        version = live["metadata"]["resourceVersion"] if live is not None and only else None
        made = await self._cluster.apply(wished, version=version)
        if not self._standing.holds(wished, made):
            # Somebody added to our lists what an apply leaves alone.
            made = await self._cluster.replace(wished, version=made["metadata"]["resourceVersion"])
            if not self._standing.holds(wished, made):
                log.warning("object is shaped by others too", where=path_of(wished))
                self._standing.accept(made)
        if wished["kind"] == "Deployment":
            meta = made["metadata"]
            self._expect(_id(made, INSTANCE), meta["uid"], meta["generation"])
        return made

    async def _workload(self, deployed: Deployed | None, pods: list[Pod]) -> Workload:
        """With the end of its log, when it ended."""
        seen = workload(deployed, pods)
        pod = newest(pods)
        if seen.exited_at is None or pod is None:
            return seen
        if pod.ref not in self._ends:
            lines: list[str] = []
            try:
                lines = [line async for line in self._lines(pod, tailLines=str(LAST_LINES))]
            except ProvisionError as error:
                log.info("last lines not read", instance=str(pod.instance_id), error=str(error))
            self._ends[pod.ref] = tuple(lines)
            if len(self._ends) > _ENDS_KEPT:
                self._ends.popitem(last=False)
        return replace(seen, last_lines=self._ends[pod.ref])

    def _with_walls(
        self, deployed: Deployed | None, pods: list[Pod]
    ) -> tuple[Deployed | None, list[Pod]]:
        around = self._round
        if deployed is None or around is None or deployed.wish is None or not deployed.aligned:
            return deployed, pods
        return replace(deployed, aligned=around.fit(deployed.wish, self._placement)), pods

    def _mirrored(self, instance_id: UUID) -> bool:
        """Whether the watches know it, and all that we wrote ourselves."""
        if not (self._deployments.synced and self._pods.synced):
            return False
        expected = self._expected.get(instance_id)
        if expected is None:
            return True
        shown = {item.uid: item.generation for item in self._deployments.of(instance_id)}
        if expected.generation is None:
            caught_up = expected.uid not in shown
        else:
            caught_up = shown.get(expected.uid, -1) >= expected.generation
        if caught_up or asyncio.get_running_loop().time() > expected.until:
            del self._expected[instance_id]
        return caught_up

    def _expect(self, instance_id: UUID, uid: str, generation: int | None) -> None:
        if self._tasks:
            until = asyncio.get_running_loop().time() + BELIEVE_WITHIN.total_seconds()
            self._expected[instance_id] = _Expected(uid=uid, generation=generation, until=until)

    async def _ask(self, ids: list[UUID]) -> dict[UUID, tuple[Deployed | None, list[Pod]]]:
        """Straight from the server."""
        found: dict[UUID, Deployed] = {}
        pods: dict[UUID, list[Pod]] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            listed = await self._cluster.list(path("Deployment"), self._selector(some))
            found |= {_id(live, INSTANCE): self._deployed(live) for live in listed.items}
            for pod in await self._pods_of(some):
                pods.setdefault(pod.instance_id, []).append(pod)
        return {each: (found.get(each), pods.get(each, [])) for each in ids}

    async def _find(self, instance_id: UUID) -> Document | None:
        listed = await self._cluster.list(path("Deployment"), self._selector([instance_id]))
        # A list leaves kind and version of its items out.
        items = [{"kind": "Deployment", "apiVersion": "apps/v1"} | live for live in listed.items]
        return items[0] if items else None

    async def _pods_of(self, ids: Collection[UUID], home: str | None = None) -> list[Pod]:
        listed = await self._cluster.list(path("Pod", home), self._selector(ids))
        return [read_pod(live) for live in listed.items]

    def _selector(self, ids: Collection[UUID]) -> str:
        return f"{self._placement.selector},{INSTANCE} in ({','.join(map(str, ids))})"

    def _deployed(self, live: Document) -> Deployed:
        live = {"kind": "Deployment", "apiVersion": "apps/v1"} | live
        return read_deployment(live, self._placement, self._standing.holds)

    async def _lines(self, pod: Pod, *, follow: bool = False, **query: str) -> AsyncIterator[str]:
        bounds = {"follow": "true"} if follow else {"limitBytes": str(LOG_BYTES)}
        where = f"{path('Pod', pod.namespace, pod.name)}/log"
        try:
            async for line in self._cluster.lines(where, container="agent", **bounds, **query):
                yield line
        except Transient:
            if not self._closed.is_set():
                raise

    async def _look_around(self) -> None:
        """Loop: see what is not watched."""
        while not self._closed.is_set():
            self._made = {}
            try:
                seen = await kubernetes_walls.look(self._cluster, self._placement, self._standing)
            except ProvisionError as error:
                log.warning("walls not seen", detail=str(error)[:256])
            else:
                for home, made in self._made.items():
                    seen.sound.setdefault(home, {}).update(made)
                self._round = seen
                for deployed in self._deployments:
                    if deployed.wish and not seen.fit(deployed.wish, self._placement):
                        self._hints.put(deployed.instance_id)
            await self._closes_within(soon(RESYNC))

    async def _closes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return False
        return True


def _must_stay(home: Document) -> None:
    if "deletionTimestamp" in home["metadata"]:
        raise Transient(f"Waits for the former namespace {home['metadata']['name']} to go.")


def _nameless(live: Document) -> Wish:
    """For a Deployment whose wish was spoiled: older than any other."""
    return Wish(
        tenant_id=_id(live, TENANT),
        instance_id=_id(live, INSTANCE),
        generation=0,
        allowance=SMALLEST,
    )


def _id(live: Document, label: str) -> UUID:
    return UUID(live["metadata"]["labels"][label])


def _owned(live: Document, ref: str | None) -> Ownership:
    return Ownership(instance_id=_id(live, INSTANCE), ref=ref, tenant_id=_id(live, TENANT))
