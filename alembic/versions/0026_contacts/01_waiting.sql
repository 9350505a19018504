-- Since when a contact waits for a person: since nobody answers, or since the first message that
-- the member who answers has not replied to. Null while nobody waits.
ALTER TABLE conversations ADD COLUMN waiting_since timestamptz;

-- The walls hold for the owner of the schema, too.
ALTER TABLE conversations NO FORCE ROW LEVEL SECURITY;
UPDATE conversations SET waiting_since = last_message_at WHERE owner = 'waiting';
ALTER TABLE conversations FORCE ROW LEVEL SECURITY;

-- Many statements change owners and numbers; what follows from both is kept in one place.
CREATE FUNCTION conversation_waits() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    IF NEW.owner = 'waiting' THEN
        NEW.waiting_since := coalesce(OLD.waiting_since, now());
    ELSIF NEW.owner <> 'human' THEN
        NEW.waiting_since := NULL;
    ELSIF NEW.heard_number > OLD.heard_number THEN
        NEW.waiting_since := coalesce(OLD.waiting_since, now());
    ELSIF NEW.last_number > OLD.last_number THEN
        NEW.waiting_since := NULL;
    ELSIF OLD.owner NOT IN ('human', 'waiting') AND NEW.heard_number = NEW.last_number THEN
        NEW.waiting_since := now();
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER conversation_waits BEFORE UPDATE OF owner, last_number ON conversations
    FOR EACH ROW
    WHEN (NEW.owner IN ('waiting', 'human') OR OLD.waiting_since IS NOT NULL)
    EXECUTE FUNCTION conversation_waits();

-- For the views of the inbox. None of them has a column that each message changes.
CREATE INDEX conversations_waiting ON conversations (tenant_id, waiting_since, id)
    WHERE waiting_since IS NOT NULL;
CREATE INDEX conversations_owner ON conversations (tenant_id, owner, last_message_hour DESC);
CREATE INDEX conversations_member ON conversations
    (tenant_id, owner_member_id, last_message_hour DESC) WHERE owner_member_id IS NOT NULL;
CREATE INDEX conversations_contact ON conversations (contact_id, id);
