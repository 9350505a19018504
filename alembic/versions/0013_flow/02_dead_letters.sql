-- Events that were signed well and could not be stored: as they came, until replayed or aged.
CREATE TABLE rejected_events (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    instance_id uuid NOT NULL,
    event_id    uuid NOT NULL,
    type        text NOT NULL,
    reason      text NOT NULL,
    body        bytea NOT NULL,
    received_at timestamptz NOT NULL,
    UNIQUE (instance_id, event_id),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances (tenant_id, id)
);
CREATE INDEX rejected_events_age ON rejected_events (tenant_id, id);

ALTER TABLE rejected_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE rejected_events FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON rejected_events TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON rejected_events TO botyard_app;

-- When an operator had it passed on once more: from then on its age counts anew.
ALTER TABLE callbacks ADD COLUMN replayed_at timestamptz;
