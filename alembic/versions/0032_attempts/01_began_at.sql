-- By the database's clock, since how long ago an attempt began decides whether it is repeated, and
-- workers' clocks differ. NULL: begun before there was this column.
ALTER TABLE attempts ADD COLUMN began_at timestamptz;
ALTER TABLE attempts ALTER COLUMN began_at SET DEFAULT now();
