"""A WeCom application."""

from adapters.kind import Kind, Pace

KIND = Kind(
    name="wecom",
    title="WeCom application · 企业微信自建应用",
    package="adapters.wecom",
    transports=("callback",),
    conversations=("direct",),
    receives=("text", "image", "voice", "video", "file", "location", "link"),
    sends=("text", "markdown", "image", "voice", "video", "file", "link", "card"),
    # WeCom can drop repeats for up to four hours, but it compares contents: a second "好的" that
    # was meant would vanish without a word. So we do not ask it to, and an unknown outcome waits
    # for a person.
    resend_safe_s=0.0,
    callback=True,
    calls_us=True,
    # Past its limits for one member WeCom drops messages without an error.
    paces=(Pace(30, 60), Pace(1000, 3600)),
)
