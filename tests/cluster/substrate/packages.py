"""Debian's packages and sources, unpacked into folders of ours.

Nothing is installed, so no service starts, nothing changes on the machine, and root is not needed.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
ONE_LINE_SOURCES = Path("/etc/apt/sources.list")


class UnavailableError(Exception):
    """This machine cannot do it; the text says why."""


class Archive:
    """What the machine's configured sources offer, with lists of its own in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "archives" / "partial").mkdir(parents=True)
        sources = self._sources()
        options = {
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder,
            "APT::Sandbox::User": "",
        }
        self._options = [
            word for name, value in options.items() for word in ("-o", f"{name}={value}")
        ]
        self._apt("update")

    def unpack(self, packages: Sequence[str], target: Path) -> None:
        """Put the packages' files, and nothing they depend on, under a folder."""
        self._apt("download", *packages)
        for package in packages:
            run(["dpkg", "-x", str(self._one(f"{package}_*.deb")), str(target)], self._folder)

    def source(self, package: str) -> Path:
        """Download a source package; its .dsc file."""
        self._apt("source", "--download-only", package)
        return self._one(f"{package}_*.dsc")

    def _sources(self) -> Path:
        if SOURCES.exists():
            view, text = self._folder / "debian.sources", SOURCES.read_text(encoding="utf-8")
            text = re.sub(r"^Types:.*$", "Types: deb deb-src", text, flags=re.MULTILINE)
        elif ONE_LINE_SOURCES.exists():
            view, text = self._folder / "list", ONE_LINE_SOURCES.read_text(encoding="utf-8")
            text += re.sub(r"^deb ", "deb-src ", text, flags=re.MULTILINE)
        else:
            raise UnavailableError("this is no Debian")
        view.write_text(text, encoding="utf-8")
        return view

    def _one(self, pattern: str) -> Path:
        found = list(self._folder.glob(pattern))
        if not found:
            raise UnavailableError(f"the sources of this Debian have no {pattern}")
        return found[0]

    def _apt(self, *words: str) -> None:
        run(["apt-get", "-qq", *self._options, *words], self._folder)


def run(command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> None:
    """Raises with the end of what it said."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"} | (environment or {})
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise UnavailableError(f"{command[0]} is not installed") from None
    if done.returncode != 0:
        raise UnavailableError(f"{command[0]} failed: {(done.stderr or done.stdout)[-1500:]}")
