-- Where each chain ends, and where it begins since retention removed what was before.
CREATE TABLE audit_heads (
    tenant_id   uuid PRIMARY KEY,
    seq         bigint NOT NULL DEFAULT 0,
    hash        bytea NOT NULL DEFAULT '',
    anchor_seq  bigint NOT NULL DEFAULT 0,
    anchor_hash bytea NOT NULL DEFAULT ''
);
ALTER TABLE audit ADD COLUMN seq bigint, ADD COLUMN hash bytea;

-- What a row's hash covers: the hash before it and every other column.
CREATE FUNCTION audit_hash(p_before bytea, p_row audit) RETURNS bytea LANGUAGE sql STABLE AS
$$
    SELECT sha256(p_before || convert_to(jsonb_build_array(
        p_row.seq, p_row.id, p_row.tenant_id, (extract(epoch FROM p_row.at) * 1000000)::bigint,
        p_row.actor_kind, p_row.actor_id, p_row.action, p_row.target_kind, p_row.target_id,
        p_row.before, p_row.after)::text, 'UTF8'))
$$;

-- Rows written before there was a chain get their places in the order they were written in.
-- Forced row-level security would hide them from the owner too.
ALTER TABLE audit NO FORCE ROW LEVEL SECURITY;
DO $$
DECLARE
    entry audit;
    head audit_heads;
BEGIN
    FOR entry IN SELECT * FROM audit ORDER BY tenant_id, id LOOP
        INSERT INTO audit_heads (tenant_id) VALUES (entry.tenant_id) ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM audit_heads WHERE tenant_id = entry.tenant_id;
        entry.seq := head.seq + 1;
        entry.hash := audit_hash(head.hash, entry);
        UPDATE audit SET seq = entry.seq, hash = entry.hash WHERE id = entry.id;
        UPDATE audit_heads SET seq = entry.seq, hash = entry.hash
        WHERE tenant_id = entry.tenant_id;
    END LOOP;
END $$;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
ALTER TABLE audit ALTER COLUMN seq SET NOT NULL, ALTER COLUMN hash SET NOT NULL;
DROP INDEX audit_tenant;
CREATE UNIQUE INDEX audit_place ON audit (tenant_id, seq);
