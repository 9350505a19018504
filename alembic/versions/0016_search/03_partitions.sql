-- As before, and for what is searched: a month of it comes and goes with that of the messages.
CREATE OR REPLACE FUNCTION ensure_partitions(p_from timestamptz, p_until timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE
    parent text;
    month timestamp;
    part text;
    made integer := 0;
BEGIN
    -- Two at once would both find a partition missing, and one would fail to make it.
    PERFORM pg_advisory_xact_lock(hashtext('ensure_partitions'));
    FOREACH parent IN ARRAY ARRAY['messages', 'message_grams', 'attempts', 'stream'] LOOP
        month := date_trunc('month', p_from AT TIME ZONE 'UTC');
        WHILE month <= p_until AT TIME ZONE 'UTC' LOOP
            part := format('%s_%s', parent, to_char(month, 'YYYYMM'));
            IF to_regclass('public.' || part) IS NULL THEN
                EXECUTE format(
                    'CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                    part, parent,
                    uuid7_floor(month AT TIME ZONE 'UTC'),
                    uuid7_floor((month + interval '1 month') AT TIME ZONE 'UTC'));
                made := made + 1;
            END IF;
            month := month + interval '1 month';
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

CREATE OR REPLACE FUNCTION drop_partition(p_before timestamptz) RETURNS text
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
        WHERE i.inhparent IN ('public.messages'::regclass,
            'public.message_grams'::regclass, 'public.attempts'::regclass, 'public.stream'::regclass)
    ) AS old WHERE old.until <= horizon ORDER BY old.until, old.name LIMIT 1;
    IF part IS NOT NULL THEN
        -- Who uses the table goes first: this waits for nobody long, and is tried again.
        PERFORM set_config('lock_timeout', '2s', true);
        EXECUTE format('DROP TABLE public.%I', part);
    END IF;
    RETURN part;
END
$$;
