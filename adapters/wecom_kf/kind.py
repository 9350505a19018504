"""An account of WeCom customer service."""

from adapters.kind import Kind, Window

# The platform takes five messages within two days of each message of the customer.
REPLY_WITHIN_S = 48 * 3600.0
MAX_REPLIES = 5

KIND = Kind(
    name="wecom_kf",
    title="WeCom customer service · 微信客服",
    package="adapters.wecom_kf",
    transports=("pull", "callback"),
    conversations=("direct",),
    receives=("text", "image", "voice", "video", "file", "location", "link", "card", "contact"),
    sends=("text", "image", "voice", "video", "file", "location", "card"),
    # A send carries an id of ours, but what the platform does with a second one of the same id,
    # and for how long, is written nowhere. An unknown outcome waits for a person.
    resend_safe_s=0.0,
    callback=True,
    # A call brings no message, but it wakes whoever can fetch one.
    calls_us=True,
    windows={"direct": Window(REPLY_WITHIN_S, MAX_REPLIES)},
    # The platform keeps what the position has not passed.
    acknowledge="stored",
)
