"""Which entries exist, and who may see them."""

import re
from pathlib import Path

import control_plane
from control_plane.realtime.events import ABOUT_STANDING, FLEETING, SEEN_WITH
from control_plane.realtime.notes import LIFE_S

_KIND = re.compile(r'Entry\(\s*type="([a-z_.]+)"')
_MADE_UP = {"api_key.created", "api_key.revoked"}
"""Their names are put together where they are written."""


class TestSeenWith:
    def test_every_entry_that_is_written_can_be_seen_by_somebody(self) -> None:
        [folder] = control_plane.__path__
        sources = [path.read_text(encoding="utf-8") for path in Path(folder).rglob("*.py")]
        written = {kind for source in sources for kind in _KIND.findall(source)}

        assert written | _MADE_UP == set(SEEN_WITH)

    def test_it_only_takes_permissions_to_read(self) -> None:
        assert all(needed.reads for needed in (*SEEN_WITH.values(), *FLEETING.values()))
        assert set(SEEN_WITH) >= ABOUT_STANDING
        assert set(FLEETING) == set(LIFE_S)
