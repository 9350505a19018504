CREATE TABLE tenants (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    state      text NOT NULL DEFAULT 'pending'
               CHECK (state IN ('pending', 'rejected', 'active', 'suspended', 'deleting', 'deleted')),
    reason     text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE members (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    identity_id uuid NOT NULL REFERENCES identities (id),
    role        text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    name        text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, identity_id)
);
CREATE INDEX members_identity ON members (identity_id);

CREATE TABLE audit (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    at          timestamptz NOT NULL,
    actor_kind  text NOT NULL CHECK (actor_kind IN ('person', 'operator', 'system')),
    actor_id    uuid,
    action      text NOT NULL,
    target_kind text NOT NULL,
    target_id   uuid,
    before      jsonb,
    after       jsonb
);
CREATE INDEX audit_tenant ON audit (tenant_id, id);

-- The first answer to a POST, kept for its repeat.
CREATE TABLE idempotency (
    tenant_id      uuid NOT NULL,
    actor_id       uuid NOT NULL,
    key            text NOT NULL,
    request_sha256 bytea NOT NULL,
    status         integer,
    body           bytea,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, actor_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE instances (
    id                  uuid PRIMARY KEY,
    tenant_id           uuid NOT NULL REFERENCES tenants (id),
    name                text NOT NULL,
    cell                text NOT NULL DEFAULT '',
    desired             text NOT NULL DEFAULT 'running'
                        CHECK (desired IN ('running', 'stopped', 'deleted')),
    generation          bigint NOT NULL DEFAULT 1,
    observed_generation bigint NOT NULL DEFAULT 0,
    phase               text NOT NULL DEFAULT 'pending',
    conditions          jsonb NOT NULL DEFAULT '[]',
    starts              jsonb NOT NULL DEFAULT '{}',
    session_epoch       bigint NOT NULL DEFAULT 0,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    UNIQUE (tenant_id, id)
);

CREATE TABLE agent_sessions (
    id             uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL,
    instance_id    uuid NOT NULL,
    generation     bigint NOT NULL,
    state          text NOT NULL CHECK (state IN ('standby', 'active', 'draining', 'ended')),
    epoch          bigint,
    endpoint       text NOT NULL,
    api_token      bytea NOT NULL,
    journal_id     uuid NOT NULL,
    version        text NOT NULL,
    schema_version integer NOT NULL,
    health         jsonb NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL,
    seen_at        timestamptz NOT NULL,
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances (tenant_id, id)
);
CREATE UNIQUE INDEX agent_sessions_active ON agent_sessions (instance_id) WHERE state = 'active';
CREATE INDEX agent_sessions_instance ON agent_sessions (instance_id, id);

CREATE TABLE timeline (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    instance_id uuid NOT NULL,
    at          timestamptz NOT NULL,
    type        text NOT NULL,
    message     text NOT NULL,
    data        jsonb NOT NULL DEFAULT '{}',
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances (tenant_id, id)
);
CREATE INDEX timeline_instance ON timeline (instance_id, id);

CREATE TABLE channels (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    instance_id  uuid NOT NULL,
    kind         text NOT NULL,
    name         text NOT NULL,
    settings     jsonb NOT NULL DEFAULT '{}',
    secrets      bytea NOT NULL,
    public_token text NOT NULL,
    state        text NOT NULL DEFAULT 'connecting'
                 CHECK (state IN ('connecting', 'connected', 'failed', 'stopped')),
    state_reason text,
    proof_at     timestamptz,
    checkpoint   text,
    created_at   timestamptz NOT NULL,
    deleted_at   timestamptz,
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances (tenant_id, id)
);
CREATE INDEX channels_instance ON channels (instance_id, id);

-- A platform's call that waits for its agent.
CREATE TABLE callbacks (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    channel_id  uuid NOT NULL,
    method      text NOT NULL,
    path        text NOT NULL,
    query       text NOT NULL,
    headers     jsonb NOT NULL,
    body        bytea NOT NULL,
    received_at timestamptz NOT NULL,
    dead_reason text,
    FOREIGN KEY (tenant_id, channel_id) REFERENCES channels (tenant_id, id)
);
CREATE INDEX callbacks_waiting ON callbacks (channel_id, id) WHERE dead_reason IS NULL;

CREATE TABLE revisions (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    instance_id  uuid NOT NULL,
    number       integer NOT NULL,
    document     jsonb NOT NULL,
    state        text NOT NULL CHECK (state IN ('draft', 'published')),
    note         text NOT NULL DEFAULT '',
    reverts      integer,
    created_by   uuid,
    created_at   timestamptz NOT NULL,
    published_at timestamptz,
    UNIQUE (tenant_id, id),
    UNIQUE (instance_id, number),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances (tenant_id, id)
);

-- Where an instance stands: revision numbers, and the digests of what was compiled from them and
-- the channels of that moment; never rewritten but by what really happened.
CREATE TABLE config_states (
    instance_id      uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL,
    desired          integer NOT NULL DEFAULT 0,
    delivered        integer,
    delivered_sha256 text,
    applied          integer,
    applied_sha256   text,
    last_good        integer,
    rejected         integer,
    rejected_sha256  text,
    errors           jsonb NOT NULL DEFAULT '[]',
    pending_restart  boolean NOT NULL DEFAULT false,
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances (tenant_id, id)
);
