"""What must be true after everything that happened: the database and the customers' screens."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from tests.faults import witness
from tests.faults.customers import Guest, Member

REFERENCE = "the platform's reference"
"""Instead of a picture that could not be fetched in time."""

_MESSAGES = """
SELECT m.conversation_id, m.number, m.platform_id, m.sender_kind, d.state, d.error_class,
    CASE WHEN m.segments->0->>'type' <> 'image' THEN m.segments->0->>'text'
         WHEN p.state = 'stored' THEN 'picture ' || encode(p.sha256, 'hex')
         ELSE $1 END AS said
FROM messages AS m LEFT JOIN deliveries AS d ON d.message_id = m.id
LEFT JOIN media AS p ON m.segments->0->'ref'->>'via' = 'media'
    AND p.id::text = m.segments->0->'ref'->>'id'
ORDER BY m.conversation_id, m.number
"""
_TURNS = """
SELECT conversation_id, number, from_number, through_number, owner_version, state FROM turns
ORDER BY conversation_id, number
"""
_HISTORY = """
SELECT type, data FROM stream
WHERE type IN ('message.created', 'conversation.owner_changed', 'turn.ended') ORDER BY epoch, seq
"""
_OPEN = """
SELECT * FROM (
    SELECT 'delivery ' || state AS what, count(*), max(due_at - now())::text AS due_in
    FROM deliveries WHERE state IN ('queued', 'sending') GROUP BY 1
    UNION ALL SELECT 'callback', count(*), NULL FROM callbacks WHERE dead_reason IS NULL
    UNION ALL SELECT 'turn', count(*), NULL FROM turns WHERE state = 'running'
    UNION ALL SELECT 'unheard', count(*), NULL FROM conversations
    WHERE owner = 'bot' AND turned_number < heard_number
) AS open WHERE count > 0
"""
_DEAD = "SELECT count(*) FROM callbacks WHERE dead_reason IS NOT NULL"
_MORE_THAN_ONE = """
SELECT count(*) FROM (SELECT message_id FROM deliveries GROUP BY 1 HAVING count(*) > 1) AS d
"""


@dataclass
class Findings:
    """What was wrong, in words, and how many there were of what."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def expect(self, holds: bool, words: str) -> None:
        if not holds:
            self.wrong.append(words)


@dataclass
class Thread:
    """All that is known of one conversation, each in its order."""

    messages: list[asyncpg.Record] = field(default_factory=list)
    turns: list[asyncpg.Record] = field(default_factory=list)
    history: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


async def left(connection: asyncpg.Connection) -> list[tuple[str, int, str | None]]:
    """What is left to be passed on, answered or sent: how many, and due in how long."""
    return [tuple(row) for row in await connection.fetch(_OPEN)]


async def at_rest(connection: asyncpg.Connection) -> bool:
    """Whether nothing is."""
    return not await left(connection)


async def check(
    connection: asyncpg.Connection,
    people: Sequence[Member | Guest],
    answered: Mapping[str, bool],
) -> Findings:
    """Compare what was stored with what was said, acknowledged and seen.

    `answered` is what colleagues wrote, and whether they were told that it was taken.
    """
    found = Findings()
    threads = await _read(connection)
    for person in people:
        _check_person(found, person, threads)
    for thread in threads.values():
        _check_numbers(found, thread)
        _check_turns(found, thread)
        _check_deliveries(found, thread)
    _check_answers(found, answered, threads)
    twice = await connection.fetchval(_MORE_THAN_ONE)
    found.expect(twice == 0, f"{twice} messages have several deliveries")
    found.counts["dead letters"] += await connection.fetchval(_DEAD)
    begun, unasked = await witness.begun(connection)
    found.counts["sends begun"] += begun
    found.expect(unasked == 0, f"{unasked} of the bot's began although a person had taken over")
    return found


async def _read(connection: asyncpg.Connection) -> dict[UUID, Thread]:
    threads: dict[UUID, Thread] = defaultdict(Thread)
    for row in await connection.fetch(_MESSAGES, REFERENCE):
        threads[row["conversation_id"]].messages.append(row)
    for row in await connection.fetch(_TURNS):
        threads[row["conversation_id"]].turns.append(row)
    for row in await connection.fetch(_HISTORY):
        data = json.loads(row["data"])
        threads[UUID(data["conversation_id"])].history.append((row["type"], data))
    return threads


