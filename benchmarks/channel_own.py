"""What a kind of channel costs an agent: our half of the channels' figures.

`python -m benchmarks.channel_own` is a process that has loaded what every agent has, and then loads
one kind; the question comes over stdin, so that nothing of the kind is there before. A further kind
is a function in `READ`.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec import Struct

from adapters.model import CallbackAnswer, RawCallback, Rejected

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(Struct, frozen=True, kw_only=True):
    """One message of a kind as its platform sends it, and the settings of who it is for.

    `more` is what comes by another way: a frame of a connection, or a row that was pulled.
    """

    kind: str
    settings: dict[str, Any]
    request: RawCallback
    more: str = ""


class Grown(Struct, frozen=True, kw_only=True):
    """MiB, and the modules of Python's own that were there before."""

    mib: float
    modules: list[str]


def wecom(settings: Any, sample: Sample) -> object:
    from adapters.wecom import codec
    from adapters.wecom.callback import unseal

    opened = _taken(unseal(sample.request, settings, now=sample.request.received_at))
    return codec.decode(opened.message)


def wecom_kf(settings: Any, sample: Sample) -> object:
    from adapters.wecom_kf import codec

    wecom(settings, sample)
    return codec.decode(sample.more.encode())


def wecom_aibot(settings: Any, sample: Sample) -> object:
    from adapters.wecom_aibot import codec, messages

    frame = _taken(codec.frame(sample.more))
    at = sample.request.received_at
    return messages.decode(frame.body, at=at, bot_id=settings.bot_id, req_id=frame.req_id)


def feishu(settings: Any, sample: Sample) -> object:
    from adapters.feishu import codec
    from adapters.feishu.callback import unseal

    opened = _taken(unseal(sample.request, settings, now=sample.request.received_at))
    decoded = codec.decode(opened.message, app_id=settings.app_id, bot_open_id="ou_bot")
    assert isinstance(decoded, codec.Said)
    return decoded.message


def dingtalk(_: Any, sample: Sample) -> object:
    from adapters.dingtalk import codec, frames

    frame = frames.read(sample.more)
    assert frame is not None
    said = codec.decode(frame.data)
    assert isinstance(said, codec.Said)
    assert frames.answer(frame)
    return said.message


def qq(settings: Any, sample: Sample) -> object:
    from adapters.qq.callback import opened
    from adapters.qq.codec import decode

    key, now = _qq_key(settings.secret.get_secret_value()), sample.request.received_at
    return decode(_taken(opened(sample.request, settings, now=now, public_key=key)))


@cache
def _qq_key(secret: str) -> Callable[[], bytes]:
    """As the adapter keeps it."""
    from adapters.qq import signing

    return cache(partial(signing.public_key, secret))


def http(settings: Any, sample: Sample) -> object:
    from adapters.http import codec
    from adapters.http.callback import verify

    _taken(verify(sample.request, settings, now=sample.request.received_at))
    return codec.decode(sample.request.body, received_at=sample.request.received_at)


READ: dict[str, Callable[[Any, Sample], object]] = {
    "wecom": wecom,
    "wecom_kf": wecom_kf,
    "wecom_aibot": wecom_aibot,
    "feishu": feishu,
    "dingtalk": dingtalk,
    "qq": qq,
    "http": http,
}


def _taken(found: Any) -> Any:
    assert not isinstance(found, Rejected | CallbackAnswer), found
    return found


async def _grown(sample: Sample) -> Grown:
    """By loading the kind, making one adapter, and reading one message."""
    from adapters.outbound import Door, networks
    from adapters.registry import kind
    from instance_agent import process
    from instance_agent.client import platform_client

    assert process
    async with platform_client(Door(networks(""))) as client:
        nowhere = SimpleNamespace(http=client, media=None, control=None, dial=None)
        modules = sorted(
            name for name in sys.modules if name.partition(".")[0] in sys.stdlib_module_names
        )
        before = _resident()
        found = kind(sample.kind)
        settings = found.settings().model_validate(sample.settings)
        found.verify(sample.request, settings, now=sample.request.received_at)
        kept = found.adapter()(settings, nowhere)
        READ[sample.kind](settings, sample)
        after = _resident()
        del kept
    return Grown(mib=(after - before) / 2**20, modules=modules)


def _resident() -> int:
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - loads nothing
        return int(file.read().split()[1]) * _PAGE


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Sample)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_grown(asked))))
