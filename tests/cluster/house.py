"""A control plane as in production, in the network of the cluster's pods.

There it reaches pods by their addresses, and they reach it; where that is a network of its own, a
relay leads from this machine's loopback to it, for browsers and platforms.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
from sqlalchemy.engine import URL, make_url

from control_plane.kit.ids import new_token
from tests.cluster.handle import LOOPBACK, Cluster
from tests.cluster.nodes import Nodes
from tests.cluster.substrate.keeper import DIE_WITH_US
from tests.cluster.substrate.plan import KIND, PODS
from tests.e2e.conftest import free_port, until

BOTYARD = str(Path(sys.executable).with_name("botyard"))
PATIENCE_S = 120.0
"""For a pod that goes and one that comes, on a busy machine."""

PARTS = ("api", "worker", "controller")


class House:
    """Its processes, each of which may be killed."""

    def __init__(self, cluster: Cluster, nodes: Nodes, prefix: str, folder: Path) -> None:
        self.url = ""
        self._cluster = cluster
        self._nodes = nodes
        self._prefix = prefix
        self._folder = folder
        self._environment: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @asynccontextmanager
    async def up(self, app_url: str) -> AsyncIterator[None]:
        """On a migrated database; at the end all its processes are gone."""
        async with AsyncExitStack() as stack:
            port = free_port()
            here = stack.enter_context(self._cluster.reach(self._cluster.address, port))
            self.url = f"http://127.0.0.1:{here}"
            database = make_url(app_url)
            if database.host:
                # No socket in the file system, which would be the same from there.
                way = stack.enter_context(self._cluster.expose(database.port or 5432))
                host, _, number = way.rpartition(":")
                database = database.set(host=host, port=int(number))
            self._environment = self._settings(port, database)
            stack.callback(self._end)
            for name in PARTS:
                self._start(name)
            async with self.client() as http:

                async def ready() -> bool:
                    for name, process in self._running.items():
                        assert process.poll() is None, self.log(name)
                    try:
                        return (await http.get("/openapi.json")).status_code == 200
                    except httpx2.HTTPError:
                        return False

                await until(ready, "the api serves", PATIENCE_S)
            yield

    def _settings(self, port: int, database: URL) -> dict[str, str]:
        here = self._cluster.address
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "BOTYARD_DATABASE_URL": database.render_as_string(hide_password=False),
            "BOTYARD_SECRET_KEYS": new_token(),
            "BOTYARD_HOST": here,
            "BOTYARD_PORT": str(port),
            "BOTYARD_PUBLIC_URL": self.url,
            "BOTYARD_CONTROL_URL": f"http://{here}:{port}",
            "BOTYARD_OUTBOUND_ALLOW": f"{LOOPBACK}/32" if here == LOOPBACK else PODS,
            "BOTYARD_DATA_DIR": str(self._folder / "data"),
            "BOTYARD_PROVISIONER": "kubernetes",
            "BOTYARD_KUBERNETES__IMAGE": self._nodes.image,
            "BOTYARD_KUBERNETES__NAME": self._prefix.rstrip("-"),
            "BOTYARD_KUBERNETES__KUBECONFIG": str(self._cluster.kubeconfig),
            "BOTYARD_KUBERNETES__CONTROL_NETWORKS": f"{here}/32",
            "BOTYARD_KUBERNETES__CONTROL_PORT": str(port),
            "BOTYARD_KUBERNETES__NODES": json.dumps({KIND: self._nodes.kind}),
            "BOTYARD_KUBERNETES__TAINTS": json.dumps([KIND]),
        }

    def _start(self, name: str) -> None:
        words = [*DIE_WITH_US, *self._cluster.inside(BOTYARD, name)]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                words, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )

    def _end(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def kill(self, name: str) -> None:
        """kill -9, and start again as a supervisor would."""
        self._running[name].kill()
        self._running[name].wait()
        self._start(name)

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self._folder / f"{name}.log").read_text(encoding="utf-8")

    async def command(self, *words: str) -> str:
        """What a command that ends prints."""
        done = await asyncio.to_thread(
            subprocess.run,
            self._cluster.inside(BOTYARD, *words),
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def client(self) -> httpx2.AsyncClient:
        """Somebody with a browser."""
        return httpx2.AsyncClient(base_url=f"{self.url}/api/v1", trust_env=False, timeout=20)
