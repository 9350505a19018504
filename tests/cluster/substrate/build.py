"""The programs of a cluster: Kubernetes' daemons, built from Debian's source package, and others.

Debian bookworm's package is the newest that holds the servers; later ones hold the client only.
What is made once is kept outside every checkout.
"""

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.substrate.packages import Archive, UnavailableError, run

DAEMONS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
PROGRAMS = ("etcd-server", "containerd", "runc", "containernetworking-plugins")
"""Debian's packages of the rest."""

COMPILER = ("golang-1.19-go", "golang-1.19-src")
TREE = "k8s.io/kubernetes"
TAGS = "providerless dockerless"
"""Without the clouds and without Docker: half the size and a third less to compile."""

OPENAPI = "pkg/generated/openapi"
OPENAPI_MARK = re.compile(r"^// *\+k8s:openapi-gen=", re.MULTILINE)
NOT_IN_OPENAPI = {"code-generator", "sample-apiserver"}
NICE = ["nice", "-n", "10"]


def cache() -> Path:
    """Where what takes minutes to make is kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "botyard"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time; the lock ends with its process."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made() -> bool:
    """Whether all programs of a cluster are there already."""
    return (cache() / "programs").exists() and any(cache().glob("kubernetes-*/"))


def programs() -> Path:
    """A folder like `/` with what Debian has ready-made."""
    kept = cache()
    folder = kept / "programs"
    with locked(kept / "programs.lock"):
        if not folder.exists():
            print(f"• fetching {', '.join(PROGRAMS)}", flush=True)
            with tempfile.TemporaryDirectory(prefix="fetching-", dir=kept) as work:
                Archive(Path(work)).unpack(PROGRAMS, Path(work) / "root")
                # A folder gets its name when it is complete.
                (Path(work) / "root").rename(folder)
    return folder


def daemons() -> Path:
    """The folder of Kubernetes' daemons. Takes four minutes of two processors the first time."""
    kept = cache()
    with locked(kept / "kubernetes.lock"):
        for folder in sorted(kept.glob("kubernetes-*/"), reverse=True):
            return folder
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="building-", dir=kept) as work:
            built, version = _build(Path(work))
            folder = built.rename(kept / f"kubernetes-{version}")
        print(f"• built in {time.monotonic() - started:.0f} s", flush=True)
        return folder


def _build(work: Path) -> tuple[Path, str]:
    print("• fetching the source of Kubernetes and a compiler (100 MB)", flush=True)
    archive = Archive(work)
    description = archive.source("kubernetes")
    archive.unpack(COMPILER, work)
    version = description.stem.removeprefix("kubernetes_")
    tree = work / "src" / TREE
    tree.parent.mkdir(parents=True)
    # apt has checked the files against its signed index.
    run(["dpkg-source", "--no-check", "-x", str(description), str(tree)], work)
    if not (tree / "cmd" / "kube-apiserver").exists():
        raise UnavailableError(f"Debian's source of Kubernetes {version} has no servers in it")
    print(f"• building Kubernetes {version} (about four minutes, once)", flush=True)
    _openapi(tree, work)
    return _compile(tree, work, _release(version)), version


def _release(version: str) -> str:
    """1.20.2 of 1.20.5+really1.20.2-1."""
    found = re.search(r"([0-9]+\.[0-9]+\.[0-9]+)$", version.partition("-")[0])
    assert found is not None
    return found[1]


def _openapi(tree: Path, work: Path) -> None:
    """The one generated file that the source package leaves out."""
    generator = work / "openapi-gen"
    _go(["build", "-o", str(generator), "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"], tree, work)
    words = [str(generator), "--logtostderr", "-i", ",".join(_described(tree))]
    words += ["-p", f"{TREE}/{OPENAPI}", "-O", "zz_generated.openapi"]
    words += ["-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"]
    run([*NICE, *words, "-r", str(work / "violations")], tree, _environment(work))


def _described(tree: Path) -> list[str]:
    """The packages whose types are to be described; vendored ones are links into the tree."""
    roots = {name: tree / name for name in ("pkg", "cmd", "plugin")}
    for path in (tree / "vendor" / "k8s.io").iterdir():
        if path.name not in NOT_IN_OPENAPI:
            roots[f"vendor/k8s.io/{path.name}"] = path.resolve()
    return sorted(
        {
            f"{TREE}/{name}/{file.parent.relative_to(root)}".removesuffix("/.")
            for name, root in roots.items()
            for file in root.rglob("*.go")
            if OPENAPI_MARK.search(file.read_text(encoding="utf-8"))
        }
    )


def _compile(tree: Path, work: Path, release: str) -> Path:
    major, minor, _ = release.split(".")
    values = {"gitVersion": f"v{release}", "gitMajor": major, "gitMinor": minor}
    flags = ["-s", "-w"]
    for holder in ("component-base/version", "client-go/pkg/version"):
        for name, value in (values | {"gitTreeState": "archive"}).items():
            flags += ["-X", f"{TREE}/vendor/k8s.io/{holder}.{name}={value}"]
    out = work / "out"
    out.mkdir()
    words = ["build", "-trimpath", "-tags", TAGS, "-ldflags", " ".join(flags), "-o", f"{out}/"]
    _go([*words, *(f"./cmd/{daemon}" for daemon in DAEMONS)], tree, work)
    return out


def _go(words: list[str], tree: Path, work: Path) -> None:
    run([*NICE, str(_compiler(work) / "bin" / "go"), *words], tree, _environment(work))


def _compiler(work: Path) -> Path:
    return work / "usr" / "lib" / "go-1.19"


def _environment(work: Path) -> dict[str, str]:
    """Everything below the working folder, nothing from the network."""
    return {
        "PATH": f"{_compiler(work) / 'bin'}:{os.environ['PATH']}",
        "HOME": str(work),
        "GOROOT": str(_compiler(work)),
        "GOPATH": str(work),
        "GOCACHE": str(work / "gocache"),
        "GO111MODULE": "off",
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
    }
