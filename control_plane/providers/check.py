"""Trying a provider: it is asked what it is, never a question of anybody's."""

from datetime import timedelta

from adapters.outbound import Outbound, OutboundError

# Asked of these, every account that may ask a model gets an answer, and it costs nothing.
_PATHS = {"openai": "/models", "dify": "/parameters"}
_WITHIN = timedelta(seconds=10)
# Some providers list thousands of models.
_MAX_BYTES = 4 * 1024 * 1024


async def check(outbound: Outbound, kind: str, base_url: str, key: str | None) -> tuple[bool, str]:
    """Whether it works, and what to tell people; what it answered is shown to nobody."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    try:
        answer = await outbound.send(
            "GET",
            base_url.rstrip("/") + _PATHS[kind],
            headers=headers,
            within=_WITHIN,
            max_bytes=_MAX_BYTES,
        )
    except OutboundError as error:
        return False, str(error)
    return answer.status == 200, _said(answer.status)


def _said(status: int) -> str:
    match status:
        case 200:
            return "The provider knows the key and answers."
        case 401 | 403:
            return "The provider does not take the key."
        case 404:
            return "There is no such provider at this address."
        case 429:
            return "The provider answers that there were too many calls, or that the money is gone."
        case _:
            return f"The provider answered {status}."
