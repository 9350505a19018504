"""The tree of errors that callers may see."""

import pytest

from control_plane.kit import errors
from control_plane.kit.errors import BotyardError, not_found

KINDS = BotyardError.__subclasses__()


class TestBotyardError:
    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
    def test_every_kind_has_a_status_and_a_title_of_its_own(self, kind: type) -> None:
        assert 400 <= kind.status < 600
        assert kind.title != BotyardError.title

    def test_no_two_kinds_share_a_status(self) -> None:
        assert len({kind.status for kind in KINDS}) == len(KINDS) == 10

    def test_the_drawing_in_the_docstring_is_the_tree(self) -> None:
        for kind in KINDS:
            assert f"{kind.__name__} {kind.status}" in (errors.__doc__ or "")

    def test_carries_what_the_answer_needs(self) -> None:
        error = errors.TooMany("slow_down", "Wait.", errors=[{"path": "/x"}], retry_after_s=3)

        assert (error.code, error.detail, str(error)) == ("slow_down", "Wait.", "Wait.")
        assert (error.errors, error.retry_after_s) == ([{"path": "/x"}], 3)

    def test_changes_are_thrown_away_unless_it_says_otherwise(self) -> None:
        assert [kind for kind in KINDS if kind.keeps_changes] == []


class TestNotFound:
    def test_names_the_kind_of_thing_and_nothing_else(self) -> None:
        error = not_found("channel")

        assert (error.status, error.code) == (404, "channel_not_found")
