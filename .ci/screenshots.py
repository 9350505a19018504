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
# A first start makes a database and a demo tenant; on a busy machine that takes half a minute.
START_WITHIN_S = 120
# Parts and agents have bounded stops of their own, which add up to less than this.
STOP_WITHIN_S = 60
# The last line that `botyard up` prints on its way up.
UP = b"Ctrl-C stops everything."


def main() -> int:
    if not has_browser():
        print(f"A browser is needed: apt-get install -y {' '.join(NEEDED)}, or set CHROMIUM.")
        return 1
    with tempfile.TemporaryDirectory(prefix="botyard-screenshots-") as folder:
        data = Path(folder) / "data"
        with running(data) as is_up:
            if not is_up:
                print("Botyard did not come up; make up shows why.")
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
def running(data: Path) -> Iterator[bool]:
    """A `botyard up` on a free port; whether it came up. Ctrl-C stops it."""
    command = [str(Path(sys.executable).with_name("botyard")), "up", "--port", "0"]
    process = subprocess.Popen([*command, "--data-dir", str(data)], stdout=subprocess.PIPE)
    try:
        yield came_up(process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def came_up(process: subprocess.Popen[bytes]) -> bool:
    """Read until it says so, ends, or takes too long."""
    assert process.stdout is not None  # noqa: S101 - we asked for a pipe
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(START_WITHIN_S):
            chunk = os.read(process.stdout.fileno(), 4096)
            said += chunk
            if UP in said or not chunk:
                break
    return UP in said


def walk(first_run: Path) -> int:
    """Let the browser walk through all pages; its exit code."""
    url = json.loads(first_run.read_text(encoding="utf-8"))["url"]
    command = ["node", "scripts/screenshots.mjs", url, str(first_run), str(PICTURES)]
    return subprocess.run(command, cwd=ROOT / "web-admin", check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