def _check_person(found: Findings, person: Member | Guest, threads: Mapping[UUID, Thread]) -> None:
    places: dict[str, list[asyncpg.Record]] = defaultdict(list)
    for thread in threads.values():
        for row in thread.messages:
            if row["platform_id"] in person.said:
                places[row["platform_id"]].append(row)
    acknowledged = set(person.acknowledged)
    found.counts["said"] += len(person.said)
    found.counts["acknowledged"] += len(acknowledged)
    stored = []
    for message_id, text in person.said.items():
        where = places[message_id]
        found.expect(len(where) <= 1, f"{message_id} is stored {len(where)} times")
        for row in where:
            found.counts["pictures kept by reference"] += row["said"] == REFERENCE
            found.expect(row["said"] in (text, REFERENCE), f"{message_id} is not what was said")
        if message_id in acknowledged:
            found.expect(len(where) == 1, f"{message_id} was acknowledged and is not stored")
            stored += where
        else:
            kind = "never acknowledged, " + ("stored" if where else "not stored")
            found.counts[kind] += 1
    in_order = [row["number"] for row in stored]
    found.expect(in_order == sorted(in_order), f"{person.name}'s messages are not in order")
    here = {row["conversation_id"] for row in stored}
    found.expect(len(here) <= 1, f"{person.name} is in several places")
    for conversation in here:
        rows = threads[conversation].messages
        sent = [(row["said"], row["state"]) for row in rows if row["sender_kind"] != "contact"]
        found.expect(
            may_have_seen(person.told, sent),
            f"{person.name} saw {json.dumps(person.told, ensure_ascii=False)} of {sent}",
        )


def _check_numbers(found: Findings, thread: Thread) -> None:
    numbers = [row["number"] for row in thread.messages]
    found.expect(numbers == list(range(1, len(numbers) + 1)), f"a gap in {numbers}")
    told = [data["number"] for kind, data in thread.history if kind == "message.created"]
    found.expect(told == numbers, f"the stream tells of {told}")


def _check_turns(found: Findings, thread: Thread) -> None:
    """Each message is in one turn, or a person has dealt with it; who answered was the owner."""
    turns = {turn["number"]: turn for turn in thread.turns}
    owner, version, last, dealt_with = "bot", None, 0, 0
    for kind, data in thread.history:
        if kind == "message.created":
            last = data["number"]
            version = version or data.get("owner_version")
            speaks = {"contact": owner, "bot": "bot", "human": "human"}[data["sender"]["kind"]]
            found.expect(owner == speaks, f"{data} while the owner was {owner}")
        elif kind == "conversation.owner_changed":
            found.expect(data["owner_version"] == (version or 0) + 1, f"{data} behind {version}")
            owner, version = data["owner"], data["owner_version"]
            dealt_with = last if owner == "bot" else dealt_with
            found.counts[f"owner became {owner}"] += 1
        else:
            # A turn that hands over is one of the changes itself.
            turn, handed = turns[data["turn"]], data["state"] == "handed_over"
            ours = turn["owner_version"] == (version or 0) - handed
            found.expect(ours == (data["state"] != "dropped"), f"{data} in version {version}")
    covered = Counter(
        number
        for turn in thread.turns
        for number in range(turn["from_number"], turn["through_number"] + 1)
    )
    for row in thread.messages:
        if row["sender_kind"] == "contact":
            times = covered[row["number"]]
            found.counts["stored"] += 1
            found.counts["dealt with by a person"] += times == 0
            fine = times == 1 or (times == 0 and row["number"] <= dealt_with)
            found.expect(fine, f"message {row['number']} is in {times} turns")


def _check_deliveries(found: Findings, thread: Thread) -> None:
    spoken = [turn for turn in thread.turns if turn["state"] in ("answered", "handed_over")]
    answers = [row for row in thread.messages if row["sender_kind"] == "bot"]
    found.expect(len(answers) == len(spoken), f"{len(answers)} answers, {len(spoken)} turns")
    taken = any(data.get("owner") == "human" for kind, data in thread.history)
    for turn in thread.turns:
        found.counts[f"turns {turn['state']}"] += 1
        known = ("answered", "handed_over", *(("dropped",) if taken else ()))
        found.expect(turn["state"] in known, f"a turn was {turn['state']}")
    for row in thread.messages:
        if row["sender_kind"] == "contact":
            continue
        who, state, reason = row["sender_kind"], row["state"], row["error_class"]
        found.counts[f"{who}'s {state}"] += 1
        ended = state in ("sent", "unconfirmed") or (state == "failed" and reason)
        withheld = state == "withheld" and who == "bot" and taken
        found.expect(bool(ended or withheld), f"what a {who} said is {state} ({reason})")


def _check_answers(
    found: Findings, answered: Mapping[str, bool], threads: Mapping[UUID, Thread]
) -> None:
    stored = Counter(
        row["said"]
        for thread in threads.values()
        for row in thread.messages
        if row["sender_kind"] == "human"
    )
    for text, taken in answered.items():
        times = stored[text]
        found.expect(times <= 1, f"a colleague's answer is stored {times} times")
        found.expect(times == 1 or not taken, "a colleague's answer was taken and is not stored")
    found.counts["colleagues' answers"] += len(answered)


def may_have_seen(told: Sequence[str], sent: Sequence[tuple[str, str]]) -> bool:
    """Whether `told` is each sent text once, in order, and each unconfirmed one at most once."""
    # The lengths of `told` that the texts so far can explain.
    reached = {0}
    for text, state in sent:
        shown = {n + 1 for n in reached if n < len(told) and told[n] == text}
        if state == "sent":
            reached = shown
        elif state == "unconfirmed":
            reached |= shown
    return len(told) in reached
