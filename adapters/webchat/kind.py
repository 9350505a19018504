"""Web chat: our own platform, served by the control plane."""

from adapters.kind import Kind

KIND = Kind(
    name="webchat",
    title="Web chat · 网页客服",
    package="adapters.webchat",
    transports=("callback",),
    conversations=("direct",),
    receives=("text", "image"),
    sends=("text", "image"),
    # It keeps every message that it was given, so a repeated id is recognised for ever.
    resend_safe_s=float("inf"),
    callback=False,
    calls_us=True,
)
