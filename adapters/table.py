"""Which kind of channel can what: the table of docs/channels.md, from the kinds themselves.

`python -m adapters.table` prints it; with a file it is written between the marks there.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from adapters import registry
from adapters.kind import Kind

BEGIN, END = "<!-- kinds: made by python -m adapters.table -->", "<!-- /kinds -->"
_HEAD = (
    "kind",
    "in by",
    "talks",
    "receives",
    "sends",
    "windows and paces",
    "safe before we say so",
)
_SAFE = {
    "stored": "in the database",
    "kept": "in the database, or on the agent's disk",
    "spooled": "on the agent's disk",
}


def table(kinds: Iterable[Kind]) -> str:
    """A row a kind."""
    rows = [_HEAD, ["---"] * len(_HEAD), *(_row(kind) for kind in kinds)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def placed(page: str, made: str) -> str:
    """The page with this table between its marks; raises ValueError without marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("the page has no place for the table")
    return f"{before}{begin}\n{made}\n{end}{after}"


def _row(kind: Kind) -> Sequence[str]:
    return (
        f"[{kind.title}](channels/{kind.name}.md) `{kind.name}`",
        ", ".join(kind.transports),
        ", ".join(kind.conversations),
        " ".join(_received(kind)),
        " ".join(kind.sends),
        "; ".join(_limits(kind)) or "none",
        _safe(kind),
    )


def _received(kind: Kind) -> list[str]:
    return [f"{each} (its words)" if each in kind.words_only else each for each in kind.receives]


def _safe(kind: Kind) -> str:
    by = [f"{transport}: {_SAFE[rule]}" for transport, rule in kind.acknowledge_by.items()]
    return "; ".join([_SAFE[kind.acknowledge], *by])


def _limits(kind: Kind) -> list[str]:
    windows = [
        f"{talk}: {_time(window.within_s)} after the contact's last message"
        + ("" if window.most is None else f", at most {window.most} parts")
        for talk, window in kind.windows.items()
    ]
    return [*windows, *(f"{pace.most} in {_time(pace.within_s)} a chat" for pace in kind.paces)]


def _time(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0 and not (unit == "d" and seconds < 3 * size):
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def main(arguments: Sequence[str]) -> None:
    made = table(registry.kind(name) for name in registry.OURS)
    if not arguments:
        print(made)
        return
    page = Path(arguments[0])
    page.write_text(placed(page.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
