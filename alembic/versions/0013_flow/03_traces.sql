-- Where in its trace a message is: trace id and span id, 24 bytes. A conversation keeps that of
-- the newest message that was heard, for the turn that answers it.
ALTER TABLE messages ADD COLUMN trace bytea;
ALTER TABLE conversations ADD COLUMN trace bytea;
ALTER TABLE deliveries ADD COLUMN trace bytea;
ALTER TABLE callbacks ADD COLUMN trace bytea;
