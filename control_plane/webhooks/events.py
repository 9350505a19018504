"""What tenants' systems can be told: public names with stable payloads, made from stream entries.

Payloads hold ids, numbers and states; neither names nor what was said leaves this way. Fields are
named one by one, so that what the stream tells dashboards besides is not given away unseen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control_plane.access.permissions import Permission

TEST = "webhook.test"
DISABLED = "webhook.disabled"


@dataclass(frozen=True, kw_only=True)
class Event:
    """`needs`: whoever subscribes to it must be allowed to see the same in the API."""

    name: str
    says: str
    fields: tuple[str, ...]
    needs: Permission


_MESSAGE = ("conversation_id", "message_id", "number")

EVENTS = {
    event.name: event
    for event in (
        Event(
            name="message.received",
            says="A contact wrote a message.",
            fields=_MESSAGE,
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="message.answered",
            says="The bot or a member wrote a message; its delivery follows.",
            fields=(*_MESSAGE, "author"),
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="message.blocked",
            says="Messages of people on the blacklist were kept away; told in sums.",
            fields=("instance_id", "channel_id", "count", "entry_ids", "first_at", "last_at"),
            needs=Permission.BLACKLIST_READ,
        ),
        Event(
            name="delivery.changed",
            says="A message to a contact was sent, or was not, and why.",
            fields=(*_MESSAGE, "state", "error_class"),
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="conversation.owner_changed",
            says="Somebody else answers now: the bot, a member, or nobody yet.",
            fields=("conversation_id", "owner", "owner_member_id", "owner_version", "reason"),
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="conversation.transferred",
            says="A member handed a conversation to another one, or to whoever has a skill.",
            fields=("conversation_id", "transfer_id", "number", "member_id", "skill"),
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="conversation.rated",
            says="A contact said with a number from 1 to 5 how it was.",
            fields=("conversation_id", "rating_id", "member_id", "score"),
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="turn.ended",
            says="The bot has finished with what a contact wrote.",
            fields=("conversation_id", "turn", "state", "through_number"),
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="asr.started",
            says="Somebody is to write down what a voice message says.",
            fields=(*_MESSAGE, "task_id"),
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="asr.completed",
            says="What a voice message says was written down, or was not, and why.",
            fields=(*_MESSAGE, "task_id", "language", "duration_s", "confidence", "error_class"),
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="media.converted",
            says="There is something to play of a voice that no browser plays, or not, and why.",
            fields=("media_id", "state", "error_class"),
            needs=Permission.CONVERSATIONS_READ,
        ),
        Event(
            name="contact.erased",
            says="What a contact said was erased; erase your copies too.",
            fields=("contact_id",),
            needs=Permission.PRIVACY_READ,
        ),
        Event(
            name="blacklist.changed",
            says="Somebody was put on the blacklist or taken off it.",
            fields=("version", "added", "removed", "entry_id"),
            needs=Permission.BLACKLIST_READ,
        ),
        Event(
            name="instance.changed",
            says="Somebody wants something else of a bot: start, stop, restart, delete.",
            fields=("instance_id", "action", "desired"),
            needs=Permission.INSTANCES_READ,
        ),
        Event(
            name="instance.phase",
            says="A bot has come into another phase, such as running or crash_loop.",
            fields=("instance_id", "phase"),
            needs=Permission.INSTANCES_READ,
        ),
        Event(
            name="channel.changed",
            says="A channel was made, changed or deleted.",
            fields=("channel_id", "action"),
            needs=Permission.CHANNELS_READ,
        ),
        Event(
            name="channel.status",
            says="A channel has come into another state, such as connected, and why; `gap` tells "
            "since when nobody heard it where its platform does not deliver again.",
            fields=("channel_id", "state", "reason", "gap"),
            needs=Permission.CHANNELS_READ,
        ),
        Event(
            name="revision.published",
            says="A configuration was published.",
            fields=("instance_id", "number"),
            needs=Permission.REVISIONS_READ,
        ),
        Event(
            name="config.applied",
            says="A bot runs another revision of its configuration.",
            fields=("instance_id", "revision"),
            needs=Permission.REVISIONS_READ,
        ),
        Event(
            name="config.rejected",
            says="A bot refused a revision and runs on the one before.",
            fields=("instance_id", "revision", "running"),
            needs=Permission.REVISIONS_READ,
        ),
        Event(
            name="member.changed",
            says="A member joined, was changed or was removed.",
            fields=("member_id", "action"),
            needs=Permission.MEMBERS_READ,
        ),
        Event(
            name="tenant.changed",
            says="The tenant has come into another state or plan.",
            fields=("tenant_id", "state", "plan"),
            needs=Permission.TENANT_READ,
        ),
        Event(
            name="quota.changed",
            says="A quota came near its end, is over it, or has room again.",
            fields=("quota", "used", "limit", "state"),
            needs=Permission.TENANT_READ,
        ),
        Event(
            name=DISABLED,
            says="A webhook was switched off because its receiver is gone or keeps failing.",
            fields=("webhook_id", "reason"),
            needs=Permission.WEBHOOKS_READ,
        ),
    )
}


def public(kind: str, data: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The public name and payload of a stream entry; None for what is for dashboards alone."""
    if kind == "message.created":
        author = data["sender"]["kind"]
        kind = "message.received" if author == "contact" else "message.answered"
        data = {**data, "author": author}
    event = EVENTS.get(kind)
    return (kind, {name: data.get(name) for name in event.fields}) if event else None
