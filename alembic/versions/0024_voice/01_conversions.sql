-- What no browser plays gets a second object that it does play. `original_id` says from which one it
-- was made: it is found through that one only, and goes with it. `conversion` is how far the original
-- is; NULL where there is nothing to convert.
ALTER TABLE media
    ADD COLUMN original_id uuid,
    ADD COLUMN conversion text CHECK (conversion IN ('pending', 'ready', 'failed')),
    ADD COLUMN conversion_error text,
    ADD CHECK ((conversion = 'failed') = (conversion_error IS NOT NULL));
CREATE UNIQUE INDEX media_made_from ON media (tenant_id, original_id)
    WHERE original_id IS NOT NULL;
