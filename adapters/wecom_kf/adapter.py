"""An account of WeCom customer service as a channel: a bell rings, and messages are fetched.

A call of the platform carries no message; it says that there are some. They are pulled from where
the last pull ended, page by page to the end: after a call, at the start, and every 30 seconds,
since calls get lost. One pull at a time; a call that comes meanwhile makes one more.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import structlog

from adapters.base import Attempt, ChannelRefused, Host, NotAccepted, Outgoing, SendFailed
from adapters.model import (
    Author,
    CallbackAnswer,
    ConversationKey,
    File,
    Image,
    RawCallback,
    Rejected,
    Segment,
    Video,
    Voice,
)
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.wecom import codec as company
from adapters.wecom.codec import PullTrigger
from adapters.wecom.sending import Blame, Blames, Sending, judge, wrong
from adapters.wecom_kf import codec
from adapters.wecom_kf.callback import RECEIVED, unseal
from adapters.wecom_kf.client import Account, Client
from adapters.wecom_kf.pulling import Pulling
from adapters.wecom_kf.sessions import Sessions
from adapters.wecom_kf.settings import Settings

# Between tries while the platform cannot be reached, and how many in a row make an outage: known
# within a minute, even where each try hangs for ten seconds.
MISS_PAUSE_S = 5.0
MAX_MISSES = 2
# Between tries while messages are not taken, or their media are on the way; doubled up to this.
REFUSED_PAUSE_S = 1.0
MAX_REFUSED_PAUSE_S = 30.0
# Accounts that a refusal names.
MAX_NAMED = 10

_WRONG_STATE = 95018
_NOT_ALLOWED = Blame(
    "", "allow the API for this account in WeCom's console: 微信客服, 可调用接口的应用"
)
_BLAMES: Blames = {
    48002: _NOT_ALLOWED,
    60011: _NOT_ALLOWED,
    95000: Blame("/open_kfid"),
    301002: _NOT_ALLOWED,
}

log = structlog.get_logger()


class Adapter:
    """One account (see `adapters.base.Adapter`)."""

    # Two that pull for one channel repeat what is known by its id, and each position that either
    # names has all before it reported. Waiting for a dead one's account would cost a minute.
    exclusive: ClassVar[bool] = False

    def __init__(
        self,
        settings: Settings,
        host: Host,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._client = Client(host.http, settings, clock=clock)
        self._sending = Sending(self._client, host.media, clock=clock, media_body=codec.media_body)
        self._sessions = Sessions(self._client, clock=clock)
        self._pulling = Pulling(settings, self._client, host, self._sessions, clock=clock, now=now)

    async def probe(self) -> None:
        """Company, secret and account; not the address of this server (see `adapters.wecom`)."""
        try:
            self._check(await self._client.accounts())
        except PlatformError as error:
            if error.error_class != "ip_not_allowed" and (found := wrong(error, _BLAMES)):
                raise found from None
        except Refused as refused:
            raise ChannelRefused("/base_url", str(refused)) from None
        except (Unreachable, Cut):
            return

    async def run(self) -> None:
        """Pull when the bell rings, and now and then without."""
        misses = 0
        refused_s = REFUSED_PAUSE_S
        try:
            while True:
                try:
                    await self._pulling.round()
                except Refused as refused:
                    raise ChannelRefused("/base_url", str(refused)) from None
                except NotAccepted as error:
                    # The platform is there; it is we who do not take them.
                    misses = 0
                    log.info("messages wait at the platform", reason=str(error))
                    await asyncio.sleep(refused_s)
                    refused_s = min(refused_s * 2, MAX_REFUSED_PAUSE_S)
                    continue
                except (PlatformError, Unreachable, Cut) as error:
                    misses += 1
                    judge(error, _BLAMES, outage=misses >= MAX_MISSES)
                    await asyncio.sleep(MISS_PAUSE_S)
                    continue
                misses, refused_s = 0, REFUSED_PAUSE_S
                await self._pulling.rung()
        finally:
            await self._pulling.close()

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Ring the bell; nothing is lost with a call, since the next pull finds it all."""
        now = None if verified else request.received_at
        opened = unseal(request, self._settings, now=now)
        if isinstance(opened, Rejected):
            return CallbackAnswer(status=401, content_type="text/plain", body=b"")
        if request.method == "GET":
            return CallbackAnswer(content_type="text/plain", body=opened.message)
        match company.decode(opened.message):
            case Rejected(reason=reason):
                log.warning("callback cannot be read", reason=reason)
                return CallbackAnswer(status=400, content_type="text/plain", body=b"")
            case PullTrigger(open_kfid=account, token=token) if account == self._settings.open_kfid:
                self._pulling.ring(token)
        # Whatever else calls here is another account's, or the application's own.
        return RECEIVED

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return company.split(segments, codec.stands_alone)

    async def prepare(self, part: Outgoing) -> Attempt:
        """The token, the upload of a medium, and the session: nobody sees these."""
        customer = self._customer(part.conversation)
        [segment] = part.segments
        await self._sending.ready()
        await self._sessions.open(customer, part.author)
        match segment:
            case Image() | Voice() | Video() | File() if segment.ref is not None:
                body = await self._sending.uploaded(segment, segment.ref)
            case _:
                body = codec.body(segment) or company.words(segment)
        post = partial(self._post, customer, part.author, codec.message_id(part.idempotency_key))
        return partial(self._sending.send, segment, body, post)

    # --- sending ---

    async def _post(
        self, customer: str, author: Author, message_id: str, body: company.Body
    ) -> str:
        try:
            return await self._client.say(customer, message_id, body)
        except PlatformError as error:
            # Refused, so nothing was sent. If we only believed the session ours, look again.
            if error.code != _WRONG_STATE or not self._sessions.forget(customer):
                raise
        await self._sessions.open(customer, author)
        return await self._client.say(customer, message_id, body)

    def _customer(self, conversation: ConversationKey) -> str:
        account, _, customer = conversation.id.partition(":")
        if conversation.type != "direct" or account != self._settings.open_kfid or not customer:
            raise SendFailed("recipient_invalid", "not a customer of this account")
        return customer

    def _check(self, accounts: Sequence[Account]) -> None:
        """Whether ours is among them; a refusal names those that are."""
        own = self._settings.open_kfid
        if any(account.open_kfid == own for account in accounts):
            return
        names = ", ".join(f"{each.name} {each.open_kfid}" for each in accounts[:MAX_NAMED])
        known = f"it may speak for: {names}" if names else "it may speak for none"
        raise ChannelRefused("/open_kfid", f"this application has no such account; {known}")
