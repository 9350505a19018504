GRANT CREATE ON SCHEMA public TO botyard_search;

-- Between two ids, the newest messages that may hold all the given pairs, and those that were not
-- indexed yet, of which nobody knows. Whoever asks looks at the messages themselves.
CREATE FUNCTION message_candidates(
    p_grams integer[], p_from uuid, p_before uuid, p_conversation uuid, p_channel uuid,
    p_sender uuid, p_contact uuid, p_conversations uuid[], p_limit integer, p_fresh integer)
RETURNS TABLE (id uuid, indexed boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    WITH matching AS MATERIALIZED (
        SELECT g.id FROM message_grams AS g
        WHERE g.grams @> p_grams AND g.id >= p_from AND g.id < p_before
          AND g.tenant_id = ANY ((SELECT current_tenants())::uuid[])
          AND (p_conversation IS NULL OR g.conversation_id = p_conversation)
          AND (p_channel IS NULL OR g.channel_id = p_channel)
          AND (p_sender IS NULL OR g.sender_id = p_sender)
          AND (p_contact IS NULL OR g.sender_id = p_contact
              OR g.conversation_id = ANY (p_conversations))
    ), fresh AS (
        SELECT (s.data ->> 'message_id')::uuid AS id
        FROM unnest((SELECT current_tenants())) AS t (id)
            LEFT JOIN search_positions AS p ON p.tenant_id = t.id, LATERAL (
            SELECT type, data FROM stream
            WHERE tenant_id = t.id AND (epoch, seq) > (coalesce(p.epoch, 0), coalesce(p.seq, 0))
            ORDER BY epoch DESC, seq DESC LIMIT p_fresh) AS s
        WHERE s.type = 'message.created'
    )
    (SELECT m.id, true FROM matching AS m ORDER BY m.id DESC LIMIT p_limit)
    UNION ALL
    SELECT f.id, false FROM fresh AS f WHERE f.id >= p_from AND f.id < p_before
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
