-- Lists are in the order of the newest messages. An index of the moments would be written anew, and
-- the row's others with it, for each message; one of the hours is written once an hour.
ALTER TABLE conversations ADD COLUMN last_message_hour timestamptz GENERATED ALWAYS AS
    (date_bin('1 hour', last_message_at, '2000-01-01 00:00:00+00'::timestamptz)) STORED;
DROP INDEX conversations_recent;
CREATE INDEX conversations_recent ON conversations (tenant_id, last_message_hour DESC);
-- Room beside each row for its next version.
ALTER TABLE conversations SET (fillfactor = 70);
ALTER TABLE contacts SET (fillfactor = 85);

-- These are only looked through by age, oldest first, and grow at their end.
DROP INDEX received_age;
CREATE INDEX received_age ON received USING brin (received_at) WITH (autosummarize = on);
DROP INDEX batches_age;
CREATE INDEX batches_age ON batches USING brin (received_at) WITH (autosummarize = on);
