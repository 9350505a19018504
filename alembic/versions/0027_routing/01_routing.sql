-- What a tenant wants of routing: one document, checked by the application. A row of work of the
-- kind `routing` is there while it is switched on.
CREATE TABLE routing_settings (
    tenant_id  uuid PRIMARY KEY REFERENCES tenants (id),
    version    bigint NOT NULL,
    document   jsonb NOT NULL,
    updated_at timestamptz NOT NULL
);

-- What a member says of themselves, and what they may be given. `seen_at` is their last socket;
-- who was given nothing for the longest goes first among equals. No capacity: the tenant's.
CREATE TABLE routing_members (
    member_id   uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    state       text NOT NULL DEFAULT 'offline'
                CHECK (state IN ('online', 'busy', 'away', 'offline')),
    state_at    timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL,
    assigned_at timestamptz,
    capacity    integer,
    skills      jsonb NOT NULL DEFAULT '{}',
    shift       jsonb,
    FOREIGN KEY (tenant_id, member_id) REFERENCES members (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX routing_members_tenant ON routing_members (tenant_id);

-- One wait of a conversation, of the version of its owner; one of another version counts for
-- nothing. `member_id` is who it was handed to, `known_member_id` who answered there last.
CREATE TABLE routing_waits (
    conversation_id uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    owner_version   bigint NOT NULL,
    since           timestamptz NOT NULL,
    priority        smallint NOT NULL DEFAULT 0,
    skill           text,
    member_id       uuid,
    known_member_id uuid,
    told_at         timestamptz,
    told_place      integer,
    told_closed     boolean NOT NULL DEFAULT false,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE
);

-- Who handed a conversation to whom, and with which words; it stands behind `number` of the thread.
CREATE TABLE routing_transfers (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    conversation_id uuid NOT NULL,
    number          bigint NOT NULL,
    from_member_id  uuid,
    by_member_id    uuid NOT NULL,
    to_member_id    uuid,
    skill           text,
    note            text NOT NULL,
    created_at      timestamptz NOT NULL,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE
);
CREATE INDEX routing_transfers_thread ON routing_transfers (conversation_id, id);
CREATE INDEX routing_transfers_tenant ON routing_transfers (tenant_id, id);

-- The warning before a close: the number of its message, and when it was said.
CREATE TABLE routing_warnings (
    conversation_id uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    number          bigint NOT NULL,
    warned_at       timestamptz NOT NULL,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE
);

-- A question how it was, behind a close. Open while there is no score and it has not ended.
CREATE TABLE routing_ratings (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    conversation_id uuid NOT NULL,
    member_id       uuid,
    number          bigint NOT NULL,
    asked_at        timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    score           smallint CHECK (score BETWEEN 1 AND 5),
    scored_at       timestamptz,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE
);
CREATE INDEX routing_ratings_open ON routing_ratings (conversation_id) WHERE score IS NULL;
CREATE INDEX routing_ratings_tenant ON routing_ratings (tenant_id, id);
CREATE INDEX routing_ratings_asked ON routing_ratings (tenant_id, asked_at);

-- Conversations that a member has just ended, until somebody has asked how it was, or need not.
CREATE TABLE routing_endings (
    conversation_id uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    owner_version   bigint NOT NULL,
    member_id       uuid NOT NULL,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE
);
CREATE INDEX routing_endings_tenant ON routing_endings (tenant_id);

-- What a model was asked for a member, and what it took; its words are kept nowhere.
CREATE TABLE assists (
    id                uuid PRIMARY KEY,
    tenant_id         uuid NOT NULL,
    conversation_id   uuid NOT NULL,
    kind              text NOT NULL CHECK (kind IN ('summary', 'suggestions')),
    member_id         uuid,
    provider_id       uuid NOT NULL,
    model             text NOT NULL,
    error_class       text,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    latency_ms        bigint NOT NULL,
    created_at        timestamptz NOT NULL,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE
);
CREATE INDEX assists_tenant ON assists (tenant_id, id);
CREATE INDEX assists_conversation ON assists (conversation_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'routing_settings', 'routing_members', 'routing_waits', 'routing_transfers',
        'routing_warnings', 'routing_ratings', 'routing_endings',
        'assists'
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
