"""The table of kinds in the docs."""

import dataclasses
from pathlib import Path

import pytest

from adapters import registry
from adapters.kind import Pace, Window
from adapters.table import placed, table

PAGE = Path(__file__).parents[2] / "docs" / "channels.md"


class TestTable:
    def test_of_the_docs_is_that_of_the_code(self) -> None:
        page = PAGE.read_text(encoding="utf-8")
        made = table(registry.kind(name) for name in registry.OURS)

        assert page == placed(page, made), "run: python -m adapters.table docs/channels.md"

    def test_has_windows_and_paces_in_words(self) -> None:
        kind = dataclasses.replace(
            registry.kind("wecom"),
            windows={"direct": Window(172_800, most=5), "group": Window(300)},
            paces=(Pace(30, 60), Pace(1000, 3600)),
        )

        [row] = table([kind]).splitlines()[2:]
        assert (
            "direct: 48 h after the contact's last message, at most 5 parts; "
            "group: 5 min after the contact's last message; 30 in 1 min a chat; "
            "1000 in 1 h a chat" in row
        )

    def test_goes_nowhere_but_between_its_marks(self) -> None:
        with pytest.raises(ValueError, match="no place"):
            placed("# Channels", "x")
