-- The count at which the quota is looked at again; NULL: whatever else comes changes nothing.
ALTER TABLE message_counts ADD COLUMN look_at bigint DEFAULT 0;
