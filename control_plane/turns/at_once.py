"""Turns that need nothing but the database: begun, decided and ended in one transaction.

Several conversations of a tenant go through it together. What needs more than one transaction (a
model, a pause while somebody talks, a turn that a crash left) is left alone here, unchanged.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from enum import Enum, auto
from uuid import UUID

from control_plane.db.leases import Lease, LeaseLost
from control_plane.db.session import Session, driver
from control_plane.kit import tracing
from control_plane.kit.errors import not_found
from control_plane.kit.metrics import STAGE_SECONDS
from control_plane.routing import ratings
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota
from control_plane.tenants import service as tenants
from control_plane.turns import deciding, ending
from control_plane.turns.documents import Documents
from control_plane.turns.running import Locked, has_news, opened
from instance_agent.document import Document

# Messages that one turn looks at; a burst that is longer is answered by its end.
MAX_MESSAGES = 50

# In ingest's order, so that the two never wait for each other in a circle.
_LOCK = """
SELECT c.id, c.tenant_id, c.instance_id, c.channel_id, c.key_type, c.key, c.owner, c.owner_version,
    c.last_number, c.heard_number, c.turned_number, c.last_turn, c.reply_handle, c.trace,
    c.last_message_at,
    (SELECT state FROM tenants AS t WHERE t.id = c.tenant_id) AS tenant_state,
    ({over}) AS over_quota,
    (SELECT desired FROM config_states AS s WHERE s.instance_id = c.instance_id) AS desired,
    (SELECT t.state FROM turns AS t
     WHERE t.conversation_id = c.id AND t.number = c.last_turn) AS last_state,
    ({rating}) AS rating_id
FROM conversations AS c WHERE c.id = ANY ($1::uuid[])
ORDER BY c.channel_id, c.key_type COLLATE "C", c.key COLLATE "C" FOR NO KEY UPDATE OF c
""".format(  # noqa: S608 - our own words
    over=quota.OVER.format(tenant="c.tenant_id", month="$2"),
    rating=ratings.OPEN.format(conversation="c.id", now="$3"),
)
# A statement of its own, behind the locks: what came while we waited for them is to be seen.
_SAID = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
        AS g (key, token, first, last)
), held AS (
    SELECT w.key FROM work AS w JOIN given AS g ON w.key = g.key AND w.token = g.token
    WHERE w.kind = $5 ORDER BY w.tenant_id, w.key FOR UPDATE OF w
)
SELECT g.key, ARRAY(
    SELECT m.segments::text FROM messages AS m
    WHERE m.conversation_id = g.key AND m.number BETWEEN g.first AND g.last
      AND m.sender_kind = 'contact' ORDER BY m.number DESC LIMIT $6) AS said,
    EXISTS (SELECT FROM speech_tasks AS s WHERE s.conversation_id = g.key) AS listening
FROM given AS g JOIN held AS h ON h.key = g.key
"""


class Left(Enum):
    """A turn that takes more than one transaction."""

    UNUSUAL = auto()


async def lock(
    session: Session, conversation_ids: Sequence[UUID], *, now: datetime
) -> dict[UUID, Locked]:
    """The conversations, locked for this transaction, as turns need them."""
    month = quota.month_of(now)
    rows = await (await driver(session)).fetch(_LOCK, conversation_ids, month, now)
    return {row["id"]: Locked(**row) for row in rows}


async def run(
    session: Session,
    documents: Documents,
    leases: Sequence[Lease],
    *,
    now: datetime,
    spans: ExitStack,
) -> list[Left | timedelta | Exception | None]:
    """Run what can be run at once; `spans` are open until the caller has committed."""
    tenant_id = leases[0].tenant_id
    rows = await lock(session, [lease.key for lease in leases], now=now)
    for one in rows.values():
        # One tenant's, so all are alike.
        pause = tenants.rest_in(one.tenant_state)
        if pause is not None:
            return [pause] * len(leases)
    said, listening = await _said(session, leases, rows)
    asked = [row for row in rows.values() if row.rating_id and row.id in said and has_news(row)]
    rated = await ratings.take(session, asked, now=now) if asked else ratings.NOTHING
    plain = {}
    for lease in leases:
        row = rows.get(lease.key)
        if row is None or row.id in listening or row.id in rated.left:
            continue
        if row.id in said and has_news(row):
            document = await documents.under(session, row.instance_id, row.desired)
            if row.last_state != "running" and not document.rules.quiet_s:
                plain[row.id] = (row, said[row.id], document)
    ended, entries = await _end(session, tenant_id, list(plain.values()), now=now, spans=spans)
    if rated.entries or entries:
        await stream.append(session, tenant_id, [*rated.entries, *entries])
    return [
        rated.left[lease.key] if lease.key in rated.left else _result(lease, rows, said, ended)
        for lease in leases
    ]


async def _said(
    session: Session, leases: Sequence[Lease], rows: dict[UUID, Locked]
) -> tuple[dict[UUID, list[str]], set[UUID]]:
    """What contacts said that no turn has dealt with, newest first, of what is still leased.

    And where somebody is writing down what a voice says, so that a turn may wait for it.
    """
    there = [lease for lease in leases if lease.key in rows]
    found = await (await driver(session)).fetch(
        _SAID,
        [lease.key for lease in there],
        [lease.token for lease in there],
        [rows[lease.key].turned_number + 1 for lease in there],
        [rows[lease.key].heard_number for lease in there],
        leases[0].kind,
        MAX_MESSAGES,
    )
    said = {row["key"]: row["said"] for row in found}
    return said, {row["key"] for row in found if row["listening"]}


async def _end(
    session: Session,
    tenant_id: UUID,
    plain: Sequence[tuple[Locked, list[str], Document]],
    *,
    now: datetime,
    spans: ExitStack,
) -> tuple[set[UUID], list[Entry]]:
    """The conversations whose turns have ended, and what there is to tell."""
    if not plain:
        return set(), []
    if plain[0][0].over_quota:
        decisions = [deciding.OVER_QUOTA] * len(plain)
    else:
        decisions = await deciding.look_up(session, [(said, doc) for _, said, doc in plain])
    endings = []
    for (row, _, document), decision in zip(plain, decisions, strict=True):
        if decision.ask:
            continue
        spans.enter_context(tracing.span("turn", row.trace))
        waited = (now - row.last_message_at).total_seconds()
        STAGE_SECONDS.labels("turn_wait").observe(max(0.0, waited))
        endings.append(ending.ending(row, opened(row, now=now), decision, document))
    entries = await ending.write(session, tenant_id, endings, now=now) if endings else []
    return {one.turn.conversation_id for one in endings}, entries


def _result(
    lease: Lease, rows: dict[UUID, Locked], said: dict[UUID, list[str]], ended: set[UUID]
) -> Left | Exception | None:
    if lease.key not in rows:
        return not_found("conversation")
    if lease.key not in said:
        return LeaseLost(f"{lease.kind} {lease.key}")
    row = rows[lease.key]
    if lease.key in ended or (not has_news(row) and row.last_state != "running"):
        return None
    return Left.UNUSUAL
