"""One cluster's API: raw JSON in and out, at a bounded rate, with errors of our own.

The `kubernetes` package finds the server and proves who we are; its typed models would cost ten
times the time of reading a list.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import config as loading
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException

from control_plane.fleet.provision.base import Invalid, Transient
from control_plane.fleet.provision.kubernetes_errors import Throttled, refusal
from control_plane.fleet.provision.kubernetes_manifests import MANAGER, Document

ANSWER_S = 30.0
"""Longest wait for one answer: the server's own bound on a request is 60 s."""

CONNECT_S = 5.0

PAGE = 500
"""Objects of one page of a list, as kubectl asks."""

WATCH_S = 300
"""A watch ends after this and is taken up again where it ended."""

QUIET_S = 70.0
"""Silence after which a watch is dead: the server says something (a bookmark) each minute."""

MAX_LINE = 8 * 2**20
"""Bytes of one event: an object has at most 1.5 MiB."""

_PLURALS = {
    "Namespace": "namespaces",
    "ResourceQuota": "resourcequotas",
    "LimitRange": "limitranges",
    "ServiceAccount": "serviceaccounts",
    "NetworkPolicy": "networkpolicies",
    "Deployment": "deployments",
    "Pod": "pods",
}
_GROUPS = {"NetworkPolicy": "apis/networking.k8s.io/v1", "Deployment": "apis/apps/v1"}


