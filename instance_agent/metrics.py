"""What the agent counts; GET /metrics shows it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """One registry per agent, so that two in one process (tests) do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "botyard_agent_events",
            "Events that the control plane answered for, by result.",
            ["status"],
            registry=self.registry,
        )
        self.sends = Counter(
            "botyard_agent_sends",
            "Parts of messages sent to platforms, by outcome.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.restarts = Counter(
            "botyard_agent_channel_restarts",
            "Times a channel's adapter ended by itself and was started again.",
            ["kind"],
            registry=self.registry,
        )
        self.notes = Counter(
            "botyard_agent_channel_notes",
            "Times a connected channel had something to tell, such as messages it may have missed.",
            ["kind"],
            registry=self.registry,
        )
        self.model_calls = Counter(
            "botyard_agent_model_calls",
            "Calls of models by kind of provider, or speech, and outcome: ok, left, or its class.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.model_tokens = Counter(
            "botyard_agent_model_tokens",
            "Tokens as providers count them, by kind of provider, asked and answered.",
            ["kind", "direction"],
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "botyard_agent_model_seconds",
            "Time until a model's first word, and until its last.",
            ["kind", "until"],
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 120),
            registry=self.registry,
        )
        self.heartbeat = self._gauge(
            "heartbeat_success_seconds", "Unix time of the last heartbeat that was accepted."
        )
        self.spool_depth = self._gauge("spool_events", "Events waiting on disk.")
        self.spool_bytes = self._gauge("spool_bytes", "Bytes of events waiting on disk.")
        self.spool_age = self._gauge(
            "spool_oldest_age_seconds", "Age of the oldest event waiting on disk."
        )
        self.dead_letters = self._gauge(
            "dead_letters", "Events that the control plane rejected for good, kept on disk."
        )

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(f"botyard_agent_{name}", description, registry=self.registry)
