DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['message_counts', 'roles', 'invitations', 'support_grants'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I TO botyard_app '
            'USING (tenant_id = ANY ((SELECT current_tenants())::uuid[])) '
            'WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO botyard_app', name);
    END LOOP;
END $$;

-- People see what their own role may do before the transaction speaks for a tenant.
CREATE POLICY own ON roles FOR SELECT TO botyard_app
    USING (id IN (SELECT role_id FROM members WHERE identity_id = (SELECT current_identity())));

ALTER TABLE plans ENABLE ROW LEVEL SECURITY;
ALTER TABLE plans FORCE ROW LEVEL SECURITY;
CREATE POLICY everybody ON plans FOR SELECT TO botyard_app USING (true);
CREATE POLICY operator ON plans TO botyard_app
    USING ((SELECT speaks_as_operator())) WITH CHECK ((SELECT speaks_as_operator()));
GRANT SELECT, INSERT, UPDATE ON plans TO botyard_app;
