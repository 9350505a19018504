-- The tenant's questions most like the given pairs of sounds: Dice's coefficient, 0 to 1.
CREATE FUNCTION answer_matches(p_grams text[], p_limit integer)
RETURNS TABLE (id uuid, question text, answer text, score double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    SELECT a.id, a.question, a.answer,
           2.0 * (SELECT count(*) FROM unnest(a.grams) AS g WHERE g = ANY (p_grams))
               / (cardinality(a.grams) + cardinality(p_grams))
    FROM answers AS a
    WHERE a.tenant_id = ANY ((SELECT current_tenants())::uuid[]) AND a.grams && p_grams
    ORDER BY 4 DESC, a.position
    LIMIT p_limit
$$;
ALTER FUNCTION answer_matches(text[], integer) OWNER TO botyard_search;
REVOKE ALL ON FUNCTION answer_matches(text[], integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION answer_matches(text[], integer) TO botyard_app;

-- The smallest UUIDv7 of a moment: partitions by id are partitions by time.
CREATE FUNCTION uuid7_floor(p_at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$
    SELECT (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-0000-0000-000000000000')::uuid
    FROM lpad(to_hex((extract(epoch FROM p_at) * 1000)::bigint), 12, '0') AS h
$$;

-- Upkeep runs as the owner: the application itself may not create or drop tables.
CREATE FUNCTION ensure_partitions(p_from timestamptz, p_until timestamptz) RETURNS integer
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
    FOREACH parent IN ARRAY ARRAY['messages', 'attempts', 'stream'] LOOP
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
REVOKE ALL ON FUNCTION ensure_partitions(timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions(timestamptz, timestamptz) TO botyard_app;

-- Removes at most `p_limit` rows of each kind that are older than they need to be kept; how many.
CREATE FUNCTION prune(p_received timestamptz, p_answered timestamptz, p_limit integer)
RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    WITH aged_received AS (
        DELETE FROM received AS r USING (
            SELECT channel_id, event_id FROM received WHERE received_at < p_received LIMIT p_limit
        ) AS old WHERE r.channel_id = old.channel_id AND r.event_id = old.event_id RETURNING 1
    ), aged_batches AS (
        DELETE FROM batches AS b USING (
            SELECT instance_id, webhook_id FROM batches WHERE received_at < p_received LIMIT p_limit
        ) AS old WHERE b.instance_id = old.instance_id AND b.webhook_id = old.webhook_id RETURNING 1
    ), aged_answers AS (
        DELETE FROM idempotency AS i USING (
            SELECT tenant_id, actor_id, key FROM idempotency
            WHERE created_at < p_answered LIMIT p_limit
        ) AS old WHERE i.tenant_id = old.tenant_id AND i.actor_id = old.actor_id
            AND i.key = old.key RETURNING 1
    )
    SELECT (SELECT count(*) FROM aged_received) + (SELECT count(*) FROM aged_batches)
        + (SELECT count(*) FROM aged_answers)
$$;
ALTER FUNCTION prune(timestamptz, timestamptz, integer) OWNER TO botyard_upkeep;
REVOKE ALL ON FUNCTION prune(timestamptz, timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune(timestamptz, timestamptz, integer) TO botyard_app;

-- A month of head room behind and three before us, so that a wrong clock fails no insert.
SELECT ensure_partitions(now() - interval '1 month', now() + interval '3 months');

-- They had to be able to create only while functions were given to them.
REVOKE CREATE ON SCHEMA public FROM botyard_search, botyard_upkeep;
