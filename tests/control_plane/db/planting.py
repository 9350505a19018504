"""The schema as the catalogue describes it, and a row of every table for two tenants."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from control_plane.db.session import Database, Scope, driver
from control_plane.kit.ids import new_id

WITHOUT_WALLS = {"work", "routes", "credentials", "identities", "alembic_version"}
"""Keys and ids only, no content: the closed list of design section 7."""

OF_THE_PLATFORM = {"orphans", "plans", "releases", "rollouts", "rollout_members"}
"""Nobody's: everybody reads plans and releases, operators write all of it."""

TABLES = """
SELECT c.oid, c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
       c.relispartition AS partition
FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY c.relname
"""
COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS needed,
       a.atthasdef AS given
FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
REFERENCES = """
SELECT r.relname AS target,
       (SELECT array_agg(attname::text ORDER BY o)
        FROM unnest(k.conkey) WITH ORDINALITY AS n (i, o)
        JOIN pg_attribute ON attrelid = k.conrelid AND attnum = i) AS columns,
       (SELECT array_agg(attname::text ORDER BY o)
        FROM unnest(k.confkey) WITH ORDINALITY AS n (i, o)
        JOIN pg_attribute ON attrelid = k.confrelid AND attnum = i) AS target_columns
FROM pg_constraint AS k JOIN pg_class AS r ON r.oid = k.confrelid
WHERE k.conrelid = $1 AND k.contype = 'f' AND k.conparentid = 0
"""
# The first of the values that a CHECK (x IN (...)) allows.
ALLOWED = """
SELECT a.attname AS name, (regexp_match(pg_get_constraintdef(k.oid), '''([^'']*)'''))[1] AS value
FROM pg_constraint AS k JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
WHERE k.conrelid = $1 AND k.contype = 'c' AND cardinality(k.conkey) = 1
"""


@dataclass
class Table:
    """A table as the catalogue describes it."""

    oid: int
    name: str
    enabled: bool
    forced: bool
    partition: bool
    columns: dict[str, asyncpg.Record] = field(default_factory=dict)
    references: list[asyncpg.Record] = field(default_factory=list)
    allowed: dict[str, str] = field(default_factory=dict)

    @property
    def owner_column(self) -> str | None:
        """The column that says whose row it is."""
        if self.name == "tenants":
            return "id"
        return "tenant_id" if "tenant_id" in self.columns else None

    @property
    def walled(self) -> bool:
        return not self.partition and self.name not in WITHOUT_WALLS | OF_THE_PLATFORM


@dataclass
class Planted:
    """One row in every table for one tenant."""

    tenant_id: UUID
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def scope(self) -> Scope:
        return Scope(tenants=(self.tenant_id,))


@pytest.fixture
async def tables(superuser: asyncpg.Connection) -> list[Table]:
    return await read_tables(superuser)


async def read_tables(superuser: asyncpg.Connection) -> list[Table]:
    """All tables of a database."""
    found = [Table(**dict(row)) for row in await superuser.fetch(TABLES)]
    for table in found:
        columns = await superuser.fetch(COLUMNS, table.oid)
        table.columns = {column["name"]: column for column in columns}
        table.references = await superuser.fetch(REFERENCES, table.oid)
        table.allowed = {
            row["name"]: row["value"] for row in await superuser.fetch(ALLOWED, table.oid)
        }
    return found


@pytest.fixture
async def planted(database: Database, tables: list[Table]) -> tuple[Planted, Planted]:
    """Two tenants with a row in every table, written as the application."""
    return await plant(database, tables, 1), await plant(database, tables, 2)


async def plant(database: Database, tables: list[Table], number: int) -> Planted:
    planted = Planted(new_id())
    # The audit's first row makes its head.
    walled = [table for table in tables if table.walled and table.name != "audit_heads"]
    left = walled + [table for table in tables if table.name == "identities"]
    async with database.session(planted.scope) as session:
        connection = await driver(session)
        while left:
            ready = next(
                table
                for table in left
                if {reference["target"] for reference in table.references} - OF_THE_PLATFORM
                <= planted.rows.keys()
            )
            row = minimal(ready, planted, number)
            await insert(connection, ready.name, row)
            planted.rows[ready.name] = row
            left.remove(ready)
    return planted


def minimal(table: Table, planted: Planted, number: int) -> dict[str, Any]:
    """A value for each column that needs one, referring to what was planted before."""
    values: dict[str, Any] = {
        "uuid": None,
        "text": f"{table.name} {number}",
        "text[]": ["ab", "bc"],
        "integer[]": [3, 4],
        "bigint": 1,
        "integer": 1,
        "boolean": False,
        "jsonb": "{}",
        "bytea": f"{table.name} {number}".encode(),
        "timestamp with time zone": datetime(2026, 1, 1, tzinfo=UTC),
    }
    row = {
        name: table.allowed.get(name) or values[column["type"]] or new_id()
        for name, column in table.columns.items()
        if column["needed"] and (not column["given"] or name in table.allowed)
    }
    for reference in table.references:
        if reference["target"] in OF_THE_PLATFORM:
            continue
        target = planted.rows[reference["target"]]
        pairs = zip(reference["columns"], reference["target_columns"], strict=True)
        row |= {name: target[there] for name, there in pairs if name in row}
    if table.owner_column:
        row[table.owner_column] = planted.tenant_id
    return row


async def insert(connection: asyncpg.Connection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${n + 1}" for n in range(len(row)))
    statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})"  # noqa: S608
    await connection.execute(statement, *row.values())


async def visible(database: Database, scope: Scope, tables: list[Table]) -> dict[str, set[UUID]]:
    """Whose rows of each walled table a scope sees; tables without any are left out."""
    async with database.session(scope) as session:
        connection = await driver(session)
        found = {
            table.name: {
                row[0]
                for row in await connection.fetch(
                    f"SELECT {table.owner_column} FROM {table.name}"  # noqa: S608
                )
            }
            for table in tables
            if table.walled
        }
    return {name: tenants for name, tenants in found.items() if tenants}


async def refusal(database: Database, scope: Scope, statement: str, *values: Any) -> str:
    """What PostgreSQL says to a statement of the application; empty when it allows it."""
    try:
        async with database.session(scope) as session:
            await (await driver(session)).execute(statement, *values)
    except asyncpg.InsufficientPrivilegeError as error:
        return str(error)
    return ""
