-- Who runs models, and with which key of the tenant's they are asked; the key is sealed.
CREATE TABLE providers (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants (id),
    name       text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('openai', 'dify')),
    base_url   text NOT NULL,
    api_key    bytea,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (tenant_id, id)
);
CREATE INDEX providers_tenant ON providers (tenant_id, id);

-- What a provider that remembers calls a conversation of ours.
CREATE TABLE provider_conversations (
    conversation_id uuid NOT NULL,
    provider_id     uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    external_id     text NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (conversation_id, provider_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id),
    FOREIGN KEY (tenant_id, provider_id) REFERENCES providers (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX provider_conversations_provider ON provider_conversations (tenant_id, provider_id);

ALTER TABLE providers ENABLE ROW LEVEL SECURITY;
ALTER TABLE providers FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON providers TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON providers TO botyard_app;

ALTER TABLE provider_conversations ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_conversations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON provider_conversations TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON provider_conversations TO botyard_app;
