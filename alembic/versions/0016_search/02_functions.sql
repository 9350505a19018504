GRANT CREATE ON SCHEMA public TO botyard_search;

-- Between two ids, the newest messages that may hold all the given pairs, and those that were not
-- indexed yet, of which nobody knows. Whoever asks looks at the messages themselves.
-- Planned anew for each call: a plan for any period would read all ids of the period's months.
CREATE FUNCTION message_candidates(
    p_grams integer[], p_from uuid, p_before uuid, p_conversation uuid, p_channel uuid,
    p_sender uuid, p_contact uuid, p_conversations uuid[], p_limit integer, p_fresh integer)
RETURNS TABLE (id uuid, indexed boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
BEGIN
    RETURN QUERY EXECUTE $query$
    WITH matching AS MATERIALIZED (
        SELECT g.id FROM message_grams AS g
        WHERE g.grams @> $1 AND g.id >= $2 AND g.id < $3
          AND g.tenant_id = ANY ((SELECT current_tenants())::uuid[])
          AND ($4 IS NULL OR g.conversation_id = $4)
          AND ($5 IS NULL OR g.channel_id = $5)
          AND ($6 IS NULL OR g.sender_id = $6)
          AND ($7 IS NULL OR g.sender_id = $7
              OR g.conversation_id = ANY ($8))
    ), fresh AS (
        SELECT (s.data ->> 'message_id')::uuid AS id
        FROM unnest((SELECT current_tenants())) AS t (id)
            LEFT JOIN search_positions AS p ON p.tenant_id = t.id, LATERAL (
            SELECT type, data FROM stream
            WHERE tenant_id = t.id AND (epoch, seq) > (coalesce(p.epoch, 0), coalesce(p.seq, 0))
            ORDER BY epoch DESC, seq DESC LIMIT $10) AS s
        WHERE s.type = 'message.created'
    )
    (SELECT m.id, true FROM matching AS m ORDER BY m.id DESC LIMIT $9)
    UNION ALL
    SELECT f.id, false FROM fresh AS f WHERE f.id >= $2 AND f.id < $3
    $query$ USING p_grams, p_from, p_before, p_conversation, p_channel, p_sender, p_contact,
        p_conversations, p_limit, p_fresh;
END
$$;

-- Tenants behind a given one whose streams go on behind what was indexed: ids only.
CREATE FUNCTION tenants_to_index(p_after uuid, p_limit integer) RETURNS TABLE (id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    SELECT h.tenant_id FROM stream_heads AS h LEFT JOIN search_positions AS p USING (tenant_id)
    WHERE h.tenant_id > p_after
      AND (h.epoch, h.seq) > (coalesce(p.epoch, 0), coalesce(p.seq, 0))
    ORDER BY h.tenant_id LIMIT p_limit
$$;

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'message_candidates(integer[], uuid, uuid, uuid, uuid, uuid, uuid, uuid[], integer, integer)',
        'tenants_to_index(uuid, integer)'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO botyard_search', signature);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', signature);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO botyard_app', signature);
    END LOOP;
END $$;
REVOKE CREATE ON SCHEMA public FROM botyard_search;
