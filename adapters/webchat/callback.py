"""Check a web-chat callback: Standard Webhooks headers under the channel's secret; pure."""

from adapters import standard_webhooks
from adapters.model import CallbackAnswer, RawCallback, Rejected, Verification, Verified
from adapters.webchat.settings import Settings


def key(settings: Settings) -> str:
    """The channel's secret, which is any text, in the form that Standard Webhooks wants."""
    return standard_webhooks.make_secret(settings.secret.get_secret_value().encode())


def verify(request: RawCallback, settings: Settings, *, now: float) -> Verification:
    """Whether our own chat platform sent this, and recently; never raises."""
    try:
        standard_webhooks.verify([key(settings)], request.headers, request.body, now=now)
    except standard_webhooks.SignatureError as error:
        return Rejected(reason=str(error))
    return Verified(answer=CallbackAnswer())
