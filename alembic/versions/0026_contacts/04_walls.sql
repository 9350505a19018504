DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'contact_cards', 'tags', 'contact_tags', 'conversation_tags', 'notes', 'note_mentions',
        'read_marks', 'canned_replies'
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
