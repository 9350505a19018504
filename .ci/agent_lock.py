"""Writes instance_agent/requirements.lock: of requirements.lock, what the agent alone needs.

Run it after requirements.lock has changed. The agent's image is made of this list, and so is the
image that the tests pack.
"""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "instance_agent" / "requirements.lock"


def needed() -> set[str]:
    """What the bare distribution asks for, and what that asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: set[tuple[str, str]] = set()
    open_ = [(text, "") for text in project["dependencies"]]
    while open_:
        text, extra = open_.pop()
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        for part in ("", *wanted.extras):
            here = (canonicalize_name(wanted.name), part)
            if here not in found:
                found.add(here)
                asked = importlib.metadata.distribution(wanted.name).requires or []
                open_ += [(each, part) for each in asked]
    return {name for name, _ in found}


def text() -> str:
    """The lock of the agent."""
    whole = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^[A-Za-z0-9].*(?:\n    .*)*", whole, flags=re.MULTILINE)
    by_name = {canonicalize_name(re.split(r"[=\[ ]", pin, maxsplit=1)[0]): pin for pin in pins}
    return "".join(f"{by_name[name]}\n" for name in sorted(needed()))


def main() -> int:
    LOCK.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
