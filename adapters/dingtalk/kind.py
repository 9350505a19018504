"""A DingTalk robot."""

from adapters.kind import Kind, Pace

KIND = Kind(
    name="dingtalk",
    title="DingTalk robot · 钉钉机器人",
    package="adapters.dingtalk",
    transports=("long connection", "callback"),
    conversations=("direct", "group"),
    receives=("text", "image", "voice", "video", "file", "reply"),
    sends=("text", "markdown", "image", "voice", "video", "file", "link", "card", "at"),
    # It takes no key of ours, so an unknown outcome waits for a person.
    resend_safe_s=0.0,
    callback=True,
    # Over the stream nobody keeps messages for an agent that has to be started first.
    calls_us=False,
    calls_us_by={"callback": True},
    checks_by_post=True,
    # Beyond this a robot may be silenced for ten minutes.
    paces=(Pace(20, 60),),
    # A robot's messages are said once and never again.
    acknowledge="spooled",
    # A call that the agent does not take is kept by the control plane.
    acknowledge_by={"callback": "stored"},
)
