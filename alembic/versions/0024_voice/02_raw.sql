-- What a platform sent of a message that we cannot carry whole, without secrets, for support.
CREATE TABLE raw_messages (
    message_id  uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    body        text NOT NULL,
    received_at timestamptz NOT NULL
);
CREATE INDEX raw_messages_age ON raw_messages (tenant_id, message_id);

ALTER TABLE raw_messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE raw_messages FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON raw_messages TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON raw_messages TO botyard_app;

ALTER TABLE channels ADD COLUMN keep_raw boolean NOT NULL DEFAULT true;
