"""One call to a receiver: signed with every valid secret, bounded in time, never redirected."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from adapters import standard_webhooks
from adapters.outbound import Outbound, OutboundError
from control_plane.kit.crypto import Keyring
from control_plane.webhooks.models import Webhook
from control_plane.webhooks.schedule import Outcome, retry_after

# A receiver stores what it got and answers; what takes longer it does afterwards.
WITHIN = timedelta(seconds=15)
USER_AGENT = "Botyard-Webhooks/1"


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """Where to call and how to prove that it is us, newest secret first."""

    url: str
    secrets: Sequence[str]


def receiver_of(webhook: Webhook, keys: Keyring, *, now: datetime) -> Receiver:
    """The receiver of an endpoint with the secrets that are valid now."""
    sealed = [webhook.secret]
    if webhook.old_secret and webhook.old_secret_until and webhook.old_secret_until > now:
        sealed.append(webhook.old_secret)
    return Receiver(url=webhook.url, secrets=[keys.open(secret).decode() for secret in sealed])


def headers(receiver: Receiver, *, message_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """The Standard Webhooks headers with one signature for each secret."""
    signed = [
        standard_webhooks.sign(
            secret, message_id=message_id, timestamp=int(now.timestamp()), body=body
        )
        for secret in receiver.secrets
    ]
    signatures = " ".join(each[standard_webhooks.SIGNATURE] for each in signed)
    return signed[0] | {standard_webhooks.SIGNATURE: signatures}


async def attempt(
    outbound: Outbound, receiver: Receiver, *, message_id: str, body: str, now: datetime
) -> Outcome:
    """Call the receiver once; any 2xx means that it took the message."""
    content = body.encode()
    try:
        answer = await outbound.send(
            "POST",
            receiver.url,
            headers={
                "content-type": "application/json",
                "user-agent": USER_AGENT,
                **headers(receiver, message_id=message_id, body=content, now=now),
            },
            content=content,
            within=WITHIN,
        )
    except OutboundError as error:
        return Outcome(status=None, error=str(error))
    if 200 <= answer.status < 300:
        return Outcome(status=answer.status, error=None)
    redirect = " Redirects are not followed." if 300 <= answer.status < 400 else ""
    return Outcome(
        status=answer.status,
        error=f"The receiver answered {answer.status}.{redirect}",
        retry_after=retry_after(answer.headers.get("retry-after"), now),
    )
