"""Every method of every path, called with another tenant's ids."""

import io
import re
import zipfile
from typing import Any
from uuid import UUID

import httpx2
import pytest

from tests.control_plane.walls.furnish import Tenant
from tests.control_plane.walls.operations import (
    DESCRIBED,
    OPERATIONS,
    PUBLIC_ADDRESS,
    Operation,
)

together = pytest.mark.asyncio(loop_scope="module")

NAMED = [one for one in OPERATIONS if set(one.parameters) - PUBLIC_ADDRESS]
READS = [one for one in OPERATIONS if one.method == "GET" and one.path.startswith("/api/v1/")]

SPOKEN: dict[tuple[str, str], Any] = {
    ("LoginIn", "tenant_id"): ("POST", "/api/v1/auth/login"),
    ("SwitchIn", "tenant_id"): ("POST", "/api/v1/auth/switch"),
    ("DeadLettersIn", "channel_id"): ("POST", "/api/v1/dead-letters/replay"),
    ("DeadLettersIn", "instance_id"): ("POST", "/api/v1/dead-letters/replay"),
    ("BulkIn", "remove"): ("POST", "/api/v1/blacklist/bulk"),
    ("EntryIn", "channel_id"): ("POST", "/api/v1/blacklist"),
    ("EntryIn", "contact_id"): ("POST", "/api/v1/blacklist"),
    ("EntryIn", "instance_id"): ("POST", "/api/v1/blacklist"),
    ("SeenIn", "note_id"): ("PUT", "/api/v1/conversations/{conversation_id}/seen"),
    ("TalkNoteIn", "mentions"): ("POST", "/api/v1/conversations/{conversation_id}/notes"),
    ("NotePatch", "mentions"): ("PATCH", "/api/v1/notes/{note_id}"),
    ("InvitationIn", "role"): ("POST", "/api/v1/invitations"),
    ("TransferIn", "member_id"): ("POST", "/api/v1/conversations/{conversation_id}/transfer"),
    ("MemberPatch", "role"): ("PATCH", "/api/v1/members/{member_id}"),
}
"""The ids in bodies, and where each is sent."""


def own_proof(operation: Operation) -> int | None:
    """What is answered where a person's token proves nothing: agents sign, browsers come back."""
    if operation.path == "/api/v1/auth/sign-on/callback/{tenant_id}":
        return 303
    agents = operation.path.startswith(
        (
            "/api/v1/instances/{instance_id}/blacklist",
            "/api/v1/instances/{instance_id}/media",
            "/api/v1/instances/{instance_id}/leases",
        )
    )
    return 401 if agents or operation.path.endswith("/bootstrap") else None


def strange(answer_text: str, tenant: Tenant) -> list[str]:
    """What of this tenant is in an answer."""
    return sorted(mark for mark in tenant.marks if mark in answer_text)


def unpacked(answer: httpx2.Response) -> str:
    """The text of an answer, or of all files in it."""
    if answer.headers.get("content-type") != "application/zip":
        return answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return "\n".join(archive.read(name).decode() for name in archive.namelist())


@together
class TestAnothersIdInThePath:
    @pytest.mark.parametrize("operation", NAMED, ids=str)
    async def test_is_no_id_at_all(self, stage, operation: Operation) -> None:
        before = await stage.fingerprint.take()
        answer = await stage.ask("owner", operation, stage.world.theirs)

        wanted = {own_proof(operation) or 404, 403 if own_proof(operation) is None else 401}
        assert answer.status_code in wanted, answer.text
        assert strange(answer.text, stage.world.theirs) == []
        assert await stage.fingerprint.take() == before

    @pytest.mark.parametrize("operation", NAMED, ids=str)
    async def test_is_answered_like_one_that_was_never_given(
        self, stage, operation: Operation
    ) -> None:
        theirs = stage.world.theirs
        made_up = Tenant(name="", owner=theirs.owner, ids=dict(theirs.ids))
        for name in set(operation.parameters) - PUBLIC_ADDRESS:
            made_up.ids[name] = UUID(int=UUID(str(theirs.ids[name])).int ^ 1)
        answers = [await stage.ask("owner", operation, whose) for whose in (theirs, made_up)]

        assert answers[0].status_code == answers[1].status_code
        assert answers[0].headers.get("location") == answers[1].headers.get("location")
        assert answers[0].text == answers[1].text


class TestTheListOfIdsInBodies:
    def test_is_complete(self) -> None:
        bodies = set(re.findall(r'"#/components/schemas/(\w+)"', str(taken()).replace("'", '"')))
        found = {
            (body, name)
            for body in bodies
            for name, field in DESCRIBED["components"]["schemas"][body]
            .get("properties", {})
            .items()
            if "'format': 'uuid'" in str(field)
        }

        assert found == SPOKEN.keys()


@together
class TestAnothersIdInTheBody:
    @pytest.mark.parametrize("where", SPOKEN.values(), ids=str)
    async def test_is_no_id_at_all(self, stage, where: tuple[str, str]) -> None:
        mine, theirs = stage.world.mine, stage.world.theirs
        operation = next(one for one in OPERATIONS if (one.method, one.path) == where)
        body = operation.body(theirs)
        if "password" in body:
            body["email"] = mine.owner.email
        before = await stage.fingerprint.take()
        answer = await stage.ask("owner", operation, mine, json=body)

        assert answer.status_code in {401, 403, 404}, answer.text
        assert strange(answer.text, theirs) == []
        after = await stage.fingerprint.take()
        changed = {name for name in after if after[name] != before[name]}
        # Each attempt to sign in is counted before the password is looked at.
        assert changed <= ({"identities"} if operation.path.endswith("/login") else set())

    async def test_nor_is_another_tenant_in_the_header_of_support(self, stage) -> None:
        header = {"x-botyard-tenant": str(stage.world.theirs.ids["tenant_id"])}
        for caller in ("owner", "viewer", "key with every scope"):
            headers, _ = stage.world.caller(caller)
            for operation in READS:
                url = operation.url(stage.world.theirs)
                answer = await stage.send(headers | header, "GET", url)
                assert strange(answer.text, stage.world.theirs) == []


def taken() -> list[Any]:
    """What the bodies of all operations are made of."""
    return [
        operation["requestBody"]
        for path in DESCRIBED["paths"].values()
        for operation in path.values()
        if "requestBody" in operation
    ]


@together
class TestWhatIsRead:
    @pytest.mark.parametrize("operation", READS, ids=str)
    @pytest.mark.parametrize("caller", ["owner", "key with every scope", "support access"])
    async def test_holds_nothing_of_another_tenant(
        self, stage, caller: str, operation: Operation
    ) -> None:
        answer = await stage.ask(caller, operation)

        assert strange(unpacked(answer), stage.world.theirs) == []
        assert strange(unpacked(answer), stage.world.suspended) == []

    async def test_holds_what_is_ones_own(self, stage) -> None:
        """Else the search for what is not would find nothing in anything."""
        shown = set()
        for operation in READS:
            answer = await stage.ask("owner", operation)
            shown |= set(strange(unpacked(answer), stage.world.mine))

        # Room that was reserved is shown nowhere until something is in it.
        assert stage.world.mine.marks - shown == {str(stage.world.mine.ids["media_id"])}
