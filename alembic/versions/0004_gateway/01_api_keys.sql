-- One kind more, whatever the kinds are by now.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT * FROM (VALUES ('credentials', 'kind', 'api_key'), ('audit', 'actor_kind', 'key'))
            AS added (of_table, of_column, value)
        JOIN LATERAL (
            SELECT conname AS name, pg_get_constraintdef(oid) AS was FROM pg_constraint
            WHERE conrelid = of_table::regclass
                AND conname = format('%s_%s_check', of_table, of_column)
        ) AS found ON true
    LOOP
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', one.of_table, one.name);
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I CHECK (%s OR %I = %L)', one.of_table,
            one.name, substr(one.was, length('CHECK ') + 1), one.of_column, one.value);
    END LOOP;
END $$;

-- What a tenant sees of its keys. The secret's SHA-256 is in credentials, under the same id.
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants (id),
    name         text NOT NULL,
    prefix       text NOT NULL,
    scopes       text[] NOT NULL,
    signed       boolean NOT NULL DEFAULT false,
    created_by   uuid NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    UNIQUE (tenant_id, id)
);
CREATE INDEX api_keys_tenant ON api_keys (tenant_id, id);

-- Ids of signed requests, kept longer than their signatures are valid: a repeat is refused.
CREATE TABLE signed_requests (
    key_id     uuid NOT NULL,
    message_id text NOT NULL,
    tenant_id  uuid NOT NULL,
    seen_at    timestamptz NOT NULL,
    PRIMARY KEY (key_id, message_id),
    FOREIGN KEY (tenant_id, key_id) REFERENCES api_keys (tenant_id, id)
);
CREATE INDEX signed_requests_age ON signed_requests (key_id, seen_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['api_keys', 'signed_requests'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I TO botyard_app '
            'USING (tenant_id = ANY ((SELECT current_tenants())::uuid[])) '
            'WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO botyard_app', name);
    END LOOP;
END $$;
