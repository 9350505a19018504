-- Voices whose words nobody knows yet: ids only. A row goes when its task ends, in the transaction
-- that writes the words into the message. `failures` are calls that brought nothing; the bot's turn
-- waits until `turn_by`.
CREATE TABLE speech_tasks (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    conversation_id uuid NOT NULL,
    message_id      uuid NOT NULL,
    media_id        uuid NOT NULL,
    failures        integer NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL,
    turn_by         timestamptz NOT NULL,
    UNIQUE (message_id, media_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
);
CREATE INDEX speech_tasks_conversation ON speech_tasks (conversation_id);

ALTER TABLE speech_tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE speech_tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON speech_tasks TO botyard_app
    USING (tenant_id = ANY ((SELECT current_tenants())::uuid[]))
    WITH CHECK (tenant_id = ANY ((SELECT current_tenants())::uuid[]));
GRANT SELECT, INSERT, UPDATE, DELETE ON speech_tasks TO botyard_app;
