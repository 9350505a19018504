-- What members write for each other: about a contact, or in a conversation, behind the message of
-- that number. A note of a conversation is about its contact, too. No note is a message.
CREATE TABLE notes (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    contact_id      uuid NOT NULL,
    conversation_id uuid,
    after_number    bigint,
    author_id       uuid NOT NULL,
    author_name     text NOT NULL,
    text            text NOT NULL,
    created_at      timestamptz NOT NULL,
    edited_at       timestamptz,
    UNIQUE (tenant_id, id),
    CHECK ((conversation_id IS NULL) = (after_number IS NULL)),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE
);
CREATE INDEX notes_contact ON notes (contact_id, id);
CREATE INDEX notes_thread ON notes (conversation_id, after_number, id)
    WHERE conversation_id IS NOT NULL;

-- Who was called by name in a note of a conversation, and when they saw it.
CREATE TABLE note_mentions (
    note_id         uuid NOT NULL,
    member_id       uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    conversation_id uuid NOT NULL,
    read_at         timestamptz,
    PRIMARY KEY (note_id, member_id),
    FOREIGN KEY (tenant_id, note_id) REFERENCES notes (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, member_id) REFERENCES members (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX note_mentions_member ON note_mentions (member_id, conversation_id);

-- Up to where a member has seen a conversation. Conversations are locked before members.
CREATE TABLE read_marks (
    conversation_id uuid NOT NULL,
    member_id       uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    number          bigint NOT NULL,
    seen_at         timestamptz NOT NULL,
    PRIMARY KEY (conversation_id, member_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, member_id) REFERENCES members (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX read_marks_member ON read_marks (member_id);

-- Texts to answer with; without a member they are everybody's.
CREATE TABLE canned_replies (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants (id),
    member_id  uuid,
    code       text NOT NULL,
    title      text NOT NULL,
    text       text NOT NULL,
    uses       bigint NOT NULL DEFAULT 0,
    used_at    timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT canned_replies_code UNIQUE NULLS NOT DISTINCT (tenant_id, member_id, code),
    FOREIGN KEY (tenant_id, member_id) REFERENCES members (tenant_id, id) ON DELETE CASCADE
);
