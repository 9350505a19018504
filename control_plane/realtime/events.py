"""Who may see which entry of the stream; an entry of an unknown type is sent to nobody."""

from control_plane.access.permissions import Permission

SEEN_WITH: dict[str, Permission] = {
    "api_key.created": Permission.API_KEYS_READ,
    "api_key.revoked": Permission.API_KEYS_READ,
    "asr.completed": Permission.CONVERSATIONS_READ,
    "asr.started": Permission.CONVERSATIONS_READ,
    "blacklist.changed": Permission.BLACKLIST_READ,
    "channel.changed": Permission.CHANNELS_READ,
    "channel.status": Permission.CHANNELS_READ,
    "canned_reply.changed": Permission.CONVERSATIONS_READ,
    "config.applied": Permission.REVISIONS_READ,
    "config.rejected": Permission.REVISIONS_READ,
    "contact.changed": Permission.CONVERSATIONS_READ,
    "contact.erased": Permission.CONVERSATIONS_READ,
    "conversation.owner_changed": Permission.CONVERSATIONS_READ,
    "conversation.seen": Permission.CONVERSATIONS_READ,
    "conversation.tags_changed": Permission.CONVERSATIONS_READ,
    "conversation.rated": Permission.CONVERSATIONS_READ,
    "conversation.transferred": Permission.CONVERSATIONS_READ,
    "delivery.changed": Permission.CONVERSATIONS_READ,
    "instance.changed": Permission.INSTANCES_READ,
    "instance.conditions": Permission.INSTANCES_READ,
    "instance.phase": Permission.INSTANCES_READ,
    "invitation.changed": Permission.MEMBERS_READ,
    "media.converted": Permission.CONVERSATIONS_READ,
    "member.changed": Permission.MEMBERS_READ,
    "message.blocked": Permission.BLACKLIST_READ,
    "message.created": Permission.CONVERSATIONS_READ,
    "note.changed": Permission.CONVERSATIONS_READ,
    "provider.changed": Permission.PROVIDERS_READ,
    "quota.changed": Permission.TENANT_READ,
    "revision.published": Permission.REVISIONS_READ,
    "role.changed": Permission.MEMBERS_READ,
    "routing.changed": Permission.ROUTING_READ,
    "routing.member_changed": Permission.ROUTING_READ,
    "sign_on.changed": Permission.SIGN_ON_READ,
    "support.changed": Permission.TENANT_READ,
    "tag.changed": Permission.CONVERSATIONS_READ,
    "tenant.changed": Permission.TENANT_READ,
    "turn.ended": Permission.CONVERSATIONS_READ,
    "webhook.changed": Permission.WEBHOOKS_READ,
    "webhook.disabled": Permission.WEBHOOKS_READ,
    "turn.suggested": Permission.CONVERSATIONS_READ,
}

# What says nothing lasting; a frame of its own kind, without a position.
FLEETING: dict[str, Permission] = {
    "answering": Permission.CONVERSATIONS_READ,
    "presence": Permission.MEMBERS_READ,
    "typing": Permission.CONVERSATIONS_READ,
    "viewing": Permission.CONVERSATIONS_READ,
}

# After these, some who listen may no longer see what they saw.
ABOUT_STANDING = frozenset({"member.changed", "role.changed", "tenant.changed"})
