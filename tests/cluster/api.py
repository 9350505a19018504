"""The Kubernetes API as JSON over HTTP: as little of a client as the tests' own side needs.

What is under test has the official client; a second, independent one looks over its shoulder.
"""

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
ANSWER = httpx2.Timeout(30, pool=None)
"""In seconds. A thousand calls at once wait for their turn."""


class ApiError(Exception):
    """The server refused; `status` is its code."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__(f"{answer.request.method} {answer.request.url.path}: {answer.text[:500]}")
        self.status = answer.status_code


class Api:
    """Paths are whole: /api/v1/namespaces/..."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def at(cls, kubeconfig: Path) -> "AsyncIterator[Api]":
        """Of the cluster of the file's current context."""
        server, context, headers = _read(kubeconfig)
        async with httpx2.AsyncClient(
            base_url=server, verify=context, headers=headers, timeout=ANSWER, trust_env=False
        ) as http:
            yield cls(http)

    async def get(self, path: str, **parameters: str) -> Json:
        return await self._json("GET", path, parameters=parameters)

    async def text(self, path: str, **parameters: str) -> str:
        return (await self._ask("GET", path, parameters=parameters)).text

    async def post(self, path: str, body: Json) -> Json:
        return await self._json("POST", path, body=body)

    async def merge(self, path: str, body: Json) -> Json:
        """Change some fields."""
        return await self._json("PATCH", path, body=body, kind=MERGE)

    async def apply(self, path: str, body: Json, *, manager: str, force: bool = False) -> Json:
        """Server-side apply."""
        parameters = {"fieldManager": manager, "force": str(force).lower()}
        return await self._json("PATCH", path, body=body, kind=APPLY, parameters=parameters)

    async def delete(self, path: str, body: Json | None = None) -> Json:
        return await self._json("DELETE", path, body=body)

    async def watch(self, path: str, **parameters: str) -> AsyncIterator[Json]:
        """Events until the server ends the stream."""
        async with self._http.stream(
            "GET", path, params={"watch": "true", **parameters}, timeout=None
        ) as answer:
            if answer.status_code >= httpx2.codes.BAD_REQUEST:
                await answer.aread()
                raise ApiError(answer)
            async for line in answer.aiter_lines():
                yield json.loads(line)

    async def _json(self, method: str, path: str, **more: Any) -> Json:
        answer: Json = (await self._ask(method, path, **more)).json()
        return answer

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        kind: str = "application/json",
        parameters: dict[str, str] | None = None,
    ) -> httpx2.Response:
        content = None if body is None else json.dumps(body).encode()
        answer = await self._http.request(
            method, path, params=parameters, content=content, headers={"content-type": kind}
        )
        if answer.status_code >= httpx2.codes.BAD_REQUEST:
            raise ApiError(answer)
        return answer


def server_of(kubeconfig: Path) -> str:
    """The address of the API server."""
    return str(_current(kubeconfig)[0]["server"])


def _read(kubeconfig: Path) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    cluster, user = _current(kubeconfig)
    with tempfile.TemporaryDirectory() as folder:

        def file(of: Json, name: str) -> str | None:
            if data := of.get(f"{name}-data"):
                path = Path(folder) / name
                path.write_bytes(base64.b64decode(data))
                return str(path)
            given: str | None = of.get(name)
            return given

        context = ssl.create_default_context(cafile=file(cluster, "certificate-authority"))
        if certificate := file(user, "client-certificate"):
            context.load_cert_chain(certificate, file(user, "client-key"))
    headers = {"authorization": f"Bearer {user['token']}"} if "token" in user else {}
    return cluster["server"], context, headers


def _current(kubeconfig: Path) -> tuple[Json, Json]:
    document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))

    def named(kind: str, name: str) -> Json:
        found: Json = next(one[kind] for one in document[f"{kind}s"] if one["name"] == name)
        return found

    context = named("context", document["current-context"])
    return named("cluster", context["cluster"]), named("user", context["user"])
