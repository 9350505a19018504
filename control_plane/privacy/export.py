"""What is in an export. Columns are named one by one: a new one is not given away unseen."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from control_plane.access import trail, view
from control_plane.access.audit_routes import out
from control_plane.access.permissions import Actor
from control_plane.access.trail import Filter
from control_plane.db.session import Database, Scope, driver
from control_plane.kit.errors import NotFound
from control_plane.media.kinds import ending
from control_plane.media.refs import IN_SEGMENTS
from control_plane.media.storage import Storage, key_of
from control_plane.privacy.archive import Files, Rows

# Rows that are in memory at once.
BATCH = 200
FIRST = UUID(int=0)

# A contact with what members wrote down about them.
_WITH_CARD = """
jsonb_build_object('id', c.id, 'channel_id', c.channel_id, 'platform_id', c.platform_id,
    'name', c.name, 'created_at', c.created_at, 'remark', k.remark,
    'fields', coalesce(k.fields, '{}'), 'tags', ARRAY(
        SELECT t.name FROM contact_tags AS l JOIN tags AS t ON t.id = l.tag_id
        WHERE l.contact_id = c.id ORDER BY t.name))
"""
_NOTES = """
SELECT n.id, jsonb_build_object('id', n.id, 'contact_id', n.contact_id,
    'conversation_id', n.conversation_id, 'after_number', n.after_number,
    'author_id', n.author_id, 'author_name', n.author_name, 'text', n.text,
    'created_at', n.created_at, 'edited_at', n.edited_at)::text AS row
FROM notes AS n WHERE n.tenant_id = $1 AND n.id > $2
"""
_TRANSFER = """
jsonb_build_object('id', t.id, 'conversation_id', t.conversation_id, 'number', t.number,
    'from_member_id', t.from_member_id, 'by_member_id', t.by_member_id,
    'to_member_id', t.to_member_id, 'skill', t.skill, 'note', t.note,
    'created_at', t.created_at)::text
"""
_RATING = """
jsonb_build_object('id', t.id, 'conversation_id', t.conversation_id, 'member_id', t.member_id,
    'asked_at', t.asked_at, 'score', t.score, 'scored_at', t.scored_at)::text
