"""Looks for what lost hints were about: one look of the process for all pages, not one for each.

A hint wakes a page at once. Should one be lost, the next look finds that the visitor's messages go
on behind what the page was shown, or that somebody else answers, and wakes that page alone.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import structlog

from control_plane.bus.hints import POLL_S, Wake
from control_plane.db.session import DATABASE_ERRORS, Database, Scope, driver
from control_plane.kit.metrics import LOOP_FAILURES, LOOP_SUCCESS

NAME = "webchat.lookout"
# Pages of one statement: some milliseconds of the database each.
PAGES = 1_000

_BEHIND = """
SELECT p.n FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[])
    AS p (n, visitor_id, channel_id, seq, owner_version)
JOIN webchat_visitors AS v ON v.id = p.visitor_id
LEFT JOIN conversations AS c
    ON c.channel_id = p.channel_id AND c.key_type = 'direct' AND c.key = p.visitor_id::text
WHERE v.last_seq > p.seq OR c.owner_version <> p.owner_version
"""

log = structlog.get_logger()


class Position(Protocol):
    """What a page was shown last."""

    seq: int
    owner: tuple[str, int] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Page:
    """A connected page; `shown` moves on as it is told."""

    tenant_id: UUID
    channel_id: UUID
    visitor_id: UUID
    shown: Position
    wake: Wake


class Lookout:
    """Runs while there are pages."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pages: set[Page] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, page: Page) -> Iterator[None]:
        """Wake the page when it is behind, until the block ends."""
        self._pages.add(page)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._run(), name=NAME)
        try:
            yield
        finally:
            self._pages.discard(page)
            if not self._pages and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def look(self) -> None:
        """Wake every page that is behind."""
        pages = list(self._pages)
        for start in range(0, len(pages), PAGES):
            for page in await self._behind(pages[start : start + PAGES]):
                page.wake.set()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.look()
            except (*DATABASE_ERRORS, TimeoutError) as error:
                LOOP_FAILURES.labels(NAME).inc()
                log.warning("pages not looked after", error=type(error).__name__)
            else:
                LOOP_SUCCESS.labels(NAME).set_to_current_time()

    async def _behind(self, pages: Sequence[Page]) -> list[Page]:
        tenants = tuple(sorted({page.tenant_id for page in pages}))
        async with self._database.plain(Scope(tenants=tenants)) as session:
            rows = await (await driver(session)).fetch(
                _BEHIND,
                list(range(len(pages))),
                [page.visitor_id for page in pages],
                [page.channel_id for page in pages],
                [page.shown.seq for page in pages],
                [page.shown.owner[1] if page.shown.owner else -1 for page in pages],
            )
        return [pages[row["n"]] for row in rows]
