"""Vectors of Standard Webhooks."""

from typing import Any

from adapters import standard_webhooks
from adapters.standard_webhooks import SignatureError


def _sign(given: dict[str, Any], expect: dict[str, Any]) -> bool:
    headers = standard_webhooks.sign(
        given["secret"],
        message_id=given["id"],
        timestamp=int(given["timestamp"]),
        body=given["body"].encode(),
    )
    return bool(headers[standard_webhooks.SIGNATURE] == expect["signature"])


def _signed_content(given: dict[str, Any], expect: dict[str, Any]) -> bool:
    content = standard_webhooks.signed_content(
        given["id"], str(given["timestamp"]), given["body"].encode()
    )
    return bool(content == expect["content"].encode())


def _verify(given: dict[str, Any], expect: dict[str, Any]) -> bool:
    headers = {name.lower(): value for name, value in given["headers"].items()}
    stamp = headers.get(standard_webhooks.TIMESTAMP, "0")
    now = given.get("now", int(stamp) if stamp.isdigit() else 0)
    secrets = given.get("secrets") or [given["secret"]]
    try:
        standard_webhooks.verify(secrets, headers, given["body"].encode(), now=now)
    except SignatureError:
        return not expect["accept"]
    return bool(expect["accept"])


RUNS = {"sign": _sign, "signed_content": _signed_content, "verify": _verify, "reject": _verify}
