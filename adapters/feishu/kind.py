"""A bot in Feishu or Lark."""

from adapters.kind import Kind, Pace

KIND = Kind(
    name="feishu",
    title="Feishu / Lark bot · 飞书机器人",
    package="adapters.feishu",
    transports=("long connection", "callback"),
    conversations=("direct", "group"),
    receives=(
        "text",
        "at",
        "reply",
        "link",
        "image",
        "voice",
        "video",
        "file",
        "sticker",
        "face",
        "location",
        "card",
        "contact",
        "forward",
    ),
    sends=(
        "text",
        "markdown",
        "at",
        "reply",
        "link",
        "image",
        "voice",
        "video",
        "file",
        "card",
        "contact",
    ),
    # Feishu recognises the `uuid` of a send for one hour, counted from the first; the rest is for
    # calls that are under way when it ends.
    resend_safe_s=3000.0,
    callback=True,
    # A long connection brings nothing to a bot that sleeps.
    calls_us=False,
    calls_us_by={"callback": True},
    checks_by_post=True,
    # Of one person, and of one group over all bots in it.
    paces=(Pace(5, 1),),
    # It wants its answer within three seconds and repeats after 15 s, 5 min, 1 h and 6 h only.
    acknowledge="kept",
)
