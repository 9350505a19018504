"""The numbers under which QQ tells answers to one message apart, and knows a repeat.

A number follows from the part that is sent. So the same part has the same number again, in another
process too, and the platform refuses what it has shown already. What the platform refused before
gets another one: nobody says whether a refusal uses a number up, and then it would look shown.
"""

import hashlib
import itertools
from collections import OrderedDict
from typing import TypeVar

from adapters.qq.outgoing import Anchor

# Numbers from one to this are in use everywhere.
HIGHEST = 1_000_000
# Answers remembered: an hour of a busy account.
MAX_KEPT = 5000

K = TypeVar("K")
V = TypeVar("V")


class Sequences:
    """What this adapter has used."""

    def __init__(self) -> None:
        self._used: OrderedDict[tuple[Anchor, int], str] = OrderedDict()
        self._refused: OrderedDict[str, int] = OrderedDict()
        self._shown: OrderedDict[Anchor, set[str]] = OrderedDict()

    def of(self, answers: Anchor, key: str) -> int:
        """The number of the part `key`, which no other part of this answer has had here."""
        refused = self._refused.get(key, 0)
        for turn in itertools.count():
            seq = _number(f"{key}:{refused}:{turn}")
            if self._used.get((answers, seq), key) == key:
                _keep(self._used, (answers, seq), key)
                return seq
        raise AssertionError

    def refused(self, key: str) -> None:
        """The platform said no: the next try is another one."""
        _keep(self._refused, key, self._refused.get(key, 0) + 1)

    def shown(self, answers: Anchor, key: str) -> None:
        """The platform has shown it, now or before."""
        _keep(self._shown, answers, self._shown.get(answers, set()) | {key})

    def count(self, answers: Anchor, *, besides: str) -> int:
        """How many parts were shown as answers to it, besides this one."""
        return len(self._shown.get(answers, set()) - {besides})


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % HIGHEST + 1


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MAX_KEPT:
        kept.popitem(last=False)
