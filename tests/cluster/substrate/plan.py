"""What one cluster is made of: its folder, its ports, and whether pods really run in it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

NODE_ADDRESS = "10.244.0.1"
"""The node's own in the pods' network; a namespace of its own, so it is nobody else's."""

PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/16"
REAL, SIMULATED = "real", "simulated"
"""Names of the nodes, and values of their label KIND."""

PROCESSES = "processes"
"""Nodes that a test starts for itself; see nodes.py."""

KIND = "botyard.test/node"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Written once as plan.json, read by every process of the cluster."""

    folder: str
    daemons: str
    programs: str
    port: int
    etcd_port: int
    etcd_peer_port: int
    real: bool
    token: str

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        return cls(**json.loads((folder / "plan.json").read_text(encoding="utf-8")))

    def write(self) -> None:
        path = self.root / "plan.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @property
    def root(self) -> Path:
        return Path(self.folder)

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """Of a user who may do everything."""
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.root / "audit.log"

    @property
    def containerd_socket(self) -> Path:
        return self.root / "containerd" / "socket"

    @property
    def cgroup(self) -> str:
        """Under which all pods of this cluster are; a folder of every hierarchy."""
        return f"botyard-{self.port}"

    @property
    def ready(self) -> Path:
        """There as soon as the cluster can be used."""
        return self.root / "ready"

    @property
    def init_pid(self) -> int:
        """The first process of the namespaces, as seen from outside."""
        return int((self.root / "init.pid").read_text(encoding="ascii"))
