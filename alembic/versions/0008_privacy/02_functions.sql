-- Drops the oldest month of one append-only table if every row in it is older than `p_before`: by
-- its bounds, not by its name. Nothing of the last 30 days goes, whatever the caller says.
CREATE FUNCTION drop_partition(p_before timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE
    horizon uuid := public.uuid7_floor(least(p_before, now() - interval '30 days'));
    part text;
BEGIN
    SELECT old.name INTO part FROM (
        SELECT c.relname AS name,
               (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([0-9a-f-]{36})''\)'))[1]::uuid
                   AS until
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('public.messages'::regclass, 'public.attempts'::regclass,
            'public.stream'::regclass)
    ) AS old WHERE old.until <= horizon ORDER BY old.until, old.name LIMIT 1;
    IF part IS NOT NULL THEN
        -- Who uses the table goes first: this waits for nobody long, and is tried again.
        PERFORM set_config('lock_timeout', '2s', true);
        EXECUTE format('DROP TABLE public.%I', part);
    END IF;
    RETURN part;
END
$$;
REVOKE ALL ON FUNCTION drop_partition(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_partition(timestamptz) TO botyard_app;
