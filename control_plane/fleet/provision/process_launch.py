"""Starts one agent: its command line, environment from nothing, limits, session and log."""

import math
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from control_plane.fleet.provision.base import Allowance, InstanceSpec
from control_plane.fleet.provision.process_home import Home

# -P: the working directory belongs to the agent, nothing in it may pass for a module.
AGENT_COMMAND = (sys.executable, "-P", "-m", "instance_agent")

# A shell sets the limits and becomes the agent under the same pid, so no kill of ours can come
# between start and limits. One that the system lacks, or has set lower already, stays as it is.
_LIMITED = "\n".join(
    (
        "ulimit -c 0",
        'ulimit -n "$1" 2>/dev/null',
        'ulimit -v "$2" 2>/dev/null',
        'ulimit -S -d "$3" 2>/dev/null',
        "niceness=$4",
        "shift 4",
        'exec nice -n "$niceness" "$@"',
    )
)


@dataclass(frozen=True, kw_only=True)
class AgentLimits:
    """What one agent may take; core dumps are off, they would hold secrets."""

    open_files: int = 4096
    """File descriptors: every connection of a busy agent, with room."""

    address_space_bytes: int = 4 * 1024**3
    """Address space, not memory: an agent maps below 1 GiB, a runaway one ends itself here."""


def launch(
    spec: InstanceSpec,
    home: Home,
    *,
    command: Sequence[str],
    control_url: str,
    outbound_allow: str,
    limits: AgentLimits,
    claim: int,
) -> int:
    """Start the agent and return its pid; it holds `claim` open for as long as it lives."""
    limited = ["/bin/sh", "-c", _LIMITED, "botyard-agent"]
    limited += [str(limits.open_files), str(limits.address_space_bytes // 1024)]
    limited += [str(spec.allowance.memory // 1024), str(niceness(spec.allowance.cpu))]
    log = home.open_log()
    try:
        process = subprocess.Popen(
            [*limited, *command, *_arguments(spec, home, control_url, outbound_allow)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.agent,
            env=_environment(spec, home),
            start_new_session=True,
            pass_fds=(claim,),
        )
    finally:
        os.close(log)
    # The pid is watched through the kernel; this object must neither reap it nor warn about it.
    process.returncode = 0
    return process.pid


def niceness(cpu: int) -> int:
    """How a process stands back so that it gets `cpu` thousandths beside one with a thousand.

    Each step of niceness is worth a quarter more or less of a busy processor; an idle one is
    anybody's.
    """
    return min(max(round(math.log(1000 / cpu, 1.25)), 0), 19)


def refit(pid: int, allowance: Allowance) -> None:
    """Let a running agent use this; what the system does not grant counts from the next start."""
    with suppress(OSError, AttributeError):  # the second: only Linux has prlimit
        _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        resource.prlimit(pid, resource.RLIMIT_DATA, (allowance.memory, hard))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness(allowance.cpu))


def _arguments(spec: InstanceSpec, home: Home, control_url: str, outbound_allow: str) -> list[str]:
    return [
        *("--instance-id", str(spec.instance_id)),
        *("--generation", str(spec.generation)),
        *("--control-url", control_url),
        *home.mark,
        *("--bootstrap-file", str(home.bootstrap)),
        *("--listen", "127.0.0.1:0"),
        *(("--outbound-allow", outbound_allow) if outbound_allow else ()),
    ]


def _environment(spec: InstanceSpec, home: Home) -> dict[str, str]:
    # An image means nothing here: agents are of this installation.
    options = spec.release.environment if spec.release else {}
    return options | {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(home.agent),
        "TZ": os.environ.get("TZ", "UTC"),
        "PYTHONUNBUFFERED": "1",
    }
