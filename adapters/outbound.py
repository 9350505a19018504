"""Requests to addresses that tenants chose: never into our own network.

The name is resolved here, every address that it has is checked, and the connection goes to a
checked address: what the name says a moment later changes nothing (DNS rebinding). Redirects are
answers like others and are not followed; no proxy, no setting of the environment and no cookie
is used.
"""

import asyncio
import copy
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import (
    IPv4Address,
    IPv6Address,
    ip_address,
    ip_network,
)

import httpx2

from adapters.egress import NOWHERE, Address, Egress, Network, holds

# The addresses of a name, as texts; raises OSError or UnicodeError.
Resolver = Callable[[str, int], Sequence[str]]

# Answers are read up to here: an acknowledgement is small, a provider's key list some kilobytes.
MAX_ANSWER_BYTES = 256 * 1024
CONNECT_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 100
# Addresses of one name that are checked; more are a trick.
MAX_ADDRESSES = 32
# Names that are resolved at one time, in threads of their own: a name server that takes its time
# must not hold up what else the process does in threads.
MAX_RESOLVING = 16
# Where clouds answer with credentials; no setting opens these.
_NEVER = (
    ip_network("169.254.0.0/16"),
    ip_network("fe80::/10"),
    ip_network("fd00:ec2::254/128"),
    ip_network("100.100.100.200/32"),
    ip_network("168.63.129.16/32"),
    ip_network("192.0.0.0/24"),
)
# Its last four bytes are an IPv4 address that a gateway translates to.
_TRANSLATED = ip_network("64:ff9b::/96")
# What of IPv6 leads to the internet; `is_global` is true of more.
_GLOBAL_V6 = ip_network("2000::/3")


class OutboundError(Exception):
    """The message is for the tenant and says nothing about our network."""


class Refused(OutboundError):
    """The address is one that we never call: nothing was sent."""


class Unreachable(OutboundError):
    """No connection: nothing was sent."""


class Unanswered(OutboundError):
    """The request may have arrived, and no usable answer came."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """An answer whose body is still to come; whoever reads slowly slows the sender."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Door:
    """Which addresses may be called: those on the internet, and in networks that are allowed.

    `egress`: what a plan opens beside them; may be changed at any time.
    """

    def __init__(self, allow: Sequence[Network] = (), *, resolve: Resolver | None = None) -> None:
        """`allow`: networks called although private; plain HTTP is for these and `egress` alone."""
        self.egress = NOWHERE
        self._allow = tuple(allow)
        self._resolver = resolve or _addresses
        self._names = ThreadPoolExecutor(MAX_RESOLVING, thread_name_prefix="outbound")

    def opened_to(self, egress: Egress) -> "Door":
        """The same door for one who may go there too."""
        door = copy.copy(self)
        door.egress = egress
        return door

    def close(self) -> None:
        self._names.shutdown(wait=False, cancel_futures=True)

    def check(self, url: str) -> httpx2.URL:
        """What can be said of an address before its name is resolved; raises Refused."""
        try:
            parsed = httpx2.URL(url)
        except (httpx2.InvalidURL, ValueError):
            raise Refused("This is not an address.") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise Refused("The address must begin with https://.")
        if parsed.userinfo or parsed.fragment:
            raise Refused("The address must hold neither a password nor a fragment.")
        if parsed.port is not None and not 0 < parsed.port < 2**16:
            raise Refused("The address has no such port.")
        if parsed.scheme == "http" and not self._allow and self.egress == NOWHERE:
            raise Refused("The address must begin with https://.")
        literal = _literal(parsed.host)
        if literal is not None:
            self._check_address(parsed.scheme, parsed.host, literal)
        return parsed

    async def resolve(self, scheme: str, host: str, port: int) -> Address:
        """An address that may be called under this name; raises Refused or Unreachable."""
        literal = _literal(host)
        if literal is not None:
            self._check_address(scheme, host, literal)
            return literal
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._names, self._resolver, host, port)
        except (OSError, UnicodeError):
            found = ()
        if not found:
            raise Unreachable("The name of this address is unknown.")
        addresses = [ip_address(text) for text in found[:MAX_ADDRESSES]]
        # One bad address among good ones is a trick too, so all must pass.
        for address in addresses:
            self._check_address(scheme, host, address)
        return addresses[0]

    def _check_address(self, scheme: str, host: str, address: Address) -> None:
        inner = _innermost(address)
        if any(holds(network, inner) or holds(network, address) for network in _NEVER):
            raise Refused("This address is not on the internet.")
        if any(holds(network, inner) for network in self._allow):
            return
        if self.egress.opens(host, inner):
            return
        if not (_is_public(inner) and (holds(_TRANSLATED, address) or _is_public(address))):
            raise Refused("This address is not on the internet.")
        if scheme != "https":
            raise Refused("The address must begin with https://.")


