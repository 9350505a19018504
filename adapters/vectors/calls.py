"""A platform's call as the vectors of WeCom write it."""

from typing import Any
from urllib.parse import urlencode

from adapters.model import RawCallback


def request_of(given: dict[str, Any]) -> RawCallback:
    """The call; one without a body is a check of the address."""
    return RawCallback(
        method="POST" if "body" in given else "GET",
        path="/",
        query=urlencode(given["query"]),
        headers={},
        body=given.get("body", "").encode(),
        received_at=now_of(given),
    )


def now_of(given: dict[str, Any]) -> float:
    """When it arrived, in Unix seconds: at its own time where nothing else is said."""
    return float(given.get("now", given["query"]["timestamp"]))