"""
# Each takes (tenant, id to go on behind, limit) and gives (id, JSON).
_TENANT_FILES = {
    "members.json": """
        SELECT m.id, jsonb_build_object('id', m.id, 'identity_id', m.identity_id, 'role', m.role,
            'name', m.name, 'email', i.email, 'created_at', m.created_at)::text AS row
        FROM members AS m JOIN identities AS i ON i.id = m.identity_id
        WHERE m.tenant_id = $1 AND m.id > $2 ORDER BY m.id LIMIT $3
    """,
    "instances.json": """
        SELECT id, jsonb_build_object('id', id, 'name', name, 'desired', desired, 'phase', phase,
            'created_at', created_at)::text AS row
        FROM instances WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "channels.json": """
        SELECT id, jsonb_build_object('id', id, 'instance_id', instance_id, 'kind', kind,
            'name', name, 'settings', settings, 'state', state, 'created_at', created_at,
            'deleted_at', deleted_at)::text AS row
        FROM channels WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "revisions.json": """
        SELECT id, jsonb_build_object('id', id, 'instance_id', instance_id, 'number', number,
            'document', document, 'state', state, 'note', note, 'created_at', created_at,
            'published_at', published_at)::text AS row
        FROM revisions WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "answers.json": """
        SELECT id, jsonb_build_object('position', position, 'question', question,
            'answer', answer)::text AS row
        FROM answers WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "webhooks.json": """
        SELECT id, jsonb_build_object('id', id, 'url', url, 'description', description,
            'events', events, 'state', state, 'reason', reason, 'created_at', created_at)::text
            AS row
        FROM webhooks WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "providers.json": """
        SELECT id, jsonb_build_object('id', id, 'name', name, 'kind', kind, 'base_url', base_url,
            'created_at', created_at)::text AS row
        FROM providers WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "blacklist.json": """
        SELECT id, jsonb_build_object('id', id, 'platform_id', platform_id, 'kind', kind,
            'instance_id', instance_id, 'channel_id', channel_id, 'reason', reason,
            'author_id', author_id, 'author_name', author_name, 'hits', hits, 'hit_at', hit_at,
            'expires_at', expires_at, 'created_at', created_at)::text AS row
        FROM blacklist_entries WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "tags.json": """
        SELECT id, jsonb_build_object('id', id, 'name', name, 'colour', colour)::text AS row
        FROM tags WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "raw_messages.json": """
        SELECT message_id AS id, jsonb_build_object('message_id', message_id, 'body', body,
            'received_at', received_at)::text AS row
        FROM raw_messages WHERE tenant_id = $1 AND message_id > $2 ORDER BY message_id LIMIT $3
    """,
    "routing_settings.json": """
        SELECT tenant_id AS id, jsonb_build_object('version', version, 'document', document,
            'updated_at', updated_at)::text AS row
        FROM routing_settings WHERE tenant_id = $1 AND tenant_id > $2 LIMIT $3
    """,
    "routing_members.json": """
        SELECT member_id AS id, jsonb_build_object('member_id', member_id, 'state', state,
            'state_at', state_at, 'seen_at', seen_at, 'capacity', capacity, 'skills', skills,
            'shift', shift)::text AS row
        FROM routing_members WHERE tenant_id = $1 AND member_id > $2 ORDER BY member_id LIMIT $3
    """,
    "transfers.json": f"""
        SELECT t.id, {_TRANSFER} AS row FROM routing_transfers AS t
        WHERE t.tenant_id = $1 AND t.id > $2 ORDER BY t.id LIMIT $3
    """,  # noqa: S608 - our own constant
    "ratings.json": f"""
        SELECT t.id, {_RATING} AS row FROM routing_ratings AS t
        WHERE t.tenant_id = $1 AND t.id > $2 ORDER BY t.id LIMIT $3
    """,  # noqa: S608 - our own constant
    "assists.json": """
        SELECT id, jsonb_build_object('id', id, 'conversation_id', conversation_id, 'kind', kind,
            'member_id', member_id, 'provider_id', provider_id, 'model', model,
            'error_class', error_class, 'prompt_tokens', prompt_tokens,
            'completion_tokens', completion_tokens, 'created_at', created_at)::text AS row
        FROM assists WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "canned_replies.json": """
        SELECT id, jsonb_build_object('id', id, 'member_id', member_id, 'code', code,
            'title', title, 'text', text, 'uses', uses, 'created_at', created_at)::text AS row
        FROM canned_replies WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3
    """,
    "contacts.json": f"""
        SELECT c.id, ({_WITH_CARD})::text AS row
        FROM contacts AS c LEFT JOIN contact_cards AS k ON k.contact_id = c.id
        WHERE c.tenant_id = $1 AND c.id > $2 ORDER BY c.id LIMIT $3
    """,  # noqa: S608 - our own constant
    "notes.json": f"{_NOTES} ORDER BY n.id LIMIT $3",
}
_MEDIA = """
SELECT id, attempt, size, content_type, jsonb_build_object('id', id, 'name', name, 'size', size,
    'content_type', content_type, 'sha256', encode(sha256, 'hex'), 'source', source,
    'source_id', source_id, 'original_id', original_id, 'created_at', created_at)::text AS row
FROM media WHERE tenant_id = $1 AND state = 'stored' AND id > $2 AND ($4::uuid[] IS NULL
    OR id = ANY ($4) OR original_id = ANY ($4))
ORDER BY id LIMIT $3
"""
_MEDIA_OF = f"""
SELECT DISTINCT {IN_SEGMENTS.format(column="segments")} AS id FROM messages
WHERE conversation_id = $1 AND ($2::uuid IS NULL OR sender_id = $2)
"""  # noqa: S608 - our own constant
_TENANT = """
SELECT jsonb_build_object('id', id, 'name', name, 'state', state, 'created_at', created_at)::text
FROM tenants WHERE id = $1
"""
_CONTACT = f"""
SELECT ({_WITH_CARD})::text
FROM contacts AS c LEFT JOIN contact_cards AS k ON k.contact_id = c.id WHERE c.id = $1
"""  # noqa: S608 - our own constant
# Of groups, what members wrote there is about others as well.
_NOTES_OF = f"""
{_NOTES} AND n.contact_id = $4 AND (n.conversation_id IS NULL OR EXISTS (
    SELECT FROM conversations AS c WHERE c.id = n.conversation_id AND c.key_type = 'direct'))
ORDER BY n.id LIMIT $3
"""
_LISTED = """
SELECT e.id, jsonb_build_object('id', e.id, 'platform_id', e.platform_id, 'kind', e.kind,
    'instance_id', e.instance_id, 'channel_id', e.channel_id, 'reason', e.reason, 'hits', e.hits,
    'hit_at', e.hit_at, 'expires_at', e.expires_at, 'created_at', e.created_at)::text AS row
FROM contacts AS c JOIN channels AS h ON h.id = c.channel_id
JOIN blacklist_entries AS e ON e.tenant_id = c.tenant_id AND e.platform_id = c.platform_id
    AND e.kind IN ('', h.kind)
WHERE c.tenant_id = $1 AND e.id > $2 AND c.id = $4 ORDER BY e.id LIMIT $3
"""
# Of a contact ($4): what belongs to their own conversations.
_OF_CONTACT = """
SELECT t.id, {shown} AS row FROM conversations AS c JOIN {table} AS t ON t.conversation_id = c.id
WHERE c.tenant_id = $1 AND t.id > $2 AND c.key_type = 'direct' AND c.contact_id = $4
ORDER BY t.id LIMIT $3
"""
_TRANSFERS_OF = _OF_CONTACT.format(shown=_TRANSFER, table="routing_transfers")
_RATINGS_OF = _OF_CONTACT.format(shown=_RATING, table="routing_ratings")
_SENT = """
SELECT r.message_id AS id, jsonb_build_object('message_id', r.message_id, 'body', r.body,
    'received_at', r.received_at)::text AS row
FROM raw_messages AS r JOIN messages AS m ON m.id = r.message_id AND m.tenant_id = r.tenant_id
WHERE r.tenant_id = $1 AND r.message_id > $2 AND m.sender_id = $4 ORDER BY r.message_id LIMIT $3
"""
# Of a contact ($4): their own conversations, and the groups of their channel where they spoke.
CONVERSATIONS = """
SELECT c.id, c.key_type = 'direct' AND c.contact_id = $4 AS own,
    jsonb_build_object('id', c.id, 'instance_id', c.instance_id, 'channel_id', c.channel_id,
        'contact_id', c.contact_id, 'key_type', c.key_type, 'owner', c.owner,
        'last_number', c.last_number, 'created_at', c.created_at, 'tags', ARRAY(
            SELECT t.name FROM conversation_tags AS l JOIN tags AS t ON t.id = l.tag_id
            WHERE l.conversation_id = c.id ORDER BY t.name))::text AS row
FROM conversations AS c
WHERE c.tenant_id = $1 AND c.id > $2 AND ($4::uuid IS NULL
    OR (c.key_type = 'direct' AND c.contact_id = $4)
    OR (c.key_type <> 'direct' AND EXISTS (
        SELECT FROM messages AS m WHERE m.conversation_id = c.id AND m.sender_id = $4)))
ORDER BY c.id LIMIT $3
"""
_MESSAGES = """
SELECT number, jsonb_build_object('id', id, 'conversation_id', conversation_id, 'number', number,
    'sender_kind', sender_kind, 'sender_id', sender_id, 'sender_name', sender_name,
    'segments', segments, 'occurred_at', occurred_at)::text AS row
FROM messages
WHERE conversation_id = $1 AND number > $2 AND ($4::uuid IS NULL OR sender_id = $4)
ORDER BY number LIMIT $3
"""


