-- What a turn took, of all models that it asked; its words are in its steps. `provider_id` may be
-- one that is gone by now.
ALTER TABLE turns
    ADD COLUMN reason text,
    ADD COLUMN provider_id uuid,
    ADD COLUMN model text,
    ADD COLUMN prompt_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN completion_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN latency_ms bigint NOT NULL DEFAULT 0;
ALTER TABLE turns DROP CONSTRAINT turns_state_check;
ALTER TABLE turns ADD CONSTRAINT turns_state_check
    CHECK (state IN ('running', 'answered', 'handed_over', 'fell_back', 'dropped'));
