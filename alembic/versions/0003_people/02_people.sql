CREATE TABLE roles (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    name        text NOT NULL,
    permissions text[] NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, name)
);

ALTER TABLE members DROP CONSTRAINT members_role_check;
ALTER TABLE members ADD CONSTRAINT members_role_check
    CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'custom'));
ALTER TABLE members ADD COLUMN role_id uuid;
ALTER TABLE members ADD CONSTRAINT members_role_id_check
    CHECK ((role = 'custom') = (role_id IS NOT NULL));
ALTER TABLE members ADD FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id);
CREATE INDEX members_role ON members (role_id) WHERE role_id IS NOT NULL;

-- What an invitation promises; its secret is the credential of the same id. It goes with the
-- member who made it and with the role that it gives.
CREATE TABLE invitations (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants (id),
    email        text NOT NULL,
    role         text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'custom')),
    role_id      uuid,
    invited_by   uuid NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    accepted_at  timestamptz,
    UNIQUE (tenant_id, id),
    CHECK ((role = 'custom') = (role_id IS NOT NULL)),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, invited_by) REFERENCES members (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX invitations_tenant ON invitations (tenant_id, id);

-- An operator's leave to look into a tenant for a while; the tenant sees it and can end it.
CREATE TABLE support_grants (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    operator_id uuid NOT NULL,
    operator    text NOT NULL,
    reason      text NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz,
    ended_at    timestamptz,
    UNIQUE (tenant_id, id)
);
CREATE INDEX support_grants_tenant ON support_grants (tenant_id, id);

-- One more kind of credential, whichever there are by now.
DO $$
DECLARE
    kinds text;
BEGIN
    SELECT string_agg(quote_literal(kind.words[1]), ', ') INTO kinds
    FROM pg_constraint AS k, regexp_matches(pg_get_constraintdef(k.oid), '''([^'']+)''', 'g') AS kind (words)
    WHERE k.conname = 'credentials_kind_check';
    ALTER TABLE credentials DROP CONSTRAINT credentials_kind_check;
    EXECUTE format('ALTER TABLE credentials ADD CONSTRAINT credentials_kind_check '
        'CHECK (kind IN (%s, ''invitation''))', kinds);
END $$;
