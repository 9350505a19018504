-- Every tenant table: forced, one policy for the application, by the transaction's tenants.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'members', 'audit', 'idempotency', 'instances', 'agent_sessions', 'timeline', 'channels',
        'callbacks', 'revisions', 'config_states', 'contacts', 'conversations', 'messages',
        'received', 'batches', 'turns', 'turn_steps', 'answers', 'deliveries', 'attempts',
        'stream_heads', 'stream', 'webchat_visitors', 'webchat_messages'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I TO botyard_app '
            'USING (tenant_id = ANY ((SELECT current_tenants())::uuid[])) '
            'WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO botyard_app', name);
    END LOOP;
END $$;

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenants TO botyard_app
    USING (id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE ON tenants TO botyard_app;

-- Operators see and steer tenants and instances, never what was said.
CREATE POLICY operator ON tenants TO botyard_app
    USING ((SELECT speaks_as_operator())) WITH CHECK ((SELECT speaks_as_operator()));
CREATE POLICY operator ON instances FOR SELECT TO botyard_app
    USING ((SELECT speaks_as_operator()));

-- People see their own memberships, and the names of those tenants, before they chose one.
CREATE POLICY own ON members FOR SELECT TO botyard_app
    USING (identity_id = (SELECT current_identity()));
CREATE POLICY own ON tenants FOR SELECT TO botyard_app
    USING (id IN (SELECT tenant_id FROM members WHERE identity_id = (SELECT current_identity())));

-- The audit only grows.
REVOKE UPDATE, DELETE ON audit FROM botyard_app;

GRANT SELECT, INSERT, UPDATE, DELETE ON identities, credentials, routes, work TO botyard_app;

-- Upkeep may only forget what was kept to recognise repeats.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['received', 'batches', 'idempotency'] LOOP
        EXECUTE format('CREATE POLICY upkeep ON %I TO botyard_upkeep USING (true)', name);
        EXECUTE format('GRANT SELECT, DELETE ON %I TO botyard_upkeep', name);
    END LOOP;
END $$;

CREATE POLICY search ON answers FOR SELECT TO botyard_search USING (true);
GRANT SELECT ON answers TO botyard_search;
