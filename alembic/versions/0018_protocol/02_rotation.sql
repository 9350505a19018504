-- Secrets of an instance's agent that were made before this are to be replaced.
ALTER TABLE instances ADD COLUMN secrets_before timestamptz;
-- The next token of the control plane for this agent, until the agent has taken it.
ALTER TABLE agent_sessions
    ADD COLUMN next_token bytea,
    -- Sessions of before get theirs now: the walls hide them from an UPDATE of the owner, too.
    ADD COLUMN token_at timestamptz NOT NULL DEFAULT now();
