CREATE TABLE contacts (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    channel_id  uuid NOT NULL,
    platform_id text NOT NULL,
    name        text,
    created_at  timestamptz NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (channel_id, platform_id),
    FOREIGN KEY (tenant_id, channel_id) REFERENCES channels (tenant_id, id)
);

CREATE TABLE conversations (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    instance_id     uuid NOT NULL,
    channel_id      uuid NOT NULL,
    contact_id      uuid NOT NULL,
    key_type        text NOT NULL,
    key             text NOT NULL,
    owner           text NOT NULL DEFAULT 'bot'
                    CHECK (owner IN ('bot', 'waiting', 'human', 'closed')),
    owner_member_id uuid,
    owner_version   bigint NOT NULL DEFAULT 1,
    waiting_reason  text,
    last_number     bigint NOT NULL DEFAULT 0,
    heard_number    bigint NOT NULL DEFAULT 0,
    turned_number   bigint NOT NULL DEFAULT 0,
    last_turn       bigint NOT NULL DEFAULT 0,
    reply_handle    jsonb NOT NULL DEFAULT '{}',
    preview         text NOT NULL DEFAULT '',
    last_message_at timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (channel_id, key_type, key),
    FOREIGN KEY (tenant_id, channel_id) REFERENCES channels (tenant_id, id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id),
    FOREIGN KEY (tenant_id, owner_member_id) REFERENCES members (tenant_id, id)
);
CREATE INDEX conversations_recent ON conversations (tenant_id, last_message_at DESC, id DESC);

-- Range-partitioned by id (UUIDv7, so by time): `id` alone is the key and cost stays flat.
-- (conversation_id, number) is guarded by the conversation's row lock.
CREATE TABLE messages (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    conversation_id uuid NOT NULL,
    number          bigint NOT NULL,
    sender_kind     text NOT NULL CHECK (sender_kind IN ('contact', 'bot', 'human', 'system')),
    sender_id       uuid,
    sender_name     text,
    segments        jsonb NOT NULL,
    platform_id     text,
    occurred_at     timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
) PARTITION BY RANGE (id);
CREATE INDEX messages_thread ON messages (conversation_id, number);

-- What was taken already: kept longer than any platform redelivers.
CREATE TABLE received (
    channel_id  uuid NOT NULL,
    event_id    uuid NOT NULL,
    tenant_id   uuid NOT NULL,
    sha256      bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (channel_id, event_id)
) PARTITION BY HASH (channel_id);
CREATE TABLE received_0 PARTITION OF received FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE received_1 PARTITION OF received FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE received_2 PARTITION OF received FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE received_3 PARTITION OF received FOR VALUES WITH (MODULUS 4, REMAINDER 3);
CREATE INDEX received_age ON received (received_at);

-- One signed batch, so that the same webhook id with another body is told apart from a repeat.
CREATE TABLE batches (
    instance_id uuid NOT NULL,
    webhook_id  text NOT NULL,
    tenant_id   uuid NOT NULL,
    sha256      bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (instance_id, webhook_id)
);
CREATE INDEX batches_age ON batches (received_at);

CREATE TABLE turns (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    conversation_id uuid NOT NULL,
    number          bigint NOT NULL,
    from_number     bigint NOT NULL,
    through_number  bigint NOT NULL,
    owner_version   bigint NOT NULL,
    state           text NOT NULL CHECK (state IN ('running', 'answered', 'handed_over', 'dropped')),
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    UNIQUE (tenant_id, id),
    UNIQUE (conversation_id, number),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
);

CREATE TABLE turn_steps (
    turn_id    uuid NOT NULL,
    step       text NOT NULL,
    tenant_id  uuid NOT NULL,
    result     jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (turn_id, step),
    FOREIGN KEY (tenant_id, turn_id) REFERENCES turns (tenant_id, id)
);

-- The question-and-answer list; `grams` are the pairs of neighbouring sounds of the question.
CREATE TABLE answers (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants (id),
    position   integer NOT NULL,
    question   text NOT NULL,
    answer     text NOT NULL,
    grams      text[] NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (tenant_id, position)
);
CREATE INDEX answers_grams ON answers USING gin (tenant_id, grams);

-- An outgoing message; its order in the conversation is the message's number. The state derives
-- from the attempts; only withholding and a person's decision touch it otherwise.
CREATE TABLE deliveries (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    conversation_id uuid NOT NULL,
    instance_id     uuid NOT NULL,
    channel_id      uuid NOT NULL,
    message_id      uuid NOT NULL UNIQUE,
    number          bigint NOT NULL,
    author_kind     text NOT NULL CHECK (author_kind IN ('bot', 'human', 'system')),
    author_name     text NOT NULL DEFAULT '',
    key_type        text NOT NULL,
    key             text NOT NULL,
    reply_handle    jsonb NOT NULL,
    segments        jsonb NOT NULL,
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN
                    ('queued', 'sending', 'sent', 'failed', 'expired', 'withheld', 'unconfirmed')),
    error_class     text,
    attempts        integer NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (conversation_id, number),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
);
CREATE INDEX deliveries_lane ON deliveries (conversation_id, number)
    WHERE state IN ('queued', 'sending');

CREATE TABLE attempts (
    id          uuid NOT NULL,
    tenant_id   uuid NOT NULL,
    delivery_id uuid NOT NULL,
    number      integer NOT NULL,
    journal_id  uuid NOT NULL,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    outcome     text CHECK (outcome IN ('sent', 'failed', 'unknown')),
    parts       jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (id),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES deliveries (tenant_id, id)
) PARTITION BY RANGE (id);
CREATE INDEX attempts_delivery ON attempts (delivery_id, number);

-- Each tenant's append-only stream; `seq` is assigned in the transaction that makes the change.
CREATE TABLE stream_heads (
    tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
    epoch     bigint NOT NULL DEFAULT 1,
    seq       bigint NOT NULL DEFAULT 0
);
CREATE TABLE stream (
    id         uuid NOT NULL,
    tenant_id  uuid NOT NULL,
    epoch      bigint NOT NULL,
    seq        bigint NOT NULL,
    type       text NOT NULL,
    data       jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX stream_position ON stream (tenant_id, epoch, seq);

-- Our own chat platform: what it was given and what it showed, per visitor.
CREATE TABLE webchat_visitors (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL,
    channel_id    uuid NOT NULL,
    secret_sha256 bytea NOT NULL,
    last_seq      bigint NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (channel_id, secret_sha256),
    FOREIGN KEY (tenant_id, channel_id) REFERENCES channels (tenant_id, id)
);
CREATE TABLE webchat_messages (
    id           uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    visitor_id   uuid NOT NULL,
    seq          bigint NOT NULL,
    key          text NOT NULL,
    sender_kind  text NOT NULL,
    sender_name  text NOT NULL DEFAULT '',
    segments     jsonb NOT NULL,
    at           timestamptz NOT NULL,
    UNIQUE (visitor_id, key),
    UNIQUE (visitor_id, seq),
    FOREIGN KEY (tenant_id, visitor_id) REFERENCES webchat_visitors (tenant_id, id)
);
