"""A message whose media are in our own store, with the names that their senders gave them."""

from msgspec.structs import replace

from adapters.arrivals import Arrivals
from adapters.model import File, Image, Inbound, Reply, Segment, Video
from adapters.wecom_aibot.client import Client


async def stored(message: Inbound, arrivals: Arrivals, client: Client) -> Inbound:
    """Raises NotAccepted while they are on the way."""
    segments = [await _stored(each, arrivals, client) for each in message.segments]
    return replace(message, segments=segments)


async def _stored(segment: Segment, arrivals: Arrivals, client: Client) -> Segment:
    match segment:
        case Reply():
            quoted = [await _stored(each, arrivals, client) for each in segment.quoted]
            return replace(segment, quoted=quoted)
        case Image() | Video() | File():
            url = segment.ref.id
            found = await arrivals.stored(segment)
            # Messages name no file; its own address does.
            name = client.name(url)
            return replace(found, name=name) if name else found
        case _:
            return segment
