"""Which kinds of channel exist, and where each kind's code is; nothing loads before it is used."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple, cast

from pydantic import BaseModel

from adapters.model import RawCallback, Verification

Verify = Callable[..., Verification]
# When a message is safe, so that its platform may hear of it (see `instance_agent.intake`).
Acknowledge = Literal["stored", "kept", "spooled"]


class UnknownKind(LookupError):
    """No adapter of that name is installed."""


class Pace(NamedTuple):
    """A platform gives one chat at most so many messages within so many seconds."""

    most: int
    within_s: float


@dataclass(frozen=True)
class Kind:
    """A kind of channel.

    `resend_safe_s`: for how many seconds the platform recognises a repeated send by its
    idempotency key, so that an unknown outcome may be sent again; 0 means never.
    `callback`: whether its address must be entered at the platform by a person.
    `reply_window_s`: for how many seconds after the contact's last message the platform takes
    messages to them; None means always. `calls_us`: whether its messages come as calls, which we
    can keep for an agent that has to be started first. `paces`: what one chat may get, so that
    nothing is sent that the platform would drop. `acknowledge`: what must have happened to a
    message before its platform hears that we have it.
    """

    name: str
    package: str
    resend_safe_s: float
    callback: bool
    calls_us: bool
    reply_window_s: float | None = None
    paces: tuple[Pace, ...] = ()
    acknowledge: Acknowledge = "stored"

    def settings(self) -> type[BaseModel]:
        """The settings model; fields of type SecretStr are secrets."""
        return cast(type[BaseModel], self._load("settings").Settings)

    def verify(self, request: RawCallback, settings: BaseModel, *, now: float) -> Verification:
        """Check a callback without an agent; pure. `now` is in Unix seconds."""
        return cast(Verify, self._load("callback").verify)(request, settings, now=now)

    def adapter(self) -> Any:
        """The adapter class (see `adapters.base.Adapter`)."""
        return self._load("adapter").Adapter

    def _load(self, module: str) -> Any:
        return import_module(f"{self.package}.{module}")


_KINDS = {
    # webchat keeps every message it was given, so a repeated id is recognised for ever.
    "webchat": Kind(
        name="webchat",
        package="adapters.webchat",
        resend_safe_s=float("inf"),
        callback=False,
        calls_us=True,
    ),
    # WeCom can drop repeats for up to four hours, but it compares contents: a second "好的" that
    # was meant would vanish without a word. So we do not ask it to, and an unknown outcome waits
    # for a person. Past its limits for one member WeCom drops messages without an error.
    "wecom": Kind(
        name="wecom",
        package="adapters.wecom",
        resend_safe_s=0.0,
        callback=True,
        calls_us=True,
        paces=(Pace(30, 60), Pace(1000, 3600)),
    ),
}


def kind(name: str) -> Kind:
    """Raises UnknownKind."""
    try:
        return _KINDS[name]
    except KeyError:
        raise UnknownKind(name) from None


def kinds() -> list[str]:
    """The names of all installed kinds."""
    return sorted(_KINDS)
