"""A transport through the guarded door that keeps its connections: for platforms' APIs, which are
called again and again under an address that a tenant may choose.

The pool knows names; each new connection of a name goes to an address that the door has checked.
So a kept connection serves the name that it was opened for, with that name's certificate.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Literal

import httpcore2
import httpx2

from adapters.outbound import CONNECT_TIMEOUT_S, Door, Unreachable


class Guarded(httpx2.AsyncHTTPTransport):
    """Requests of one scheme. Raises `adapters.outbound.Refused` besides what httpx2 raises."""

    def __init__(
        self, door: Door, scheme: Literal["http", "https"], *, limits: httpx2.Limits
    ) -> None:
        # Reading the machine's certificates takes time: only for what needs them.
        super().__init__(verify=scheme == "https", trust_env=False, limits=limits)
        self._door = door
        # The library hands no backend through; the pool takes one.
        self._pool._network_backend = _Backend(door, scheme)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._door.check(str(request.url))
        try:
            return await super().handle_async_request(request)
        except Unreachable as error:
            raise httpx2.ConnectError(str(error), request=request) from None


class _Backend(httpcore2.AsyncNetworkBackend):
    """Connects to checked addresses alone."""

    def __init__(self, door: Door, scheme: str) -> None:
        self._door = door
        self._scheme = scheme
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout or CONNECT_TIMEOUT_S):
                address = await self._door.resolve(self._scheme, host, port)
        except TimeoutError:
            raise Unreachable("The name of this address is not told in time.") from None
        return await self._inner.connect_tcp(
            str(address),
            port,
            timeout=timeout,
            local_address=local_address,
            socket_options=socket_options,
        )

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
