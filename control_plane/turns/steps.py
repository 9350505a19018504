"""Steps of a turn: each result is stored under (turn, step), so a crash repeats none."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from control_plane.db.session import Session, driver
from control_plane.turns.running import Running

_STEP = "SELECT result FROM turn_steps WHERE turn_id = $1 AND step = $2"
_KEEP = """
INSERT INTO turn_steps (turn_id, step, tenant_id, result, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
"""
_MODELS = """
SELECT turn_id, result FROM turn_steps WHERE turn_id = ANY($1::uuid[]) AND step LIKE 'infer.%'
ORDER BY turn_id, step
"""


async def known(session: Session, turn: Running, step: str) -> dict[str, Any] | None:
    """What a step came to, if it was done."""
    found = await (await driver(session)).fetchval(_STEP, turn.id, step)
    return None if found is None else json.loads(found)


async def keep(
    session: Session, turn: Running, step: str, result: dict[str, Any], *, now: datetime
) -> None:
    """Store what a step came to."""
    await (await driver(session)).execute(
        _KEEP, turn.id, step, turn.tenant_id, json.dumps(result), now
    )


async def of_models(session: Session, turns: list[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    """What the models that turns have asked came to, in the order in which they were asked."""
    found: dict[UUID, list[dict[str, Any]]] = {turn: [] for turn in turns}
    for row in await (await driver(session)).fetch(_MODELS, turns):
        found[row["turn_id"]].append(json.loads(row["result"]))
    return found
