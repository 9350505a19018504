"""What was said between control planes and agents of each schema version before today's.

`document` is the JSON schema of the configuration document as that version had it, `exchanges`
one of each kind, as recorded between the two programs; only secrets were exchanged, and digests
with them.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VERSIONS = sorted(int(path.stem.removeprefix("schema_")) for path in HERE.glob("schema_*.json"))


class Recorded:
    """One schema version's."""

    def __init__(self, version: int) -> None:
        found = json.loads((HERE / f"schema_{version}.json").read_text(encoding="utf-8"))
        self.version = version
        self.document: dict[str, Any] = found["document"]
        self.exchanges: list[dict[str, Any]] = found["exchanges"]

    def named(self, name: str) -> dict[str, Any]:
        return next(each for each in self.exchanges if each["name"] == name)

    def events(self) -> list[dict[str, Any]]:
        """Bodies of the batches that the agent posted."""
        return [each["body"] for each in self.exchanges if each["path"].endswith("/events")]
