"""The application's own scoping switched off: it serves one tenant, the walls let it see another.

Whoever calls is recognised as usual. From then on every transaction of the request speaks for
another tenant, whatever the application asks for: as if each of its own conditions, and each
scope that it sets, were wrong. What it then shows and changes is the work of the database alone.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from control_plane.access import http
from control_plane.access import routes as access
from control_plane.db import session as sessions
from control_plane.db.session import Scope, enter
from tests.control_plane.walls.furnish import Tenant
from tests.control_plane.walls.operations import GUARDED, Operation
from tests.control_plane.walls.test_foreign import strange, unpacked

together = pytest.mark.asyncio(loop_scope="module")

OPENED = (
    "SELECT set_config('botyard.tenants', '{tenant}', true), set_config('botyard.identity', '',"
    " true), set_config('botyard.operator', '', true), CAST(:tenants AS text),"
    " CAST(:identity AS text), CAST(:operator AS text)"
)
"""What the application says is taken, and nobody looks at it."""

FROM_THE_TOKEN = {"tenant_id", "session_id"}
"""Ids that the caller showed, and that an answer may repeat."""


class Misled:
    """Lets the database see `instead`, as soon as somebody was recognised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, instead: Tenant) -> None:
        self._plain = sessions._ENTER
        self._wrong = text(OPENED.format(tenant=instead.ids["tenant_id"]))
        self._authenticate = http.authenticate
        self._monkeypatch = monkeypatch
        for module in (http, access):
            if hasattr(module, "authenticate"):
                monkeypatch.setattr(module, "authenticate", self.authenticate)

    async def authenticate(self, *arguments: Any) -> http.Call:
        call = await self._authenticate(*arguments)
        self._monkeypatch.setattr(sessions, "_ENTER", self._wrong)
        await enter(call.session, Scope(tenants=(call.actor.tenant_id,)))
        return call

    def recover(self) -> None:
        self._monkeypatch.setattr(sessions, "_ENTER", self._plain)


@pytest.fixture
def misled(stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Misled]:
    misled = Misled(monkeypatch, stage.world.mine)
    yield misled
    misled.recover()


@together
class TestAnApplicationThatServesTheWrongTenant:
    """The caller, their role and all ids are of one tenant; the walls are of another."""

    @pytest.mark.parametrize("operation", GUARDED, ids=str)
    async def test_shows_and_changes_nothing_of_it(
        self, stage, misled: Misled, operation: Operation
    ) -> None:
        theirs = stage.world.theirs
        headers = theirs.callers["owner"]
        before = await stage.fingerprint.of_tenant(theirs.ids["tenant_id"])
        body = {"json": operation.body(theirs)} if operation.takes_body else {}
        answer = await stage.send(headers, operation.method, operation.url(theirs), **body)

        named = {str(theirs.ids[name]) for name in FROM_THE_TOKEN | set(operation.parameters)}
        assert set(strange(unpacked(answer), theirs)) - named == set()
        assert await stage.fingerprint.of_tenant(theirs.ids["tenant_id"]) == before

    async def test_would_show_it_were_it_not_for_the_walls(
        self, stage, misled: Misled, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same calls when the database is told the truth: else the tests above are blind."""
        misled._wrong = misled._plain
        theirs = stage.world.theirs
        shown = set()
        for operation in GUARDED:
            if operation.method == "GET":
                url = operation.url(theirs)
                answer = await stage.send(theirs.callers["owner"], "GET", url)
                shown |= set(strange(unpacked(answer), theirs))

        assert theirs.marks - shown <= {str(theirs.ids[one]) for one in ("session_id", "media_id")}
