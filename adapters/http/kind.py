"""A tenant's own system."""

from adapters.kind import Kind

KIND = Kind(
    name="http",
    title="Your own system (signed HTTP) · 自有系统（签名 HTTP）",
    package="adapters.http",
    transports=("callback",),
    conversations=("direct", "group"),
    receives=("text", "image", "voice", "video", "file", "location", "link", "at", "reply"),
    sends=(
        "text",
        "markdown",
        "image",
        "voice",
        "video",
        "file",
        "location",
        "link",
        "card",
        "at",
        "reply",
        "face",
    ),
    # What is agreed with whoever receives: a repeated `webhook-id` is known for a day.
    resend_safe_s=86_400.0,
    callback=True,
    calls_us=True,
)
