"""What the web pages know of the API, made from what it says of itself.

`python -m tests.contract.web_client` writes it again after a change of a route or an event.
"""

import json
import subprocess
import tempfile
from pathlib import Path

from control_plane.realtime.events import FLEETING, SEEN_WITH
from tests.contract.test_operations import document

WEB = Path(__file__).parents[2] / "web-admin"
SCHEMA = WEB / "app/api/schema.ts"
EVENTS = WEB / "app/realtime/eventTypes.ts"
# Seconds; it takes two on an idle machine.
_GENERATE_WITHIN_S = 120


def schema() -> str:
    """The types of every request and answer."""
    with tempfile.TemporaryDirectory() as folder:
        said, made = Path(folder) / "openapi.json", Path(folder) / "schema.ts"
        said.write_text(json.dumps(document()), encoding="utf-8")
        generator = WEB / "node_modules/.bin/openapi-typescript"
        subprocess.run(
            [generator, said, "-o", made],
            check=True,
            capture_output=True,
            timeout=_GENERATE_WITHIN_S,
        )
        return made.read_text(encoding="utf-8")


def events() -> str:
    """The names of what the stream tells."""
    return (
        "/** Made by `python -m tests.contract.web_client` from what the stream tells. */\n\n"
        f"export type EventType =\n{_union(SEEN_WITH)}\n\n"
        f"export type NoteType =\n{_union(FLEETING)}\n"
    )


def _union(names: dict[str, object]) -> str:
    return "\n".join(f"  | '{name}'" for name in sorted(names))


def main() -> None:
    SCHEMA.write_text(schema(), encoding="utf-8")
    EVENTS.write_text(events(), encoding="utf-8")


if __name__ == "__main__":
    main()
