"""`botyard instances`: what runs, why it does not, and the few things to do about it by hand.

Reads the database as operators do, whatever the tenant; writes are in the audit as the system's.
Exit codes: 0 done, 1 it could not be done (and what to do instead), 2 it was asked wrongly.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import DATABASE_ERRORS, Database, Scope, driver
from control_plane.fleet import orphans
from control_plane.fleet.provision.base import Provisioner, ProvisionError
from control_plane.instances import service as instances
from control_plane.kit.clock import Clock
from control_plane.kit.errors import BotyardError, NotFound

# Rows that a person still looks through; `--limit` asks for more.
SHOWN = 200

_ROWS = """
SELECT i.id, i.tenant_id, t.name AS tenant, i.name, i.cell, i.desired, i.phase, i.generation,
    i.observed_generation, i.asleep_at, i.conditions, i.created_at, i.updated_at
FROM instances AS i JOIN tenants AS t ON t.id = i.tenant_id
WHERE i.phase <> 'deleted' AND ($1::uuid IS NULL OR i.tenant_id = $1)
  AND ($2::text IS NULL OR i.phase = $2) AND ($3::text IS NULL OR i.cell = $3)
  AND ($4::uuid IS NULL OR i.id = $4)
ORDER BY i.id LIMIT $5
"""
_AGENT = """
SELECT id, state, generation, version, created_at, seen_at FROM agent_sessions
WHERE instance_id = $1 AND state IN ('standby', 'active') ORDER BY state, id DESC LIMIT 1
"""
_COLOURS = {
    "running": "green",
    "degraded": "yellow",
    "crash_loop": "red",
    "stopped": "dim",
    "hibernated": "dim",
}

# Whoever reads a file or a pipe wraps lines as they like.
_PIPED = 240

out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED)
wrong = Console(stderr=True, highlight=False)
instances_cli = typer.Typer(
    no_args_is_help=True,
    help=(
        "Bots of all tenants: what runs, why it does not, and what to do about it.\n\n"
        "Needs BOTYARD_DATABASE_URL and BOTYARD_SECRET_KEYS as the processes have them. "
        "[bold]-o json[/bold] is for programs: its keys stay."
    ),
)


class Form(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the commands work with, opened when it is needed; kept as the context's `obj`."""

    open: Callable[[], AbstractAsyncContextManager[tuple[Database, Clock]]]
    place: Callable[[str, Path | None], AbstractAsyncContextManager[Provisioner]]


InstanceId = Annotated[UUID, typer.Argument(help="The bot's id; `list` shows them.")]
Output = Annotated[Form, typer.Option("--output", "-o", help="For people or for programs.")]


