"""What must be true after everything that happened: the database and the customers' screens."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from tests.faults.customers import Guest, Member

_MESSAGES = """
SELECT m.conversation_id, m.number, m.platform_id, m.sender_kind, m.segments->0->>'text' AS text,
    d.state, d.error_class
FROM messages AS m LEFT JOIN deliveries AS d ON d.message_id = m.id
ORDER BY m.conversation_id, m.number
"""
_TURNS = """
SELECT conversation_id, from_number, through_number, state FROM turns
ORDER BY conversation_id, number
"""
_OPEN = """
SELECT (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'sending')) +
    (SELECT count(*) FROM callbacks WHERE dead_reason IS NULL) +
    (SELECT count(*) FROM turns WHERE state = 'running') +
    (SELECT count(*) FROM conversations WHERE owner = 'bot' AND turned_number < heard_number)
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


async def at_rest(connection: asyncpg.Connection) -> bool:
    """Whether nothing is left to be passed on, answered or sent."""
    return bool(await connection.fetchval(_OPEN) == 0)


async def check(connection: asyncpg.Connection, people: Sequence[Member | Guest]) -> Findings:
    """Compare what was stored with what was said, acknowledged and seen."""
    found = Findings()
    messages = await connection.fetch(_MESSAGES)
    places: dict[str, list[tuple[UUID, int]]] = {}
    threads: dict[UUID, list[asyncpg.Record]] = {}
    for row in messages:
        threads.setdefault(row["conversation_id"], []).append(row)
        if row["sender_kind"] == "contact":
            place = (row["conversation_id"], row["number"])
            places.setdefault(row["platform_id"], []).append(place)
    for person in people:
        _check_person(found, person, places, threads)
    turns = await connection.fetch(_TURNS)
    for conversation, thread in threads.items():
        mine = [turn for turn in turns if turn["conversation_id"] == conversation]
        _check_thread(found, thread, mine)
    twice = await connection.fetchval(_MORE_THAN_ONE)
    found.expect(twice == 0, f"{twice} messages have several deliveries")
    found.counts["dead letters"] += await connection.fetchval(_DEAD)
    return found


def _check_person(
    found: Findings,
    person: Member | Guest,
    places: dict[str, list[tuple[UUID, int]]],
    threads: dict[UUID, list[asyncpg.Record]],
) -> None:
    acknowledged = set(person.acknowledged)
    found.counts["said"] += len(person.said)
    found.counts["acknowledged"] += len(acknowledged)
    stored = []
    for message_id in person.said:
        where = places.get(message_id, [])
        found.expect(len(where) <= 1, f"{message_id} is stored {len(where)} times")
        if message_id in acknowledged:
            found.expect(len(where) == 1, f"{message_id} was acknowledged and is not stored")
            stored += where
        else:
            kind = "never acknowledged, " + ("stored" if where else "not stored")
            found.counts[kind] += 1
    found.expect(stored == sorted(stored), f"{person.name}'s messages are not in order")
    found.expect(len({place[0] for place in stored}) <= 1, f"{person.name} is in several places")
    for conversation in {place[0] for place in stored}:
        sent = [row for row in threads[conversation] if row["sender_kind"] != "contact"]
        found.expect(
            _may_have_seen(person.told, [(row["text"], row["state"]) for row in sent]),
            f"{person.name} saw {json.dumps(person.told, ensure_ascii=False)}"
            f" of {[(row['text'], row['state']) for row in sent]}",
        )


def _check_thread(
    found: Findings, thread: Sequence[asyncpg.Record], turns: Sequence[asyncpg.Record]
) -> None:
    numbers = [row["number"] for row in thread]
    found.expect(numbers == list(range(1, len(numbers) + 1)), f"a gap in {numbers}")
    covered = Counter(
        number
        for turn in turns
        for number in range(turn["from_number"], turn["through_number"] + 1)
    )
    heard = [row["number"] for row in thread if row["sender_kind"] == "contact"]
    once = all(covered[number] == 1 for number in heard)
    found.expect(once, f"not each of {heard} is in exactly one turn: {dict(covered)}")
    answered = [turn for turn in turns if turn["state"] == "answered"]
    found.expect(len(answered) == len(turns), f"turns ended {[t['state'] for t in turns]}")
    answers = [row for row in thread if row["sender_kind"] == "bot"]
    found.expect(len(answers) == len(answered), f"{len(answers)} answers, {len(answered)} turns")
    found.counts["stored"] += len(heard)
    found.counts["turns"] += len(turns)
    for row in answers:
        state, reason = row["state"], row["error_class"]
        found.counts[f"answers {state}"] += 1
        ended = state in ("sent", "unconfirmed") or (state == "failed" and reason)
        found.expect(bool(ended), f"an answer is {state} ({reason})")


def _may_have_seen(told: list[str], sent: list[tuple[str, str]]) -> bool:
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
