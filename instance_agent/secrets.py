"""What agent and control plane show each other, which may be replaced while the agent runs."""

import hmac
from collections.abc import Callable

from instance_agent.protocol import Bootstrap, SecretsRenewal

# Calls under way, and those of other control plane processes, may still show the former token.
GRACE_S = 60.0


class Secrets:
    """The session's secrets. The former token ends some time after the new one was shown."""

    def __init__(self, identity: Bootstrap, *, clock: Callable[[], float]) -> None:
        self._api_token = identity.api_token
        self._signing = identity.webhook_secrets[0]
        self._former: str | None = None
        self._former_until: float | None = None
        self._clock = clock

    @property
    def signing(self) -> str:
        """What events are signed with."""
        return self._signing

    def renew(self, renewal: SecretsRenewal) -> None:
        """Take new ones; those that are in use already stay as they are."""
        if renewal.api_token != self._api_token:
            self._former, self._former_until = self._api_token, None
            self._api_token = renewal.api_token
        self._signing = renewal.webhook_secrets[0]

    def accepts(self, token: str) -> bool:
        """Whether a caller that shows this token is the control plane."""
        now = self._clock()
        if hmac.compare_digest(token.encode(), self._api_token.encode()):
            if self._former is not None and self._former_until is None:
                self._former_until = now + GRACE_S
            return True
        if self._former is None or (self._former_until is not None and now >= self._former_until):
            return False
        return hmac.compare_digest(token.encode(), self._former.encode())
