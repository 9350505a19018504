"""A WeCom application as a channel: callbacks in, one call per part out, looks at it between."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import structlog
from msgspec.structs import replace

from adapters import wx_json, wx_xml
from adapters.arrivals import Arrivals
from adapters.base import (
    Attempt,
    ChannelRefused,
    Host,
    Outgoing,
    SendFailed,
    Sent,
)
from adapters.model import (
    CallbackAnswer,
    ConversationKey,
    File,
    Image,
    Inbound,
    RawCallback,
    Rejected,
    Segment,
    Video,
    Voice,
)
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.wecom import codec
from adapters.wecom.callback import RECEIVED, Opened, unseal
from adapters.wecom.client import Client
from adapters.wecom.codec import Notice
from adapters.wecom.sending import Blame, Blames, Sending, judge, wrong
from adapters.wecom.settings import Settings
from adapters.wx_aes import RANDOM_BYTES

# Between two looks, which prove that secret, address and application are still good. Three that
# fail say why before the agent would end the channel as silent.
PROOF_EVERY_S = 15.0
# Looks that may fail in a row: one is a bad moment, three are an outage.
MAX_MISSES = 3

_ANOTHER = Blame("/agent_id", "this secret does not belong to the application with this AgentId")
_BLAMES: Blames = {40056: _ANOTHER, 301002: _ANOTHER}
# Ids of groups are made by whoever makes the group.
_CHAT_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")

log = structlog.get_logger()


class Recipient(NamedTuple):
    """A member of the company, or a group that the application has made."""

    id: str
    in_group: bool

    @property
    def path(self) -> str:
        return "appchat/send" if self.in_group else "message/send"

    def addressed(self, agent_id: int) -> dict[str, Any]:
        return {"chatid": self.id} if self.in_group else {"touser": self.id, "agentid": agent_id}


class Adapter:
    """One application (see `adapters.base.Adapter`)."""

    # Callbacks come to an address, and any number of clients may share a token.
    exclusive: ClassVar[bool] = False

    def __init__(
        self, settings: Settings, host: Host, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._host = host
        self._client = Client(
            host.http,
            base_url=settings.base_url,
            corp_id=settings.corp_id,
            secret=settings.secret.get_secret_value(),
            clock=clock,
        )
        self._arrivals = Arrivals(lambda ref: self._client.download(ref.id), host.media)
        self._sending = Sending(self._client, host.media, clock=clock)

    async def probe(self) -> None:
        """Company, secret and application; not the address of this server.

        The console takes trusted addresses only after it has checked the callback address, and
        there is one only once the channel exists. So the channel itself says what is missing, and
        recovers by itself.
        """
        try:
            await self._client.look(self._settings.agent_id)
        except PlatformError as error:
            if error.error_class != "ip_not_allowed" and (found := wrong(error, _BLAMES)):
                raise found from None
        except Refused as refused:
            raise ChannelRefused("/base_url", str(refused)) from None
        except (Unreachable, Cut):
            return

    async def run(self) -> None:
        """There is no connection to keep: look at the application again and again."""
        misses = 0
        try:
            while True:
                try:
                    await self._client.look(self._settings.agent_id)
                except Refused as refused:
                    raise ChannelRefused("/base_url", str(refused)) from None
                except (PlatformError, Unreachable, Cut) as error:
                    misses += 1
                    judge(error, _BLAMES, outage=misses >= MAX_MISSES)
                else:
                    misses = 0
                    self._host.connected()
                await asyncio.sleep(PROOF_EVERY_S)
        finally:
            await self._arrivals.close()

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Report what was said; the platform hears 200 once it is kept."""
        now = None if verified else request.received_at
        opened = unseal(request, self._settings, now=now)
        if isinstance(opened, Rejected):
            return CallbackAnswer(status=401, content_type="text/plain", body=b"")
        if request.method == "GET":
            return CallbackAnswer(content_type="text/plain", body=opened.message)
        decoded = codec.decode(opened.message)
        match decoded:
            case Rejected():
                log.warning("callback cannot be read", reason=decoded.reason)
                return CallbackAnswer(status=400, content_type="text/plain", body=b"")
            case Inbound() if not self._host.admitted([decoded]):
                return RECEIVED
            case Inbound():
                segments = [await self._arrivals.stored(each) for each in decoded.segments]
                await self._host.report([replace(decoded, segments=segments)])
                return RECEIVED
            case Notice(event="subscribe", sender_id=who) if (
                self._settings.greeting and self._host.hears(who)
            ):
                return self._greet(who, request, opened)
            case _:
                # Nobody said anything: there is nothing to keep.
                return RECEIVED

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return codec.split(segments)

    async def prepare(self, part: Outgoing) -> Attempt:
        """The token, and the upload of a medium: nobody sees these."""
        to = _recipient(part.conversation)
        [segment] = part.segments
        match segment:
            case Image() | Voice() | Video() | File() if segment.ref is not None:
                body = await self._sending.uploaded(segment, segment.ref)
            case _:
                body = codec.body(segment, in_group=to.in_group) or codec.words(segment)
        await self._sending.ready()
        return partial(self._send, to, segment, body)

    # --- sending ---

    async def _send(self, to: Recipient, segment: Segment, body: codec.Body) -> Sent:
        addressed = to.addressed(self._settings.agent_id)
        return await self._sending.send(
            segment, body, lambda body: self._client.send(to.path, addressed | body)
        )

    def _greet(self, to: str, request: RawCallback, opened: Opened) -> CallbackAnswer:
        """The passive reply: the answer to the callback is itself a message, closed as that was."""
        at = int(request.received_at)
        text = codec.passive_text(
            to=to,
            sender=self._settings.corp_id,
            at=at,
            text=self._settings.greeting,
            as_json=opened.is_json,
        )
        answer = opened.envelope.seal(
            text,
            timestamp=str(at),
            nonce=secrets.token_hex(8),
            random16=secrets.token_bytes(RANDOM_BYTES),
        )
        if opened.is_json:
            return CallbackAnswer(body=wx_json.sealed(answer))
        return CallbackAnswer(content_type="text/xml", body=wx_xml.sealed(answer))


def _recipient(conversation: ConversationKey) -> Recipient:
    to = conversation.id
    if conversation.type == "group" and _CHAT_ID.fullmatch(to):
        return Recipient(to, in_group=True)
    # `|` joins recipients and `@all` is the whole company: neither is one person.
    if conversation.type != "direct" or "|" in to or to.startswith("@"):
        raise SendFailed("recipient_invalid", "neither a member of the company nor a group")
    return Recipient(to, in_group=False)
