"""Whose turn it is: WeCom lets the API speak only in sessions that nobody else has.

    0 untreated           the API may speak; we make it ours, so that nobody is put in charge
    1 smart assistant     ours
    2 waiting for a person, 3 with a person: the API may not speak
    4 over                until the customer writes again

From 2 we try to take it, since a bot is there to answer; from 3 only when a person of ours speaks:
a bot never talks over a colleague.
"""

from collections import OrderedDict
from collections.abc import Callable

import structlog

from adapters.base import SendFailed
from adapters.model import Author
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.wecom.sending import BUSY
from adapters.wecom_kf.client import Client

UNTREATED, OURS, WAITING, WITH_A_PERSON, OVER = range(5)
# How long a session is taken to be ours still; a change is told, but it may come late.
KNOWN_S = 600.0
# Customers of whom we know it: the busiest hour of an account.
MAX_KNOWN = 10_000

TAKEN = "a colleague has this customer in WeCom; end the session there to answer from here"
ENDED = "the session has ended; it opens again when the customer writes"

log = structlog.get_logger()


class Sessions:
    """The sessions of one account."""

    def __init__(self, client: Client, *, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._ours: OrderedDict[str, float] = OrderedDict()

    async def open(self, customer: str, author: Author) -> None:
        """See to it that the API may speak; raises SendFailed where it may not."""
        if self._clock() < self._ours.get(customer, 0.0):
            return
        try:
            await self._open(customer, author)
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except (Unreachable, Cut):
            raise SendFailed("server_busy", BUSY) from None

    def forget(self, customer: str) -> bool:
        """It may have changed hands; whether we took it for ours."""
        return self._ours.pop(customer, None) is not None

    async def _open(self, customer: str, author: Author) -> None:
        try:
            state = await self._client.state(customer)
        except PlatformError as error:
            # The send itself will tell.
            log.warning("state of a session not known", reason=str(error))
            return
        if state == OVER:
            raise SendFailed("window_expired", ENDED)
        if state == WITH_A_PERSON and author.kind != "human":
            raise SendFailed("recipient_unavailable", TAKEN)
        if state in (UNTREATED, WAITING, WITH_A_PERSON) and not await self._claimed(customer):
            if state == UNTREATED:
                return
            raise SendFailed("recipient_unavailable", TAKEN)
        self._remember(customer)

    async def _claimed(self, customer: str) -> bool:
        try:
            await self._client.claim(customer)
        except PlatformError as error:
            log.info("session not taken", reason=str(error))
            return False
        return True

    def _remember(self, customer: str) -> None:
        self._ours[customer] = self._clock() + KNOWN_S
        self._ours.move_to_end(customer)
        if len(self._ours) > MAX_KNOWN:
            self._ours.popitem(last=False)
