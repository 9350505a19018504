-- How many dead letters each tenant has, of what and why: numbers, and for operators alone.
GRANT CREATE ON SCHEMA public TO botyard_upkeep;
CREATE FUNCTION dead_letters()
RETURNS TABLE (tenant_id uuid, source text, reason text, depth bigint, oldest timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    SELECT c.tenant_id, 'callback', c.dead_reason, count(*), min(c.received_at)
    FROM callbacks AS c
    WHERE (SELECT speaks_as_operator()) AND c.dead_reason IS NOT NULL
    GROUP BY c.tenant_id, c.dead_reason
    UNION ALL
    SELECT r.tenant_id, 'event', r.reason, count(*), min(r.received_at)
    FROM rejected_events AS r
    WHERE (SELECT speaks_as_operator())
    GROUP BY r.tenant_id, r.reason
$$;
ALTER FUNCTION dead_letters() OWNER TO botyard_upkeep;
REVOKE ALL ON FUNCTION dead_letters() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dead_letters() TO botyard_app;
REVOKE CREATE ON SCHEMA public FROM botyard_upkeep;
