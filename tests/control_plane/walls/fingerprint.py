"""What a database holds, as a number for each table."""

from dataclasses import dataclass

import asyncpg

BOOKKEEPING = {
    # When a key was last used, which is as true of a request that was refused.
    "api_keys": ["last_used_at"],
}
"""Columns that may change although nothing was allowed, and why."""

_TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname
"""
_OWNED = """
SELECT relname, CASE WHEN relname = 'tenants' THEN 'id' ELSE 'tenant_id' END
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
AND NOT relispartition AND relrowsecurity
AND relname NOT IN ('plans', 'releases', 'rollouts') ORDER BY relname
"""


@dataclass(frozen=True)
class Fingerprint:
    """Reads everything in one statement, as a superuser, whom no wall stops."""

    superuser: asyncpg.Connection
    everything: str
    walled: str

    @classmethod
    async def of(cls, superuser: asyncpg.Connection) -> "Fingerprint":
        names = [row[0] for row in await superuser.fetch(_TABLES)]
        owned = await superuser.fetch(_OWNED)
        return cls(
            superuser,
            " UNION ALL ".join(_sum(name) for name in names),
            " UNION ALL ".join(_sum(name, f"WHERE {column} = $1") for name, column in owned),
        )

    async def take(self) -> dict[str, tuple[int, int]]:
        """(rows, sum of their hashes) of every table."""
        return _read(await self.superuser.fetch(self.everything))

    async def of_tenant(self, tenant_id: object) -> dict[str, tuple[int, int]]:
        """The same over the rows of one tenant behind the walls."""
        return _read(await self.superuser.fetch(self.walled, tenant_id))


def _sum(table: str, where: str = "") -> str:
    kept = "".join(f" - '{column}'" for column in BOOKKEEPING.get(table, ()))
    return (
        f"SELECT '{table}' AS name, count(*) AS rows,"  # noqa: S608 - names of the catalogue
        f" coalesce(sum(hashtextextended((to_jsonb(t){kept})::text, 0)), 0) AS hash"
        f" FROM {table} AS t {where}"
    )


def _read(rows: list[asyncpg.Record]) -> dict[str, tuple[int, int]]:
    return {row["name"]: (row["rows"], int(row["hash"])) for row in rows}
