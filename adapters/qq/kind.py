"""A QQ bot."""

from adapters.kind import Kind, Window

KIND = Kind(
    name="qq",
    title="QQ bot · QQ 机器人",
    package="adapters.qq",
    transports=("callback", "long connection"),
    conversations=("direct", "group", "channel"),
    receives=("text", "image", "voice", "video", "file", "at", "reply", "face"),
    sends=("text", "markdown", "image", "voice", "video", "file", "at", "reply", "card"),
    # The platform refuses a second reply with the same number to the same message, and ours come
    # from the part that is sent. It forgets a message with its window: the shortest of these two.
    resend_safe_s=300.0,
    # Guild channels have no such number.
    resend_safe_in=("direct", "group"),
    callback=True,
    # Over the gateway nobody keeps messages for an agent that has to be started first.
    calls_us=False,
    calls_us_by={"webhook": True},
    checks_by_post=True,
    windows={"direct": Window(3600, 5), "group": Window(300, 5), "channel": Window(300)},
    # The gateway repeats what comes after a position, but not for ever; and nobody says whether
    # webhook calls that were refused come again.
    acknowledge="kept",
)
