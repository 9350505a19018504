"""Reserving, sending and getting bytes over HTTP, and what a stranger or a liar gets."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from control_plane.access.permissions import Role
from control_plane.app import MAX_BODY_BYTES
from control_plane.kit.errors import BadRequest, TooMany
from control_plane.kit.ids import new_id
from control_plane.media import links, transfer
from control_plane.media.storage import Storage
from control_plane.media.transfer import Intake
from instance_agent.protocol import MAX_MEDIA_BYTES
from tests.control_plane.conversations.scene import Gated
from tests.control_plane.media.conftest import HTML, PNG, SVG, Store, pieces


@pytest.fixture
def storage(either: Storage) -> Storage:
    """Everything here works on both kinds of storage."""
    return either


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def objects(storage: Storage, tenant_id: Any) -> list[str]:
    return [item.key async for page in storage.list(str(tenant_id)) for item in page]


async def url_of(house: Any, owner: Any, media_id: str, *, purpose: Any = "download") -> str:
    return links.make(
        house.keys,
        purpose,
        tenant_id=owner.tenant_id,
        media_id=UUID(media_id),
        now=house.clock.now(),
    ).path


class TestUpload:
    async def test_is_stored_and_comes_back(self, store: Store, house, owner) -> None:
        body = PNG + bytes(range(256)) * 8 * 1024  # more than an ordinary body may have

        media_id = await store.add(body)
        got = await store.client.get(await url_of(house, owner, media_id))

        assert len(body) > MAX_BODY_BYTES
        assert (got.status_code, got.content) == (200, body)
        assert got.headers["content-type"] == "image/png"
        assert got.headers["content-length"] == str(len(body))

    async def test_of_more_than_was_said_leaves_nothing(
        self, store: Store, storage: Storage, owner
    ) -> None:
        reserved = await store.reserve(100)

        whole = await store.put(reserved["upload_url"], b"x" * 101)
        streamed = await store.put(reserved["upload_url"], pieces(b"x" * 101))

        assert code(whole) == code(streamed) == (413, "larger_than_declared")
        assert await objects(storage, owner.tenant_id) == []

    async def test_of_less_than_was_said_leaves_nothing(
        self, store: Store, storage: Storage, owner
    ) -> None:
        reserved = await store.reserve(100)

        answer = await store.put(reserved["upload_url"], b"x" * 99)

        assert code(answer) == (422, "smaller_than_declared")
        assert await objects(storage, owner.tenant_id) == []

    async def test_may_be_tried_again_after_it_failed(self, store: Store) -> None:
        reserved = await store.reserve(len(PNG))
        await store.put(reserved["upload_url"], PNG[:-1])

        assert (await store.put(reserved["upload_url"], PNG)).status_code == 200

    async def test_repeated_changes_nothing(self, store: Store, storage: Storage, owner) -> None:
        reserved = await store.reserve(len(PNG))

        first = await store.put(reserved["upload_url"], PNG)
        again = await store.put(reserved["upload_url"], PNG)
        other = await store.put(reserved["upload_url"], b"x" * len(PNG))

        assert (again.status_code, again.json()) == (200, first.json())
        assert code(other) == (409, "already_stored")
        assert len(await objects(storage, owner.tenant_id)) == 1

    async def test_racing_another_on_one_reservation_one_counts(
        self, store: Store, storage: Storage, house, owner, monkeypatch
    ) -> None:
        reserved = await store.reserve(len(PNG))
        gate = Gated(transfer.service.settle)
        monkeypatch.setattr(transfer.service, "settle", gate)

        first = asyncio.create_task(store.put(reserved["upload_url"], PNG))
        await gate.wait()
        second = asyncio.create_task(store.put(reserved["upload_url"], b"y" * len(PNG)))
        gate.open.set()
        answers = await asyncio.gather(first, second)

        assert sorted(answer.status_code for answer in answers) == [200, 409]
        [winner] = [answer.json() for answer in answers if answer.status_code == 200]
        got = await store.client.get(await url_of(house, owner, reserved["media_id"]))
        assert hashlib.sha256(got.content).hexdigest() == winner["sha256"]
        assert len(await objects(storage, owner.tenant_id)) == 1

    async def test_is_refused_when_its_object_has_gone_meanwhile(
        self, store: Store, storage: Storage, owner, superuser
    ) -> None:
        reserved = await store.reserve(len(PNG))
        await superuser.execute("UPDATE media SET state = 'gone'")

        assert code(await store.put(reserved["upload_url"], PNG)) == (404, "media_not_found")
        assert await objects(storage, owner.tenant_id) == []

    async def test_while_storage_is_away_is_unavailable_and_half_done_is_nothing(
        self, store: Store, storage: Storage, house, owner, superuser, monkeypatch
    ) -> None:
        reserved = await store.reserve(len(PNG))

        def gone() -> Any:
            raise OSError("no route")

        with monkeypatch.context() as patch:
            patch.delitem(storage.__dict__, "_objects", raising=False)
            patch.setattr(storage, "_connect", gone)
            away = await store.put(reserved["upload_url"], PNG)

        assert code(away) == (503, "storage_unavailable")
        assert int(away.headers["retry-after"]) > 0
        assert await superuser.fetchval("SELECT state FROM media") == "pending"
        assert (await store.put(reserved["upload_url"], PNG)).status_code == 200

    async def test_of_several_is_bounded_for_one_tenant(self, parts, owner) -> None:
        transfers, tenant = parts.transfers, new_id()
        places = [transfers._place(tenant) for _ in range(transfer.MAX_UPLOADS_OF_TENANT)]
        for place in places:
            place.__enter__()

        with pytest.raises(TooMany), transfers._place(tenant):
            raise AssertionError("one too many")
        with transfers._place(owner.tenant_id):
            pass
        for place in places:
            place.__exit__(None, None, None)

        assert not transfers._running

    async def test_that_rests_too_long_is_given_up(self, monkeypatch) -> None:
        monkeypatch.setattr(transfer, "IDLE_S", 0.01)

        async def resting() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.Event().wait()

        with pytest.raises(BadRequest) as refused:
            async for _ in Intake(size=2).of(resting()):
                pass

        assert refused.value.code == "upload_too_slow"

    async def test_that_never_ends_is_given_up(self, monkeypatch) -> None:
        monkeypatch.setattr(transfer, "UPLOAD_S", 0.0)

        async def dripping() -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0)
                yield b"x"

        with pytest.raises(BadRequest):
            async for _ in Intake(size=2**40).of(dripping()):
                pass


class TestReservation:
    async def test_of_too_much_is_refused(self, store: Store) -> None:
        answer = await store.owner.post("/media", {"size": MAX_MEDIA_BYTES + 1})

        assert code(answer) == (422, "invalid_request")

    async def test_is_for_who_may_write(self, store: Store, people, owner) -> None:
        viewer = await people.member(owner.tenant_id, Role.VIEWER)
        member = await people.member(owner.tenant_id, Role.MEMBER)

        assert code(await viewer.post("/media", {"size": 1})) == (403, "forbidden")
        assert (await member.post("/media", {"size": 1})).status_code == 201

    async def test_holds_the_quota_and_says_when_it_is_near(
        self, store: Store, people, owner, superuser
    ) -> None:
        operator = await people.operator()
        patch = {"quota_overrides": {"storage_bytes": 1000}}
        await operator.patch(f"/tenants/{owner.tenant_id}", patch)

        answers = await asyncio.gather(*(owner.post("/media", {"size": 300}) for _ in range(6)))

        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 3
        assert {answer.json().get("code") for answer in answers} == {None, "quota_exceeded"}
        said = await superuser.fetch(
            "SELECT data->>'state' FROM stream"
            " WHERE type = 'quota.changed' AND data->>'quota' = 'storage_bytes'"
        )
        assert [row[0] for row in said] == ["near"]

    async def test_names_become_fit_to_show(self, store: Store) -> None:
        reserved = await store.reserve(1, name="../../\u202eetc/passwd")

        assert reserved["name"] == "passwd"


class TestLink:
    async def test_has_a_token_and_nothing_else(self, store: Store, owner) -> None:
        reserved = await store.reserve(1, name="secret-name.png")

        assert reserved["upload_url"].startswith("/media/")
        assert "secret" not in reserved["upload_url"]
        assert str(owner.tenant_id) not in reserved["upload_url"]

    async def test_for_one_purpose_does_not_serve_another(self, store: Store, house, owner) -> None:
        media_id = await store.add()
        up = await url_of(house, owner, media_id, purpose="upload")
        down = await url_of(house, owner, media_id)

        assert code(await store.client.get(up)) == (404, "link_not_found")
        assert code(await store.put(down, PNG)) == (404, "link_not_found")

    async def test_works_for_a_while(self, store: Store, house, owner, clock) -> None:
        url = await url_of(house, owner, await store.add())
        clock.advance(links.LINK_LIFE)
        before = await store.client.get(url)
        clock.advance(links.LINK_LIFE)

        assert before.status_code == 200
        assert code(await store.client.get(url)) == (403, "link_expired")

    async def test_is_the_same_for_some_minutes(self, store: Store, house, owner, clock) -> None:
        media_id = await store.add()
        clock.advance(timedelta(seconds=1))
        first = await url_of(house, owner, media_id)
        clock.advance(timedelta(seconds=30))

        assert await url_of(house, owner, media_id) == first

    @pytest.mark.parametrize("token", ["x", "a.b", "AAAA.BBBB", "." * 50])
    async def test_that_is_made_up_is_unknown(self, client, token: str) -> None:
        assert code(await client.get(f"/media/{token}")) == (404, "link_not_found")
        assert code(await client.put(f"/media/{token}", content=b"x")) == (404, "link_not_found")

    async def test_that_was_altered_is_unknown(self, store: Store, house, owner) -> None:
        url = await url_of(house, owner, await store.add())
        swapped = "A" if url[20] != "A" else "B"

        answer = await store.client.get(url[:20] + swapped + url[21:])

        assert code(answer) == (404, "link_not_found")

    async def test_for_another_tenants_object_finds_nothing(
        self, store: Store, house, people
    ) -> None:
        media_id = await store.add()
        other = await people.owner("Other")

        answer = await store.client.get(await url_of(house, other, media_id))

        assert code(answer) == (404, "media_not_found")


class TestDownload:
    @pytest.mark.parametrize(
        ("body", "name"),
        [(HTML, "page.html"), (SVG, "image.svg"), (b"PK\x03\x04" + b"\0" * 99, "bomb.zip")],
        ids=["html", "svg", "zip"],
    )
    async def test_of_what_could_do_harm_is_saved_and_never_shown(
        self, store: Store, house, owner, body: bytes, name: str
    ) -> None:
        url = await url_of(house, owner, await store.add(body, name))

        got = await store.client.get(url, headers={"accept-encoding": "gzip"})

        assert got.headers["content-type"] in {"application/octet-stream", "application/zip"}
        assert got.headers["content-disposition"].startswith("attachment;")
        assert got.headers["content-length"] == str(len(body))
        assert "content-encoding" not in got.headers

    async def test_of_a_polyglot_is_the_picture_that_it_begins_as(
        self, store: Store, house, owner
    ) -> None:
        url = await url_of(house, owner, await store.add(b"GIF89a" + b"\0" * 9 + HTML, "x.html"))

        got = await store.client.get(url)

        assert got.headers["content-type"] == "image/gif"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in got.headers["content-security-policy"]
        assert "default-src 'none'" in got.headers["content-security-policy"]

    async def test_carries_a_name_that_breaks_no_header(self, store: Store, house, owner) -> None:
        name = '报价"\r\nx-evil: 1\r\n.png'
        got = await store.client.get(await url_of(house, owner, await store.add(PNG, name)))

        assert "x-evil" not in got.headers
        assert got.headers["content-disposition"] == (
            'inline; filename="___x-evil_ 1.png"; '
            "filename*=UTF-8''%E6%8A%A5%E4%BB%B7_x-evil_%201.png"
        )
        assert got.headers["cache-control"].startswith("private")
        assert got.headers["referrer-policy"] == "no-referrer"

    async def test_of_a_range_is_that_range(self, store: Store, house, owner) -> None:
        body = PNG + bytes(range(256))
        url = await url_of(house, owner, await store.add(body))

        part = await store.client.get(url, headers={"range": "bytes=200-209"})
        tail = await store.client.get(url, headers={"range": "bytes=-5"})
        outside = await store.client.get(url, headers={"range": "bytes=9999-"})

        assert (part.status_code, part.content) == (206, body[200:210])
        assert part.headers["content-range"] == f"bytes 200-209/{len(body)}"
        assert tail.content == body[-5:]
        assert code(outside) == (416, "range_not_satisfiable")
        assert outside.headers["content-range"] == f"bytes */{len(body)}"

    async def test_of_what_the_caller_has_sends_nothing(self, store: Store, house, owner) -> None:
        url = await url_of(house, owner, await store.add())
        etag = (await store.client.get(url)).headers["etag"]

        same = await store.client.get(url, headers={"if-none-match": etag})
        stale = await store.client.get(url, headers={"if-range": '"x"', "range": "bytes=0-1"})

        assert (same.status_code, same.content) == (304, b"")
        assert (stale.status_code, stale.content) == (200, PNG)

    async def test_of_an_object_that_is_missing_is_not_found(
        self, store: Store, storage: Storage, house, owner
    ) -> None:
        url = await url_of(house, owner, await store.add())
        await storage.delete(await objects(storage, owner.tenant_id))

        assert code(await store.client.get(url)) == (404, "media_not_found")

    async def test_of_what_is_only_reserved_is_not_found(self, store: Store, house, owner) -> None:
        reserved = await store.reserve(10)

        answer = await store.client.get(await url_of(house, owner, reserved["media_id"]))

        assert code(answer) == (404, "media_not_found")
