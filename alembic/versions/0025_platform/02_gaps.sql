-- When nobody heard a channel whose platform says everything once: the newest first, as
-- {"from", "to"}. `said_by` is the agent session that last told the channel's state.
ALTER TABLE channels
    ADD COLUMN said_by uuid,
    ADD COLUMN gaps jsonb NOT NULL DEFAULT '[]';