def path(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    """Where objects of a kind, or one of them, are."""
    inside = f"/namespaces/{namespace}" if namespace and kind != "Namespace" else ""
    tail = f"/{name}" if name else ""
    return f"/{_GROUPS.get(kind, 'api/v1')}{inside}/{_PLURALS[kind]}{tail}"


def path_of(document: Document) -> str:
    """Where this object is."""
    meta = document["metadata"]
    return path(document["kind"], meta.get("namespace"), meta["name"])


class Bucket:
    """Lets so many calls a second through; a server that asks for a pause gets it from all."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float]) -> None:
        self._rate, self._burst, self._now = rate, burst, now
        self._free, self._at = burst, now()

    async def take(self) -> None:
        """Wait for one's turn."""
        if (seconds := self.reserve()) > 0:
            await asyncio.sleep(seconds)

    def reserve(self) -> float:
        """One call's turn is now taken; the seconds until it comes."""
        self._refill()
        self._free -= 1
        return max(0.0, -self._free / self._rate)

    def pause(self, seconds: float) -> None:
        """Who comes from now on waits for so long."""
        self._refill()
        self._free = min(self._free, -seconds * self._rate)

    def _refill(self) -> None:
        now = self._now()
        self._free = min(self._burst, self._free + (now - self._at) * self._rate)
        self._at = now


@dataclass(frozen=True, kw_only=True)
class Listed:
    """All objects of a kind at one moment, and from where to watch on."""

    items: list[Document]
    version: str


class Cluster:
    """Calls one API server."""

    def __init__(self, configuration: Configuration, *, rate: float, burst: float) -> None:
        self._configuration = configuration
        # Watches and logs hold a connection each for as long as they last.
        configuration.connection_pool_maxsize = 0
        self._rest = cast(Any, RESTClientObject)(configuration)
        self.bucket = Bucket(rate, burst, asyncio.get_running_loop().time)

    @classmethod
    async def open(
        cls, *, kubeconfig: Path | None, context: str | None, rate: float, burst: float
    ) -> "Cluster":
        """From a kubeconfig, or as the pod that we are; raises Invalid when there is neither."""
        configuration = Configuration()
        load: Any = loading
        try:
            if kubeconfig is None and context is None:
                load.load_incluster_config(client_configuration=configuration)
            else:
                await load.load_kube_config(
                    config_file=None if kubeconfig is None else str(kubeconfig),
                    context=context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (ConfigException, OSError) as error:
            raise Invalid(f"No way into the cluster: {error}") from None
        return cls(configuration, rate=rate, burst=burst)

    async def close(self) -> None:
        await self._rest.close()

    async def get(self, where: str, **query: str) -> Document | None:
        """The object; None when it is not there."""
        return await self._call("GET", where, query, missing=True)

    async def apply(self, document: Document, *, version: str | None = None) -> Document:
        """Make it so, taking over what others wrote; with `version`, only over that one."""
        if version is not None:
            document = document | {"metadata": document["metadata"] | {"resourceVersion": version}}
        query = {"fieldManager": MANAGER, "force": "true"}
        return await self._needed("PATCH", path_of(document), query, document, "apply-patch+yaml")

    async def replace(self, document: Document, *, version: str) -> Document:
        """Make it so and nothing else, over that version only."""
        document = document | {"metadata": document["metadata"] | {"resourceVersion": version}}
        return await self._needed("PUT", path_of(document), {"fieldManager": MANAGER}, document)

    async def patch(self, where: str, change: Document) -> Document | None:
        """Change some fields of an object; None when it is not there."""
        query = {"fieldManager": MANAGER}
        return await self._call("PATCH", where, query, change, "merge-patch+json", missing=True)

    async def create(self, where: str, document: Document) -> Document:
        return await self._needed("POST", where, {}, document)

    async def delete(self, where: str, options: Document, **query: str) -> None:
        """Have it deleted; one that is not there is no error."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1"} | options
        await self._call("DELETE", where, query, body, missing=True)

    async def list(self, where: str, selector: str) -> Listed:
        """All objects with these labels, page by page."""
        items: list[Document] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        while True:
            page = await self._needed("GET", where, query)
            items += page.get("items") or []
            if not (more := page["metadata"].get("continue")):
                return Listed(items=items, version=page["metadata"].get("resourceVersion", ""))
            query["continue"] = more

    async def watch(
        self, where: str, selector: str, version: str
    ) -> AsyncIterator[tuple[str, Document]]:
        """OPENED, then events after `version` until the server ends them.

        Raises Expired when that version is gone.
        """
        query = {
            "labelSelector": selector,
            "resourceVersion": version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        async with self._stream(where, query, quiet_s=QUIET_S) as lines:
            yield "OPENED", {}
            async for line in lines:
                event = msgspec.json.decode(line)
                found = event["object"]
                if event["type"] == "ERROR":
                    raise refusal(int(found.get("code") or 500), msgspec.json.encode(found), {})
                yield event["type"], found

    async def lines(self, where: str, **query: str) -> AsyncIterator[str]:
        """Lines of a text as they come; none when there is no such thing."""
        quiet_s = None if query.get("follow") == "true" else ANSWER_S
        async with self._stream(where, query, quiet_s=quiet_s, missing=True) as lines:
            async for line in lines:
                yield line.decode("utf-8", "replace")

    async def _needed(
        self,
        method: str,
        where: str,
        query: Mapping[str, str],
        body: Document | None = None,
        kind: str = "json",
    ) -> Document:
        return cast(Document, await self._call(method, where, query, body, kind))

    async def _call(
        self,
        method: str,
        where: str,
        query: Mapping[str, str],
        body: Document | None = None,
        kind: str = "json",
        *,
        missing: bool = False,
    ) -> Document | None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
        try:
            answer = await self._send(method, where, query, body, kind, timeout)
            async with answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from None
        if answer.status == 404 and missing:
            return None
        self._raise_for(answer.status, content, answer.headers)
        return cast(Document, msgspec.json.decode(content)) if content else None

    @asynccontextmanager
    async def _stream(
        self,
        where: str,
        query: Mapping[str, str],
        *,
        quiet_s: float | None,
        missing: bool = False,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=quiet_s)
        try:
            async with await self._send("GET", where, query, None, "json", timeout) as answer:
                if answer.status == 404 and missing:
                    yield _nothing()
                    return
                if answer.status != 200:
                    self._raise_for(answer.status, await answer.read(), answer.headers)
                yield _split(answer.content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from None

    async def _send(
        self,
        method: str,
        where: str,
        query: Mapping[str, str],
        body: Document | None,
        kind: str,
        within: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        await self.bucket.take()
        configuration: Any = self._configuration
        auth = await configuration.auth_settings()
        headers = {"content-type": f"application/{kind}", "accept": "application/json"}
        headers |= {item["key"]: item["value"] for item in auth.values()}
        if (session := self._rest.pool_manager) is None:
            session = self._rest.pool_manager = self._rest._create_pool_manager()
        address = f"{configuration.host}{where}" + (f"?{urlencode(query)}" if query else "")
        named = configuration.tls_server_name
        return cast(
            aiohttp.ClientResponse,
            await session.request(
                method,
                address,
                data=None if body is None else msgspec.json.encode(body),
                headers=headers,
                timeout=within,
                allow_redirects=False,
                **({"server_hostname": named} if named else {}),
                **({"proxy": configuration.proxy} if configuration.proxy else {}),
            ),
        )

    def _raise_for(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        if status < 300:
            return
        error = refusal(status, content, headers)
        if isinstance(error, Throttled):
            self.bucket.pause(error.pause_s)
        raise error


def _unreachable(error: Exception) -> Transient:
    what = "does not answer" if isinstance(error, TimeoutError) else "cannot be reached"
    if isinstance(error, (ssl.SSLError, aiohttp.ClientSSLError)):
        what = "is not believed"
    return Transient(f"The Kubernetes API {what} ({type(error).__name__}).")


async def _nothing() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for line in none:
        yield line


async def _split(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > MAX_LINE:
            raise Transient("The Kubernetes API sent a line without an end.")
    if rest:
        yield rest
