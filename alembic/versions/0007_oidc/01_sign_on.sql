-- How the people of a tenant sign in through their company's own provider.
CREATE TABLE sign_ons (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL UNIQUE REFERENCES tenants (id),
    issuer        text NOT NULL,
    client_id     text NOT NULL,
    client_secret bytea NOT NULL,
    domains       text[] NOT NULL,
    first_sign_on text NOT NULL CHECK (first_sign_on IN ('invited', 'member', 'viewer')),
    required      boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);

-- Whom a provider means by a subject: in that tenant alone, and one subject for each person. The
-- row outlives the membership, so that somebody who was removed does not come back by themselves.
CREATE TABLE sign_on_links (
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    issuer      text NOT NULL,
    subject     text NOT NULL,
    identity_id uuid NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, issuer, subject),
    UNIQUE (tenant_id, issuer, identity_id)
);
CREATE INDEX sign_on_links_identity ON sign_on_links (identity_id);

-- Made by a tenant's provider: that tenant's alone. Its e-mail address is what the provider said,
-- so it must not take that address from the person who really has it.
ALTER TABLE identities ADD COLUMN sign_on_tenant_id uuid;
DROP INDEX identities_email;
CREATE UNIQUE INDEX identities_email ON identities (lower(email)) WHERE sign_on_tenant_id IS NULL;

-- Of a refresh token: the tenant whose provider vouched, and the only one that it is good for.
ALTER TABLE credentials ADD COLUMN sign_on_tenant_id uuid;
CREATE INDEX credentials_sign_on ON credentials (sign_on_tenant_id)
    WHERE sign_on_tenant_id IS NOT NULL;

-- One kind more, whatever the kinds are by now: the state of a sign-on that was used.
DO $$
DECLARE
    was text;
BEGIN
    SELECT substr(pg_get_constraintdef(oid), length('CHECK ') + 1) INTO was
    FROM pg_constraint
    WHERE conrelid = 'credentials'::regclass AND conname = 'credentials_kind_check';
    ALTER TABLE credentials DROP CONSTRAINT credentials_kind_check;
    EXECUTE format('ALTER TABLE credentials ADD CONSTRAINT credentials_kind_check '
        'CHECK (%s OR kind = ''sign_on'')', was);
END $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sign_ons', 'sign_on_links'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I TO botyard_app '
            'USING (tenant_id = ANY ((SELECT current_tenants())::uuid[])) '
            'WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO botyard_app', name);
    END LOOP;
END $$;
