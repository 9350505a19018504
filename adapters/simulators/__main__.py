"""`botyard simulate`: play the customer of a channel in a browser."""

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from adapters.simulators.play import CannotPlay, logins, playing


async def _play(kind: str, channel_id: str, file: Path) -> None:
    async with playing(kind, channel_id, logins(file), print) as url:
        print(f"打开这个页面扮演访客 · Open this page and play the customer:\n  {url}", flush=True)
        print("Ctrl-C 结束 · ends it.", flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="botyard simulate")
    parser.add_argument("kind")
    parser.add_argument("--channel", required=True)
    parser.add_argument("--logins", type=Path, required=True)
    given = parser.parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_play(given.kind, given.channel, given.logins))
    except CannotPlay as why:
        print(why, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
