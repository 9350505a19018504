"""Turns itself into a PostgreSQL program that is not root and, on Linux, dies with its parent.

Run as a script: python -I -S postgres_launch.py PARENT IDENTITY PROGRAM [ARGUMENT...]
PARENT is the pid that must still be our parent; IDENTITY is "same", "namespace" or "uid:gid".
It imports nothing outside the standard library, so that it starts in milliseconds.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2

# What the server sees as its own user inside the namespace; any id but 0 will do.
NAMESPACE_ID = 1000


def launch(parent: int, identity: str, command: list[str]) -> None:
    """Take on the identity, tie our life to the parent and become the command."""
    if identity == "namespace":
        _enter_namespace()
    elif identity != "same":
        uid, _, gid = identity.partition(":")
        _become(int(uid), int(gid))
    if sys.platform == "linux":
        # Only now: the kernel forgets this signal whenever the credentials change.
        _prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:
        sys.exit("the parent ended before the database could start")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


def _enter_namespace() -> None:
    """Stay the owner of root's files while seeing an ordinary user, which PostgreSQL insists on."""
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc().unshare(CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"{NAMESPACE_ID} {gid} 1")
    Path("/proc/self/uid_map").write_text(f"{NAMESPACE_ID} {uid} 1")


def _become(uid: int, gid: int) -> None:
    """Drop root for good, but keep the way through parent folders that only root may enter."""
    if sys.platform == "linux":
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if sys.platform == "linux":
        # Containers drop the narrower of the two; without either the folders must be open.
        _ = _keep(CAP_DAC_READ_SEARCH) or _keep(CAP_DAC_OVERRIDE)


def _keep(capability: int) -> bool:
    mask = 1 << capability
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    effective_permitted_inheritable = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if _libc().capset(header, effective_permitted_inheritable) != 0:
        return False
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)
    return True


def _prctl(option: int, *arguments: int) -> None:
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc().prctl(ctypes.c_int(option), *words), "prctl")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


if __name__ == "__main__":
    launch(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
