"""A send as the agent makes it: what nobody sees, and then the attempt."""

from adapters.base import Adapter, Outgoing, Sent


async def send(adapter: Adapter, part: Outgoing) -> Sent:
    return await (await adapter.prepare(part))()
