"""Command lines and files of a cluster's daemons. Everything listens on loopback only."""

import json
from pathlib import Path
from typing import Any

from tests.cluster.substrate.pki import Authority, kubeconfig
from tests.cluster.substrate.plan import KIND, NODE_ADDRESS, PODS, REAL, SERVICES, Plan

PAUSE = "localhost/botyard-pause:1"
"""The image of a pod's first process, which only holds the pod's namespaces."""

CLIENTS = {
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
    "kubelet-client": ("system:api-server", ("system:masters",)),
    "simulator": ("system:simulator", ("system:masters",)),
}
"""File, user and groups of the certificates by which daemons sign in; audits tell by `system:`."""

WRITES = ["create", "update", "patch", "delete", "deletecollection"]


def prepare(plan: Plan) -> None:
    """Write everything that the daemons read."""
    authority = Authority(plan.pki)
    authority.issue("api", "kube-apiserver", hosts=["localhost", "127.0.0.1", NODE_ADDRESS])
    authority.key_pair("accounts")
    for file, (user, groups) in CLIENTS.items():
        authority.issue(file, user, groups=groups)
    node = f"system:node:{REAL}"
    authority.issue(REAL, node, groups=["system:nodes"], hosts=[REAL, NODE_ADDRESS, "127.0.0.1"])
    for file in (*CLIENTS, REAL):
        certificate = {
            "client-certificate": str(plan.pki / f"{file}.crt"),
            "client-key": str(plan.pki / f"{file}.key"),
        }
        _kubeconfig(plan, plan.root / f"{file}.kubeconfig", certificate)
    _kubeconfig(plan, plan.kubeconfig, {"token": plan.token})
    _write(plan.pki / "tokens.csv", f'{plan.token},admin,admin,"system:masters"\n')
    rules = [{"level": "Metadata", "verbs": WRITES}, {"level": "None"}]
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}
    _write(plan.root / "audit.json", json.dumps(policy | {"omitStages": ["RequestReceived"]}))
    if plan.real:
        _write(plan.root / "kubelet.json", json.dumps(kubelet_settings(plan)))
        (plan.containerd_socket.parent / "cni").mkdir(parents=True)
        _write(plan.containerd_socket.parent / "config.toml", containerd_settings(plan))
        _write(plan.containerd_socket.parent / "cni" / "pods.conflist", json.dumps(network(plan)))


def etcd(plan: Plan) -> list[str]:
    here = f"http://127.0.0.1:{plan.etcd_port}"
    peers = f"http://127.0.0.1:{plan.etcd_peer_port}"
    return [
        f"{plan.programs}/usr/bin/etcd",
        f"--data-dir={plan.root / 'etcd'}",
        f"--listen-client-urls={here}",
        f"--advertise-client-urls={here}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        # Nothing here outlives the machine.
        "--unsafe-no-fsync",
    ]


def api_server(plan: Plan) -> list[str]:
    pki = plan.pki
    return [
        f"{plan.daemons}/kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{plan.etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={plan.port}",
        f"--tls-cert-file={pki / 'api.crt'}",
        f"--tls-private-key-file={pki / 'api.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--authorization-mode=Node,RBAC",
        f"--token-auth-file={pki / 'tokens.csv'}",
        f"--service-cluster-ip-range={SERVICES}",
        f"--service-account-key-file={pki / 'accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--endpoint-reconciler-type=none",
        f"--cert-dir={pki}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        # By its name it would ask for the node in DNS.
        "--kubelet-preferred-address-types=InternalIP",
        f"--audit-policy-file={plan.root / 'audit.json'}",
        f"--audit-log-path={plan.audit_log}",
        # A write is in the file before its answer leaves.
        "--audit-log-mode=blocking-strict",
        "--shutdown-delay-duration=0s",
    ]


def controller_manager(plan: Plan) -> list[str]:
    pki = plan.pki
    return [
        f"{plan.daemons}/kube-controller-manager",
        f"--kubeconfig={plan.root / 'controller-manager.kubeconfig'}",
        "--secure-port=0",
        "--port=0",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki / 'accounts.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cert-dir={pki}",
    ]


def scheduler(plan: Plan) -> list[str]:
    return [
        f"{plan.daemons}/kube-scheduler",
        f"--kubeconfig={plan.root / 'scheduler.kubeconfig'}",
        "--secure-port=0",
        "--port=0",
        "--leader-elect=false",
        f"--cert-dir={plan.pki}",
    ]


def containerd(plan: Plan) -> list[str]:
    config = plan.containerd_socket.parent / "config.toml"
    return [f"{plan.programs}/usr/bin/containerd", "--config", str(config)]


def kubelet(plan: Plan) -> list[str]:
    return [
        f"{plan.daemons}/kubelet",
        f"--config={plan.root / 'kubelet.json'}",
        f"--kubeconfig={plan.root / f'{REAL}.kubeconfig'}",
        f"--hostname-override={REAL}",
        f"--node-ip={NODE_ADDRESS}",
        f"--node-labels={KIND}={REAL}",
        f"--root-dir={plan.root / 'kubelet'}",
        f"--cert-dir={plan.pki}",
        "--container-runtime=remote",
        f"--container-runtime-endpoint=unix://{plan.containerd_socket}",
        f"--image-service-endpoint=unix://{plan.containerd_socket}",
    ]


def kubelet_settings(plan: Plan) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{plan.cgroup}",
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plan.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(plan.pki / f"{REAL}.crt"),
        "tlsPrivateKeyFile": str(plan.pki / f"{REAL}.key"),
        # The machine's disk is not ours to judge, and an image once imported cannot be pulled.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "imageMinimumGCAge": "24h",
        "resolvConf": "",
        "nodeStatusUpdateFrequency": "5s",
        # How soon a pod that is being deleted is looked at again.
        "syncFrequency": "2s",
    }


def containerd_settings(plan: Plan) -> str:
    home = plan.containerd_socket.parent
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{home / "root"}"
state = "{home / "state"}"
[grpc]
  address = "{plan.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{home / "opt"}"
[{cri}]
  sandbox_image = "{PAUSE}"
  stream_server_address = "127.0.0.1"
  # Root of a container of the machine's may lack the right to lower it.
  restrict_oom_score_adj = true
[{cri}.cni]
  bin_dir = "{plan.programs}/usr/lib/cni"
  conf_dir = "{home / "cni"}"
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
  BinaryName = "{plan.programs}/usr/sbin/runc"
  SystemdCgroup = false
"""


def network(plan: Plan) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": str(plan.containerd_socket.parent / "addresses"),
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _kubeconfig(plan: Plan, path: Path, user: dict[str, Any]) -> None:
    kubeconfig(path, server=plan.server, authority=plan.pki / "ca.crt", user=user)


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
