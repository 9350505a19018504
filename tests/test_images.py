"""Images, without a machine that builds them: what they are made of is there and suffices.

The agent's is packed by hand as well and run by a real node; both are made of one list.
"""

import fnmatch
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from control_plane import settings
from control_plane.db.migrate import newest
from tests.cluster.substrate import image

ROOT = Path(__file__).parents[1]
DOCKERFILES = (ROOT / "Dockerfile", ROOT / "instance_agent" / "Dockerfile")
OURS = ("control_plane", "instance_agent", "adapters")


@dataclass(frozen=True)
class Copied:
    """A COPY out of the checkout."""

    stage: str
    source: str
    target: str


def instructions(dockerfile: Path) -> list[tuple[str, str, str]]:
    """Stage, instruction and the rest of its line."""
    found, stage = [], ""
    for line in dockerfile.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.partition(" AS ")[2]
        found.append((stage, word, rest))
    return found


def said(dockerfile: Path, word: str) -> list[str]:
    return [rest for _, found, rest in instructions(dockerfile) if found == word]


def copied(dockerfile: Path) -> Iterator[Copied]:
    folder = ""
    for stage, word, rest in instructions(dockerfile):
        if word == "WORKDIR":
            folder = rest
        elif word == "COPY" and not rest.startswith("--from"):
            *sources, target = shlex.split(rest)
            for source in sources:
                name = Path(source).name if target == "./" and (ROOT / source).is_file() else ""
                yield Copied(stage, source, os.path.normpath(f"{folder}/{target}/{name}"))


def sent(path: str) -> bool:
    """Whether .dockerignore lets a path through to whoever builds: the last line that fits says."""
    here = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        anywhere = pattern.removeprefix("**/")
        parts = Path(path).parts
        starts = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        if any(fnmatch.fnmatch(start, pattern) for start in starts) or (
            anywhere != pattern and anywhere in parts
        ):
            here = line.startswith("!")
    return here


def lay(dockerfile: Path, stage: str, root: Path) -> None:
    """Put what a stage copies under a folder, as building it would."""
    for each in copied(dockerfile):
        if each.stage != stage:
            continue
        target = root / each.target.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / each.source).is_dir():
            unsent = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / each.source, target, ignore=unsent)
        else:
            shutil.copy(ROOT / each.source, target)