class Outbound:
    """Single requests through the door."""

    def __init__(
        self,
        allow: Sequence[Network] = (),
        *,
        door: Door | None = None,
        verify: ssl.SSLContext | None = None,
        resolve: Resolver | None = None,
    ) -> None:
        """`door`: one that others go through too, in place of one of its own with `allow`.

        `verify`: knows other certificate authorities than the usual ones.
        """
        self._door = door or Door(allow, resolve=resolve)
        self._http = httpx2.AsyncClient(
            verify=verify or True,
            trust_env=False,
            cookies=no_cookies(),
            follow_redirects=False,
            # A kept connection would answer for whichever name led to its address first.
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=0),
        )

    def opened_to(self, egress: Egress) -> "Outbound":
        """The same for one who may go there too."""
        opened = copy.copy(self)
        opened._door = self._door.opened_to(egress)
        return opened

    async def close(self) -> None:
        await self._http.aclose()
        self._door.close()

    def check(self, url: str) -> httpx2.URL:
        """What can be said of an address before its name is resolved; raises Refused."""
        return self._door.check(url)

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        within: timedelta,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """One request. Raises Refused, Unreachable or Unanswered."""
        target = self.check(url)
        try:
            async with asyncio.timeout(within.total_seconds()):
                address = await self._resolve(target)
                return await self._ask(method, target, address, headers, content, max_bytes)
        except TimeoutError:
            raise Unanswered("There was no answer in time.") from None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        within: timedelta,
    ) -> AsyncIterator[Streamed]:
        """One request whose answer begins `within` a while; how long it goes on is the caller's.

        Raises Refused, Unreachable or Unanswered, the last also while the chunks are read.
        """
        target = self.check(url)
        try:
            async with asyncio.timeout(within.total_seconds()):
                address = await self._resolve(target)
                response = await self._open(method, target, address, headers, content)
        except TimeoutError:
            raise Unanswered("There was no answer in time.") from None
        try:
            yield Streamed(
                status=response.status_code, headers=response.headers, chunks=_chunks(response)
            )
        finally:
            await response.aclose()

    async def _resolve(self, url: httpx2.URL) -> Address:
        port = url.port or (443 if url.scheme == "https" else 80)
        return await self._door.resolve(url.scheme, url.host, port)

    async def _ask(
        self,
        method: str,
        url: httpx2.URL,
        address: Address,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        max_bytes: int,
    ) -> Answer:
        response = await self._open(method, url, address, headers, content)
        try:
            return Answer(
                status=response.status_code,
                headers=response.headers,
                body=await _read(response, max_bytes),
            )
        finally:
            await response.aclose()

    async def _open(
        self,
        method: str,
        url: httpx2.URL,
        address: Address,
        headers: Mapping[str, str] | None,
        content: bytes | None,
    ) -> httpx2.Response:
        request = self._http.build_request(
            method,
            url.copy_with(host=str(address)),
            # Compressed answers could grow without end while they are unpacked.
            headers={"accept-encoding": "identity", **(headers or {}), "host": _host(url)},
            content=content,
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            # The certificate must be for the name, wherever the connection goes.
            extensions={"sni_hostname": url.host.rstrip(".")},
        )
        try:
            return await self._http.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            raise Unreachable("There was no connection to this address.") from None
        except httpx2.HTTPError:
            raise Unanswered("The connection broke before the answer.") from None


def no_cookies() -> CookieJar:
    """One tenant's cookies would be sent to the next one at the same address."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


def networks(text: str) -> tuple[Network, ...]:
    """Networks by comma, such as `10.2.0.0/16,127.0.0.1/32`; raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


async def _read(response: httpx2.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in _chunks(response):
        body += chunk
        if len(body) > max_bytes:
            raise Unanswered(f"The answer has more than {max_bytes} bytes.")
    return bytes(body)


async def _chunks(response: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    except httpx2.HTTPError:
        raise Unanswered("The connection broke during the answer.") from None


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _literal(host: str) -> Address | None:
    """The address that a host is, also in the forms of old: 0x7f.1, 2130706433, 0177.0.0.1."""
    host = host.strip("[]").rstrip(".")
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _host(url: httpx2.URL) -> str:
    return url.netloc.decode("ascii")


def _innermost(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, if it does."""
    if isinstance(address, IPv4Address):
        return address
    for inner in (address.ipv4_mapped, address.sixtofour, address.teredo and address.teredo[1]):
        if inner is not None:
            return inner
    if address in _TRANSLATED:
        return IPv4Address(address.packed[-4:])
    return address
