"""A QQ bot as a channel: webhook calls or a gateway connection in, one call per part out."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

import structlog
from msgspec.structs import replace

from adapters.arrivals import CALLBACK_WAIT_S, GIVE_UP_S, Arrivals
from adapters.base import (
    Attempt,
    ChannelRefused,
    Content,
    Host,
    MediaRefused,
    NotAccepted,
    Outgoing,
    SendFailed,
    SendUnknown,
    Sent,
)
from adapters.model import (
    CallbackAnswer,
    Card,
    File,
    Image,
    Inbound,
    Markdown,
    RawCallback,
    Rejected,
    Reply,
    Segment,
    Video,
    Voice,
)
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.qq import codec, outgoing, plain, signing
from adapters.qq.callback import RECEIVED, Call, opened
from adapters.qq.client import Client
from adapters.qq.codec import Notice
from adapters.qq.link import Link
from adapters.qq.outgoing import Anchor, Body, Target
from adapters.qq.sequences import Sequences
from adapters.qq.settings import Settings
from adapters.uploads import Kept, Uploads

# Webhook only: between two looks, which prove that app and secret are still good.
PROOF_EVERY_S = 15.0
# Looks that may fail in a row: one is a bad moment, three are an outage.
MAX_MISSES = 3
# An upload is kept for as long as the platform says; the last minute is for sends under way.
KEPT_LESS_S = 60.0
# Media sent at a time: each is whole in memory, up to 10 MB and more on the way out.
MAX_MEDIA_SENDS = 2
# Answers to notices on their way at a time; beyond it a button spins or a greeting is missing.
MAX_REACTIONS = 20

T = TypeVar("T")

log = structlog.get_logger()


class Form(NamedTuple):
    """One way to send a part, and upon which refusals the next way is tried."""

    name: str
    body: Body
    gives_way: frozenset[str] = frozenset()
    picture: Content | None = None


class Way(NamedTuple):
    """Where a part goes, what it answers, what it is called, and what it says."""

    to: Target
    answers: Anchor
    key: str
    segments: Sequence[Segment]

    @property
    def quotes(self) -> str | None:
        return next((each.message_id for each in self.segments if isinstance(each, Reply)), None)


_MEDIA = frozenset({"media_failed", "media_quota", "content_invalid"})
_MARKUP = frozenset({"bad_markup", "no_permission", "content_invalid"})


class Adapter:
    """One bot (see `adapters.base.Adapter`)."""

    def __init__(
        self, settings: Settings, host: Host, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock
        self._client = Client(
            host.http,
            base_url=settings.base_url,
            login_url=settings.login_url,
            app_id=settings.app_id,
            secret=settings.secret.get_secret_value(),
            clock=clock,
        )
        called = settings.transport == "webhook"
        self._arrivals = Arrivals(
            lambda ref: self._client.download(ref.id),
            host.media,
            # Behind a connection nobody waits for an answer: longer than any fetch goes on.
            wait_s=CALLBACK_WAIT_S if called else GIVE_UP_S + 5,
        )
        self._uploads = Uploads(clock=clock)
        self._sequences = Sequences()
        self._room = asyncio.Semaphore(MAX_MEDIA_SENDS)
        self._reactions: set[asyncio.Task[None]] = set()
        self._self_id = ""
        # Derived with the first call: a bot at the gateway never needs it.
        self._public_key = cache(partial(signing.public_key, settings.secret.get_secret_value()))

    @property
    def exclusive(self) -> bool:
        """Two connections of one bot would each hear a part, and use up its logins."""
        return self._settings.transport == "gateway"

    def account(self) -> str:
        return f"{self._settings.app_id}\0{self._settings.secret.get_secret_value()}"

    async def probe(self) -> None:
        """App and secret, and for the gateway whether there is one for this bot."""
        try:
            if self._settings.transport == "gateway":
                await self._client.gateway()
            else:
                await self._client.look()
        except PlatformError as error:
            # The address of this server is entered once it is known: the channel's state names it.
            if error.error_class != "ip_not_allowed" and (wrong := plain.wrong(error)):
                raise wrong from None
        except Refused as refused:
            raise ChannelRefused("/base_url", str(refused)) from None
        except (Unreachable, Cut):
            return

    async def run(self) -> None:
        try:
            if self._settings.transport == "gateway":
                link = Link(
                    self._settings, self._host, self._client, self._heard, clock=self._clock
                )
                await link.run()
            await self._watch()
        finally:
            for task in self._reactions:
                task.cancel()
            await self._arrivals.close()

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Report what was said; the platform hears that it is received once it is kept."""
        now = None if verified else request.received_at
        found = opened(request, self._settings, now=now, public_key=self._public_key)
        if isinstance(found, Rejected):
            return CallbackAnswer(status=401, content_type="text/plain", body=b"")
        if isinstance(found, CallbackAnswer):
            return found
        decoded = codec.decode(found, self_id=self._self_id)
        if isinstance(decoded, Rejected):
            log.warning("callback cannot be read", reason=decoded.reason)
            return CallbackAnswer(status=400, content_type="text/plain", body=b"")
        if isinstance(decoded, Inbound):
            if self._host.admitted([decoded]):
                await self._host.report([await self._with_media(decoded)])
        elif isinstance(decoded, Notice):
            self._react(decoded)
        return RECEIVED

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return outgoing.split(segments)

    async def prepare(self, part: Outgoing) -> Attempt:
        """The token, and the upload of a medium: nobody sees these."""
        to = outgoing.target(part.conversation)
        if to is None:
            raise SendFailed("recipient_invalid", plain.NO_CONVERSATION)
        answers = outgoing.anchor(part.reply_handle)
        if answers is None:
            raise SendFailed("window_expired", plain.TOO_LATE)
        key = part.idempotency_key
        if to.counts and self._sequences.count(answers, besides=key) >= outgoing.MAX_REPLIES:
            raise SendFailed("window_count_exceeded", plain.TOO_MANY)
        forms = await self._forms(to, part.segments)
        await self._unseen(self._client.ready())
        return partial(self._send, Way(to, answers, key, part.segments), forms)

    # --- in ---

    async def _watch(self) -> None:
        """There is no connection to keep: look at the bot again and again."""
        misses = 0
        while True:
            try:
                self._self_id = await self._client.look()
            except Refused as refused:
                raise ChannelRefused("/base_url", str(refused)) from None
            except (PlatformError, Unreachable, Cut) as error:
                misses += 1
                wrong = plain.wrong(error) if isinstance(error, PlatformError) else None
                if wrong is not None or misses >= MAX_MISSES:
                    raise (wrong or plain.ended(error)) from None
            else:
                misses = 0
                self._host.connected()
            await asyncio.sleep(PROOF_EVERY_S)

    async def _heard(self, calls: Sequence[Call], self_id: str) -> list[Inbound]:
        """The messages among these, with their media in our store."""
        self._self_id = self_id or self._self_id
        messages = []
        for call in calls:
            decoded = codec.decode(call, self_id=self._self_id)
            if isinstance(decoded, Inbound):
                messages.append(decoded)
            elif isinstance(decoded, Notice):
                self._react(decoded)
            elif isinstance(decoded, Rejected):
                log.warning("a frame is no message", reason=decoded.reason)
        heard = self._host.admitted(messages)
        return list(await asyncio.gather(*map(self._with_media, heard)))

    async def _with_media(self, message: Inbound) -> Inbound:
        segments = [await self._arrivals.stored(each) for each in message.segments]
        return replace(message, segments=segments)

    def _react(self, notice: Notice) -> None:
        """What a notice asks for beside being heard; what fails is not tried again."""
        if notice.event == "INTERACTION_CREATE":
            self._start(self._client.acknowledge(notice.dedupe_key))
        elif (
            notice.event == "FRIEND_ADD"
            and self._settings.greeting
            and self._host.hears(notice.sender_id)
        ):
            self._start(self._greet(notice))

    def _start(self, doing: Coroutine[Any, Any, None]) -> None:
        if len(self._reactions) >= MAX_REACTIONS:
            doing.close()
            return
        task = asyncio.create_task(_quietly(doing), name="qq-reaction")
        self._reactions.add(task)
        task.add_done_callback(self._reactions.discard)

    async def _greet(self, notice: Notice) -> None:
        to = None if notice.conversation is None else outgoing.target(notice.conversation)
        answers = outgoing.anchor(notice.reply_handle)
        if to is None or answers is None or self._sequences.count(answers, besides=""):
            return
        # A notice that comes again is greeted under the same number: the platform shows it once.
        self._sequences.shown(answers, answers.id)
        body = outgoing.text_body(outgoing.harmless(self._settings.greeting))
        seq = self._sequences.of(answers, answers.id)
        await self._client.send(to, outgoing.addressed(body, to, answers, seq))

    # --- sending ---

    async def _send(self, way: Way, forms: Sequence[Form], *, again: bool = False) -> Sent:
        best, *words = forms
        try:
            return await self._post(way, best)
        except SendFailed as failed:
            if not words or failed.error_class not in best.gives_way:
                raise
        if "media" in best.body and not again:
            # The upload was forgotten before its time, or is not for this one; nothing was sent.
            self._uploads.forget(best.body["media"]["file_info"])
            return await self._send(way, await self._forms(way.to, way.segments), again=True)
        return await self._post(way, words[0])

    async def _post(self, way: Way, form: Form) -> Sent:
        to, answers = way.to, way.answers
        key = f"{way.key}:{form.name}"
        seq = self._sequences.of(answers, key)
        body = outgoing.addressed(form.body, to, answers, seq, quotes=way.quotes)
        try:
            if form.picture is None:
                taken = await self._client.send(to, body)
            else:
                taken = await self._client.send_picture(to, body, form.picture)
        except PlatformError as error:
            if error.error_class != "duplicate_in_flight" or not to.counts:
                self._sequences.refused(key)
                raise plain.failed(error) from None
            # The number is this part's alone: an earlier try, of unknown outcome, was shown.
            taken = ""
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except Unreachable:
            raise SendFailed("server_busy", plain.AWAY) from None
        except Cut:
            raise SendUnknown("the connection was cut") from None
        self._sequences.shown(answers, way.key)
        return Sent(platform_message_id=taken)

    async def _forms(self, to: Target, segments: Sequence[Segment]) -> list[Form]:
        """The ways to send a part, best first; the last is words."""
        *before, last = [each for each in segments if not isinstance(each, Reply)]
        words = outgoing.said(before, to)
        alone = outgoing.stands_alone(last)
        gap = "\n" if words and alone else ""
        text = Form("text", outgoing.text_body(words + gap + outgoing.said([last], to)))
        best: Form | None = None
        match last:
            case Markdown() if alone:
                best = Form("markdown", outgoing.markdown_body(last.text), _MARKUP)
            case Card() if card := outgoing.card_body(last):
                best = Form("card", card, _MARKUP)
            case Image() | Voice() | Video() | File() if last.ref is not None:
                # Each is whole in memory.
                async with self._room:
                    best = await self._media_form(to, last, words)
        return [text] if best is None else [best, text]

    async def _media_form(self, to: Target, segment: outgoing.Media, words: str) -> Form | None:
        """None where the platform takes no such medium, or has no room for it."""
        if segment.ref is not None and segment.ref.via == codec.URL and to.counts:
            # What a customer sent and we could not keep: the platform fetches it itself.
            asked = outgoing.upload_body(outgoing.type_of(segment), url=segment.ref.id)
            return await self._uploaded(self._kept(to, asked), words)
        content = await self._content(segment)
        if content is None:
            return None
        if not to.counts:
            taken = to.scene == "channels" and outgoing.guild_takes(segment, content)
            return Form("picture", {"content": words}, _MEDIA, content) if taken else None
        kind = outgoing.upload_type(segment, content, to)
        if kind is None:
            return None
        name = getattr(segment, "name", None) or content.name
        body = outgoing.upload_body(kind, data=content.body, name=name)
        # What one person or group was given, all of them may be sent.
        upload = self._uploads.media_id(
            f"{to.scene}:{kind}", content, upload=lambda _, __: self._kept(to, body)
        )
        return await self._uploaded(upload, words)

    async def _uploaded(self, upload: Awaitable[str | Kept], words: str) -> Form | None:
        try:
            made = await self._unseen(upload)
        except SendFailed as failed:
            if failed.error_class not in _MEDIA:
                raise
            return None
        file_info = made.id if isinstance(made, Kept) else made
        return Form("media", outgoing.media_body(file_info, words), _MEDIA)

    async def _kept(self, to: Target, body: Body) -> Kept:
        kept = await self._client.upload(to, body)
        return kept._replace(lives_s=max(kept.lives_s - KEPT_LESS_S, 1.0) if kept.lives_s else 0)

    async def _content(self, segment: outgoing.Media) -> Content | None:
        if segment.ref is None or segment.ref.via != "media":
            return None
        try:
            return await self._host.media.read(segment.ref)
        except MediaRefused:
            return None
        except NotAccepted:
            raise SendFailed("server_busy", "the media store cannot be reached") from None

    async def _unseen(self, call: Awaitable[T]) -> T:
        """A call that nobody sees: once more does no harm."""
        try:
            return await call
        except PlatformError as error:
            raise plain.failed(error) from None
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except (Unreachable, Cut):
            raise SendFailed("server_busy", plain.AWAY) from None


async def _quietly(doing: Awaitable[None]) -> None:
    try:
        await doing
    except (PlatformError, Unreachable, Cut, Refused) as error:
        # Only the type: an address may hold what opens a call.
        log.warning("a notice was not answered", reason=type(error).__name__)
