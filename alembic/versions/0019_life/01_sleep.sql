-- A bot that sleeps is wanted, and has no agent until somebody needs one; since when it sleeps, and
-- since when it has been awake.
ALTER TABLE instances ADD COLUMN asleep_at timestamptz;
ALTER TABLE instances ADD COLUMN awake_at timestamptz NOT NULL DEFAULT now();
-- Since when the phase is what it is.
ALTER TABLE instances ADD COLUMN phase_at timestamptz NOT NULL DEFAULT now();
