"""Runs every check and test, one step after the other, and says what failed.

`test.py` runs all, `test.py <folder>` one part, `test.py --check` only reads the sources.
"""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from screenshots import has_browser

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
WEB = ROOT / "web-admin"
PACKAGES = ["adapters", "alembic", "benchmarks", "control_plane", "instance_agent", "tests", ".ci"]

Step = tuple[str, list[str], Path]


def tool(name: str) -> str:
    return str(BIN / name)


def checks() -> list[Step]:
    """What reads the sources."""
    return [
        ("style", [tool("ruff"), "check", *PACKAGES], ROOT),
        ("format", [tool("ruff"), "format", "--check", *PACKAGES], ROOT),
        ("types", [tool("mypy")], ROOT),
        ("layers", [tool("lint-imports"), "--no-logo"], ROOT),
        ("budgets and routes", [tool("pytest"), "-q", "tests/test_layout.py"], ROOT),
        ("web sources", ["npm", "run", "--silent", "check"], WEB),
        ("web budget", ["npm", "run", "--silent", "budget"], WEB),
    ]


def tests(part: str) -> list[Step]:
    """What runs the code; the Python tests last, since they tell most."""
    workers = str(os.cpu_count() or 2)
    pytest = [tool("pytest"), "-q", "-n", workers, "--dist", "worksteal"]
    web = ("web tests", ["npm", "run", "--silent", "test"], WEB)
    if not part:
        return [web, ("tests", pytest, ROOT)]
    if Path(part).parts[:1] == ("web-admin",):
        return [web]
    return [(part, [*pytest, part], ROOT)]


def hash_seed() -> str:
    """Another order of every set in each run, and the same one in all its processes."""
    return os.environ.get("PYTHONHASHSEED") or str(secrets.randbelow(2**32))


def run(steps: Sequence[Step]) -> list[str]:
    """The names of the steps that failed."""
    failed = []
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed()}
    print(f"PYTHONHASHSEED={environment['PYTHONHASHSEED']}")
    for name, command, folder in steps:
        print(f"\n── {name}", flush=True)
        started = time.monotonic()
        code = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        print(f"── {name}: {'ok' if code == 0 else 'FAILED'}, {time.monotonic() - started:.0f} s")
        if code != 0:
            failed.append(name)
    return failed


def ensure_redis() -> None:
    """The tests of what several machines share need a real Redis; Debian has one."""
    if shutil.which("redis-server") or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print("• installing redis-server for the tests", flush=True)
    for words in (["update", "-q"], ["install", "-y", "-q", "redis-server"]):
        subprocess.run(["apt-get", *words], stdout=subprocess.DEVNULL, check=False)


def ensure_cluster(part: str) -> None:
    """Tests of what runs on Kubernetes start a real one; building it takes minutes, once."""
    if not part or {"cluster", "fleet", "helm"} & set(Path(part).parts):
        subprocess.run([tool("python"), "-m", "tests.cluster", "build"], cwd=ROOT, check=False)


def ensure_helm(part: str) -> None:
    """The chart is rendered by Helm itself, which is fetched once."""
    if not part or "helm" in Path(part).parts:
        subprocess.run([tool("python"), "-m", "tests.helm"], cwd=ROOT, check=False)


def ensure_peers(part: str) -> None:
    """The vendors' SDKs lie in an environment of their own, which is made once."""
    if not part or "peers" in Path(part).parts:
        subprocess.run([tool("python"), "-m", "tests.peers"], cwd=ROOT, check=False)


def ensure_browser(part: str) -> None:
    """Scenes in a browser need Debian's Chromium, with fonts for Chinese."""
    if not part or "e2e" in Path(part).parts:
        has_browser()


def main(arguments: Sequence[str]) -> int:
    if shutil.which("npm") is None:
        print("Node 20 or newer is needed for the web pages and their checks.")
        return 1
    only_checks = "--check" in arguments
    part = next((word for word in arguments if not word.startswith("-")), "")
    steps = checks() if only_checks or not part else []
    if not only_checks:
        ensure_redis()
        ensure_cluster(part)
        ensure_helm(part)
        ensure_peers(part)
        ensure_browser(part)
        steps = [*steps, *tests(part)]
    failed = run(steps)
    if failed:
        print(f"\nFailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
