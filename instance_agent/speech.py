"""What a voice says: its bytes from the tenant's store, to a provider of the configuration.

Spoken is OpenAI's protocol, POST {base_url}/audio/transcriptions, as most servers have it. The
agent keeps nothing: who asks again pays again.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import timedelta

import httpx2
import msgspec
from msgspec import Struct

from adapters.base import Content, Media, MediaRefused, NotAccepted
from adapters.model import Ref
from adapters.outbound import Answer, Outbound, OutboundError, Refused
from instance_agent.document import Llm, LlmProvider
from instance_agent.llm import failures
from instance_agent.llm.circuits import Circuits
from instance_agent.llm.counting import Counting
from instance_agent.llm.failures import ModelFailed
from instance_agent.llm.inference import provider_of
from instance_agent.metrics import Metrics
from instance_agent.problems import Refusal
from instance_agent.protocol import (
    LISTEN_S,
    MAX_DURATION_S,
    MAX_LANGUAGE,
    MAX_TRANSCRIPT,
    TRANSCRIBE_S,
    TranscribeRequest,
    Transcript,
)

# Voices in memory at a time; each of them twice while it is sent, at most 20 MiB.
MAX_AT_ONCE = 2
# Bytes of an answer: an hour of words, with what the provider says of every one of them.
MAX_ANSWER_BYTES = 4 * 1024 * 1024
# Providers go by the ending of the name; what the store cannot tell is left to them.
_ENDINGS = {
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/mp4": "m4a",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "application/ogg": "ogg",
    "audio/amr": "amr",
    "audio/silk": "silk",
}


class _Part(Struct):
    avg_logprob: float | None = None


class _Heard(Struct):
    text: str
    language: str | None = None
    duration: float | None = None
    segments: list[_Part] | None = None


class Transcription:
    """Asks the providers of the running configuration what voices say."""

    def __init__(
        self,
        llm: Callable[[], Llm],
        outbound: Callable[[], Outbound],
        *,
        media: Media,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._llm = llm
        self._make_outbound = outbound
        self._outbound: Outbound | None = None
        self._media = media
        self._metrics = metrics
        self._circuits = Circuits(now)
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self.within_s = TRANSCRIBE_S

    async def close(self) -> None:
        if self._outbound is not None:
            await self._outbound.close()

    async def transcribe(self, ask: TranscribeRequest) -> Transcript:
        """Raises ModelFailed for the provider, Refusal for everything else."""
        provider = provider_of(self._llm(), ask.provider)
        self._circuits.check(provider.id)
        try:
            async with asyncio.timeout(LISTEN_S):
                await self._places.acquire()
        except TimeoutError:
            raise Refusal(503, "busy", "other voices come first", retry_after_s=5) from None
        try:
            content = await self._bytes(ask)
            with Counting(self._metrics, "speech"):
                return await self._within(provider, ask, content)
        finally:
            self._places.release()

    async def _bytes(self, ask: TranscribeRequest) -> Content:
        try:
            async with asyncio.timeout(LISTEN_S):
                return await self._media.read(Ref(via="media", id=str(ask.media_id)))
        except MediaRefused:
            raise Refusal(404, "media_gone", "the voice is no longer stored") from None
        except (NotAccepted, TimeoutError):
            raise Refusal(503, "not_accepted", "the media store did not answer") from None

    async def _within(
        self, provider: LlmProvider, ask: TranscribeRequest, content: Content
    ) -> Transcript:
        try:
            async with asyncio.timeout(self.within_s):
                heard = await self._exchange(provider, ask, content)
        except TimeoutError:
            failure = ModelFailed("timeout", "the provider took too long")
            self._circuits.failed(provider.id, failure)
            raise failure from None
        except ModelFailed as failure:
            self._circuits.failed(provider.id, failure)
            raise
        self._circuits.worked(provider.id)
        return heard

    async def _exchange(
        self, provider: LlmProvider, ask: TranscribeRequest, content: Content
    ) -> Transcript:
        answer = await self._post(provider, ask, content, "verbose_json")
        if answer.status in {400, 422} and b"response_format" in answer.body:
            # Some models say the text alone.
            answer = await self._post(provider, ask, content, "json")
        if answer.status == 413:
            raise ModelFailed("too_large", "the provider takes no voice of this size")
        if answer.status != 200:
            raise failures.of_answer(answer.status, answer.headers, answer.body)
        return read(answer.body)

    async def _post(
        self, provider: LlmProvider, ask: TranscribeRequest, content: Content, form: str
    ) -> Answer:
        if self._outbound is None:
            self._outbound = self._make_outbound()
        url = provider.base_url.rstrip("/") + "/audio/transcriptions"
        fields = {"model": ask.model, "response_format": form}
        if ask.language is not None:
            fields["language"] = ask.language
        name = f"voice.{_ENDINGS.get(content.content_type, 'bin')}"
        body = httpx2.Request(
            "POST", url, data=fields, files={"file": (name, content.body, content.content_type)}
        )
        headers = {"content-type": body.headers["content-type"], "accept": "application/json"}
        if provider.api_key is not None:
            headers["authorization"] = f"Bearer {provider.api_key.get_secret_value()}"
        try:
            return await self._outbound.send(
                "POST",
                url,
                headers=headers,
                content=body.read(),
                # A bound besides: the deadline is ours.
                within=timedelta(seconds=2 * self.within_s),
                max_bytes=MAX_ANSWER_BYTES,
            )
        except Refused:
            raise ModelFailed("refused", "the provider's address may not be called") from None
        except OutboundError as error:
            raise ModelFailed("server_error", str(error)) from None


def read(body: bytes) -> Transcript:
    """A provider's answer in our form; raises ModelFailed."""
    try:
        heard = msgspec.json.decode(body, type=_Heard, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ModelFailed("bad_answer", "the answer cannot be read") from None
    # PostgreSQL cannot hold U+0000 in text.
    text = heard.text.replace("\0", "").strip()
    if len(text) > MAX_TRANSCRIPT:
        raise ModelFailed("bad_answer", "the answer has no end")
    language, duration = heard.language, heard.duration
    named = language is not None and language.isprintable() and len(language) <= MAX_LANGUAGE
    timed = duration is not None and 0 <= duration <= MAX_DURATION_S
    return Transcript(
        text=text,
        language=language if named else None,
        duration_s=duration if timed else None,
        confidence=_confidence(heard.segments or ()),
    )


def _confidence(parts: Sequence[_Part]) -> float | None:
    """How sure the model was of its words, on average; None where it does not say."""
    said = [part.avg_logprob for part in parts if part.avg_logprob is not None]
    return round(math.exp(min(0.0, sum(said) / len(said))), 4) if said else None
