"""What the agent is told at its start: the command line, or BOTYARD_AGENT_* in the environment."""

import argparse
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from adapters.egress import Network
from adapters.outbound import networks

# How long a changed configuration must hold before it is the last good one: a platform's token
# and its first connection take seconds, a second try after a back-off some more.
HEALTH_WINDOW_S = 30.0
_MAX_HEALTH_WINDOW_S = 600.0

_ENV = "BOTYARD_AGENT_"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One agent's start."""

    instance_id: UUID
    generation: int
    control_url: str
    data_dir: Path
    bootstrap_file: Path
    listen_host: str
    listen_port: int
    always_tls: bool = False
    outbound_allow: tuple[Network, ...] = ()
    log_level: str = "info"
    max_connections: int = 512
    health_window_s: float = HEALTH_WINDOW_S


def read(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Parse the command line; prints usage and exits with 2 when something is missing or wrong."""
    parser = _parser(environ)
    given = parser.parse_args(argv)
    host, port = given.listen
    return Settings(
        instance_id=given.instance_id,
        generation=given.generation,
        control_url=given.control_url,
        data_dir=given.data_dir,
        bootstrap_file=given.bootstrap_file,
        listen_host=host,
        listen_port=port,
        always_tls=given.tls == "always",
        outbound_allow=given.outbound_allow,
        log_level=given.log_level,
        max_connections=given.max_connections,
        health_window_s=given.health_window,
    )


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m instance_agent",
        description="One tenant's bot: keeps its channels connected, reports what they hear, "
        "sends what the control plane says.",
        epilog="Each option may also stand in the environment, as BOTYARD_AGENT_INSTANCE_ID and "
        "so on. Exit codes: 0 stopped, 1 failed, 2 bad options, 3 the data directory is in use, "
        "4 the control plane refused the identity.",
    )

    def option(name: str, **how: object) -> None:
        env = _ENV + name.removeprefix("--").upper().replace("-", "_")
        default = environ.get(env, how.pop("default", None))
        parser.add_argument(name, default=default, required=default is None, **how)  # type: ignore[arg-type]

    option("--instance-id", type=UUID, metavar="UUID", help="whose bot this is")
    option("--generation", type=int, metavar="N", help="generation of the desired instance")
    option("--control-url", type=_url, metavar="URL", help="where the control plane is")
    option("--data-dir", type=Path, metavar="DIR", help="kept from one start to the next")
    option(
        "--bootstrap-file",
        type=Path,
        metavar="FILE",
        help="what proves this start; removed once read, where that can be",
    )
    option(
        "--listen",
        type=_listen,
        metavar="HOST:PORT",
        default="127.0.0.1:0",
        help="address of the agent's API, port 0 picks a free one (default: %(default)s)",
    )
    option(
        "--tls",
        choices=["network", "always"],
        default="network",
        help="when the agent's API speaks TLS: where its address is not loopback, or always "
        "(default: %(default)s)",
    )
    option(
        "--outbound-allow",
        type=_networks,
        metavar="NETWORKS",
        default="",
        help="private networks, by comma, where providers of models may be (default: none)",
    )
    option(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        default="info",
        help="the least that is logged (default: %(default)s)",
    )
    option(
        "--max-connections",
        type=_connections,
        metavar="N",
        default="512",
        help="of the control plane's lanes, callbacks and health checks at a time "
        "(default: %(default)s)",
    )
    option(
        "--health-window",
        type=_window,
        metavar="SECONDS",
        default=str(HEALTH_WINDOW_S),
        help="how long a changed configuration must hold before it is taken for good "
        "(default: %(default)s)",
    )
    return parser


def _window(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _MAX_HEALTH_WINDOW_S:
        raise argparse.ArgumentTypeError(f"must be 0 to {_MAX_HEALTH_WINDOW_S:g} seconds")
    return seconds


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return networks(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be networks by comma, as 10.2.0.0/16") from None


def _connections(text: str) -> int:
    if not text.isdecimal() or not 16 <= int(text) <= 65_536:
        raise argparse.ArgumentTypeError("must be a number from 16 to 65536")
    return int(text)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("must start with http:// or https://")
    return text.rstrip("/")


def _listen(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        # Its own address is what the agent tells the control plane, so "any" is none.
        usable = not ipaddress.ip_address(host).is_unspecified
    except ValueError:
        usable = False
    if not usable or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError("must be an address of this machine with a port")
    return host, int(port)
