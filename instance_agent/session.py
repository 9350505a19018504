"""Who this agent is: the bootstrap exchange, and the heartbeat that keeps the session alive."""

import asyncio
from collections.abc import Callable, Mapping
from importlib import metadata
from random import Random
from uuid import UUID, uuid4

import httpx2
import msgspec
import structlog

from adapters import standard_webhooks
from adapters.base import NotAccepted
from instance_agent.backoff import Backoff, retry_after
from instance_agent.intake import Intake
from instance_agent.metrics import Metrics
from instance_agent.protocol import (
    Bootstrap,
    BootstrapRequest,
    Heartbeat,
    LeaseAnswer,
    LeaseRequest,
)
from instance_agent.reporter import Reporter, new_event

# Heartbeats of many agents that started together must not stay together.
HEARTBEAT_JITTER = 0.1
# A claim to an account; well below the margin before a lease ends.
CLAIM_S = 3.0

log = structlog.get_logger()


class IdentityRefused(Exception):
    """The bootstrap token is used, expired or unknown; only a new start brings another."""


def version() -> str:
    """The installed distribution's version."""
    try:
        return metadata.version("botyard")
    except metadata.PackageNotFoundError:
        return "0+source"


async def bootstrap(
    http: httpx2.AsyncClient, url: str, token: str, request: BootstrapRequest, *, random: Random
) -> Bootstrap:
    """Exchange the token for an identity, trying until answered; raises IdentityRefused."""
    backoff = Backoff(base_s=1, cap_s=30, random=random)
    while True:
        wait_s = None
        try:
            response = await http.post(
                url,
                content=msgspec.json.encode(request),
                headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
            )
            if response.status_code == 200:
                return msgspec.json.decode(response.content, type=Bootstrap)
            if response.status_code in (401, 403, 410):
                raise IdentityRefused(f"the control plane answered {response.status_code}")
            reason = f"the control plane answered {response.status_code}"
            wait_s = retry_after(response.headers.get("retry-after"))
        except httpx2.TransportError as error:
            reason = f"control plane unreachable ({type(error).__name__})"
        except msgspec.MsgspecError as error:
            reason = f"the control plane answered something else: {error}"
        delay = backoff.next(wait_s)
        log.warning("no identity yet", reason=reason, retry_in_s=round(delay, 1))
        await asyncio.sleep(delay)


async def claim(
    http: httpx2.AsyncClient,
    url: str,
    session_id: UUID,
    secret: Callable[[], str],
    clock: Callable[[], float],
    accounts: Mapping[str, UUID],
    number: int,
) -> LeaseAnswer:
    """Ask for these accounts and give all others back; raises NotAccepted."""
    request = LeaseRequest(session_id=session_id, accounts=dict(accounts), number=number)
    body = msgspec.json.encode(request)
    headers = standard_webhooks.sign(
        secret(),
        message_id=f"msg_{uuid4()}",
        timestamp=int(clock()),
        body=body,
    )
    headers["content-type"] = "application/json"
    try:
        answer = await http.post(url, content=body, headers=headers, timeout=CLAIM_S)
        if answer.status_code == 200:
            return msgspec.json.decode(answer.content, type=LeaseAnswer)
    except (httpx2.TransportError, msgspec.MsgspecError) as error:
        raise NotAccepted(f"no answer to be read ({type(error).__name__})") from None
    raise NotAccepted(f"the control plane answered {answer.status_code}")


async def heartbeats(
    reporter: Reporter,
    beat: Callable[[], Heartbeat],
    intake: Intake,
    *,
    every_s: float,
    metrics: Metrics,
    clock: Callable[[], float],
    random: Random,
) -> None:
    """Loop: tell the control plane how we are. A lost one is not repeated, the next is newer."""
    while True:
        event = new_event("instance.heartbeat", beat(), now=clock())
        checkpoints = intake.checkpoints()
        try:
            await reporter.report_now([event], keys=["instance.heartbeat"], checkpoints=checkpoints)
            intake.told(checkpoints)
            metrics.heartbeat.set(clock())
        except NotAccepted as error:
            log.warning("heartbeat not accepted", reason=str(error))
        await asyncio.sleep(every_s * random.uniform(1 - HEARTBEAT_JITTER, 1 + HEARTBEAT_JITTER))
