GRANT CREATE ON SCHEMA public TO botyard_upkeep;

-- Gives each new row its place under the lock of its tenant's head, whatever the writer said.
CREATE FUNCTION audit_chain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE
    head audit_heads;
BEGIN
    INSERT INTO audit_heads (tenant_id) VALUES (NEW.tenant_id) ON CONFLICT DO NOTHING;
    SELECT * INTO head FROM audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
    NEW.seq := head.seq + 1;
    NEW.hash := audit_hash(head.hash, NEW);
    UPDATE audit_heads SET seq = NEW.seq, hash = NEW.hash WHERE tenant_id = NEW.tenant_id;
    RETURN NEW;
END
$$;
CREATE TRIGGER chain BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_chain();
ALTER FUNCTION audit_chain() OWNER TO botyard_upkeep;
REVOKE ALL ON FUNCTION audit_chain() FROM PUBLIC;

-- Whose chains there are: ids only.
CREATE FUNCTION audit_chains() RETURNS TABLE (tenant_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    SELECT a.tenant_id FROM audit AS a UNION SELECT h.tenant_id FROM audit_heads AS h ORDER BY 1
$$;
ALTER FUNCTION audit_chains() OWNER TO botyard_upkeep;
REVOKE ALL ON FUNCTION audit_chains() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_chains() TO botyard_app;

-- How many rows a chain has, and the place of the first that is missing or not what was written.
CREATE FUNCTION audit_verify(p_tenant uuid) RETURNS TABLE (entries bigint, broken bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    WITH head AS (
        SELECT h.seq, h.hash, coalesce(h.anchor_seq, 0) AS anchor_seq,
               coalesce(h.anchor_hash, '') AS anchor_hash
        FROM (SELECT) AS one LEFT JOIN audit_heads AS h ON h.tenant_id = p_tenant
    ), links AS (
        SELECT a.seq, a.hash, lag(a.seq, 1, h.anchor_seq) OVER places + 1 AS place,
               audit_hash(lag(a.hash, 1, h.anchor_hash) OVER places, a) AS expected
        FROM audit AS a, head AS h WHERE a.tenant_id = p_tenant WINDOW places AS (ORDER BY a.seq)
    ), chain AS (
        SELECT count(*) AS entries, max(seq) AS seq,
               min(place) FILTER (WHERE seq <> place OR hash <> expected) AS broken
        FROM links
    )
    SELECT c.entries, least(c.broken, CASE
        WHEN h.seq IS DISTINCT FROM coalesce(c.seq, h.anchor_seq)
            THEN coalesce(c.seq, h.anchor_seq) + 1
        WHEN h.hash IS DISTINCT FROM coalesce(
            (SELECT l.hash FROM links AS l WHERE l.seq = c.seq), h.anchor_hash)
            THEN coalesce(c.seq, h.anchor_seq) END)
    FROM chain AS c, head AS h
$$;
ALTER FUNCTION audit_verify(uuid) OWNER TO botyard_upkeep;
REVOKE ALL ON FUNCTION audit_verify(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_verify(uuid) TO botyard_app;

-- Removes at most `p_limit` rows from the beginnings of chains, each up to its first row that is
-- younger; the last removed hash becomes the anchor, so that what is left still verifies.
CREATE FUNCTION prune_audit(p_before timestamptz, p_limit integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE
    chain uuid;
    last record;
    gone bigint;
    total bigint := 0;
BEGIN
    FOR chain IN
        SELECT h.tenant_id FROM audit_heads AS h
        JOIN audit AS a ON a.tenant_id = h.tenant_id AND a.seq = h.anchor_seq + 1
        WHERE a.at < p_before ORDER BY h.tenant_id
    LOOP
        EXIT WHEN total >= p_limit;
        PERFORM FROM audit_heads AS h WHERE h.tenant_id = chain FOR UPDATE;
        SELECT aged.seq, aged.hash INTO last FROM (
            SELECT a.seq, a.hash, bool_and(a.at < p_before) OVER (ORDER BY a.seq) AS old
            FROM audit AS a WHERE a.tenant_id = chain ORDER BY a.seq LIMIT p_limit - total
        ) AS aged WHERE aged.old ORDER BY aged.seq DESC LIMIT 1;
        CONTINUE WHEN last.seq IS NULL;
        DELETE FROM audit AS a WHERE a.tenant_id = chain AND a.seq <= last.seq;
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
        UPDATE audit_heads AS h SET anchor_seq = last.seq, anchor_hash = last.hash
        WHERE h.tenant_id = chain;
    END LOOP;
    RETURN total;
END
$$;
ALTER FUNCTION prune_audit(timestamptz, integer) OWNER TO botyard_upkeep;
REVOKE ALL ON FUNCTION prune_audit(timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_audit(timestamptz, integer) TO botyard_app;

REVOKE CREATE ON SCHEMA public FROM botyard_upkeep;
