"""Answers that grow on a person's screen: which are open, bounded in count and in age.

A question opens one, its answer fills and ends it. Only what is known to be open is filled: to
write into a stream that has ended could take an answer away again. So what an agent forgot goes
as a message of its own.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from adapters.model import ConversationKey

# The platform ends a stream after six minutes; what is late must end in good order before, and is
# looked for every half minute.
LIFE_S = 300.0
# Streams remembered, open or ended: an answer has 20 kB.
MAX_STREAMS = 500
# Open at a time in one talk: the platform takes three questions of a person, and each of its
# frames counts as a message.
MAX_OPEN = 3
# What stands under a question that was answered elsewhere: further down.
BELOW = "↓"


@dataclass(eq=False, kw_only=True)
class Stream:
    """One question's answer. `req_id`: the question's frame, in the long connection."""

    id: str
    conversation: ConversationKey
    opened_at: float
    req_id: str = ""
    # An answer to a callback: what the platform gets when it asks, and that it has asked.
    content: str = ""
    images: list[dict[str, Any]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    # Too many were open: it is not shown before there is an answer.
    quiet: bool = False
    # Something stands on the screen, in the long connection.
    shown: bool = False
    ended: bool = False
    # The address for one more answer has been used.
    spent: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def end(self, content: str = "") -> None:
        """Nothing will be added any more; the content stays for a platform that asks again."""
        self.ended = True
        self.content = content

    def forget(self) -> None:
        """Nobody asks any more."""
        self.content = ""
        self.images = []


class Streams:
    """Those of one account."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[str, Stream] = OrderedDict()

    def begin(self, stream_id: str, to: ConversationKey, *, req_id: str = "") -> Stream:
        """The stream of a question: a quiet one where enough are open in this talk."""
        known = self._known.get(stream_id)
        if known is not None:
            return known
        quiet = self._open_in(to) >= MAX_OPEN
        known = Stream(
            id=stream_id, conversation=to, opened_at=self._clock(), req_id=req_id, quiet=quiet
        )
        self._known[stream_id] = known
        if len(self._known) > MAX_STREAMS:
            self._known.popitem(last=False)
        return known

    def asked_for(self, stream_id: str, to: ConversationKey) -> Stream:
        """The stream that the platform asks for: so it is open there, whatever we knew."""
        stream = self.begin(stream_id, to)
        stream.quiet = False
        return stream

    def get(self, stream_id: str) -> Stream | None:
        return self._known.get(stream_id)

    def is_open(self, stream: Stream) -> bool:
        return not stream.ended and self._clock() - stream.opened_at < LIFE_S

    def older(self, stream: Stream) -> list[Stream]:
        """Open ones of the same talk that were begun before."""
        earlier: list[Stream] = []
        for each in self._known.values():
            if each is stream:
                break
            if not each.ended and each.conversation == stream.conversation:
                earlier.append(each)
        return earlier

    def late(self) -> list[Stream]:
        """Those that must end now; what has long ended gives its memory back."""
        now = self._clock()
        old = [each for each in self._known.values() if now - each.opened_at >= LIFE_S]
        for each in old:
            if each.ended:
                each.forget()
        return [each for each in old if not each.ended]

    def _open_in(self, to: ConversationKey) -> int:
        return sum(
            each.conversation == to and not each.quiet and self.is_open(each)
            for each in self._known.values()
        )
