"""Why a delivery is where it is, in a sentence for the person who looks at it."""

from control_plane.delivery.models import DeliveryState

BY_CLASS = {
    "bad_markup": "The platform could not read its markup.",
    "bot_banned": "The platform has banned the bot.",
    "bot_not_in_chat": "The bot is not in this chat any more.",
    "channel_deleted": "The channel was deleted before it could be sent.",
    "chat_gone": "The chat does not exist any more.",
    "chat_moved": "The chat has moved; it goes on there once we know where.",
    "content_invalid": "The platform does not take this content.",
    "empty_message": "The platform found nothing to send in it.",
    "ip_not_allowed": "The platform does not accept calls from this address.",
    "media_failed": "The platform did not take the picture, voice or file.",
    "media_quota": "The platform takes no more pictures, voices or files for now.",
    "message_gone": "The message that it answers does not exist any more.",
    "no_permission": "The account has no permission for this at the platform.",
    "not_sent": "A person decided that it was not sent.",
    "paced": "It waits: the platform limits how many messages one chat gets in a while.",
    "rate_limited": "The platform takes no more messages for now.",
    "recipient_invalid": "The platform does not know the recipient.",
    "recipient_refuses": "The recipient does not take messages from the bot.",
    "recipient_unavailable": "The recipient cannot be reached at the platform.",
    "reply_handle_invalid": "The platform does not let us answer this message any more.",
    "secret_invalid": "The platform does not accept the channel's credentials.",
    "server_busy": "The platform could not be reached or was busy.",
    "token_expired": "The platform ended our access before its time, again and again.",
    "token_invalid": "The platform does not take the access that it gave us.",
    "token_missing": "The platform found no access token.",
    "too_long": "It is too long for the platform.",
    "too_old": "It could not be sent for so long that it helps nobody any more.",
    "undelivered": "The platform took it, and said later that the contact did not get it.",
    "unknown_outcome": "The connection was cut: nobody knows whether the platform sent it.",
    "window_count_exceeded": "The platform takes no more answers until the contact writes again.",
    "window_expired": "The platform lets us answer only for a while after the contact's message.",
}
_BY_STATE = {
    DeliveryState.WITHHELD: "A person took over before it was sent.",
    DeliveryState.SENDING: "It is being sent. If the bot is restarting, it goes on afterwards.",
}


def reason(state: str, error_class: str | None) -> str | None:
    """The sentence; None for what is well, and for a class of the platform's own."""
    if state == DeliveryState.SENT:
        return None
    by_state = _BY_STATE.get(DeliveryState(state))
    return by_state or BY_CLASS.get(error_class or "")
