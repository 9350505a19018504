"""A Kubernetes for tests; conftest.py hands it to all of them."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from control_plane.kit.ids import new_id
from tests.cluster.api import Api, ApiError
from tests.cluster.handle import Cluster, first_that_works
from tests.cluster.nodes import Nodes, of_processes, real
from tests.cluster.substrate import build
from tests.cluster.substrate.packages import UnavailableError
from tests.cluster.substrate.plan import PROCESSES, REAL

GONE = {404, 409}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all test processes of a run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(first_that_works(folder / "cluster"))
        except UnavailableError as error:
            do_without(error)
        yield cluster


def do_without(error: UnavailableError) -> NoReturn:
    """Skip, and say why; where a build has all that a cluster needs, it has failed."""
    expected = os.environ.get("CI", "").lower() in {"1", "true"}
    if expected and build.made():
        pytest.fail(f"a cluster should have started here and did not: {error}", pytrace=False)
    pytest.skip(f"no Kubernetes, so nothing shows that pods work: {error}")


@pytest.fixture
async def cluster_prefix(cluster: Cluster) -> AsyncIterator[str]:
    """With which this test's namespaces begin; they are deleted after it."""
    prefix = f"t{new_id().hex[-8:]}-"
    yield prefix
    async with cluster.api() as api:
        for namespace in (await api.get("/api/v1/namespaces"))["items"]:
            if namespace["metadata"]["name"].startswith(prefix):
                await clear(api, namespace["metadata"]["name"])


@pytest.fixture(params=[REAL, PROCESSES])
async def nodes(
    request: pytest.FixtureRequest, cluster: Cluster, cluster_prefix: str, tmp_path: Path
) -> AsyncIterator[Nodes]:
    """Where a test's agents really run, in containers or as processes."""
    if not cluster.simulated:
        pytest.skip("this cluster is not ours: its pods would not find a way to this machine")
    if request.param == PROCESSES:
        async with of_processes(cluster, cluster_prefix, tmp_path) as nodes:
            yield nodes
    elif cluster.real:
        yield real(cluster)
    else:
        pytest.skip("no node here runs containers: where pods are processes the same is tried")


async def clear(api: Api, namespace: str) -> None:
    """Delete a namespace, its pods at once; others need not wait until it is gone."""
    at_once = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
    for path in (
        f"/apis/apps/v1/namespaces/{namespace}/deployments",
        f"/api/v1/namespaces/{namespace}/pods",
        f"/api/v1/namespaces/{namespace}",
    ):
        try:
            await api.delete(path, at_once)
        except ApiError as error:
            if error.status not in GONE:
                raise
