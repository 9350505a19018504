-- A line about a conversation names it; the others are about the bot itself.
ALTER TABLE timeline ADD COLUMN conversation_id uuid,
    ADD FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id);

-- The page reads either sort alone, or both, by id: by time. Beginnings are the conversations' own.
CREATE INDEX timeline_own ON timeline (instance_id, id) WHERE conversation_id IS NULL;
CREATE INDEX timeline_conversations ON timeline (instance_id, id)
    WHERE conversation_id IS NOT NULL;
CREATE INDEX conversations_instance ON conversations (instance_id, id);

-- As the application makes them: by the millisecond, the rest random. What differs in a random
-- UUID is the version: 4 becomes 7.
CREATE FUNCTION uuid7(p_at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS
$$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(uuid_send(uuid7_floor(p_at)) FROM 1 FOR 6) FROM 1 FOR 6
    ), 52, 1), 53, 1), 'hex')::uuid
$$;

-- Many statements change who answers; that it is told is kept in one place.
CREATE FUNCTION conversation_passes() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    INSERT INTO timeline
        (id, tenant_id, instance_id, at, type, message, data, conversation_id)
    VALUES (
        uuid7(clock_timestamp()), NEW.tenant_id, NEW.instance_id, now(), 'conversation.owner', '',
        jsonb_build_object(
            'before', OLD.owner, 'owner', NEW.owner, 'member_id', NEW.owner_member_id,
            'reason', NEW.waiting_reason),
        NEW.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER conversation_passes AFTER UPDATE OF owner ON conversations
    FOR EACH ROW
    WHEN ((OLD.owner, OLD.owner_member_id) IS DISTINCT FROM (NEW.owner, NEW.owner_member_id))
    EXECUTE FUNCTION conversation_passes();
