-- Failed sign-ins in a row and until when the next is not heard. A row without a password hash is
-- nobody's: it counts for an address that has no account.
ALTER TABLE identities
    ADD COLUMN failed_logins integer NOT NULL DEFAULT 0,
    ADD COLUMN failed_at     timestamptz,
    ADD COLUMN locked_until  timestamptz,
    -- The second factor: its sealed secret, whether it is asked for, and the last step used.
    ADD COLUMN totp_secret   bytea,
    ADD COLUMN totp_on       boolean NOT NULL DEFAULT false,
    ADD COLUMN totp_step     bigint NOT NULL DEFAULT 0;
CREATE INDEX identities_failed ON identities (failed_at) WHERE failed_at IS NOT NULL;
