"""How alike two questions are, in a form that PostgreSQL can search: sets of neighbouring sounds.

A Chinese question becomes its syllables without tones, so the usual typing slip (another character
of the same sound) changes nothing, while another word (开门, 关门) does. Latin text becomes its
letters. Pure.
"""

import re
import unicodedata
from itertools import pairwise

from pypinyin import lazy_pinyin

# Longest question that is compared; customers who write more want a person.
MAX_LENGTH = 200

# Said around a question without changing it; in English most of a question is that.
_POLITE = re.compile(
    r"请问一下|请问|问一下|想问下|麻烦|你好|您好|谢谢|\b(?:hello|hi|please|thanks|thank you|"
    r"what|when|where|which|who|how|is|are|was|do|does|did|can|could|will|would|may|"
    r"i|me|my|we|our|you|your|it|its|the|a|an|to|of|in|on|at|for|there|have|has|get)\b"
)
# Particles at the end of a clause.
_PARTICLES = re.compile(r"[吗呢啊呀吧哦嘛哈么]+(?=\W|$)")
_SEPARATORS = re.compile(r"[\W_]+")


def grams(question: str) -> list[str]:
    """The distinct pairs of neighbouring sounds, sorted; the sound itself if there is only one."""
    sounds = _sounds(question)
    if len(sounds) == 1:
        return sounds
    return sorted({f"{first} {second}" for first, second in pairwise(sounds)})


def _sounds(question: str) -> list[str]:
    text = unicodedata.normalize("NFKC", question[:MAX_LENGTH]).casefold()
    bare = _SEPARATORS.sub("", _PARTICLES.sub("", _POLITE.sub(" ", text)))
    # A question of nothing else ("Where are you?") is compared as it was written.
    # What has no syllable (letters, digits) stays as it is, sign by sign.
    sounds: list[str] = lazy_pinyin(bare or _SEPARATORS.sub("", text), errors=list)  # type: ignore[arg-type]
    return sounds
