-- What a person decided last, and from which attempt on it counts: a resend begins anew.
ALTER TABLE deliveries
    ADD COLUMN decision text CHECK (decision IN ('resend', 'sent', 'not_sent')),
    ADD COLUMN decided_at timestamptz,
    ADD COLUMN decided_by uuid,
    ADD COLUMN resent_from integer NOT NULL DEFAULT 0;
CREATE INDEX deliveries_state ON deliveries (tenant_id, state, id) WHERE state <> 'sent';

-- Only where the platform limits what one chat gets: what was tried there of late is counted.
ALTER TABLE attempts ADD COLUMN paced_conversation_id uuid;
CREATE INDEX attempts_paced ON attempts (paced_conversation_id, started_at)
    WHERE paced_conversation_id IS NOT NULL;
