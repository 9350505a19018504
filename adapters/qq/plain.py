"""What is wrong with a bot, in words that a tenant can act on; pure."""

from adapters.base import ChannelRefused, SendFailed
from adapters.platform import PlatformError
from adapters.qq.outgoing import MAX_REPLIES, UNKNOWN_ADDRESS

AWAY = "QQ cannot be reached"
TOO_LATE = (
    "QQ lets a bot only answer: within 60 minutes in a direct talk, within 5 in groups and guilds"
)
TOO_MANY = f"QQ lets a bot answer one message {MAX_REPLIES} times"
NO_CONVERSATION = "this is neither a person, a group nor a guild channel of QQ"

_SAID = {
    "secret_invalid": ("/secret", "QQ does not know this AppID with this AppSecret"),
    "ip_not_allowed": (
        "",
        "enter the address of this server in QQ's console under 开发设置, IP 白名单",
    ),
    "bot_banned": ("/app_id", "QQ has banned this bot; its console says why"),
    "no_permission": ("/app_id", "QQ does not let this bot do that; look at its permissions"),
}
_CLOSED = {
    4013: ("/guilds", "QQ does not know what this bot asks to hear"),
    4014: (
        "/guilds",
        "this bot may not hear all it asks for: switch guilds and buttons off, or apply for them",
    ),
    4914: (
        "/base_url",
        "this bot is not published: QQ takes it at https://sandbox.api.sgroup.qq.com alone",
    ),
    4915: ("/app_id", "QQ has banned this bot; its console says why"),
}


def wrong(error: PlatformError) -> ChannelRefused | None:
    """Which setting to look at; None when none is to blame."""
    found = _SAID.get(error.error_class)
    return None if found is None else ChannelRefused(*found)


def ended(error: Exception) -> ChannelRefused:
    """Why the channel cannot go on."""
    if isinstance(error, PlatformError):
        return wrong(error) or ChannelRefused("", str(error))
    return ChannelRefused("", AWAY)


def closed(code: int) -> ChannelRefused:
    """Why the gateway let us go for good."""
    return ChannelRefused(*_CLOSED.get(code, ("", f"QQ closed the connection with {code}")))


def no_logins(more_after_s: float) -> ChannelRefused:
    minutes = max(int(more_after_s / 60), 1)
    return ChannelRefused(
        "",
        f"QQ takes no more logins of this bot for now; the next in {minutes} minutes. Is it "
        "running somewhere else too?",
    )


def failed(error: PlatformError) -> SendFailed:
    """Why a message was not sent."""
    said = _SAID.get(error.error_class)
    if error.error_class == "window_expired":
        detail = TOO_LATE
    elif error.code in UNKNOWN_ADDRESS:
        detail = (
            "QQ sends no web address that its console does not know: enter it under 开发设置, "
            "消息 URL 配置"
        )
    else:
        detail = said[1] if said else str(error)
    return SendFailed(error.error_class, detail, error.retry_after_s)