def of_tenant(database: Database, tenant_id: UUID) -> Mapping[str, Rows]:
    """Everything about a tenant but its secrets."""
    files: dict[str, Rows] = {"tenant.json": _one(database, tenant_id, _TENANT, tenant_id)}
    for name, query in _TENANT_FILES.items():
        files[name] = _texts(_pages(database, tenant_id, query))
    files["conversations.json"] = _texts(_conversations(database, tenant_id, None))
    files["messages.json"] = _messages(database, tenant_id, None)
    files["media.json"] = _texts(_media(database, tenant_id, None))
    files["audit.json"] = _audit(database, tenant_id)
    return files


def of_contact(database: Database, tenant_id: UUID, contact_id: UUID) -> Mapping[str, Rows]:
    """Everything about one contact; of groups only what they said themselves."""
    return {
        "contact.json": _one(database, tenant_id, _CONTACT, contact_id),
        "conversations.json": _texts(_conversations(database, tenant_id, contact_id)),
        "messages.json": _messages(database, tenant_id, contact_id),
        "media.json": _texts(_media(database, tenant_id, contact_id)),
        "blacklist.json": _texts(_pages(database, tenant_id, _LISTED, contact_id)),
        "notes.json": _texts(_pages(database, tenant_id, _NOTES_OF, contact_id)),
        "transfers.json": _texts(_pages(database, tenant_id, _TRANSFERS_OF, contact_id)),
        "ratings.json": _texts(_pages(database, tenant_id, _RATINGS_OF, contact_id)),
        "raw_messages.json": _texts(_pages(database, tenant_id, _SENT, contact_id)),
    }


