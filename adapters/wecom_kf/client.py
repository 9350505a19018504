"""The API of WeCom customer service, for one account."""

from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
from msgspec import Struct, field

from adapters.wecom.client import Answer
from adapters.wecom.client import Client as CompanyClient
from adapters.wecom_kf.settings import Settings

# Rows of one page: with their media they are fetched and reported at once. The platform takes
# 1000, of which one page would be tens of megabytes at worst.
PAGE_ROWS = 100
# A row has some kilobytes; a text may be escaped to six times its length.
MAX_PAGE_BYTES = 8 * 1024 * 1024
# Voices as AMR rather than Silk.
_AMR = 0
# Accounts that one question lists, and how many are looked through.
_ACCOUNTS = 100
_MAX_ACCOUNTS = 1000
# The session belongs to the smart assistant, which is what the platform calls the API.
_ASSISTANT = 1


class Account(Struct):
    """An account that the application may speak for."""

    open_kfid: str
    name: str = ""


class Page(Answer):
    """Rows in the order in which they came to be, and where to go on."""

    next_cursor: str = ""
    has_more: int = 0
    msg_list: list[msgspec.Raw] = field(default_factory=list)


class _Accounts(Answer):
    account_list: list[Account] = field(default_factory=list)


class _Sent(Answer):
    msgid: str = ""


class _State(Answer):
    service_state: int = 0


class Client(CompanyClient):
    """Calls for one account, with the secret of one application."""

    def __init__(
        self, http: httpx2.AsyncClient, settings: Settings, *, clock: Callable[[], float]
    ) -> None:
        super().__init__(
            http,
            base_url=settings.base_url,
            corp_id=settings.corp_id,
            secret=settings.secret.get_secret_value(),
            clock=clock,
        )
        self._open_kfid = settings.open_kfid

    async def accounts(self) -> list[Account]:
        """What this application may speak for; nothing changes by it."""
        found: list[Account] = []
        while len(found) < _MAX_ACCOUNTS:
            asked = {"offset": len(found), "limit": _ACCOUNTS}
            answer = await self.ask("kf/account/list", asked, _Accounts)
            found += answer.account_list
            if len(answer.account_list) < _ACCOUNTS:
                break
        return found

    async def page(self, cursor: str, token: str) -> Page:
        """What lies behind `cursor`; empty is the oldest that is kept, three days back.

        `token` came with a callback; without one the platform answers rarely.
        """
        asked = {"limit": PAGE_ROWS, "voice_format": _AMR, "open_kfid": self._open_kfid}
        asked |= {"cursor": cursor} if cursor else {}
        asked |= {"token": token} if token else {}
        return await self.ask("kf/sync_msg", asked, Page, max_bytes=MAX_PAGE_BYTES)

    async def say(self, customer: str, message_id: str, body: dict[str, Any]) -> str:
        """Post a message to a customer; its id at the platform, which is ours."""
        addressed = {"touser": customer, "open_kfid": self._open_kfid, "msgid": message_id}
        return (await self.ask("kf/send_msg", addressed | body, _Sent)).msgid or message_id

    async def welcome(self, code: str, body: dict[str, Any]) -> None:
        """Greet whom the code was given for."""
        await self.ask("kf/send_msg_on_event", {"code": code} | body, _Sent)

    async def state(self, customer: str) -> int:
        """Who has the session: see `sessions`."""
        answer = await self.ask("kf/service_state/get", self._session(customer), _State)
        return answer.service_state

    async def claim(self, customer: str) -> None:
        """Give the session to the API."""
        claimed = {**self._session(customer), "service_state": _ASSISTANT}
        await self.ask("kf/service_state/trans", claimed, Answer)

    def _session(self, customer: str) -> dict[str, Any]:
        return {"open_kfid": self._open_kfid, "external_userid": customer}
