-- Where an agent runs, so that its successor there proves that it has ended: an account that takes
-- one connection need not wait for the end of its lease then.
ALTER TABLE agent_sessions
    ADD COLUMN place text NOT NULL DEFAULT '',
    ADD COLUMN gone_at timestamptz;
