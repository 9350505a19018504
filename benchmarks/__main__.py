"""`python -m benchmarks [name]`: measure, print a table, write benchmarks/latest.json."""

import json
import os
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import (
    agent,
    channels,
    fanout,
    fleet,
    fleet_configs,
    fleet_pods,
    ingest,
    journey,
    spool,
    volume,
    web,
    work,
    workers,
)

Figures = dict[str, dict[str, Any]]

FILE = Path(__file__).with_name("latest.json")
SOURCES: list[ModuleType] = [
    agent,
    spool,
    work,
    workers,
    ingest,
    journey,
    fanout,
    fleet,
    fleet_configs,
    fleet_pods,
    channels,
    web,
    volume,
]
# What takes minutes to prepare is measured when it is asked for.
ON_DEMAND: list[ModuleType] = [volume]

console = Console()


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def holds(figure: dict[str, Any]) -> bool:
    """Whether the ratio meets the goal, such as `<=1.5` or `>=0.5`; always, where there is none."""
    goal: str = figure["goal"]
    if not goal:
        return True
    limit = float(goal[2:])
    ratio: float = figure["ratio"]
    return ratio <= limit if goal.startswith("<=") else ratio >= limit


async def measure(only: str) -> Figures:
    """All figures, or those whose name contains `only`."""
    measured: Figures = {}
    for source in SOURCES:
        wanted = [name for name in source.NAMES if only in name]
        if wanted and (only or source not in ON_DEMAND):
            console.print(f"[dim]•[/dim] measuring {', '.join(wanted)}")
            measured |= await source.figures()
    return {name: figure for name, figure in measured.items() if only in name}


def show(figures: Figures) -> None:
    table = Table("figure", "value", "beside", "ratio", "goal", "")
    for name, figure in figures.items():
        unit = figure["unit"]
        verdict = "[green]holds[/green]" if holds(figure) else "[red]missed[/red]"
        table.add_row(
            name,
            f"{figure['value']:.4g} {unit}",
            f"{figure['beside']}: {figure['beside_value']:.4g} {unit}",
            f"{figure['ratio']:.2f}",
            figure["goal"],
            verdict if figure["goal"] else "",
        )
    console.print(table)


def _kept(only: str) -> Figures:
    """Figures of former runs that stay beside those of this one."""
    former: Figures = json.loads(FILE.read_text())["figures"] if FILE.exists() else {}
    lasting = {name for source in ON_DEMAND for name in source.NAMES}
    return {name: figure for name, figure in former.items() if only or name in lasting}


def main() -> int:
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    figures = uvloop.run(measure(only))
    if not figures:
        console.print(f"There is no figure named {only!r}.")
        return 2
    show(figures)
    content = {"machine": machine(), "figures": _kept(only) | figures}
    FILE.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
