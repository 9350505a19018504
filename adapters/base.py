"""What an adapter is to the agent that hosts it, and what the agent is to an adapter."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
from msgspec import Struct

from adapters.model import (
    Author,
    CallbackAnswer,
    ConversationKey,
    Inbound,
    RawCallback,
    Ref,
    Segment,
)
from adapters.sockets import MAX_FRAME_BYTES, Dialled, Socket


class ChannelRefused(Exception):
    """These settings cannot work: `path` is a JSON pointer into the channel's settings.

    `error_class` is a neutral send-error class, where it is not a wrong credential.
    """

    def __init__(self, path: str, detail: str, *, error_class: str = "secret_invalid") -> None:
        super().__init__(detail)
        self.path = path
        self.detail = detail
        self.error_class = error_class


class ChannelDown(Exception):
    """The account is not connected any more, and its settings are not to blame.

    The text is for the tenant: what is wrong, and what to do about it.
    """


class NotAccepted(Exception):
    """The control plane did not take the messages: do not acknowledge the platform."""


class Outgoing(Struct, frozen=True, kw_only=True):
    """One part to send: what fits into one call of the platform."""

    idempotency_key: str
    conversation: ConversationKey
    reply_handle: dict[str, str]
    segments: list[Segment]
    author: Author = Author()


class Sent(Struct, frozen=True, kw_only=True):
    """The platform took it."""

    platform_message_id: str


class SendFailed(Exception):
    """The platform said no, nothing was sent; `error_class` is a neutral send-error class.

    `moved_to`: for `chat_moved`, the chat's id from now on, where the platform says it.
    """

    def __init__(
        self,
        error_class: str,
        detail: str,
        retry_after_s: float | None = None,
        *,
        moved_to: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.error_class = error_class
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.moved_to = moved_to


class Undelivered(Struct, frozen=True, kw_only=True):
    """The platform took a message, and says later that nobody got it.

    `dedupe_key` is the platform's own notion of this notice; `detail` is for the tenant.
    """

    dedupe_key: str
    conversation: ConversationKey
    platform_message_id: str
    error_class: str
    detail: str


class SendUnknown(Exception):
    """The call was cut: nobody knows whether the platform sent it."""


# The call that somebody may see; awaited at most once.
Attempt = Callable[[], Awaitable[Sent]]


class MediaRefused(Exception):
    """The bytes are not stored and never will be: too large, or not what they claim to be."""


class Content(Struct, frozen=True, kw_only=True):
    """Stored bytes; `sha256` is hexadecimal, for caches of uploads."""

    body: bytes
    name: str
    content_type: str
    sha256: str


class Media(Protocol):
    """The tenant's store of pictures, voices and files."""

    async def store(
        self, chunks: AsyncIterator[bytes], *, name: str = "", content_type: str = ""
    ) -> Ref:
        """Keep the bytes; raises MediaRefused, or NotAccepted when it may work later."""

    async def read(self, ref: Ref) -> Content:
        """The bytes of a stored segment; raises MediaRefused when they are gone, or NotAccepted."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """Our own control plane, which is a platform too: web chat's."""

    url: str
    http: httpx2.AsyncClient


class Host(Protocol):
    """What the agent gives an adapter.

    `http` is for platforms: it goes through the guarded door and raises `outbound.Refused`.
    """

    http: httpx2.AsyncClient
    control: Control
    media: Media

    def dial(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        max_bytes: int = MAX_FRAME_BYTES,
        ping_every_s: float | None = 20.0,
    ) -> AbstractAsyncContextManager[Dialled]:
        """A WebSocket through the same door (see `adapters.sockets.dial`)."""

    def admitted(self, messages: Sequence[Inbound]) -> list[Inbound]:
        """Those of people whom the tenant hears; the others are counted and gone.

        Ask as soon as a message is read, before anything is fetched or shown for it, and
        acknowledge what is not admitted as usual. `report` leaves it out in any case.
        """

    def hears(self, sender_id: str) -> bool:
        """Whether the tenant hears this person; ask before somebody is greeted. Counts nothing."""

    async def report(self, messages: Sequence[Inbound], *, position: str | None = None) -> None:
        """Return when the messages are safe, by the rule of the kind; raise NotAccepted otherwise.

        Acknowledge the platform after this and never before. `position`: where the platform goes
        on behind these messages, a cursor or the number of a frame; there may be no message, too.
        """

    async def undelivered(self, failure: Undelivered) -> None:
        """Return when it is sure that this will be told; raise NotAccepted otherwise.

        For messages that `prepare`'s attempt has called sent, by the id that it gave. Acknowledge
        the platform after this. Told twice, it is heard once.
        """

    def resume(self) -> str | None:
        """Where to go on: the last position behind which all is safe, None at the very beginning.

        Ask on connecting, and again after NotAccepted: until then no position is taken any more,
        since it would pass what was refused.
        """

    def connected(self, note: str | None = None) -> None:
        """Call on connecting, and again whenever the platform proves that it is alive.

        `note`: what whoever looks at the channel should know of its past, a plain sentence.
        """

    def disconnected(self) -> None:
        """Call when the connection has just ended before one's eyes and `run` goes on.

        Where a platform says everything once, people see from this moment what may be missing.
        """


class Adapter(Protocol):
    """One IM account. Made with its validated settings; lives in one disposable scope."""

    def __init__(self, settings: Any, host: Host) -> None: ...

    @property
    def exclusive(self) -> bool:
        """Whether its account takes one connection: see `Exclusive`. It may depend on settings."""

    async def probe(self) -> None:
        """Try the settings without side effects; raise ChannelRefused if they cannot work."""

    async def run(self) -> None:
        """Keep the account connected until cancelled; returning is a failure like raising."""

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Take a platform's call; `verified` means the control plane checked it on arrival."""

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        """Cut a message into the parts that the platform takes in one call each."""

    async def prepare(self, part: Outgoing) -> Attempt:
        """All that nobody sees, such as tokens and uploads; raises SendFailed. The one attempt is
        what it returns, which raises SendFailed or SendUnknown."""


class TakesSockets(Adapter, Protocol):
    """An adapter whose platform opens WebSockets to us: its kind has "reverse WebSocket"."""

    async def socket(self, connection: Socket) -> None:
        """Serve a connection that its platform has opened and proved; it ends with this call.

        Raises NotAccepted while `run` does not run: the platform comes again.
        """


class Exclusive(Adapter, Protocol):
    """An adapter whose account takes one connection: it runs only while the account is its own."""

    def account(self) -> str:
        """What the platform counts connections by, all of it from the settings.

        It includes the credential, so that only who has that can keep others from the account.
        """
