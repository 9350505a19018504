"""WeCom's AI bot."""

from adapters.kind import Kind, Pace

KIND = Kind(
    name="wecom_aibot",
    title="WeCom AI bot · 企业微信智能机器人",
    package="adapters.wecom_aibot",
    transports=("long connection", "callback"),
    conversations=("direct", "group"),
    receives=("text", "image", "voice", "video", "file", "reply"),
    sends=("text", "markdown", "image", "voice", "video", "file", "card"),
    words_only=("voice",),
    # Nothing that is sent carries a key of ours.
    resend_safe_s=0.0,
    callback=True,
    # A long connection brings nothing to a bot that sleeps.
    calls_us=False,
    calls_us_by={"callback": True},
    paces=(Pace(30, 60), Pace(1000, 3600)),
    # The long connection has no acknowledgement: what is lost here, nobody says again. A callback
    # has one, and what we refuse the control plane keeps.
    acknowledge="spooled",
    acknowledge_by={"callback": "stored"},
)
