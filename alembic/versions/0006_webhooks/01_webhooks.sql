-- Addresses that a tenant wants to be told at, each with its place in the tenant's stream: what is
-- behind (epoch, seq) has not been looked at yet.
CREATE TABLE webhooks (
    id               uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL REFERENCES tenants (id),
    url              text NOT NULL,
    description      text NOT NULL DEFAULT '',
    events           text[] NOT NULL,
    state            text NOT NULL DEFAULT 'enabled' CHECK (state IN ('enabled', 'disabled')),
    reason           text,
    secret           bytea NOT NULL,
    old_secret       bytea,
    old_secret_until timestamptz,
    epoch            bigint NOT NULL,
    seq              bigint NOT NULL,
    failing_since    timestamptz,
    rest_until       timestamptz,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    UNIQUE (tenant_id, id)
);
CREATE INDEX webhooks_tenant ON webhooks (tenant_id, id);

-- One per endpoint and stream entry. Without a reference to the endpoint: what an endpoint that is
-- gone was told is removed by age, not while somebody waits for the removal.
CREATE TABLE webhook_messages (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    webhook_id  uuid NOT NULL,
    epoch       bigint NOT NULL,
    seq         bigint NOT NULL,
    type        text NOT NULL,
    body        text NOT NULL,
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'dead')),
    attempts    integer NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL,
    ended_at    timestamptz,
    last_status integer,
    last_error  text,
    created_at  timestamptz NOT NULL,
    UNIQUE (webhook_id, epoch, seq)
);
CREATE INDEX webhook_messages_due ON webhook_messages (webhook_id, due_at, epoch, seq)
    WHERE state = 'pending';
CREATE INDEX webhook_messages_list ON webhook_messages (webhook_id, id);
CREATE INDEX webhook_messages_ended ON webhook_messages (state, ended_at)
    WHERE ended_at IS NOT NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['webhooks', 'webhook_messages'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I TO botyard_app '
            'USING (tenant_id = ANY ((SELECT current_tenants())::uuid[])) '
            'WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO botyard_app', name);
    END LOOP;
END $$;

CREATE POLICY upkeep ON webhook_messages TO botyard_upkeep USING (true);
GRANT SELECT, DELETE ON webhook_messages TO botyard_upkeep;
GRANT CREATE ON SCHEMA public TO botyard_upkeep;

-- Removes at most `p_limit` messages of each end that are older than they need to be kept.
CREATE FUNCTION prune_webhook_messages(p_sent timestamptz, p_dead timestamptz, p_limit integer)
RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    WITH old AS (
        (SELECT id FROM webhook_messages WHERE state = 'sent' AND ended_at < p_sent
         ORDER BY ended_at LIMIT p_limit)
        UNION ALL
        (SELECT id FROM webhook_messages WHERE state = 'dead' AND ended_at < p_dead
         ORDER BY ended_at LIMIT p_limit)
    ), gone AS (
        -- One that is replayed at this moment has no end any more.
        DELETE FROM webhook_messages AS m USING old
        WHERE m.id = old.id AND m.ended_at IS NOT NULL RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
ALTER FUNCTION prune_webhook_messages(timestamptz, timestamptz, integer) OWNER TO botyard_upkeep;
REVOKE ALL ON FUNCTION prune_webhook_messages(timestamptz, timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_webhook_messages(timestamptz, timestamptz, integer) TO botyard_app;

REVOKE CREATE ON SCHEMA public FROM botyard_upkeep;
