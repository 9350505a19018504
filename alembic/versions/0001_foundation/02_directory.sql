-- Outside row-level security, a closed list: keys and ids only, no content.
CREATE TABLE identities (
    id            uuid PRIMARY KEY,
    email         text NOT NULL,
    password_hash text NOT NULL,
    operator      boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX identities_email ON identities (lower(email));

-- Opaque secrets: looked up by their SHA-256, or sealed where we must be able to use them.
CREATE TABLE credentials (
    id          uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('refresh', 'bootstrap', 'webhook')),
    sha256      bytea UNIQUE,
    sealed      bytea,
    tenant_id   uuid,
    identity_id uuid REFERENCES identities (id) ON DELETE CASCADE,
    instance_id uuid,
    family_id   uuid,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz,
    used_at     timestamptz,
    revoked_at  timestamptz
);
CREATE INDEX credentials_family ON credentials (family_id) WHERE family_id IS NOT NULL;
CREATE INDEX credentials_instance ON credentials (instance_id, kind) WHERE instance_id IS NOT NULL;
CREATE INDEX credentials_expiry ON credentials (expires_at);

-- A public token, by its SHA-256, and the channel that it means.
CREATE TABLE routes (
    sha256      bytea PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('callback', 'platform')),
    tenant_id   uuid NOT NULL,
    instance_id uuid NOT NULL,
    channel_id  uuid NOT NULL
);
CREATE INDEX routes_channel ON routes (channel_id);

-- Rows that are not right yet. `version` counts the calls to look, so that one which comes while
-- the row is leased is not lost when the lease is released.
CREATE TABLE work (
    kind       text NOT NULL,
    key        uuid NOT NULL,
    tenant_id  uuid NOT NULL,
    cell       text NOT NULL DEFAULT '',
    due_at     timestamptz NOT NULL,
    version    bigint NOT NULL DEFAULT 1,
    attempts   integer NOT NULL DEFAULT 0,
    owner      text,
    token      uuid,
    expires_at timestamptz,
    PRIMARY KEY (kind, key)
);
CREATE INDEX work_due ON work (kind, tenant_id, due_at);
-- Whoever leases this row is the leader: timed upkeep runs there. It belongs to no tenant.
INSERT INTO work (kind, key, tenant_id, due_at)
VALUES ('leader', '00000000-0000-0000-0000-000000000001',
        '00000000-0000-0000-0000-000000000001', now());
