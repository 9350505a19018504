"""The agent's image, packed by hand: this Python, what the agent imports, and its source.

Two layers and no registry. The first holds what seldom changes and is kept under a hash of what is
in it; the second is made anew each time. A second image of the same layers holds a pod together.
"""

import compileall
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.substrate.build import cache, locked
from tests.cluster.substrate.daemons import PAUSE

SOURCES = ("instance_agent", "adapters")
USER = 10001
PREFIX = "usr/local"
SITE = "app"
PYTHON = f"/{PREFIX}/bin/python3"
UNUSED = (
    "test",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "pydoc_data",
    "site-packages",
)
"""Of the standard library: a bot draws no windows and installs nothing."""

UNUSED_EXTENSIONS = (
    "_tkinter",
    "_curses",
    "readline",
    "_test",
    "_xxtest",
    "xxlimited",
    "_ctypes_test",
)
PROGRAMS = ("/usr/bin/sleep", "/usr/bin/env", "/usr/bin/sh", "/usr/bin/cat", "/usr/bin/kill")
"""What an entry point, a drain hook and a person who looks inside may want."""

FILES = {
    "passwd": f"root:x:0:0::/:/usr/bin/sh\nbot:x:{USER}:{USER}::/tmp:/usr/bin/sh\n",
    "group": f"root:x:0:\nbot:x:{USER}:\n",
    "nsswitch.conf": "hosts: files dns\n",
}
"""What the C library looks into."""


KEPT = 4
"""Archives and layers; 125 MB each."""


@dataclass(frozen=True)
class Image:
    """An archive to import, and the name that pods use."""

    reference: str
    archive: Path


def pack(checkout: Path) -> Image:
    """The image of the agent in a checkout."""
    kept = cache() / "images"
    kept.mkdir(exist_ok=True)
    with locked(cache() / "images.lock"):
        base = _base(kept, checkout)
        top = _layer(_sources(checkout))
        digest = hashlib.sha256(base.encode() + _digest(top).encode()).hexdigest()[:16]
        archive = kept / f"agent-{digest}.tar"
        reference = f"localhost/botyard-agent:{digest}"
        if not archive.exists():
            _write(archive, reference, [(kept / base).read_bytes(), top])
        _keep_newest(archive, "agent-*.tar")
    return Image(reference, archive)


def _keep_newest(used: Path, pattern: str) -> None:
    """Other checkouts use the same folder, perhaps at this moment."""
    used.touch()
    for old in sorted(used.parent.glob(pattern), key=lambda file: file.stat().st_mtime)[:-KEPT]:
        old.unlink()


# --- what is in it ---------------------------------------------------------------------------


def _base(kept: Path, checkout: Path) -> str:
    """The name of the layer of Python and packages, made if need be."""
    distributions = _needed(checkout)
    versions = [f"{each.metadata['Name']}=={each.version}" for each in distributions]
    recipe = Path(__file__).read_text(encoding="utf-8")
    words = [recipe, sys.version, platform.libc_ver()[1], *sorted(versions)]
    name = f"layer-{hashlib.sha256(chr(0).join(words).encode()).hexdigest()[:16]}.tar"
    if not (kept / name).exists():
        print("• packing the agent's image (once for each set of packages)", flush=True)
        with tempfile.TemporaryDirectory(dir=kept) as folder:
            root = Path(folder) / "root"
            _furnish(root, distributions)
            (Path(folder) / "layer").write_bytes(_layer({"": root}))
            (Path(folder) / "layer").rename(kept / name)
    _keep_newest(kept / name, "layer-*.tar")
    return name


def _needed(checkout: Path) -> list[importlib.metadata.Distribution]:
    """Of the list that the agent's Dockerfile installs."""
    lock = (checkout / "instance_agent" / "requirements.lock").read_text(encoding="utf-8")
    names = re.findall(r"^([A-Za-z0-9._-]+)==", lock, flags=re.MULTILINE)
    return [importlib.metadata.distribution(name) for name in names]


