"""What the database itself saw: who owned a conversation when a message of it began to be sent.

It also sends calls to agents through a link: what an agent says of its address is changed as it is
stored, to one at which the link knows the port that is meant.
"""

import asyncpg

_SEES = """
CREATE SCHEMA storm;
CREATE TABLE storm.begun (
    delivery_id uuid, author_kind text, decision text, owner text, at timestamptz
);
CREATE FUNCTION storm.begins() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO storm.begun
    SELECT NEW.id, NEW.author_kind, NEW.decision, c.owner, clock_timestamp()
    FROM public.conversations AS c WHERE c.id = NEW.conversation_id;
    RETURN NULL;
END $$;
CREATE TRIGGER storm_begins AFTER UPDATE OF state ON deliveries FOR EACH ROW
    WHEN (OLD.state = 'queued' AND NEW.state = 'sending') EXECUTE FUNCTION storm.begins();
"""
_LEADS = """
CREATE FUNCTION storm.leads() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    port integer := substring(NEW.endpoint FROM ':([0-9]+)$');
BEGIN
    NEW.endpoint := format('http://127.1.%s.%s:{port}', port / 256, port % 256);
    RETURN NEW;
END $$;
CREATE TRIGGER storm_leads BEFORE INSERT ON agent_sessions FOR EACH ROW
    EXECUTE FUNCTION storm.leads();
"""
_BEGUN = "SELECT count(*) FROM storm.begun"
_UNASKED = """
SELECT count(*) FROM storm.begun
WHERE author_kind = 'bot' AND owner IN ('human', 'closed') AND decision IS DISTINCT FROM 'resend'
"""


def port_meant(address: tuple[str, int]) -> tuple[str, int]:
    """Where a call goes that came to this address of the link."""
    first, second, high, low = address[0].split(".")
    if (first, second) != ("127", "1"):
        raise OSError("that is no agent's address")
    return "127.0.0.1", int(high) * 256 + int(low)


async def install(connection: asyncpg.Connection, *, agents_link: int | None = None) -> None:
    """From here on it sees, and leads where there is a link."""
    await connection.execute(_SEES)
    if agents_link is not None:
        await connection.execute(_LEADS.format(port=agents_link))


async def begun(connection: asyncpg.Connection) -> tuple[int, int]:
    """How many sends began, and how many of the bot's while a person owned the conversation."""
    return await connection.fetchval(_BEGUN), await connection.fetchval(_UNASKED)
