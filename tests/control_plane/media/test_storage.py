"""One suite for a folder and for a server that speaks S3."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from control_plane.kit.errors import NotFound, TooLarge, Unavailable
from control_plane.kit.ids import new_id
from control_plane.media.storage import FAILURES, PART, Storage, bucket, folder, ids_of, key_of
from tests.control_plane.media.conftest import BUCKET, pieces


async def all_of(storage: Storage, key: str, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in await storage.get(key, start, end)])


async def keys_in(storage: Storage, place: str) -> list[str]:
    return sorted([item.key async for page in storage.list(place) for item in page])


@pytest.fixture
def key() -> str:
    return key_of(new_id(), new_id(), new_id())


class TestBoth:
    async def test_give_back_what_they_were_given(self, either: Storage, key: str) -> None:
        body = bytes(range(256)) * (PART // 128)

        await either.put(key, pieces(body))

        assert await all_of(either, key, 0, len(body)) == body
        assert await all_of(either, key, 1000, 1010) == body[1000:1010]
        [item] = [item async for page in either.list(key.split("/")[0]) for item in page]
        assert (item.key, item.size) == (key, len(body))

    @pytest.mark.parametrize("size", [100, PART + 100])
    async def test_keep_nothing_of_an_upload_that_failed(
        self, either: Storage, key: str, size: int
    ) -> None:
        async def cut() -> AsyncIterator[bytes]:
            yield b"x" * size
            raise TooLarge("too_large", "Too large.")

        with pytest.raises(TooLarge):
            await either.put(key, cut())

        assert await keys_in(either, key.split("/")[0]) == []
        with pytest.raises(NotFound):
            await either.get(key, 0, 1)

    async def test_remove_what_is_there_and_do_not_mind_what_is_not(
        self, either: Storage, key: str
    ) -> None:
        await either.put(key, pieces(b"bytes"))

        await either.delete([key, f"{new_id()}/none"])
        await either.delete([key])

        assert await keys_in(either, key.split("/")[0]) == []

    async def test_list_one_folder_only(self, either: Storage) -> None:
        one, other = new_id(), UUID(int=new_id().int + 1)
        for tenant in (one, other):
            await either.put(key_of(tenant, new_id(), new_id()), pieces(b"bytes"))

        [found] = await keys_in(either, str(one))

        assert found.startswith(f"{one}/")

    async def test_list_nothing_where_nothing_is(self, either: Storage) -> None:
        assert await keys_in(either, str(new_id())) == []


class TestAway:
    @pytest.fixture(params=["folder", "s3"])
    def away(self, request: pytest.FixtureRequest, tmp_path) -> Storage:
        if request.param == "folder":
            (tmp_path / "file").write_text("in the way")
            return folder(tmp_path / "file")
        return bucket(f"s3://{BUCKET}", key="k", secret="s", endpoint="http://127.0.0.1:9")

    async def test_is_said_and_nothing_else(self, away: Storage, key: str) -> None:
        before = FAILURES._value.get()
        for act in (
            away.put(key, pieces(b"bytes")),
            away.get(key, 0, 1),
            keys_in(away, "folder"),
        ):
            with pytest.raises(Unavailable) as refused:
                await act
            assert refused.value.code == "storage_unavailable"
        assert FAILURES._value.get() == before + 3

    async def test_a_bucket_that_does_not_exist_is_no_missing_object(
        self, s3: str, key: str
    ) -> None:
        nowhere = bucket("s3://no-such-bucket", key="k", secret="s", endpoint=s3)

        with pytest.raises(Unavailable):
            await nowhere.put(key, pieces(b"bytes"))


class TestKeys:
    def test_are_read_back(self) -> None:
        tenant, media, attempt = new_id(), new_id(), new_id()

        assert ids_of(key_of(tenant, media, attempt)) == (media, attempt)

    @pytest.mark.parametrize("key", ["", "x", "a/b.c", f"t/{UUID(int=1)}", "lost+found"])
    def test_of_others_are_recognised(self, key: str) -> None:
        assert ids_of(key) is None
