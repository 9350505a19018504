-- What a look found to differ from what should be: 'configuration', 'objects'. A generation that no
-- look has seen yet stands in the row itself.
ALTER TABLE instances ADD COLUMN drift text[] NOT NULL DEFAULT '{}';
-- Since when an operator lets it rest, whatever its tenant wants; both are told why.
ALTER TABLE instances ADD COLUMN suspended_at timestamptz;
ALTER TABLE instances ADD COLUMN suspended_reason text;

-- What operators filter a fleet by.
CREATE INDEX instances_phase ON instances (phase, id);
CREATE INDEX instances_release ON instances (release_id, id);
CREATE INDEX instances_drifted ON instances (id)
WHERE observed_generation < generation OR drift <> '{}';
