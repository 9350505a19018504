ALTER TABLE credentials
    DROP CONSTRAINT credentials_kind_check,
    ADD CONSTRAINT credentials_kind_check
        CHECK (kind IN ('refresh', 'bootstrap', 'webhook', 'reset', 'recovery')),
    -- Of a refresh token: the browser and the address that it was given to.
    ADD COLUMN label   text,
    ADD COLUMN address text;
CREATE INDEX credentials_identity ON credentials (identity_id, kind)
    WHERE identity_id IS NOT NULL;
