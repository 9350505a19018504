"""Accounts that take one connection: here and anywhere, at most one adapter has each.

The control plane leases an account to one channel of one active session. What it does not confirm
in time is let go before anybody else can have it, so a bot that is cut off harms no successor.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from uuid import UUID

import structlog

from adapters.base import NotAccepted
from instance_agent.protocol import LeaseAnswer, LeaseState

# Let go so long before a lease ends: a call that hangs, and an adapter that takes its time.
MARGIN_S = 10.0
# A session that is not active yet will be within seconds.
SOON_S = 1.0
ELSEWHERE = "the account is in use by another channel, and it takes one connection only"
LET_GO = "the control plane did not confirm for too long that the account is ours"

log = structlog.get_logger()

Claim = Callable[[Mapping[str, UUID], int], Awaitable[LeaseAnswer]]
Told = Callable[[str | None], None]


def account_key(kind: str, account: str) -> str:
    """What an account is called where its name must not be read."""
    return hashlib.sha256(f"{kind}\0{account}".encode()).hexdigest()


class _Hold:
    def __init__(self, channel_id: UUID, told: Told) -> None:
        self.channel_id = channel_id
        self.told = told
        self.granted = asyncio.Event()
        self.lost = asyncio.Event()
        self.ended = asyncio.Event()
        self.until = 0.0
        self.pause_s = SOON_S


class Holds:
    """The accounts of one agent."""

    def __init__(self, claim: Claim, *, every_s: float, clock: Callable[[], float]) -> None:
        self._claim = claim
        self._every_s = every_s
        self._clock = clock
        self._holds: dict[str, _Hold] = {}
        self._number = 0
        # Something is held, or was and the control plane does not know that it is no more.
        self._owes = False
        self._wake = asyncio.Event()

    @contextlib.asynccontextmanager
    async def holding(
        self, account: str, channel_id: UUID, told: Told
    ) -> AsyncIterator[asyncio.Event]:
        """Wait for the account, hold it; the event says that it must be let go at once.

        `told` hears why it takes long, and None once the account is ours.
        """
        while (other := self._holds.get(account)) is not None:
            if other.channel_id != channel_id:
                told(ELSEWHERE)
            await other.ended.wait()
        hold = self._holds[account] = _Hold(channel_id, told)
        self._wake.set()
        try:
            await hold.granted.wait()
            told(None)
            yield hold.lost
        finally:
            del self._holds[account]
            self._wake.set()
            hold.ended.set()

    def ours(self, account: str) -> bool:
        """Whether it is surely ours at this moment: asked by who wakes after a long sleep, too."""
        hold = self._holds.get(account)
        return hold is not None and hold.granted.is_set() and self._clock() < hold.until

    async def keep(self) -> None:
        """Loop: claim what is waited for, and confirm what is held."""
        while True:
            self._wake.clear()
            await self._round()
            pauses = [self._every_s] if self._owes else []
            pauses += [
                self._every_s if hold.granted.is_set() else hold.pause_s
                for hold in self._holds.values()
            ]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pauses, default=None)):
                    await self._wake.wait()

    async def close(self) -> None:
        """Say what is no longer held, so that a successor need not wait."""
        await self._round()

    async def _round(self) -> None:
        # Before anybody is asked, who may take long to answer.
        self._let_go()
        holds = dict(self._holds)
        if not holds and not self._owes:
            return
        self._owes = True
        self._number += 1
        asked_at = self._clock()
        wanted = {account: hold.channel_id for account, hold in holds.items()}
        try:
            answer = await self._claim(wanted, self._number)
        except NotAccepted as error:
            log.warning("accounts not confirmed", accounts=len(holds), reason=str(error))
        else:
            self._owes = bool(holds)
            until = asked_at + answer.life_s - MARGIN_S
            for account, hold in holds.items():
                self._settle(hold, answer.accounts.get(account), until)
        self._let_go()

    def _let_go(self) -> None:
        """Of what nobody confirmed in time."""
        for hold in self._holds.values():
            if hold.granted.is_set() and self._clock() >= hold.until:
                hold.lost.set()

    def _settle(self, hold: _Hold, state: LeaseState | None, until: float) -> None:
        if state == "held":
            hold.until = until
            hold.granted.set()
        elif hold.granted.is_set():
            hold.lost.set()
        elif state == "elsewhere":
            hold.pause_s = self._every_s
            hold.told(ELSEWHERE)
