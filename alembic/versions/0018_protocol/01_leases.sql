-- An account that takes one connection, by the SHA-256 of its kind and of what its platform knows
-- it by, and which session's channel may use it until when.
DO $$
DECLARE
    was text;
BEGIN
    SELECT substr(pg_get_constraintdef(oid), length('CHECK ') + 1) INTO was
    FROM pg_constraint
    WHERE conrelid = 'credentials'::regclass AND conname = 'credentials_kind_check';
    ALTER TABLE credentials DROP CONSTRAINT credentials_kind_check;
    EXECUTE format('ALTER TABLE credentials ADD CONSTRAINT credentials_kind_check '
        'CHECK (%s OR kind = ''account'')', was);
END $$;
ALTER TABLE credentials
    ADD COLUMN channel_id uuid,
    ADD COLUMN session_id uuid,
    ADD COLUMN epoch bigint,
    -- Of the session's last call for it: one that comes late undoes nothing.
    ADD COLUMN number bigint;
