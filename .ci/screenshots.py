"""Takes a picture of every page into screenshots/: a Botyard of its own, a question, a browser.

The browser is Debian's chromium, with fonts for Chinese; CHROMIUM names another one.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "screenshots"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
NEEDED = ["chromium", "fonts-noto-cjk"]
# Between two lines of a first start; making the database takes longest, seconds on a busy machine.
SILENT_S = 60
# Parts and agents have bounded stops of their own, which add up to less than this.
STOP_WITHIN_S = 60
# The last line that `botyard up` prints on its way up.
UP = "Ctrl-C stops everything."


def main() -> int:
    if not has_browser():
        print(f"A browser is needed: apt-get install -y {' '.join(NEEDED)}, or set CHROMIUM.")
        return 1
    with tempfile.TemporaryDirectory(prefix="botyard-screenshots-") as folder:
        data = Path(folder) / "data"
        with running(data) as said:
            if UP not in said:
                print(f"Botyard did not come up. It said:\n{said}")
                return 1
            code = walk(data / "first-run.json")
    if code == 0:
        print(f"The pictures are in {PICTURES.relative_to(ROOT)}/.")
    return code


def has_browser() -> bool:
    """Whether there is one; root on Debian gets it installed."""
    may_install = os.geteuid() == 0 and shutil.which("apt-get") and "CHROMIUM" not in os.environ
    if not Path(CHROMIUM).exists() and may_install:
        print(f"• installing {' and '.join(NEEDED)}", flush=True)
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-qq", "-y", *NEEDED]):
            if subprocess.run(["apt-get", *arguments], env=quiet, check=False).returncode != 0:
                return False
    return Path(CHROMIUM).exists()


@contextlib.contextmanager
def running(data: Path) -> Iterator[str]:
    """A `botyard up` on a free port, and what it said on its way up; Ctrl-C stops it."""
    command = [str(Path(sys.executable).with_name("botyard")), "up", "--port", "0"]
    process = subprocess.Popen([*command, "--data-dir", str(data)], stdout=subprocess.PIPE)
    try:
        yield words(process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def words(process: subprocess.Popen[bytes]) -> str:
    """What it says until it is up, ends, or falls silent for too long."""
    assert process.stdout is not None  # noqa: S101 - we asked for a pipe
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while UP.encode() not in said and selector.select(SILENT_S):
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                break
            said += chunk
    return said.decode(errors="replace")


def walk(first_run: Path) -> int:
    """Let the browser walk through all pages; its exit code."""
    url = json.loads(first_run.read_text(encoding="utf-8"))["url"]
    command = ["node", "scripts/screenshots.mjs", url, str(first_run), str(PICTURES)]
    return subprocess.run(command, cwd=ROOT / "web-admin", check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
