"""Nodes whose pods are processes of this machine: the real agent, without root and without images.

`python -m tests.cluster.processes KUBECONFIG CERTIFICATE --kind KIND --images NAME --folder FOLDER
NODE...`; any tag of that name is the agent of this checkout. A pod has an address on loopback and
a folder of its own. Its agent has the pod's command line and environment, with places in that
folder instead of those where its volumes would be mounted, and a token that the API server made
for this pod. It is probed, started again, asked to end and killed as by a kubelet, and its log is
read through the API server.
"""

import argparse
import asyncio
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.cluster.api import Api, ApiError, Json
from tests.cluster.kubelet import (
    LOOK_AGAIN_S,
    Container,
    Node,
    insist,
    now,
    tell,
    terminated,
)
from tests.cluster.substrate.keeper import CHECKOUT, DIE_WITH_US

ENTRYPOINT = (sys.executable, "-m", "instance_agent")
IMAGE = {
    # Loopback is this node's network.
    "BOTYARD_AGENT_TLS": "always",
    "PYTHONPATH": str(CHECKOUT),
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
"""The environment that the agent's image brings along."""

BACK_OFF_S = (0.5, 5.0)
"""The first and the longest; a kubelet begins with ten seconds."""

SIGNALLED = 128
LOG_BYTES = 1024 * 1024
CHUNK = 65536
TRIES = 100
OK = range(200, 400)


class Log:
    """What a container says: the newest of it, for those who read it and those who follow."""

    def __init__(self) -> None:
        self._kept = b""
        self._said = 0
        self._ended = False
        self._more = asyncio.Condition()

    async def take(self, stream: asyncio.StreamReader) -> None:
        """Until the container ends; the node says it, too."""
        while chunk := await stream.read(CHUNK):
            print(chunk.decode(errors="replace"), end="", flush=True)
            async with self._more:
                self._kept = (self._kept + chunk)[-LOG_BYTES:]
                self._said += len(chunk)
                self._more.notify_all()
        async with self._more:
            self._ended = True
            self._more.notify_all()

    def tail(self, lines: int | None) -> bytes:
        if lines is None:
            return self._kept
        return b"".join(self._kept.splitlines(keepends=True)[-lines:] if lines else [])

    async def follow(self, lines: int | None) -> AsyncIterator[bytes]:
        """From these last lines on."""
        read = self._said
        yield self.tail(lines)
        while unread := await self._past(read):
            chunk = self._kept[-unread:]
            read += unread
            yield chunk

    async def _past(self, read: int) -> int:
        """How much more was said, once there is more; nothing when there will be none."""
        async with self._more:
            await self._more.wait_for(lambda: self._said > read or self._ended)
            return self._said - read


class Agent:
    """A pod of ours: one container, volumes that are empty or hold a token."""

    def __init__(
        self, api: Api, http: httpx2.AsyncClient, pod: Json, *, images: str, folder: Path
    ) -> None:
        self._api = api
        self._http = http
        self._pod = pod
        self._images = images
        self._folder = folder / pod["metadata"]["uid"]
        [self._spec] = pod["spec"]["containers"]
        self._ports = {each["name"]: each["containerPort"] for each in self._spec["ports"]}
        self._address = free_address(*self._ports.values())
        self._mounts = {
            each["mountPath"]: self._folder / each["name"] for each in self._spec["volumeMounts"]
        }
        self._process: asyncio.subprocess.Process | None = None
        self._phase = "Pending"
        self._stands = Container(state={"waiting": {"reason": "ContainerCreating"}})
        self.log = Log()

    async def live(self) -> None:
        if not self._spec["image"].startswith(f"{self._images}:"):
            lacks = {"reason": "ImagePullBackOff", "message": f"no {self._spec['image']} here"}
            await self._say(state={"waiting": lacks})
            return
        # Whoever is shown its token asks where it is.
        await self._say()
        tokens = await self._tokens()
        pause = BACK_OFF_S[0]
        while True:
            self._lay_out(tokens)
            code = await self._run()
            await self._say(state={"terminated": terminated(code)}, ready=False, started=False)
            again = {"reason": "CrashLoopBackOff", "message": f"back-off {pause:g}s"}
            await self._say(state={"waiting": again}, ended=code)
            await asyncio.sleep(pause)
            pause = min(2 * pause, BACK_OFF_S[1])
            self._stands = replace(self._stands, restarts=self._stands.restarts + 1)

    async def end(self, grace_s: float) -> None:
        await self._stop(grace_s)
        if self._folder.exists():
            shutil.rmtree(self._folder)

    async def _stop(self, grace_s: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        if grace_s:
            process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    # --- what it is given --------------------------------------------------------------------

    async def _tokens(self) -> dict[Path, str]:
        """By the file that it is read from."""
        return {
            self._folder / volume["name"] / source["serviceAccountToken"]["path"]: (
                await self._token(source["serviceAccountToken"])
            )
            for volume in self._pod["spec"]["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
        }

    async def _token(self, wanted: Json) -> str:
        meta, account = self._pod["metadata"], self._pod["spec"]["serviceAccountName"]
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [wanted["audience"]],
                "expirationSeconds": wanted["expirationSeconds"],
                "boundObjectRef": bound,
            },
        }
        while True:
            try:
                made = await insist(lambda: self._api.post(path, body))
            except ApiError as error:
                # Its account may come back, and until then the pod waits.
                print(f"no token: {error}", flush=True)
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                return str(made["status"]["token"])

    def _lay_out(self, tokens: dict[Path, str]) -> None:
        """Before each start: an agent takes its token away."""
        for folder in self._mounts.values():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, token in tokens.items():
            file.touch(mode=0o600)
            file.write_text(token, encoding="ascii")

    def _environment(self) -> dict[str, str]:
        own = {
            each["name"]: self._address if "valueFrom" in each else self._here(each["value"])
            for each in self._spec["env"]
        }
        return IMAGE | {"TMPDIR": self._here("/tmp")} | own  # noqa: S108 - where that is here

    def _command(self, environment: dict[str, str]) -> list[str]:
        def filled(word: str) -> str:
            return re.sub(r"\$\((\w+)\)", lambda name: environment[name[1]], word)

        # The entry point is the image's, which has its places for itself.
        return [*ENTRYPOINT, *(self._here(filled(word)) for word in self._spec["args"])]

    def _here(self, text: str) -> str:
        """The same place below the pod's folder."""
        for mount, folder in self._mounts.items():
            if text == mount or text.startswith(f"{mount}/"):
                return f"{folder}{text.removeprefix(mount)}"
        return text

    # --- its container -----------------------------------------------------------------------

    async def _run(self) -> int:
        """One start of it, to its end."""
        environment = self._environment()
        self._process = process = await asyncio.create_subprocess_exec(
            *DIE_WITH_US,
            *self._command(environment),
            env=environment,
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        self.log = Log()
        # Not ended with us: while it drains it still has something to say.
        self._listening = asyncio.create_task(self.log.take(process.stdout))
        self._phase = "Running"
        await self._say(state={"running": {"startedAt": now()}})
        watching = asyncio.create_task(self._watch())
        try:
            code = await process.wait()
        finally:
            watching.cancel()
        await self._listening
        return SIGNALLED - code if code < 0 else code

    async def _watch(self) -> None:
        """Probe it, as long as it runs."""
        startup = self._spec["startupProbe"]
        for _ in range(startup["failureThreshold"]):
            if await self._probe(startup):
                break
            await asyncio.sleep(startup["periodSeconds"])
        else:
            await self._stop(self._grace_s)
            return
        await self._say(started=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_whether_ready())
            group.create_task(self._look_whether_alive())

    async def _look_whether_ready(self) -> None:
        probe = self._spec["readinessProbe"]
        while True:
            await self._until(probe, well=True, times=1)
            await self._say(ready=True)
            await self._until(probe, well=False, times=probe["failureThreshold"])
            await self._say(ready=False)

    async def _look_whether_alive(self) -> None:
        probe = self._spec["livenessProbe"]
        await self._until(probe, well=False, times=probe["failureThreshold"])
        await self._stop(self._grace_s)

    async def _until(self, probe: Json, *, well: bool, times: int) -> None:
        """So many times, one after the other."""
        seen = 0
        while True:
            seen = seen + 1 if await self._probe(probe) is well else 0
            if seen == times:
                return
            await asyncio.sleep(probe["periodSeconds"])

    async def _probe(self, probe: Json) -> bool:
        asked = probe["httpGet"]
        address = f"{self._address}:{self._ports[asked['port']]}"
        url = f"{asked['scheme'].lower()}://{address}{asked['path']}"
        try:
            return (await self._http.get(url, timeout=probe["timeoutSeconds"])).status_code in OK
        except httpx2.HTTPError:
            return False

    @property
    def _grace_s(self) -> float:
        grace: float = self._pod["spec"]["terminationGracePeriodSeconds"]
        return grace

    async def _say(self, **changes: Any) -> None:
        self._stands = replace(self._stands, **changes)
        await tell(self._api, self._pod, self._phase, self._address, self._stands)


def free_address(*ports: int) -> str:
    """One on loopback, of four million, where nobody listens on any of these ports."""
    random = SystemRandom()
    for _ in range(TRIES):
        address = f"127.{random.randrange(64, 128)}.{random.randrange(256)}.{random.randrange(256)}"
        if all(_is_free(address, port) for port in ports):
            return address
    raise OSError(f"somebody listens on {ports} of all addresses")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


# --- the nodes -------------------------------------------------------------------------------


class Host:
    """What the nodes of this process share."""

    def __init__(self, api: Api, http: httpx2.AsyncClient, *, images: str, folder: Path) -> None:
        self._api = api
        self._http = http
        self._images = images
        self._folder = folder
        self._agents: dict[tuple[str, str], Agent] = {}

    def begin(self, pod: Json) -> Agent:
        agent = Agent(self._api, self._http, pod, images=self._images, folder=self._folder)
        self._agents[pod["metadata"]["namespace"], pod["metadata"]["name"]] = agent
        return agent

    async def show_log(self, request: Request) -> Response:
        """As a kubelet does for the API server."""
        found = self._agents.get((request.path_params["namespace"], request.path_params["pod"]))
        if found is None:
            return Response("no such pod here", status_code=404)
        asked = request.query_params
        lines = int(asked["tailLines"]) if "tailLines" in asked else None
        if asked.get("follow") == "true":
            return StreamingResponse(found.log.follow(lines), media_type="text/plain")
        most = int(asked.get("limitBytes", LOG_BYTES))
        return Response(found.log.tail(lines)[:most], media_type="text/plain")


@asynccontextmanager
async def showing_logs(host: Host, certificate: Path) -> AsyncIterator[int]:
    """Over TLS, on a port of loopback."""
    path = "/containerLogs/{namespace}/{pod}/{container}"
    config = uvicorn.Config(
        Starlette(routes=[Route(path, host.show_log)]),
        ssl_certfile=certificate,
        ssl_keyfile=certificate.with_suffix(".key"),
        lifespan="off",
        log_level="warning",
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await serving


async def main(given: argparse.Namespace) -> None:
    async with (
        Api.at(given.kubeconfig) as api,
        # A kubelet does not look at certificates either.
        httpx2.AsyncClient(verify=False, trust_env=False) as http,
    ):
        host = Host(api, http, images=given.images, folder=given.folder)
        async with showing_logs(host, given.certificate) as port, asyncio.TaskGroup() as group:
            for name in given.names:
                node = Node(api, name, kind=given.kind, taint=True, begin=host.begin, log_port=port)
                group.create_task(node.run())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("certificate", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--kind", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    asyncio.run(main(parser.parse_args()))
