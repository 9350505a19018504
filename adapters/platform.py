"""What a call of a platform's API may come to, besides an answer.

Addresses may hold tokens, so no error of the HTTP library, which quotes them, leaves `called`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2

# One answer without media; a healthy platform needs a tenth of it.
TIMEOUT_S = 10.0
# Twenty megabytes over a slow line.
MEDIA_TIMEOUT_S = 25.0
# Answers are a few hundred bytes.
MAX_ANSWER_BYTES = 256 * 1024


class PlatformError(Exception):
    """The platform said no: nothing was done. `error_class` is a neutral send-error class."""

    def __init__(
        self, code: int | str, error_class: str, detail: str, *, retry_after_s: float | None = None
    ) -> None:
        """`detail` is for the tenant: no address, no secret, nothing the platform quoted."""
        super().__init__(detail)
        self.code = code
        self.error_class = error_class
        self.retry_after_s = retry_after_s
        # Where a chat is now, where the platform says it.
        self.moved_to: str | None = None
        # What the platform saw us come from, where it says so.
        self.address: str | None = None


class Unreachable(Exception):
    """There was no connection: nothing was done."""


class Cut(Exception):
    """The call set out and no answer came that could be read: nobody knows."""


@asynccontextmanager
async def called(
    http: httpx2.AsyncClient,
    method: str,
    url: str,
    *,
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[httpx2.Response]:
    """An answer of any status whose body is still to come.

    Raises Unreachable or Cut, also while the body is read; and `adapters.outbound.Refused`.
    """
    try:
        async with http.stream(
            method,
            url,
            params=query,
            content=body,
            # Packed answers could grow without end while they are unpacked.
            headers={"accept-encoding": "identity", **(headers or {})},
            timeout=timeout_s,
        ) as response:
            yield response
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
        raise Unreachable from None
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
        raise Unreachable from None
    except httpx2.HTTPError:
        raise Cut from None


async def read(response: httpx2.Response, *, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
    """The whole body; raises Cut where it is longer."""
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > max_bytes:
            raise Cut
    return bytes(content)


async def chunks(response: httpx2.Response, *, max_bytes: int) -> AsyncGenerator[bytes]:
    """The body of a medium piece by piece; raises PlatformError where it is longer."""
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > max_bytes:
            raise PlatformError("size", "media_failed", "the medium is too large")
        yield chunk
