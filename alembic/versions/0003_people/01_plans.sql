-- The platform's own data: everybody reads it, only operators write it.
CREATE TABLE plans (
    name       text PRIMARY KEY,
    quotas     jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
INSERT INTO plans (name, quotas, created_at, updated_at)
SELECT name, quotas, now(), now() FROM (VALUES
    ('free', jsonb_build_object('instances', 5, 'channels', 20, 'members', 20,
        'messages_month', 10000, 'storage_bytes', 1073741824,
        'pod_cpu', 250, 'pod_memory', 134217728, 'egress_allow', jsonb_build_array())),
    ('standard', jsonb_build_object('instances', 10, 'channels', 50, 'members', 50,
        'messages_month', 50000, 'storage_bytes', 21474836480,
        'pod_cpu', 500, 'pod_memory', 268435456, 'egress_allow', jsonb_build_array())),
    ('business', jsonb_build_object('instances', 20, 'channels', 200, 'members', 200,
        'messages_month', 1000000, 'storage_bytes', 214748364800,
        'pod_cpu', 1000, 'pod_memory', 536870912, 'egress_allow', jsonb_build_array()))
) AS seeds (name, quotas);

ALTER TABLE tenants DROP CONSTRAINT tenants_state_check;
ALTER TABLE tenants ADD CONSTRAINT tenants_state_check CHECK (state IN
    ('pending', 'needs_information', 'rejected', 'active', 'suspended', 'deleting', 'deleted'));
-- What they answered when an operator asked; the question is the reason.
ALTER TABLE tenants ADD COLUMN information text;
ALTER TABLE tenants ADD COLUMN plan text NOT NULL DEFAULT 'free' REFERENCES plans (name);
ALTER TABLE tenants ADD COLUMN quota_overrides jsonb NOT NULL DEFAULT '{}';

-- Customers' messages by month (YYYYMM, UTC): locked like a stream head, just before it.
CREATE TABLE message_counts (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    month     integer NOT NULL,
    received  bigint NOT NULL,
    PRIMARY KEY (tenant_id, month)
);
