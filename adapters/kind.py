"""What a kind of channel is: what its platform allows, and where its code lies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, NamedTuple, cast

from pydantic import BaseModel

from adapters.model import RawCallback, Rejected, Verification

Verify = Callable[..., Verification]
Admit = Callable[[RawCallback, BaseModel], Rejected | None]
# When a message is safe, so that its platform may hear of it (see `instance_agent.intake`).
Acknowledge = Literal["stored", "kept", "spooled"]
# How messages come in.
Transport = Literal["callback", "long connection", "pull", "reverse WebSocket"]
ConversationType = Literal["direct", "group", "channel"]


class Pace(NamedTuple):
    """A platform gives one chat at most so many messages within so many seconds."""

    most: int
    within_s: float


class Window(NamedTuple):
    """A platform takes messages to a contact for so long after their last one, and so many."""

    within_s: float
    most: int | None = None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of channel.

    `package` holds `settings`, `callback` and `adapter`; nothing of it loads before it is used.
    `resend_safe_s`: for how many seconds the platform recognises a repeated send by its
    idempotency key, so that an unknown outcome may be sent again; 0 means never.
    `resend_safe_in`: the types of conversation where it does.
    `callback`: whether its address must be entered at the platform by a person.
    `checks_by_post`: whether its platform checks the address by a POST that looks like any other
    call, and needs the answer at once. `calls_us`: whether its messages come as calls, which we can
    keep for an agent that has to be started first; `calls_us_by`: the same for a setting
    `transport`, where that matters. `acknowledge`: what must have happened to a message before its
    platform hears that we have it; `acknowledge_by`: the same by `transport`.
    `windows`: by type of conversation, when the platform takes messages to it; a type that is not
    there is always open. `paces`: what one chat may get, so that nothing is sent that the platform
    would drop. `receives` and `sends`: the segments it carries as such, by their tags in
    `adapters.model`; whatever else is sent falls back to words. `words_only`: of these the
    platform gives the transcript, never the medium.
    """

    name: str
    title: str
    package: str
    transports: tuple[Transport, ...]
    conversations: tuple[ConversationType, ...]
    receives: tuple[str, ...]
    sends: tuple[str, ...]
    words_only: tuple[str, ...] = ()
    resend_safe_s: float
    callback: bool
    calls_us: bool
    calls_us_by: Mapping[str, bool] = field(default_factory=dict)
    checks_by_post: bool = False
    windows: Mapping[ConversationType, Window] = field(default_factory=dict)
    paces: tuple[Pace, ...] = ()
    acknowledge: Acknowledge = "stored"
    acknowledge_by: Mapping[str, Acknowledge] = field(default_factory=dict)
    resend_safe_in: tuple[ConversationType, ...] = ("direct", "group", "channel")

    def resend_safe(self, conversation: str) -> float:
        """For how many seconds a send to a conversation of this type may be repeated."""
        return self.resend_safe_s if conversation in self.resend_safe_in else 0.0

    def settings(self) -> type[BaseModel]:
        """The settings model; fields of type SecretStr are secrets."""
        return cast(type[BaseModel], self._load("settings").Settings)

    def rule(self, settings: BaseModel) -> Acknowledge:
        """How a channel with these settings acknowledges."""
        return self.acknowledge_by.get(getattr(settings, "transport", ""), self.acknowledge)

    def may_wait(self, settings: Mapping[str, Any]) -> bool:
        """Whether a channel with these settings (no secret is needed) hears without an agent."""
        return self.calls_us_by.get(self._transport(settings), self.calls_us)

    def loses(self, settings: Mapping[str, Any]) -> bool:
        """Whether what is said while nobody is connected is said to nobody, ever."""
        if self.may_wait(settings):
            return False
        transport = self._transport(settings)
        return self.acknowledge_by.get(transport, self.acknowledge) == "spooled"

    def verify(self, request: RawCallback, settings: BaseModel, *, now: float) -> Verification:
        """Check a callback without an agent; pure. `now` is in Unix seconds."""
        return cast(Verify, self._load("callback").verify)(request, settings, now=now)

    @property
    def takes_sockets(self) -> bool:
        """Whether its platform opens WebSockets to us (see `adapters.base.TakesSockets`)."""
        return "reverse WebSocket" in self.transports

    def admit(self, handshake: RawCallback, settings: BaseModel) -> Rejected | None:
        """Check the handshake of a socket that its platform opens; pure, and never raises."""
        return cast(Admit, self._load("callback").admit)(handshake, settings)

    def adapter(self) -> Any:
        """The adapter class (see `adapters.base.Adapter`)."""
        return self._load("adapter").Adapter

    def _transport(self, settings: Mapping[str, Any]) -> str:
        if not (self.calls_us_by or self.acknowledge_by):
            return ""
        field = self.settings().model_fields["transport"]
        return str(settings.get("transport", field.default))

    def _load(self, module: str) -> Any:
        return import_module(f"{self.package}.{module}")