def as_seen_by(actor: Actor, files: Mapping[str, Rows]) -> Mapping[str, Rows]:
    """The same files; numbers are masked for who may export but not see them."""
    if not actor.masked:
        return files
    return {name: _masked(rows) for name, rows in files.items()}


async def _masked(files: Rows) -> Rows:
    async for rows in files:
        yield [json.dumps(view.shown(json.loads(row), masked=True)) for row in rows]


async def media_files(
    database: Database, storage: Storage, tenant_id: UUID, contact_id: UUID | None
) -> Files:
    """The stored bytes, in the folder media; what is missing in the storage is left out."""
    async for page in _media(database, tenant_id, contact_id):
        for row in page:
            key = key_of(tenant_id, row["id"], row["attempt"])
            try:
                pieces = await storage.get(key, 0, row["size"])
            except NotFound:
                continue
            yield f"media/{row['id']}{ending(row['content_type'])}", pieces


async def _one(database: Database, tenant_id: UUID, query: str, key: UUID) -> Rows:
    async with database.session(Scope(tenants=(tenant_id,))) as session:
        row = await (await driver(session)).fetchval(query, key)
    if row is not None:
        yield [row]


async def _texts(pages: AsyncIterator[Sequence[Any]]) -> Rows:
    async for page in pages:
        yield [row["row"] for row in page]


async def _pages(
    database: Database, tenant_id: UUID, query: str, *more: object
) -> AsyncIterator[Sequence[Any]]:
    after = FIRST
    while True:
        async with database.session(Scope(tenants=(tenant_id,))) as session:
            rows = await (await driver(session)).fetch(query, tenant_id, after, BATCH, *more)
        if not rows:
            return
        yield rows
        after = rows[-1]["id"]


def _conversations(
    database: Database, tenant_id: UUID, contact_id: UUID | None
) -> AsyncIterator[Sequence[Any]]:
    return _pages(database, tenant_id, CONVERSATIONS, contact_id)


async def _messages(database: Database, tenant_id: UUID, contact_id: UUID | None) -> Rows:
    async for page in _conversations(database, tenant_id, contact_id):
        for conversation in page:
            sender = None if contact_id is None or conversation["own"] else contact_id
            number = 0
            while True:
                async with database.session(Scope(tenants=(tenant_id,))) as session:
                    rows = await (await driver(session)).fetch(
                        _MESSAGES, conversation["id"], number, BATCH, sender
                    )
                if not rows:
                    break
                yield [row["row"] for row in rows]
                number = rows[-1]["number"]


async def _media(
    database: Database, tenant_id: UUID, contact_id: UUID | None
) -> AsyncIterator[Sequence[Any]]:
    """Everything stored, or what is in a contact's messages, conversation by conversation."""
    if contact_id is None:
        async for page in _pages(database, tenant_id, _MEDIA, None):
            yield page
        return
    seen: set[UUID] = set()
    async for conversations in _conversations(database, tenant_id, contact_id):
        for conversation in conversations:
            sender = None if conversation["own"] else contact_id
            async with database.session(Scope(tenants=(tenant_id,))) as session:
                rows = await (await driver(session)).fetch(_MEDIA_OF, conversation["id"], sender)
            ids = [media_id for row in rows if (media_id := UUID(row["id"])) not in seen]
            seen.update(ids)
            async for page in _pages(database, tenant_id, _MEDIA, ids):
                yield page


async def _audit(database: Database, tenant_id: UUID) -> Rows:
    async for entries in trail.everything(database, tenant_id, Filter()):
        yield [out(entry).model_dump_json() for entry in entries]
