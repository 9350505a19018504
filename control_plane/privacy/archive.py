"""A zip that is sent while it is made: memory holds a batch of rows or a piece of a file."""

import io
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence

from typing_extensions import Buffer

# One entry of the archive: its rows as JSON texts, batch by batch.
Rows = AsyncIterator[Sequence[str]]
# Entries that are bytes as they are: (name, pieces).
Files = AsyncIterator[tuple[str, AsyncIterator[bytes]]]


class _Outlet(io.RawIOBase):
    """What the zip was given to write and nobody has taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        self._waiting.append(bytes(data))
        return len(self._waiting[-1])

    def take(self) -> bytes:
        taken, self._waiting = b"".join(self._waiting), []
        return taken


async def zipped(entries: Mapping[str, Rows], files: Files) -> AsyncIterator[bytes]:
    """The archive's bytes; each entry is one JSON array, and behind them come the files."""
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, batches in entries.items():
            with archive.open(name, "w", force_zip64=True) as entry:
                between = "[\n"
                async for rows in batches:
                    for row in rows:
                        entry.write((between + row).encode())
                        between = ",\n"
                    if ready := outlet.take():
                        yield ready
                entry.write(b"\n]\n" if between == ",\n" else b"[]\n")
        async for name, pieces in files:
            # Pictures and voices are compressed already.
            info = zipfile.ZipInfo(name)
            with archive.open(info, "w", force_zip64=True) as entry:
                async for piece in pieces:
                    entry.write(piece)
                    if ready := outlet.take():
                        yield ready
    yield outlet.take()
