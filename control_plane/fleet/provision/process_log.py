"""The log of one agent: a file that it writes to by itself, kept small and read from the end.

The agent holds the file open and goes on writing while the control plane is away, so rotation
copies and truncates; what is written between the last copy and the truncation is lost.
"""

import fcntl
import itertools
import os
from pathlib import Path
from typing import BinaryIO

MAX_TAIL_LINES = 10_000
MAX_TAIL_BYTES = 1024 * 1024
"""What one reader may ask for at once: bounds memory, not history."""

MAX_LINE_BYTES = 8 * 1024
"""A longer line is cut, so that an agent that never ends its line costs no more than this."""

_CHUNK_BYTES = 64 * 1024
_NO_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if code != ord("\t")}


def rotate(log: Path, *, max_bytes: int, keep: int) -> bool:
    """Start `log` afresh when it is too large; `keep` older files stay as `.1`, `.2`, …"""
    try:
        source = log.open("r+b")
    except FileNotFoundError:
        return False
    with source:
        size = source.seek(0, os.SEEK_END)
        if size <= max_bytes or not _alone(source):
            return False
        copy = log.with_name(f"{log.name}.new")
        with copy.open("wb") as target:
            copy.chmod(0o600)
            # Grown while nobody rotated: only the end is worth its space.
            source.seek(size - max_bytes)
            _copy(source, target)
            older = older_files(log, keep)
            for newer, old in reversed(list(itertools.pairwise(older))):
                if newer.exists():
                    newer.replace(old)
            copy.replace(older[0])
            _copy(source, target)
            source.truncate(0)
    return True


def older_files(log: Path, keep: int) -> list[Path]:
    """Where rotated logs lie, newest first."""
    return [log.with_name(f"{log.name}.{number}") for number in range(1, keep + 1)]


class LineSplitter:
    """Bytes in, clean lines out; keeps at most one unfinished line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:MAX_LINE_BYTES]
        return [_clean(line) for line in whole]

    def finish(self) -> list[str]:
        rest, self._rest = self._rest, b""
        return [_clean(rest)] if rest else []


class LogReader:
    """Reads the end of a log, then what comes after it, across rotations."""

    def __init__(self, log: Path, *, keep: int) -> None:
        self._log = log
        self._keep = keep
        self._position = 0
        self._lines = LineSplitter()

    def tail(self, count: int) -> list[str]:
        """At most the last `count` finished lines."""
        count = min(count, MAX_TAIL_LINES)
        data, whole = self._end(count)
        lines = self._lines.feed(data)
        return lines[max(len(lines) - count, 0 if whole else 1) :]

    def finish(self) -> list[str]:
        """The last line, when it has no end yet."""
        return self._lines.finish()

    def more(self) -> list[str]:
        """Lines that came since, at most MAX_TAIL_BYTES of them."""
        try:
            source = self._log.open("rb")
        except FileNotFoundError:
            return []
        with source:
            if source.seek(0, os.SEEK_END) < self._position:
                self._position = 0
                self._lines = LineSplitter()
            source.seek(self._position)
            data = source.read(MAX_TAIL_BYTES)
        self._position += len(data)
        return self._lines.feed(data)

    def _end(self, count: int) -> tuple[bytes, bool]:
        """The newest bytes that hold so many lines, and whether they start with a line's start."""
        data = b""
        for log in (self._log, *older_files(self._log, self._keep)):
            try:
                source = log.open("rb")
            except FileNotFoundError:
                continue
            with source:
                size = source.seek(0, os.SEEK_END)
                if log == self._log:
                    self._position = size
                take = min(size, MAX_TAIL_BYTES - len(data))
                source.seek(size - take)
                data = source.read(take) + data
                if take < size or data.count(b"\n") > count:
                    return data, False
        return data, True


def last_lines(log: Path, *, count: int, keep: int) -> tuple[str, ...]:
    """The last lines of an agent that writes no more."""
    reader = LogReader(log, keep=keep)
    lines = [*reader.tail(count), *reader.finish()]
    return tuple(lines[-count:])


def _alone(file: BinaryIO) -> bool:
    """Whether no other process rotates this log just now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
    target.flush()


def _clean(line: bytes) -> str:
    return line[:MAX_LINE_BYTES].decode(errors="replace").translate(_NO_CONTROLS)
