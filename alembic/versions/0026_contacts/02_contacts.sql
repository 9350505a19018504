-- What members write down about a contact. Beside the contact's row, which each message changes.
CREATE TABLE contact_cards (
    contact_id uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    remark     text,
    fields     jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL,
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX contact_cards_tenant ON contact_cards (tenant_id, contact_id);

CREATE TABLE tags (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants (id),
    name       text NOT NULL,
    colour     text NOT NULL CHECK (colour IN
               ('grey', 'red', 'orange', 'yellow', 'green', 'teal', 'blue', 'purple', 'pink')),
    created_at timestamptz NOT NULL,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, name)
);
CREATE TABLE contact_tags (
    contact_id uuid NOT NULL,
    tag_id     uuid NOT NULL,
    tenant_id  uuid NOT NULL,
    PRIMARY KEY (contact_id, tag_id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, tag_id) REFERENCES tags (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX contact_tags_tag ON contact_tags (tag_id, contact_id);
CREATE TABLE conversation_tags (
    conversation_id uuid NOT NULL,
    tag_id          uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    PRIMARY KEY (conversation_id, tag_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, tag_id) REFERENCES tags (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX conversation_tags_tag ON conversation_tags (tag_id, conversation_id);
