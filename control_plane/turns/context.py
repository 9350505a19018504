"""What a model is shown of a conversation: its task, then what was said, newest kept. Pure.

Tokens are estimated, since every model counts in its own way: a character of a wide script is one,
four others are one. That is more than most models count, so the budget errs to the safe side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from instance_agent.document import Persona
from instance_agent.protocol import ChatMessage

# Estimated tokens of what was said; the smallest context of a model still in use is 8,000.
BUDGET = 6_000
# What a message costs besides its words.
_PER_MESSAGE = 4
# From here on characters are wide: Chinese, Japanese, Korean.
_WIDE = 0x2E80

_TASK = "你是客服助手。请用客户的语言，简短、如实地回答；不知道的就说不知道。"


@dataclass(frozen=True, kw_only=True)
class Said:
    """One message in words."""

    number: int
    by_contact: bool
    text: str


def estimate(text: str) -> int:
    """About how many tokens a message of this text is."""
    wide = sum(ord(sign) >= _WIDE for sign in text)
    return wide + (len(text) - wide + 3) // 4 + _PER_MESSAGE


def within_budget(said: Sequence[Said], budget: int = BUDGET) -> list[Said]:
    """The newest of it that fits, in order; the newest of all is cut rather than left out."""
    kept: list[Said] = []
    for item in reversed(said):
        if not item.text.strip():
            continue
        cost = estimate(item.text)
        if cost > budget:
            if not kept:
                cut = item.text[: max(1, budget - _PER_MESSAGE)]
                kept.append(Said(number=item.number, by_contact=item.by_contact, text=cut))
            break
        kept.append(item)
        budget -= cost
    return kept[::-1]


def messages(persona: Persona, said: Sequence[Said]) -> list[ChatMessage]:
    """In the form of models. What a customer says is never in the system's part of it."""
    task = f"{persona.instructions.strip() or _TASK}\n\n你的名字：{persona.name}"
    shown = [ChatMessage(role="system", content=task)]
    for item in said:
        role = "user" if item.by_contact else "assistant"
        if shown[-1].role == role:
            # Some models insist on taking turns.
            joined = f"{shown[-1].content}\n{item.text}"
            shown[-1] = ChatMessage(role=shown[-1].role, content=joined)
        else:
            shown.append(
                ChatMessage(role="user" if item.by_contact else "assistant", content=item.text)
            )
    return shown
