"""The folder of one agent: locks that survive removal, removal that survives a crash."""

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from control_plane.fleet.provision.process_home import Exit, Home, Record, name_of
from control_plane.fleet.provision.process_table import ProcessKey

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path, uuid4())
    home.create()
    return home


class TestRecord:
    @pytest.mark.parametrize(
        "record",
        [
            Record(ref="a", generation=1, started_at=NOW),
            Record(
                ref="b",
                generation=2,
                started_at=NOW,
                process=ProcessKey(7, "boot/1"),
                stopping=True,
                exit=Exit(code=-9, at=NOW),
            ),
        ],
    )
    def test_is_read_as_written(self, home, record):
        assert home.write(record) == record
        assert home.read() == record

    def test_of_nothing_is_none(self, home):
        assert home.read() is None

    @pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 64, b'{"ref": "\xff'])
    def test_that_is_spoiled_is_older_than_any_wish(self, home, content):
        (home.path / "state.json").write_bytes(content)
        record = home.read()
        assert (record.generation, record.process, record.exit) == (0, None, None)

    def test_left_half_written_by_a_crash_does_not_hinder_the_next(self, home):
        (home.path / "state.json.new").write_bytes(b"half")
        record = Record(ref="a", generation=1, started_at=NOW)
        home.write(record)
        assert home.read() == record


class TestLock:
    def test_is_had_by_one_at_a_time(self, home):
        lock = home.try_lock()
        assert home.try_lock() is None
        os.close(lock)
        again = home.try_lock()
        assert again is not None
        os.close(again)

    def test_of_a_file_that_was_removed_meanwhile_is_not_had(self, home, monkeypatch):
        flock = fcntl.flock

        def removed_first(fd, operation):
            (home.path / "lock").unlink()
            flock(fd, operation)

        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", removed_first)
            assert home.try_lock() is None

    def test_of_a_file_that_was_made_anew_meanwhile_is_not_had(self, home, monkeypatch):
        flock = fcntl.flock

        def replaced_first(fd, operation):
            (home.path / "other").touch()
            (home.path / "other").replace(home.path / "lock")
            flock(fd, operation)

        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", replaced_first)
            assert home.try_lock() is None

    def test_of_a_folder_that_is_gone_is_an_error(self, home):
        os.close(home.try_lock())
        home.remove()
        with pytest.raises(FileNotFoundError):
            home.try_lock()


class TestClaim:
    def test_says_whether_an_agent_lives(self, home):
        assert not home.occupied()
        claim = home.try_claim()
        assert home.occupied()
        os.close(claim)
        assert not home.occupied()


class TestRemove:
    @pytest.fixture
    def locked(self, home):
        lock = home.try_lock()
        yield home
        os.close(lock)

    def test_leaves_nothing(self, locked):
        (locked.agent / "spool").write_text("data")
        locked.write_token("secret")
        locked.remove()
        assert not locked.path.exists()

    def test_follows_no_link_out_of_the_folder(self, locked, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").touch()
        (locked.path / "link").symlink_to(outside)
        (locked.agent / "link").symlink_to(outside)
        locked.remove()
        assert not locked.path.exists()
        assert (outside / "kept").exists()

    def test_spares_who_began_to_use_the_folder_again(self, locked, monkeypatch):
        rmdir = type(locked.path).rmdir

        def used_again(path):
            locked.create()
            rmdir(path)

        with monkeypatch.context() as patch:
            patch.setattr(type(locked.path), "rmdir", used_again)
            locked.remove()
        assert locked.agent.is_dir()


class TestName:
    def test_is_the_same_whoever_opens_the_folder(self, tmp_path):
        assert name_of(tmp_path) == name_of(tmp_path) != ""

    def test_is_nobody_elses(self, tmp_path):
        folders = [tmp_path / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        assert len({name_of(folder) for folder in folders}) == 2

    def test_of_two_who_come_first_together_one_gives_it(self, tmp_path, monkeypatch):
        link = Path.hardlink_to

        def overtaken(path, target):
            with monkeypatch.context() as patch:
                patch.setattr(Path, "hardlink_to", link)
                others.append(name_of(tmp_path))
            link(path, target)

        others = []
        monkeypatch.setattr(Path, "hardlink_to", overtaken)
        assert [name_of(tmp_path)] == others
        assert [path.name for path in tmp_path.iterdir()] == ["name"]
