-- How texts are compared: full-width and half-width forms, case and white space make no difference.
-- What is behind the first 20,000 characters is not searched.
CREATE FUNCTION search_form(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT left(btrim(regexp_replace(lower(normalize(p_text, NFKC)), '\s+', ' ', 'g')), 20000) $$;

-- What people would look for in a message: its words, and the names of what it carries.
CREATE FUNCTION search_words(p_segments jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$
    SELECT search_form(coalesce(string_agg(w.word, ' ' ORDER BY s.n, w.n), ''))
    FROM jsonb_array_elements(p_segments) WITH ORDINALITY AS s (segment, n), LATERAL (VALUES
        (1, segment ->> 'title'), (2, segment ->> 'text'), (3, segment ->> 'transcript'),
        (4, segment ->> 'name'), (5, segment ->> 'address'), (6, segment ->> 'desc')
    ) AS w (n, word)
    WHERE w.word IS NOT NULL
$$;

-- The pairs of neighbouring characters of a text, as numbers that differ from tenant to tenant: so
-- one tenant's search reads none of another's postings, and the index holds nobody's words.
CREATE FUNCTION search_grams(p_tenant uuid, p_form text) RETURNS integer[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$
    SELECT ARRAY(
        SELECT DISTINCT
            (hashtextextended(this || following, uuid_hash_extended(p_tenant, 0)) >> 32)::integer
        FROM (SELECT string_to_array(p_form COLLATE "C", NULL) AS c) AS characters,
            unnest(c[:cardinality(c) - 1], c[2:]) AS pairs (this, following))
$$;

-- One row per message that was indexed; partitioned as messages are. Pending lists of the index
-- would be read whole by each search, so it has none: it is filled behind ingest, in batches.
CREATE TABLE message_grams (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    conversation_id uuid NOT NULL,
    channel_id      uuid NOT NULL,
    sender_id       uuid,
    grams           integer[] NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX message_grams_grams ON message_grams USING gin (grams) WITH (fastupdate = off);

-- Up to where a tenant's stream was read for it. Its row is the lock between filling and forgetting.
CREATE TABLE search_positions (
    tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
    epoch     bigint NOT NULL DEFAULT 0,
    seq       bigint NOT NULL DEFAULT 0
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['message_grams', 'search_positions'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I TO botyard_app '
            'USING (tenant_id = ANY ((SELECT current_tenants())::uuid[])) '
            'WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO botyard_app', name);
    END LOOP;
    -- What the functions below read, beside the walls; they look for the tenant themselves.
    FOREACH name IN ARRAY ARRAY['message_grams', 'search_positions', 'stream', 'stream_heads'] LOOP
        EXECUTE format('CREATE POLICY search ON %I FOR SELECT TO botyard_search USING (true)', name);
        EXECUTE format('GRANT SELECT ON %I TO botyard_search', name);
    END LOOP;
END $$;

-- The months that messages have already.
DO $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.messages'::regclass
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF message_grams %s',
            replace(part.name, 'messages', 'message_grams'), part.bounds);
    END LOOP;
END $$;

-- One row for the whole installation: whoever leases it fills the index.
INSERT INTO work (kind, key, tenant_id, due_at)
VALUES ('search', '00000000-0000-0000-0000-000000000002',
        '00000000-0000-0000-0000-000000000002', now());
