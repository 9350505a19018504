"""Cursors that no list gave out, on every list."""

import base64
import json
import random
from typing import Any
from uuid import UUID

import pytest

from control_plane.access.permissions import Permission
from control_plane.kit.paging import cursor
from tests.control_plane.walls.operations import OPERATIONS

PLATFORM = {Permission.TENANTS_LIST, Permission.ROLLOUTS_READ}
PAGED = [one for one in OPERATIONS if one.pages]


def raw(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode()


FORGED = {
    "empty": "",
    "no base64": "%%%",
    "other characters": "游标",
    "too long": "A" * 501,
    "no JSON": raw(b"\xff\xfe"),
    "random bytes": raw(random.Random(7).randbytes(60)),
    "nothing": raw([]),
    "an object": raw({"id": 1}),
    "null": raw([None]),
    "too many keys": raw(["1", "2", "3"]),
    "deep": raw(b"[" * 300),
    "a huge number": raw(["9" * 300]),
    "a number just too large": raw([str(2**31)]),
    "no such day": raw(["2026-02-31T00:00:00+00:00", str(UUID(int=1))]),
    "a time without zone": raw(["2026-01-01T00:00:00", str(UUID(int=1))]),
    "a time before all": raw(["0001-01-01T00:00:00+23:59", str(UUID(int=1))]),
    "a time after all": raw(["9999-12-31T23:59:59-23:59", str(UUID(int=1))]),
    "SQL": raw(["' OR 1=1 --"]),
    "NUL": raw(["\0"]),
    "half a character": raw(["\ud800"]),
}


@pytest.mark.asyncio(loop_scope="module")
class TestCursorTampering:
    @pytest.mark.parametrize("operation", PAGED, ids=str)
    async def test_is_refused_or_shows_ones_own(self, stage, operation) -> None:
        theirs = stage.world.theirs
        foreign = {
            "of another tenant": cursor(theirs.ids["instance_id"]),
            "of another tenant's moment": cursor("2027-01-01T00:00:00+00:00", UUID(int=1)),
            "of another list": cursor(1),
        }
        for name, given in (FORGED | foreign).items():
            caller = "operator" if operation.permission in PLATFORM else "owner"
            answer = await stage.ask(caller, operation, params={"cursor": given})
            assert answer.status_code in {200, 400, 422}, f"{name}: {answer.text}"
            if answer.status_code == 200 and caller == "owner":
                assert all(mark not in answer.text for mark in theirs.marks), name
            elif answer.status_code != 200:
                assert answer.json()["code"] in {"invalid_cursor", "invalid_request"}, name