def _furnish(root: Path, distributions: Iterable[importlib.metadata.Distribution]) -> None:
    """Lay out the first layer as folders and files."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = root / PREFIX / "lib" / version
    _standard_library(library)
    for distribution in distributions:
        for file in distribution.files or []:
            # What installs beside the packages is for a shell.
            if ".." not in file.parts and "__pycache__" not in file.parts:
                _copy(Path(str(file.locate())), root / SITE / file)
    for folder in (library, root / SITE):
        compileall.compile_dir(
            folder,
            quiet=2,
            stripdir=str(root),
            prependdir="/",
            # Checked by nobody, since nothing can be changed there.
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    programs = [Path(sys.executable).resolve(), *map(Path, PROGRAMS)]
    _copy(programs[0], root / PREFIX / "bin" / version)
    (root / PREFIX / "bin" / "python3").symlink_to(version)
    for program in PROGRAMS:
        _copy(Path(program), root / program.lstrip("/"))
    for needed in _libraries([*programs, *root.rglob("*.so"), *root.rglob("*.so.*")]):
        # The loader looks in these places without being told.
        usual = str(needed).startswith(("/lib", "/usr/lib"))
        _copy(needed, root / (str(needed).lstrip("/") if usual else f"usr/lib/{needed.name}"))
    for name in ("etc", "tmp", "proc", "sys", "dev", "run", "var"):
        (root / name).mkdir()
    for name, text in FILES.items():
        (root / "etc" / name).write_text(text, encoding="utf-8")


def _standard_library(target: Path) -> None:
    unused = shutil.ignore_patterns("__pycache__", "*.a", "config-*", "site-packages", *UNUSED)
    shutil.copytree(sysconfig.get_paths()["stdlib"], target, ignore=unused)
    for extension in (target / "lib-dynload").iterdir():
        if extension.name.startswith(UNUSED_EXTENSIONS):
            extension.unlink()


def _libraries(files: Sequence[Path]) -> set[Path]:
    """What the system's loader would load for them, but for what they bring along."""
    ours = {file.name for file in files}
    found = set()
    for file in files:
        said = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False)
        for match in re.finditer(r"(?:=> |^\s+)(/\S+) \(0x", said.stdout, flags=re.MULTILINE):
            if Path(match[1]).name not in ours:
                found.add(Path(match[1]))
    return found


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _sources(checkout: Path) -> dict[str, Path]:
    return {f"{SITE}/{name}": checkout / name for name in SOURCES}


# --- how it is written -----------------------------------------------------------------------


def _layer(trees: dict[str, Path]) -> bytes:
    """The same bytes for the same content: no times, no owners, one order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for target, tree in trees.items():
            for path in sorted(tree.rglob("*")):
                if target and (path.suffix != ".py" or path.is_dir()):
                    continue
                name = str(Path(target) / path.relative_to(tree))
                layer.add(path, name, recursive=False, filter=_anonymous)
    return buffer.getvalue()


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    if not entry.issym():
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    if entry.name == "tmp":
        entry.mode = 0o1777
    return entry


def _write(archive: Path, reference: str, layers: Sequence[bytes]) -> None:
    """An OCI layout of two images with the same layers."""
    blobs = {_digest(layer): layer for layer in layers}

    def keep(document: dict[str, Any], kind: str) -> dict[str, Any]:
        text = json.dumps(document).encode()
        blobs[_digest(text)] = text
        kind = f"application/vnd.oci.image.{kind}.v1+json"
        return {"mediaType": kind, "digest": _digest(text), "size": len(text)}

    def image(name: str, entry_point: Sequence[str]) -> dict[str, Any]:
        settings = {
            "Entrypoint": list(entry_point),
            "Env": [f"PATH=/{PREFIX}/bin:/usr/bin", f"PYTHONPATH=/{SITE}", "PYTHONUNBUFFERED=1"],
            "User": f"{USER}:{USER}",
            "WorkingDir": "/tmp",  # noqa: S108 - a container's own
        }
        platform_ = {"architecture": _architecture(), "os": "linux"}
        root = {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]}
        config = keep({**platform_, "config": settings, "rootfs": root}, "config")
        described = [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": _digest(layer),
                "size": len(layer),
            }
            for layer in layers
        ]
        manifest = keep({"schemaVersion": 2, "config": config, "layers": described}, "manifest")
        return {
            **manifest,
            "platform": platform_,
            "annotations": {"io.containerd.image.name": name},
        }

    images = [
        image(reference, [PYTHON, "-m", "instance_agent"]),
        image(PAUSE, ["/usr/bin/sleep", "infinity"]),
    ]
    files = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode()}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": images}).encode()
    files |= {f"blobs/{name.replace(':', '/')}": blob for name, blob in blobs.items()}
    part = archive.with_suffix(f".{os.getpid()}")
    with tarfile.open(part, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    part.rename(archive)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
