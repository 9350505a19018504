ALTER TABLE audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_heads TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
-- Only the functions below move a head: who can add rows still cannot choose their place.
GRANT SELECT ON audit_heads TO botyard_app;

CREATE POLICY upkeep ON audit TO botyard_upkeep USING (true);
GRANT SELECT, DELETE ON audit TO botyard_upkeep;
CREATE POLICY upkeep ON audit_heads TO botyard_upkeep USING (true);
GRANT SELECT, INSERT, UPDATE ON audit_heads TO botyard_upkeep;
