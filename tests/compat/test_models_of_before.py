"""Models asked between today's programs and those of earlier schema versions."""

from collections.abc import AsyncIterator

import msgspec

from control_plane.instances.inferred import inferred
from instance_agent.protocol import InferRequest
from tests.compat.recorded import VERSIONS, Recorded

# Version 1 knew no models.
ASKING = [Recorded(version) for version in VERSIONS if version >= 2]


async def test_what_an_agent_of_before_streamed_is_read_whole() -> None:
    for recorded in ASKING:
        streamed = recorded.named("infer")["answer"].encode()

        async def pieces(whole: bytes = streamed) -> AsyncIterator[bytes]:
            for start in range(0, len(whole), 7):
                yield whole[start : start + 7]

        read = await inferred(pieces())
        assert read.text == "我们九点开门。"
        assert read.usage.completion_tokens == 3


def test_what_a_control_plane_of_before_asks_is_understood() -> None:
    for recorded in ASKING:
        said = recorded.named("infer")["body"]
        asked = msgspec.convert(said, InferRequest, strict=False)
        again = msgspec.to_builtins(asked)
        assert {name: again[name] for name in said} == said
