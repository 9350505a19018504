-- How much waits and since when, over all tenants: numbers only, for metrics.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['deliveries', 'callbacks', 'rejected_events'] LOOP
        EXECUTE format('CREATE POLICY upkeep ON %I FOR SELECT TO botyard_upkeep USING (true)', name);
        EXECUTE format('GRANT SELECT ON %I TO botyard_upkeep', name);
    END LOOP;
END $$;

GRANT CREATE ON SCHEMA public TO botyard_upkeep;
CREATE FUNCTION queues() RETURNS TABLE (queue text, depth bigint, oldest timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    SELECT 'deliveries', count(*), min(created_at) FROM deliveries
    WHERE state IN ('queued', 'sending')
    UNION ALL
    SELECT 'unconfirmed', count(*), min(created_at) FROM deliveries WHERE state = 'unconfirmed'
    UNION ALL
    SELECT 'callbacks', count(*), min(received_at) FROM callbacks WHERE dead_reason IS NULL
    UNION ALL
    SELECT 'dead_callbacks', count(*), min(received_at) FROM callbacks
    WHERE dead_reason IS NOT NULL
    UNION ALL
    SELECT 'rejected_events', count(*), min(received_at) FROM rejected_events
    UNION ALL
    SELECT 'webhooks', count(*), min(created_at) FROM webhook_messages WHERE state = 'pending'
$$;
ALTER FUNCTION queues() OWNER TO botyard_upkeep;
REVOKE ALL ON FUNCTION queues() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION queues() TO botyard_app;
REVOKE CREATE ON SCHEMA public FROM botyard_upkeep;
