"""A QQ account behind a OneBot v11 client."""

from adapters.kind import Kind, Pace

KIND = Kind(
    name="onebot",
    title="QQ by OneBot v11 (NapCat) · QQ 个人号（OneBot v11）",
    package="adapters.onebot",
    transports=("reverse WebSocket", "callback"),
    conversations=("direct", "group"),
    receives=(
        "text",
        "image",
        "voice",
        "video",
        "file",
        "at",
        "reply",
        "face",
        "sticker",
        "location",
        "link",
        "card",
        "contact",
        "forward",
    ),
    sends=("text", "image", "voice", "video", "file", "at", "reply", "face", "card"),
    # A client recognises no send that it was given before.
    resend_safe_s=0.0,
    callback=True,
    # What is said while no socket is open is said to nobody, so the agent has to be there.
    calls_us=False,
    # A post of the client's waits with us.
    calls_us_by={"http": True},
    # QQ watches accounts that write too fast; the adapter also spaces all chats of one.
    paces=(Pace(60, 60),),
    # A client says everything once, over a socket as by HTTP.
    acknowledge="spooled",
)
