-- When a platform's call was last taken or refused, to the minute: what a check of a channel tells.
ALTER TABLE channels
    ADD COLUMN callback_at timestamptz,
    ADD COLUMN callback_refused_at timestamptz;