@instances_cli.command("list")
def list_all(
    context: typer.Context,
    tenant: Annotated[UUID | None, typer.Option(help="Only this tenant's, by its id.")] = None,
    phase: Annotated[str | None, typer.Option(help="Only these, e.g. crash_loop.")] = None,
    cell: Annotated[str | None, typer.Option(help="Only this cell's; '' is the first.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = SHOWN,
    output: Output = Form.TABLE,
) -> None:
    """Show bots, oldest first, and what each one waits for."""

    async def act(database: Database, clock: Clock) -> None:
        rows = await _read(database, (tenant, phase, cell, None, limit + 1))
        shown = rows[:limit]
        if output == Form.JSON:
            _json([_shown(row) for row in shown])
        else:
            out.print(_table(shown, clock.now()))
        if len(rows) > limit:
            wrong.print(f"There are more than {limit}: narrow it down, or give --limit.")

    _do(context, act)


@instances_cli.command()
def get(context: typer.Context, instance_id: InstanceId, output: Output = Form.TABLE) -> None:
    """Show one bot: what is wanted, what is there, and each condition with its reason."""

    async def act(database: Database, clock: Clock) -> None:
        row = await _find(database, instance_id)
        async with database.session(Scope(tenants=(row["tenant_id"],))) as session:
            agent = await (await driver(session)).fetchrow(_AGENT, instance_id)
        shown = _shown(row) | {"agent": _plain(dict(agent)) if agent else None}
        if output == Form.JSON:
            _json(shown)
        else:
            _describe(shown, clock.now())

    _do(context, act)


@instances_cli.command()
def restart(context: typer.Context, instance_id: InstanceId) -> None:
    """Replace a bot's agent by a new one; earlier failures are forgotten."""

    async def write(session: AsyncSession, now: datetime) -> None:
        await instances.restart(session, instance_id, actor=None, now=now)

    _write(context, instance_id, write, "It is being restarted.")


@instances_cli.command()
def hibernate(context: typer.Context, instance_id: InstanceId) -> None:
    """Let a bot sleep until its next message, where every one of its channels can wake it."""

    async def write(session: AsyncSession, now: datetime) -> None:
        await instances.hibernate(session, instance_id, actor=None, now=now)

    _write(context, instance_id, write, "It goes to sleep.")


@instances_cli.command()
def reconcile(context: typer.Context, instance_id: InstanceId) -> None:
    """Have a controller look at a bot now, instead of within five minutes."""

    async def write(session: AsyncSession, now: datetime) -> None:
        await instances.reconcile(session, instance_id, actor=None, now=now)

    _write(context, instance_id, write, "A controller looks at it.")


@instances_cli.command()
def logs(
    context: typer.Context,
    instance_id: InstanceId,
    tail: Annotated[int, typer.Option(min=1, max=10_000, help="Lines from the end.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where agents that are processes live. Default: .botyard.")
    ] = None,
) -> None:
    """Show the end of an agent's log. Agents that are processes: on the machine where they run."""
    desk: Desk = context.obj

    async def act(database: Database, clock: Clock) -> None:
        row = await _find(database, instance_id)
        lines = 0
        async with desk.place(row["cell"], data_dir) as provisioner:
            async for line in provisioner.logs(instance_id, tail=tail, follow=follow):
                lines += 1
                typer.echo(_printable(line))
        if not lines:
            where = f" (cell {row['cell']!r})" if row["cell"] else ""
            _fail(
                f"There is no log of it here{where}.",
                "Ask on the machine that runs it, with the --data-dir of its controller.",
            )

    _do(context, act)


@instances_cli.command("orphans")
def list_orphans(context: typer.Context, output: Output = Form.TABLE) -> None:
    """Show what runs although no row wants it, and how far its removal is."""

    async def act(database: Database, clock: Clock) -> None:
        async with database.session(Scope(operator=True)) as session:
            rows = [_plain(dict(row)) for row in await orphans.listed(session)]
        if output == Form.JSON:
            _json(rows)
        else:
            out.print(_strays(rows, clock.now()) if rows else "There are none.")

    _do(context, act)


async def _find(database: Database, instance_id: UUID) -> Any:
    rows = await _read(database, (None, None, None, instance_id, 1))
    if not rows:
        raise NotFound("instance_not_found", f"There is no bot {instance_id}.")
    return rows[0]


async def _read(database: Database, wanted: Sequence[object]) -> Sequence[Any]:
    async with database.session(Scope(operator=True)) as session:
        rows: Sequence[Any] = await (await driver(session)).fetch(_ROWS, *wanted)
    return rows


def _write(
    context: typer.Context,
    instance_id: UUID,
    write: Callable[[AsyncSession, datetime], Awaitable[None]],
    said: str,
) -> None:
    async def act(database: Database, clock: Clock) -> None:
        row = await _find(database, instance_id)
        async with database.session(Scope(tenants=(row["tenant_id"],))) as session:
            await write(session, clock.now())
        out.print(f"{said} [bold]botyard instances get {instance_id}[/bold] shows how it goes.")

    _do(context, act)


def _do(
    context: typer.Context, act: Callable[[Database, Clock], Coroutine[Any, Any, None]]
) -> None:
    """Open the desk, act, and say in plain words what could not be done."""
    desk: Desk = context.obj

    async def run() -> None:
        async with desk.open() as (database, clock):
            await act(database, clock)

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except NotFound as error:
        _fail(str(error), "botyard instances list shows those that there are.")
    except BotyardError as error:
        _fail(str(error), "botyard instances get shows how it stands.")
    except ProvisionError as error:
        _fail(f"Where it runs cannot be asked: {error}", "Run botyard doctor on that machine.")
    except DATABASE_ERRORS as error:
        what = f"The database cannot be asked: {type(error).__name__}."
        _fail(what, "Check BOTYARD_DATABASE_URL; botyard doctor says more.")


def _fail(what: str, advice: str) -> NoReturn:
    wrong.print(f"[red]{what}[/red]", soft_wrap=True)
    wrong.print(advice, soft_wrap=True)
    raise typer.Exit(1)


def _table(rows: Sequence[Any], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("ID", "NAME", "TENANT", "PHASE", "WAITS FOR", "AGE"):
        table.add_column(name, no_wrap=name in ("ID", "PHASE", "AGE"))
    several = any(row["cell"] for row in rows)
    if several:
        table.add_column("CELL")
    for row in rows:
        phase = _coloured(row["phase"])
        waits = _waits_for(json.loads(row["conditions"]))
        age = _ago(row["created_at"], now)
        names = (_safe(row["name"]), _safe(row["tenant"]))
        cells = [str(row["id"]), *names, phase, _safe(waits), age]
        table.add_row(*cells, *([row["cell"]] if several else []))
    return table


def _strays(rows: Sequence[dict[str, Any]], now: datetime) -> Table:
    table = Table("FOUND", "STATE", "CELL", "BOT", "TENANT", "RUNS AS", box=None, pad_edge=False)
    for row in rows:
        since = _ago(datetime.fromisoformat(row["first_seen_at"]), now)
        cells = (row["cell"], row["instance_id"], row["tenant_id"], row["ref"])
        table.add_row(f"{since} ago", row["state"], *(_safe(str(each or "-")) for each in cells))
    return table


def _describe(shown: dict[str, Any], now: datetime) -> None:
    agent = shown["agent"]
    facts = [
        ("Bot", f"{_safe(shown['name'])}  {shown['id']}"),
        ("Tenant", f"{_safe(shown['tenant'])}  {shown['tenant_id']}"),
        ("Phase", _coloured(shown["phase"])),
        ("Wanted", f"{shown['desired']}, generation {shown['generation']}"),
        ("Observed", f"generation {shown['observed_generation']}"),
        ("Cell", shown["cell"] or "-"),
        ("Agent", f"{agent['state']}, version {_safe(agent['version'])}" if agent else "none"),
    ]
    if agent:
        facts.append(("Heard", f"{_ago(datetime.fromisoformat(agent['seen_at']), now)} ago"))
    if shown["asleep_at"]:
        facts.append(("Asleep", f"for {_ago(datetime.fromisoformat(shown['asleep_at']), now)}"))
    for name, value in facts:
        out.print(f"{name + ':':<10}{value}", soft_wrap=True)
    table = Table("CONDITION", "HOLDS", "REASON", "FOR", "MESSAGE", box=None, pad_edge=False)
    for held in shown["conditions"]:
        holds = "[green]yes[/green]" if held["status"] else "[red]no[/red]"
        since = _ago(datetime.fromisoformat(held["at"]), now)
        table.add_row(held["type"], holds, held["reason"], since, _safe(held["message"]))
    out.print(table)


def _shown(row: Any) -> dict[str, Any]:
    return _plain(dict(row)) | {"conditions": json.loads(row["conditions"])}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON takes it."""

    def one(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        return str(value) if isinstance(value, UUID) else value

    return {name: one(value) for name, value in values.items()}


def _json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def _waits_for(conditions: list[dict[str, Any]]) -> str:
    for held in conditions:
        if not held["status"]:
            said = held["message"].splitlines()
            return f"{held['reason']}: {said[0]}" if said else str(held["reason"])
    return ""


def _safe(text: str) -> str:
    """What tenants and agents wrote, with no say over the terminal."""
    return escape(_printable(text))


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() or each in "\t\n" else "\ufffd" for each in text)


def _coloured(phase: str) -> str:
    colour = _COLOURS.get(phase)
    return f"[{colour}]{phase}[/{colour}]" if colour else phase


def _ago(moment: datetime, now: datetime) -> str:
    seconds = max(0, int((now - moment).total_seconds()))
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {letter}"
    return f"{seconds} s"
