"""What happens where the SDKs cannot be had, and that their process is a stranger to us."""

import pytest

from tests.cluster.substrate.packages import UnavailableError
from tests.peers import place
from tests.peers.conftest import do_without
from tests.peers.place import PeerError, Peers


class TestWithoutThem:
    @pytest.mark.parametrize(
        ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)]
    )
    def test_tests_are_skipped_here_and_fail_in_a_build(self, monkeypatch, ci, outcome):
        monkeypatch.setenv("CI", ci)
        with pytest.raises(outcome, match="because"):
            do_without(UnavailableError("because"))

    def test_nothing_half_made_is_left_behind(self, monkeypatch, tmp_path):
        def fails(command, cwd):
            (cwd / "environment").mkdir(exist_ok=True)
            if "install" in command:
                raise UnavailableError("no such package")

        monkeypatch.setattr(place, "run", fails)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(UnavailableError, match="no such package"):
            place.interpreter()
        assert [each.name for each in (tmp_path / "botyard/peers").iterdir()] == ["peers.lock"]


class TestTheirProcess:
    def test_says_what_it_refuses_and_goes_on(self, peers: Peers):
        with pytest.raises(PeerError, match="KeyError"):
            peers.ask("nothing")
        assert peers.ask("wecom_parse", message="<xml><MsgType>x</MsgType></xml>")

    def test_can_import_nothing_of_ours(self, peers: Peers):
        with pytest.raises(PeerError, match="ModuleNotFoundError"):
            peers.ask("grown", client="", first="", given={}, modules=["adapters"])
