"""The first run: an operator, and a demo tenant whose bot answers a customer.

Passwords are made up and written to `first-run.json` (mode 0600) before anything uses them, so a
start that is killed half-way finds them again.
"""

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit, passwords
from control_plane.access import service as access
from control_plane.access.http import House
from control_plane.channels import service as channels
from control_plane.channels.schemas import ChannelIn
from control_plane.db.session import Scope, driver, enter
from control_plane.instances import service as instances
from control_plane.kit.errors import Conflict
from control_plane.kit.ids import new_token
from control_plane.tenants import service as tenants
from control_plane.turns import answers
from control_plane.turns.schemas import AnswerItem

FILE = "first-run.json"
OPERATOR = "operator@botyard.local"
DEMO = "demo@botyard.local"
COMPANY = "示例花店 Demo Flowers"

ANSWERS = [
    ("你们几点开门？", "我们每天 9:00 开门，21:00 关门，周末也一样。"),
    ("你们几点关门？", "我们每天 21:00 关门，最后下单时间是 20:30。"),
    ("你们在哪里？", "我们在人民路 88 号，地铁 2 号线人民路站 3 号口出来走两分钟。"),
    ("可以送货上门吗？", "可以，市区满 99 元免运费，下单后两小时内送达。"),
    ("怎么退货？", "收到花后 24 小时内拍照联系我们，确认后当天退款。"),
    ("What time do you open?", "We open at 9:00 every day and close at 21:00."),
    ("Do you deliver?", "Yes, within the city in two hours; free from 99 yuan."),
]

_DEMO_CHANNEL = """
SELECT m.tenant_id, c.public_token FROM members AS m
JOIN channels AS c ON c.tenant_id = m.tenant_id AND c.kind = 'webchat' AND c.deleted_at IS NULL
WHERE m.identity_id = $1 ORDER BY c.id LIMIT 1
"""


@dataclass(frozen=True, kw_only=True)
class FirstRun:
    """What a newcomer needs; also in `first-run.json`."""

    url: str
    operator: dict[str, str]
    demo: dict[str, str]
    new: bool


async def first_run(house: House, data_dir: Path) -> FirstRun | None:
    """Make what a newcomer needs, once; None when it exists and the file was removed."""
    file = data_dir / FILE
    kept = _read(file)
    async with house.database.session() as session:
        known = await access.find_identity(session, OPERATOR)
    if known is not None and kept is None:
        return None
    secrets = kept or {
        "url": house.public_url,
        "operator": {"email": OPERATOR, "password": new_token()[:20]},
        "demo": {"email": DEMO, "password": new_token()[:20]},
    }
    if kept is None:
        _write(file, secrets)
    if known is None:
        await _make(house, secrets)
    complete = await _describe(house, secrets)
    if complete != kept:
        _write(file, complete)
    return FirstRun(
        url=complete["url"],
        operator=complete["operator"],
        demo=complete["demo"],
        new=known is None,
    )


async def make_operator(house: House, email: str) -> str:
    """A new operator; the password, which nobody can read again. Raises Conflict if known."""
    password = new_token()[:20]
    password_hash = await passwords.hash_password(password)
    async with house.database.session() as session:
        if await access.find_identity(session, email) is not None:
            raise Conflict("email_taken", f"There is an account for {email} already.")
        now = house.clock.now()
        await _operator(session, email, password_hash, now=now)
    return password


async def _operator(
    session: AsyncSession, email: str, password_hash: str, *, now: datetime
) -> None:
    made = await access.create_identity(
        session, email=email, password_hash=password_hash, operator=True, now=now
    )
    audit.record(
        session,
        actor=None,
        tenant_id=audit.PLATFORM,
        action="operator.create",
        target=("identity", made.id),
        now=now,
    )


async def _make(house: House, secrets: dict[str, Any]) -> None:
    operator_hash = await passwords.hash_password(secrets["operator"]["password"])
    demo_hash = await passwords.hash_password(secrets["demo"]["password"])
    now = house.clock.now()
    async with house.database.session() as session:
        await _operator(session, OPERATOR, operator_hash, now=now)
        made = await tenants.create(
            session, company=COMPANY, email=DEMO, password_hash=demo_hash, now=now, plan="standard"
        )
        await enter(session, Scope(tenants=(made.tenant_id,)))
        await tenants.move(session, made.tenant_id, "approve", actor=None, now=now)
        await _make_bot(session, house, made.tenant_id)


async def _make_bot(session: AsyncSession, house: House, tenant_id: UUID) -> None:
    now = house.clock.now()
    bot = await instances.create(
        session, tenant_id=tenant_id, name="前台 Reception", actor=None, now=now
    )
    await channels.create(
        session,
        house.keys,
        instance_id=bot.id,
        body=ChannelIn(
            kind="webchat",
            name="网页 Web",
            settings={
                "title": COMPANY,
                "greeting": "您好！请问有什么可以帮您？ Hello, how can I help?",
            },
        ),
        actor=None,
        now=now,
    )
    await answers.replace(
        session,
        tenant_id=tenant_id,
        items=[AnswerItem(question=question, answer=answer) for question, answer in ANSWERS],
        actor=None,
        now=now,
    )


async def _describe(house: House, secrets: dict[str, Any]) -> dict[str, Any]:
    """With the ids and addresses of now: the port may be another than last time."""
    async with house.database.session() as session:
        demo = await access.find_identity(session, DEMO)
    complete = secrets | {"url": house.public_url}
    if demo is None:
        return complete
    async with house.database.session(Scope(identity=demo.id)) as session:
        mine = await access.memberships(session, demo.id)
    scope = Scope(tenants=tuple(item.tenant_id for item in mine))
    async with house.database.session(scope) as session:
        row = await (await driver(session)).fetchrow(_DEMO_CHANNEL, demo.id)
    if row is not None:
        complete["demo"] = secrets["demo"] | {
            "tenant_id": str(row["tenant_id"]),
            "webchat_url": f"{house.public_url}/webchat/{row['public_token']}",
        }
    return complete


def _read(file: Path) -> dict[str, Any] | None:
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return kept


def _write(file: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, and only for its owner."""
    partial = file.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(content, stream, ensure_ascii=False, indent=2)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
