-- How long tenants of the plan keep what was said; none: as long as the platform keeps anything.
ALTER TABLE plans ADD COLUMN retention_days integer CHECK (retention_days > 0);

-- Whether phone, ID-card and bank-card numbers are masked for who lacks privacy.read.
ALTER TABLE tenants ADD COLUMN mask_numbers boolean NOT NULL DEFAULT false;

-- When a contact was heard last; not indexed, so that each message's update stays cheap.
ALTER TABLE contacts ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now();

-- Dead letters are few, and found by whose they are.
CREATE INDEX callbacks_dead ON callbacks (tenant_id, received_at) WHERE dead_reason IS NOT NULL;
