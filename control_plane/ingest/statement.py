"""The one statement that stores a group's messages; PostgreSQL keeps its plan.

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

# $1 is the arrivals, each event once. A channel has to be its instance's, whoever else is in the
# group; `first` comes before anything is written.
_STORE = """
given AS MATERIALIZED (
    SELECT g.*, ordinality AS n, (
        SELECT true FROM channels AS c
        WHERE c.id = g.channel_id AND c.tenant_id = g.tenant_id AND c.instance_id = g.instance_id
          AND c.deleted_at IS NULL
    ) AS own
    FROM {speaking}ROWS FROM (jsonb_to_recordset($1::jsonb) AS (
        tenant_id uuid, instance_id uuid, channel_id uuid, event_id uuid, sha256 text,
        received_at timestamptz, occurred_at timestamptz, month integer, contact_id uuid,
        conversation_id uuid, message_id uuid, entry_id uuid, sender text, name text,
        key_type text, key text, reply_handle jsonb, preview text, segments jsonb,
        platform_id text, trace text, media jsonb)) WITH ORDINALITY AS g{heard}
), received_now AS (
    INSERT INTO received (channel_id, event_id, tenant_id, sha256, received_at)
    SELECT channel_id, event_id, tenant_id, decode(sha256, 'base64'), received_at
    FROM given WHERE own AND {first} ORDER BY channel_id, event_id
    ON CONFLICT DO NOTHING RETURNING event_id
), fresh AS MATERIALIZED (
    SELECT g.*, row_number() OVER in_it AS place, count(*) OVER in_it AS among
    FROM given AS g JOIN received_now USING (event_id) WHERE own
    WINDOW in_it AS (PARTITION BY channel_id, key_type, key ORDER BY n
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
), contact AS (
    INSERT INTO contacts (id, tenant_id, channel_id, platform_id, name, created_at, seen_at)
    SELECT DISTINCT ON (channel_id, sender)
        contact_id, tenant_id, channel_id, sender, name, received_at, received_at
    FROM fresh ORDER BY channel_id, sender, n DESC
    ON CONFLICT (channel_id, platform_id) DO UPDATE
    SET name = coalesce(excluded.name, contacts.name), seen_at = excluded.seen_at
    RETURNING id, channel_id, platform_id
), known AS (
    SELECT f.*, k.id AS sender_id FROM fresh AS f FULL JOIN contact AS k
        ON k.channel_id = f.channel_id AND k.platform_id = f.sender
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
    FROM placed ORDER BY n
){used}, turn AS (
    INSERT INTO work (kind, key, tenant_id, due_at)
    SELECT '{turn}', id, tenant_id, now() FROM conversation
    WHERE owner = 'bot'{behind_used} ORDER BY tenant_id, id
    {again}
    RETURNING 1
), entry AS (
    SELECT entry_id AS id, tenant_id, row_number() OVER (PARTITION BY tenant_id ORDER BY n) AS n,
        'message.created' AS type, jsonb_build_object(
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
# `strange` are of no channel of their instance; what is not `stored` either was there before.
_OUTCOME = """
ARRAY(SELECT n FROM given WHERE own IS NULL) AS strange, ARRAY(SELECT n FROM fresh) AS stored,
(SELECT count(*) FROM turn) AS turns
"""

_TOGETHER = _STORE.format(
    speaking="",
    heard="",
    first="true",
    used=_USED,
    behind_used=" AND (SELECT count(*) FROM used) >= 0",
    turn=TURN,
    again=CALL_AGAIN,
)
# The messages of a group that has more to say to the same tenants' streams.
STORE = f"""
WITH {_TOGETHER}
SELECT {_OUTCOME}, ARRAY(SELECT tenant_id FROM entry ORDER BY tenant_id, n) AS tenants,
    ARRAY(SELECT data::text FROM entry ORDER BY tenant_id, n) AS entries
"""  # noqa: S608 - our own constants

_ALONE = _STORE.format(
    speaking="speaking, ",
    heard=" WHERE heard IS NOT NULL",
    first="(SELECT count(*) FROM batch) > 0",
    used="",
    behind_used="",
    turn=TURN,
    again=CALL_AGAIN,
)
# A group of nothing but messages without media, whole, as a transaction of its own. $2 is its
# batches, $3 the tenants for whom it speaks. It refuses itself where it alone would not do: with a
# webhook id that came with another body before, when somebody comes near or over a quota, and when
# a tenant has no stream.
STORE_ALONE = f"""
WITH speaking AS MATERIALIZED ({SPEAKING.format(tenants="$3")}), posted AS MATERIALIZED (
    SELECT p.* FROM speaking, jsonb_to_recordset($2::jsonb) AS p (
        instance_id uuid, webhook_id text, tenant_id uuid, sha256 text, received_at timestamptz)
    WHERE heard IS NOT NULL
), batch AS (
    INSERT INTO batches (instance_id, webhook_id, tenant_id, sha256, received_at)
    SELECT instance_id, webhook_id, tenant_id, decode(sha256, 'base64'), received_at FROM posted
    ORDER BY instance_id, webhook_id
    ON CONFLICT (instance_id, webhook_id) DO UPDATE SET received_at = batches.received_at
    RETURNING instance_id, webhook_id, sha256
), {_ALONE}, arrived AS (
    SELECT tenant_id, month, count(*) AS n FROM placed
    WHERE (SELECT count(*) FROM turn) >= 0 GROUP BY tenant_id, month
), {COUNTING}, grown AS (
    SELECT tenant_id, sum(n)::bigint AS n FROM arrived
    WHERE (SELECT count(*) FROM counted) > 0 GROUP BY tenant_id
), {APPENDING}
SELECT {_OUTCOME},
    (SELECT count(*) FROM called) AS called, (SELECT count(before) FROM heads) AS heads,
    CASE WHEN EXISTS (SELECT FROM level)
      OR EXISTS (SELECT FROM heads WHERE before IS NULL) OR EXISTS (
        SELECT FROM posted AS p JOIN batch AS b USING (webhook_id)
        WHERE b.instance_id = p.instance_id AND b.sha256 <> decode(p.sha256, 'base64')
    ) THEN refuse() END
"""  # noqa: S608 - our own constants