def start(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env={"PATH": os.environ["PATH"], **environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=["control plane", "agent"])
class TestEveryImage:
    def test_is_made_of_what_is_there_and_is_sent(self, dockerfile: Path) -> None:
        sources = [each.source for each in copied(dockerfile)]

        assert sources
        assert [source for source in sources if not (ROOT / source).exists()] == []
        assert [source for source in sources if not sent(source)] == []

    def test_gets_nothing_of_this_machine(self, dockerfile: Path) -> None:
        for kept_here in (
            ".git/config",
            ".venv/bin/python",
            ".botyard/secret-keys.json",
            "web-admin/node_modules/vue/package.json",
            "web-admin/dist/app/index.html",
            "control_plane/__pycache__/cli.pyc",
            "tests/conftest.py",
            ".env",
        ):
            assert not sent(kept_here)
        assert sent("control_plane/cli.py")
        assert sent("web-admin/app/main.ts")

    def test_runs_as_a_numbered_user_that_is_not_root(self, dockerfile: Path) -> None:
        # Kubernetes cannot see from a name that it is not root's.
        assert said(dockerfile, "USER") == [f"{image.USER}:{image.USER}"]

    def test_installs_by_hash(self, dockerfile: Path) -> None:
        installs = [line for line in said(dockerfile, "RUN") if "pip install" in line]

        assert "--require-hashes -r requirements.lock" in installs[0]
        assert all("--no-deps --no-build-isolation" in line for line in installs[1:])

    def test_takes_each_stage_from_one_that_is_there(self, dockerfile: Path) -> None:
        stages = {stage for stage, _, _ in instructions(dockerfile)}
        taken = re.findall(r"^COPY --from=(\S+)", dockerfile.read_text(), flags=re.MULTILINE)
        assert taken
        assert set(taken) <= stages


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the control plane's image is laid out from."""
    root = tmp_path_factory.mktemp("image")
    lay(DOCKERFILES[0], "packages", root)
    return root


class TestTheControlPlane:
    def test_imports_nothing_of_ours_that_was_not_copied(self, root: Path) -> None:
        code = (
            "import sys, control_plane.cli, control_plane.app, instance_agent.agent\n"
            f"ours = [m for n, m in sys.modules.items() if n.partition('.')[0] in {OURS}]\n"
            "print('\\n'.join(sorted({m.__file__ for m in ours if m.__file__})))"
        )
        done = start([sys.executable, "-c", code], PYTHONPATH=str(root / "app"))

        assert done.returncode == 0, done.stderr
        files = [Path(line) for line in done.stdout.splitlines()]
        assert len(files) > 100
        assert [file for file in files if not file.is_relative_to(root / "app")] == []

    async def test_migrates_an_empty_database(self, root: Path, ground, tmp_path: Path) -> None:
        name = f"image_{os.getpid()}"
        await ground.create(name, source="template1")
        urls = {"database-url": ground.url(ground.app, name)}
        urls["owner-database-url"] = ground.url(ground.owner, name)
        environment = {"PYTHONPATH": str(root / "app")}
        for key, url in urls.items():
            (tmp_path / key).write_text(url)
            variable = f"BOTYARD_{key.upper().replace('-', '_')}_FILE"
            environment[variable] = str(tmp_path / key)
        try:
            code = "from control_plane.cli import main; main()"
            done = start([sys.executable, "-c", code, "migrate"], **environment)
        finally:
            await ground.drop(name)

        assert done.returncode == 0, done.stderr
        assert newest() in done.stdout

    def test_has_the_web_pages_where_they_are_looked_for(self) -> None:
        built = "/app/" + str(
            settings.Settings.model_fields["web_pages"].default.relative_to(settings.PROJECT)
        )
        assert f"--from=web {built} {built}" in said(DOCKERFILES[0], "COPY")

    def test_is_installed_as_a_checkout_is(self) -> None:
        (install,) = [
            line
            for line in said(DOCKERFILES[0], "RUN")
            if line.endswith("--no-build-isolation -e .")
        ]
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert install.partition("pip install")[2] in makefile
        # The backend reads these while it installs.
        sources = {each.source for each in copied(DOCKERFILES[0])}
        assert {"pyproject.toml", "README.md", *OURS, "alembic.ini", "alembic"} <= sources


class TestVersions:
    def test_of_chart_and_code_are_one(self) -> None:
        """An image is taken by the chart's version unless a tag says otherwise."""
        chart = (ROOT / "helm" / "botyard" / "Chart.yaml").read_text(encoding="utf-8")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert f'appVersion: "{project["version"]}"' in chart

    def test_of_python_are_those_that_the_tests_run_on(self) -> None:
        here = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        oldest = f"python:{project['requires-python'].removeprefix('>=')}-slim"
        for dockerfile in DOCKERFILES:
            taken = {line.partition("-bookworm")[0] for line in said(dockerfile, "FROM")}
            assert taken <= {oldest, here, "node:20"}


class TestTheAgents:
    def lock(self) -> dict[str, str]:
        """Versions by names."""
        text = (ROOT / "instance_agent" / "requirements.lock").read_text(encoding="utf-8")
        pins = re.findall(r"^([A-Za-z0-9._-]+)==([^ ]+)", text, flags=re.MULTILINE)
        return {canonicalize_name(name): version for name, version in pins}

    def test_lock_is_what_the_agent_needs_of_the_whole_one(self) -> None:
        spec = importlib.util.spec_from_file_location("agent_lock", ROOT / ".ci" / "agent_lock.py")
        assert spec is not None
        assert spec.loader is not None
        agent_lock = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(agent_lock)

        assert agent_lock.LOCK.read_text() == agent_lock.text(), "run .ci/agent_lock.py"

    def test_lock_holds_what_each_of_its_packages_asks_for(self) -> None:
        """So that an installer, which may look nowhere else, is content."""
        lock = self.lock()
        for name in lock:
            for text in importlib.metadata.distribution(name).requires or []:
                wanted = Requirement(text)
                if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                    version = lock[canonicalize_name(wanted.name)]
                    assert wanted.specifier.contains(version), f"{name} wants {text}"

    def test_lock_has_none_of_the_control_planes_weight(self) -> None:
        assert not {"fastapi", "sqlalchemy", "kubernetes", "alembic", "redis"} & set(self.lock())

    def test_contents_are_those_of_the_image_that_the_tests_pack(self) -> None:
        folders = {each.source for each in copied(DOCKERFILES[1]) if (ROOT / each.source).is_dir()}
        assert folders == set(image.SOURCES)
        packed = {canonicalize_name(each.metadata["Name"]) for each in image._needed(ROOT)}
        assert packed == set(self.lock())
        (entry,) = said(DOCKERFILES[1], "ENTRYPOINT")
        assert entry == '["python3", "-m", "instance_agent"]'

    def test_start_with_these_contents_alone(self, tmp_path: Path) -> None:
        lay(DOCKERFILES[1], "packages", tmp_path)
        site = tmp_path / "site"
        for distribution in image._needed(ROOT):
            for file in distribution.files or []:
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    target = site / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.symlink_to(str(file.locate()))
        # Without the packages of the Python that runs the tests.
        python = [sys.executable, "-S"]
        alone = {"PYTHONPATH": f"{tmp_path / 'app'}:{site}"}

        every = "import instance_agent.process, instance_agent.agent, adapters.registry"
        assert start([*python, "-c", every], **alone).stderr == ""
        done = start([*python, "-m", "instance_agent", "--help"], **alone)
        assert done.returncode == 0, done.stderr
        assert "--bootstrap-file" in done.stdout
        lacking = start([*python, "-c", "import fastapi"], **alone)
        assert "No module named 'fastapi'" in lacking.stderr
