"""Vectors of WeCom customer service: a row as its codec reads it, in the vectors' words."""

from typing import Any

import msgspec

from adapters.model import Inbound, Rejected
from adapters.wecom_kf import codec
from adapters.wecom_kf.codec import Echo

Fields = dict[str, Any]


def normalized(given: Fields) -> Fields:
    """The row of a `kf_sync_item`."""
    decoded = codec.decode(msgspec.json.encode(given["item"]))
    if isinstance(decoded, Rejected):
        return {"kind": "dropped", "reason": decoded.reason}
    built: Fields = msgspec.to_builtins(decoded)
    if isinstance(decoded, Echo):
        return built | {"kind": "echo"}
    more = {"timestamp": decoded.occurred_at}
    if isinstance(decoded, Inbound):
        # Left out where it is as usual.
        return built | more | {"kind": "message", "mentions_bot": decoded.mentions_bot}
    if decoded.welcome_code:
        more["welcome_deadline_s"] = codec.WELCOME_WITHIN_S
    return built | more | {"kind": "notice", "sender": {"id": decoded.sender_id}}
