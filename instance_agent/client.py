"""The agent's HTTP clients: one to its control plane, one to platforms. Reading the machine's
certificates costs as much as everything else at a start, so it waits for the first call over TLS;
many agents never make one."""

from collections.abc import Callable

import httpx2

from adapters.guarded import Guarded
from adapters.outbound import Door, no_cookies
from instance_agent import logs

# Calls to the control plane and to platforms; each call may ask for less.
TIMEOUT = httpx2.Timeout(20.0, connect=5.0)
# An agent talks to one control plane and a few platforms. Idle connections are dropped before
# servers drop theirs (uvicorn after 5 s), so that no request meets a closing one.
LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0)


class LazyTls(httpx2.AsyncBaseTransport):
    """A verifying transport that comes into being with its first request."""

    def __init__(self, make: Callable[[], httpx2.AsyncHTTPTransport]) -> None:
        self._make = make
        self._transport: httpx2.AsyncHTTPTransport | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._transport is None:
            self._transport = self._make()
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()


def new_client() -> httpx2.AsyncClient:
    """Verifies certificates; only plain `http://` skips the machinery for it."""
    plain = httpx2.AsyncHTTPTransport(verify=False, limits=LIMITS)
    return httpx2.AsyncClient(
        timeout=TIMEOUT,
        transport=LazyTls(lambda: httpx2.AsyncHTTPTransport(limits=LIMITS)),
        mounts={"http://": plain},
        event_hooks={"request": [_name_trace]},
    )


def platform_client(door: Door) -> httpx2.AsyncClient:
    """To addresses that tenants chose: through the door, without proxies, cookies, redirects."""
    return httpx2.AsyncClient(
        timeout=TIMEOUT,
        transport=LazyTls(lambda: Guarded(door, "https", limits=LIMITS)),
        mounts={"http://": Guarded(door, "http", limits=LIMITS)},
        trust_env=False,
        cookies=no_cookies(),
        follow_redirects=False,
        event_hooks={"request": [_name_trace]},
    )


async def _name_trace(request: httpx2.Request) -> None:
    """What a call made leads to, in whatever process, is in the same trace."""
    if current := logs.traceparent():
        request.headers.setdefault("traceparent", current)
