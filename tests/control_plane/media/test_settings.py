"""Where media are kept, by the environment."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from control_plane.media.storage import Folder, Storage
from control_plane.settings import Settings
from tests.control_plane.media.conftest import BUCKET, pieces


class TestMediaStorage:
    async def test_is_a_folder_by_default_made_when_it_is_used(self, tmp_path: Path) -> None:
        storage = Settings(data_dir=tmp_path).media_storage
        before = (tmp_path / "media").exists()
        await storage.put("tenant/object", pieces(b"bytes"))

        assert isinstance(storage, Folder)
        assert before is False
        assert (tmp_path / "media" / "tenant" / "object").read_bytes() == b"bytes"

    async def test_is_a_bucket_with_its_secret_from_a_file(
        self, tmp_path: Path, s3: str, monkeypatch
    ) -> None:
        (tmp_path / "secret").write_text("the-secret-of-the-bucket\n")
        monkeypatch.setenv("BOTYARD_MEDIA_URL", f"s3://{BUCKET}/below")
        monkeypatch.setenv("BOTYARD_MEDIA_ENDPOINT", s3)
        monkeypatch.setenv("BOTYARD_MEDIA_KEY", "key")
        monkeypatch.setenv("BOTYARD_MEDIA_SECRET_FILE", str(tmp_path / "secret"))
        settings = Settings()
        storage: Storage = settings.media_storage
        await storage.put("tenant/object", pieces(b"bytes"))

        found = [item.key async for page in storage.list("tenant") for item in page]
        assert found == ["tenant/object"]
        assert "the-secret-of-the-bucket" not in repr(settings)

    @pytest.mark.parametrize(
        "given",
        [
            {"media_url": "http://bucket"},
            {"media_url": "s3://"},
            {"media_url": "s3://key:secret@bucket"},
            {"media_url": "s3://bucket", "media_endpoint": "host:9000"},
            {"media_url": "s3://bucket", "media_key": "key"},
        ],
    )
    def test_is_refused_where_it_cannot_be_meant(self, given: dict[str, str]) -> None:
        with pytest.raises(ValidationError):
            Settings(**given)  # type: ignore[arg-type]
