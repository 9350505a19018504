"""Cursors: what comes back is what went in, and nothing else gets in."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.kit.errors import BadRequest
from control_plane.kit.ids import new_id
from control_plane.kit.paging import Window, cursor, cut

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


class TestCursor:
    @given(key=st.uuids())
    def test_an_id_survives(self, key: UUID) -> None:
        assert Window(cursor=cursor(key)).after_id() == key

    def test_a_moment_and_an_id_survive(self) -> None:
        key = new_id()

        assert Window(cursor=cursor(MOMENT, key)).after_moment() == (MOMENT, key)

    @given(number=st.integers(0, 2**31 - 1))
    def test_a_number_survives(self, number: int) -> None:
        assert Window(cursor=cursor(number)).after_number() == number

    def test_no_cursor_is_the_start(self) -> None:
        window = Window()

        assert (window.after_id(), window.after_moment(), window.after_number()) == (None,) * 3

    @pytest.mark.parametrize(
        "wrong",
        [
            "",
            "not base64!",
            "é",
            encoded("just text"),
            encoded(17),
            encoded(None),
            encoded({"id": "x"}),
            encoded([]),
            encoded(["not-an-id"]),
            encoded([str(UUID(int=7)), "one too many"]),
            encoded([["nested"]]),
            base64.urlsafe_b64encode(b"\xff\xfe").decode(),
            base64.urlsafe_b64encode(b"[" * 370).decode(),
        ],
    )
    def test_one_that_was_tampered_with_is_refused(self, wrong: str) -> None:
        with pytest.raises(BadRequest) as refused:
            Window(cursor=wrong).after_id()

        assert refused.value.code == "invalid_cursor"

    @given(wrong=st.text(max_size=80))
    def test_no_text_breaks_it(self, wrong: str) -> None:
        for read in (Window.after_id, Window.after_moment, Window.after_number):
            with suppress(BadRequest):
                read(Window(cursor=wrong))

    def test_one_of_another_list_is_refused(self) -> None:
        window = Window(cursor=cursor(MOMENT, new_id()))

        with pytest.raises(BadRequest):
            window.after_id()


class TestCut:
    def test_one_row_too_many_means_that_more_follow(self) -> None:
        assert cut([1, 2, 3], 2) == ([1, 2], 2)

    @pytest.mark.parametrize("rows", [[], [1], [1, 2]])
    def test_a_page_that_is_not_overfull_is_the_last(self, rows: list[int]) -> None:
        assert cut(rows, 2) == (rows, None)
