"""The one statement that stores a group's new messages; PostgreSQL keeps its plan.

A round trip costs more than most of what is done in one. So everything is in one statement, whose
parts hand rows to each other; rows of a part are locked in one order, and the parts in the order
of `control_plane.db.leases`: a part that nothing else orders counts the one before it.

Rows that were given and rows that came of them are joined in full: all match, and the planner,
which knows nothing of a group's size, cannot choose to compare all with all.
"""

from control_plane.conversations.service import TURN
from control_plane.db.leases import CALL_AGAIN
from control_plane.db.session import SPEAKING
from control_plane.stream.log import APPENDING
from control_plane.tenants.quota import COUNTING

# A channel has to be its instance's, whoever else is in the group.
_OWN = """(
        SELECT true FROM channels AS c
        WHERE c.id = g.channel_id AND c.tenant_id = g.tenant_id AND c.instance_id = g.instance_id
          AND c.deleted_at IS NULL
    ) AS own"""
_RECEIVED = """received_now AS (
    INSERT INTO received (channel_id, event_id, tenant_id, sha256, received_at)
    SELECT channel_id, event_id, tenant_id, decode(sha256, 'base64'), received_at
    FROM given WHERE own ORDER BY channel_id, event_id
    ON CONFLICT DO NOTHING RETURNING event_id
)"""
# Which of the arrivals $1 are new: those are taken for good. `strange` are of no channel of their
# instance; what is in neither was there before.
CLAIM = f"""
WITH given AS MATERIALIZED (
    SELECT g.*, ordinality AS n, {_OWN}
    FROM ROWS FROM (jsonb_to_recordset($1::jsonb) AS (
        tenant_id uuid, instance_id uuid, channel_id uuid, event_id uuid, sha256 text,
        received_at timestamptz)) WITH ORDINALITY AS g
), {_RECEIVED}
SELECT ARRAY(SELECT n FROM given WHERE own IS NULL) AS strange,
    ARRAY(SELECT n FROM given JOIN received_now USING (event_id) WHERE own ORDER BY n) AS stored
"""  # noqa: S608 - our own constants

