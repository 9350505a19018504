-- Secrets of an instance's agent that were made before this are to be replaced.
ALTER TABLE instances ADD COLUMN secrets_before timestamptz;
-- The next token of the control plane for this agent, until the agent has taken it.
ALTER TABLE agent_sessions
    ADD COLUMN next_token bytea,
    ADD COLUMN token_at timestamptz;
UPDATE agent_sessions SET token_at = created_at;
ALTER TABLE agent_sessions ALTER COLUMN token_at SET NOT NULL;
