-- The version of a tenant's list: milliseconds of the clock, and always more than before, so that a
-- restored database never gives a number twice. What was removed up to `floor` is forgotten.
CREATE TABLE blacklists (
    tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
    version   bigint NOT NULL,
    floor     bigint NOT NULL DEFAULT 0
);

-- Who is not heard. `kind` is empty for all kinds of channels; without an instance it is for all of
-- the tenant's. `version` is the list's at the last change. `hits` are messages kept away.
CREATE TABLE blacklist_entries (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    platform_id text NOT NULL,
    kind        text NOT NULL,
    instance_id uuid,
    channel_id  uuid,
    reason      text,
    author_id   uuid NOT NULL,
    author_name text NOT NULL,
    version     bigint NOT NULL,
    hits        bigint NOT NULL DEFAULT 0,
    hit_at      timestamptz,
    expires_at  timestamptz,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    CONSTRAINT blacklist_entries_once
        UNIQUE NULLS NOT DISTINCT (tenant_id, platform_id, kind, instance_id, channel_id),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances (tenant_id, id),
    FOREIGN KEY (tenant_id, channel_id) REFERENCES channels (tenant_id, id)
);
CREATE INDEX blacklist_entries_tenant ON blacklist_entries (tenant_id, id);
CREATE INDEX blacklist_entries_version ON blacklist_entries (tenant_id, version);
CREATE INDEX blacklist_entries_expiry ON blacklist_entries (tenant_id, expires_at)
    WHERE expires_at IS NOT NULL;

-- What agents have to be told to forget: ids alone.
CREATE TABLE blacklist_removals (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    version   bigint NOT NULL,
    entry_id  uuid NOT NULL,
    PRIMARY KEY (tenant_id, version, entry_id)
);

ALTER TABLE blacklists ENABLE ROW LEVEL SECURITY;
ALTER TABLE blacklists FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON blacklists TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON blacklists TO botyard_app;

ALTER TABLE blacklist_entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE blacklist_entries FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON blacklist_entries TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON blacklist_entries TO botyard_app;

ALTER TABLE blacklist_removals ENABLE ROW LEVEL SECURITY;
ALTER TABLE blacklist_removals FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON blacklist_removals TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON blacklist_removals TO botyard_app;