# $1 is the new arrivals, with their places: `place` of `among` in their conversation, `nth` of
# their tenant, and whether they are the `last` of their sender.
_STORE = """
given AS MATERIALIZED (
    SELECT g.*{own}
    FROM {speaking}jsonb_to_recordset($1::jsonb) AS g (
        tenant_id uuid, instance_id uuid, channel_id uuid, event_id uuid, sha256 text,
        received_at timestamptz, occurred_at timestamptz, contact_id uuid, conversation_id uuid,
        message_id uuid, entry_id uuid, sender text, name text, key_type text, key text,
        reply_handle jsonb, preview text, segments jsonb, platform_id text, trace text,
        media jsonb, place integer, among integer, nth integer, last boolean){heard}
), {received}contact AS (
    INSERT INTO contacts (id, tenant_id, channel_id, platform_id, name, created_at, seen_at)
    SELECT contact_id, tenant_id, channel_id, sender, name, received_at, received_at
    FROM given WHERE last{behind_received} ORDER BY channel_id, sender
    ON CONFLICT (channel_id, platform_id) DO UPDATE
    SET name = coalesce(excluded.name, contacts.name), seen_at = excluded.seen_at
    RETURNING id, channel_id, platform_id
), known AS (
    SELECT g.*, k.id AS sender_id FROM given AS g FULL JOIN contact AS k
        ON k.channel_id = g.channel_id AND k.platform_id = g.sender
), conversation AS (
    -- A closed conversation opens again, with the bot.
    INSERT INTO conversations AS c (id, tenant_id, instance_id, channel_id, contact_id, key_type,
        key, last_number, heard_number, reply_handle, preview, last_message_at, created_at, trace)
    SELECT conversation_id, tenant_id, instance_id, channel_id, sender_id, key_type,
        key, among, among, reply_handle, preview, received_at, received_at,
        decode(trace, 'base64')
    FROM known WHERE place >= among ORDER BY channel_id, key_type, key
    ON CONFLICT (channel_id, key_type, key) DO UPDATE
    SET last_number = c.last_number + excluded.last_number,
        heard_number = c.last_number + excluded.last_number,
        reply_handle = excluded.reply_handle,
        preview = excluded.preview,
        trace = excluded.trace,
        last_message_at = greatest(c.last_message_at, excluded.last_message_at),
        owner_version = c.owner_version + CASE WHEN c.owner = 'closed' THEN 1 ELSE 0 END,
        turned_number = CASE WHEN c.owner = 'closed' THEN c.last_number ELSE c.turned_number END,
        owner = CASE WHEN c.owner = 'closed' THEN 'bot' ELSE c.owner END
    RETURNING id, tenant_id, channel_id, key_type, key, last_number, owner, owner_version
), placed AS MATERIALIZED (
    SELECT k.*, c.id AS conversation, c.last_number - k.among + k.place AS number,
        c.owner, c.owner_version
    FROM known AS k FULL JOIN conversation AS c
        ON c.channel_id = k.channel_id AND c.key = k.key AND c.key_type = k.key_type
), stored AS (
    INSERT INTO messages (id, tenant_id, conversation_id, number, sender_kind, sender_id,
        sender_name, segments, platform_id, occurred_at, created_at, trace)
    SELECT message_id, tenant_id, conversation, number, 'contact', sender_id,
        name, segments, platform_id, occurred_at, received_at, decode(trace, 'base64')
    FROM placed
){used}, turn AS (
    INSERT INTO work (kind, key, tenant_id, due_at)
    SELECT '{turn}', id, tenant_id, now() FROM conversation
    WHERE owner = 'bot'{behind_used} ORDER BY tenant_id, id
    {again}
    RETURNING 1
), entry AS (
    SELECT entry_id AS id, tenant_id, nth AS n, 'message.created' AS type, jsonb_build_object(
            'conversation_id', conversation, 'message_id', message_id, 'number', number,
            'sender', jsonb_build_object('kind', 'contact', 'name', name),
            'owner', owner, 'owner_version', owner_version) AS data
    FROM placed
)"""
_USED = """, used AS (
    -- What messages speak of stays.
    UPDATE media AS m SET expires_at = NULL FROM (
        SELECT id FROM media WHERE state = 'stored' AND expires_at IS NOT NULL
          AND id = ANY (ARRAY(SELECT jsonb_array_elements_text(media)::uuid FROM placed))
        ORDER BY id FOR UPDATE
    ) AS named WHERE m.id = named.id RETURNING 1
)"""
_TOGETHER = _STORE.format(
    own="",
    speaking="",
    heard="",
    received="",
    behind_received="",
    used=_USED,
    behind_used=" AND (SELECT count(*) FROM used) >= 0",
    turn=TURN,
    again=CALL_AGAIN,
)
# The messages of a group that has more to say to the same tenants' streams.
STORE = f"""
WITH {_TOGETHER}
SELECT (SELECT count(*) FROM turn) AS turns,
    ARRAY(SELECT tenant_id FROM entry ORDER BY tenant_id, n) AS tenants,
    ARRAY(SELECT data::text FROM entry ORDER BY tenant_id, n) AS entries
"""  # noqa: S608 - our own constants

# Or the statement refuses itself, before it goes on.
_ALL_NEW = """SELECT CASE WHEN count(*) < (SELECT count(*) FROM given) THEN refuse() END IS NULL
        FROM received_now"""
_ALONE = _STORE.format(
    own=f", {_OWN}",
    speaking="speaking, ",
    heard=" WHERE heard IS NOT NULL",
    received=f"{_RECEIVED}, ",
    behind_received=f" AND ({_ALL_NEW})",
    used="",
    behind_used="",
    turn=TURN,
    again=CALL_AGAIN,
)
# A group of nothing but messages without media, whole, as a transaction of its own. $2 is the
# tenants for whom it speaks, $3 to $5 how many messages of each tenant came in which month. It
# refuses itself where it alone would not do: unless all arrivals are new, when somebody's quota is
# to be looked at, and when a tenant has no stream.
STORE_ALONE = f"""
WITH speaking AS MATERIALIZED ({SPEAKING.format(tenants="$2")}), {_ALONE}, arrived AS (
    SELECT * FROM unnest($3::uuid[], $4::integer[], $5::bigint[]) AS a (tenant_id, month, n)
    WHERE (SELECT count(*) FROM turn) >= 0
), {COUNTING}, grown AS (
    SELECT tenant_id, sum(n)::bigint AS n FROM arrived
    WHERE (SELECT count(*) FROM counted) > 0 GROUP BY tenant_id
), {APPENDING}
SELECT (SELECT count(*) FROM turn) AS turns, (SELECT count(*) FROM called) AS called,
    (SELECT count(before) FROM heads) AS heads,
    CASE WHEN EXISTS (SELECT FROM counted WHERE look)
        OR EXISTS (SELECT FROM heads WHERE before IS NULL) THEN refuse() END
"""  # noqa: S608 - our own constants
