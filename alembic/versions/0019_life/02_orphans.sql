-- What was found where agents run and no row wants: the platform's own, for operators alone.
CREATE TABLE orphans (
    id             uuid PRIMARY KEY,
    cell           text NOT NULL,
    instance_id    uuid,
    tenant_id      uuid,
    ref            text,
    state          text NOT NULL DEFAULT 'reported'
                   CHECK (state IN ('reported', 'quarantined', 'removed')),
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    quarantined_at timestamptz,
    CHECK (instance_id IS NOT NULL OR tenant_id IS NOT NULL)
);
CREATE UNIQUE INDEX orphans_thing ON orphans (cell, coalesce(instance_id, tenant_id));
ALTER TABLE orphans ENABLE ROW LEVEL SECURITY;
ALTER TABLE orphans FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON orphans TO botyard_app
    USING ((SELECT speaks_as_operator())) WITH CHECK ((SELECT speaks_as_operator()));
GRANT SELECT, INSERT, UPDATE, DELETE ON orphans TO botyard_app;
