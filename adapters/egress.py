"""Where a bot may go beside the public internet: host names and networks that its plan opens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# The last label of a name has a letter; an address ends with a number.
_HOST_NAME = re.compile(
    rf"(?=.{{1,253}}\Z)(\*\.)?({_LABEL}\.)*(?=[0-9-]*[A-Za-z]){_LABEL}\.?", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class Egress:
    """`names` are in small letters; one that begins with `*.` stands for every name below it."""

    networks: tuple[Network, ...] = ()
    names: tuple[str, ...] = ()

    def opens(self, host: str, address: Address) -> bool:
        """Whether a call of this host, which has this address, may go out."""
        host = host.rstrip(".").lower()
        return any(holds(network, address) for network in self.networks) or any(
            host.endswith(name[1:]) if name.startswith("*.") else host == name
            for name in self.names
        )


NOWHERE = Egress()


def read(entries: Sequence[str]) -> Egress:
    """What entries such as `*.corp.example` or `10.2.0.0/16` open.

    Raises ValueError for one that is neither name nor network.
    """
    opened: list[Network] = []
    names = []
    for entry in entries:
        if _HOST_NAME.fullmatch(entry):
            names.append(entry.rstrip(".").lower())
        else:
            opened.append(ip_network(entry))
    return Egress(networks=tuple(opened), names=tuple(names))


def holds(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network
