-- One stored object each; its bytes are outside, under <tenant_id>/<id>.<attempt>. Every upload
-- writes an object of its own, and the first one to commit is the one that counts.
CREATE TABLE media (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants (id),
    state        text NOT NULL CHECK (state IN ('pending', 'stored', 'gone')),
    size         bigint NOT NULL CHECK (size > 0),
    name         text NOT NULL,
    source       text NOT NULL CHECK (source IN ('agent', 'member', 'visitor')),
    source_id    uuid NOT NULL,
    -- What an agent called its request: a repeat gets the same reservation.
    request_id   text,
    attempt      uuid,
    sha256       bytea,
    content_type text,
    created_at   timestamptz NOT NULL,
    -- When it goes by itself: not uploaded by then, or in no message. NULL once a message uses it.
    expires_at   timestamptz,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, source_id, request_id),
    CHECK (state <> 'stored' OR (attempt IS NOT NULL AND sha256 IS NOT NULL
        AND content_type IS NOT NULL))
);
-- Summed for each reservation, from the index alone.
CREATE INDEX media_quota ON media (tenant_id) INCLUDE (size);
CREATE INDEX media_expiry ON media (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX media_gone ON media (tenant_id, id) WHERE state = 'gone';

ALTER TABLE media ENABLE ROW LEVEL SECURITY;
ALTER TABLE media FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON media TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON media TO botyard_app;
