"""What an agent is on Kubernetes: whole documents, as pure functions of what is wished.

A tenant has a namespace with its walls, an agent a service account and a Deployment in it. Each
document carries the wish that it was made from, so that whoever reads it can make it again and
see what was changed by hand.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from adapters import egress
from adapters.egress import Network
from control_plane.fleet.provision.base import Allowance, InstanceSpec, Release

Document = dict[str, Any]

MANAGER = "botyard"
"""The one field manager."""

AUDIENCE = "botyard"
"""Whom a pod's token speaks to; one for anybody else is no proof here."""

PLACE = "botyard.dev/place"
TENANT = "botyard.dev/tenant"
INSTANCE = "botyard.dev/instance"
GENERATION = "botyard.dev/generation"
SHAPE = "botyard.dev/shape"
"""On a pod: a digest of all that it was made from."""
ENDING = "botyard.dev/ending"
"""On a namespace that goes: the instance that was the last in it."""
WISH = "botyard.dev/wish"

PORT = 8443
"""Where the agent listens; below 1024 it would need a capability."""

_USER = 65532
"""A user without a name, a home or a file on any node."""

_DRAIN_S = 30
"""The agent's own bounds add up to 17 s; the rest is for a slow node."""

_TOKEN_S = 3600
"""Life of the bootstrap token: the node renews it at four fifths, a container that starts again
an hour later finds a valid one."""

_DATA = "1Gi"
"""The spool, the journal and media on their way."""

_IDLE_MEMORY = 64 * 2**20
"""What an idle agent needs: the scheduler counts with this, the limit is the plan's."""

_BUSY_SHARE = 10
"""Of its processor limit an agent is promised one part in so many: most wait most of the time."""

# What one pod may write to its node's disk, in GiB: its spool and its log, with room.
_DISK_GIB = 2
_MOST_BOTS = 10_000
"""Bounds the sums of a quota where a plan says "any number"."""

_NOTHING = Allowance(cpu=0, memory=0)

_PRIVATE_4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
)
_PRIVATE_6 = ("::/128", "::1/128", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where and how agents run in one cell.

    `name` begins every namespace and marks what is ours; the control plane is found in
    `control_namespace`, in `control_networks`, or both. Pods go to nodes with the labels of
    `nodes`, also to those that are tainted with one of `taints`. `command` is the image's own
    where it is empty.
    """

    name: str
    image: str
    control_url: str
    control_port: int = 8080
    control_namespace: str | None = None
    control_networks: tuple[Network, ...] = ()
    metrics_namespace: str | None = None
    outbound_allow: tuple[Network, ...] = ()
    pod_security: str = "v1.30"
    nodes: tuple[tuple[str, str], ...] = ()
    taints: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?", self.name):
            raise ValueError("the place's name has 1 to 30 small letters, digits and hyphens")
        if not self.control_namespace and not self.control_networks:
            raise ValueError("say where the control plane is: a namespace or networks")

    def namespace(self, tenant_id: UUID) -> str:
        return f"{self.name}-{tenant_id.hex}"

    @property
    def selector(self) -> str:
        return f"{PLACE}={self.name}"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What an agent's documents were made from; `ended` is its last start, once it is stopped."""

    tenant_id: UUID
    instance_id: UUID
    generation: int
    allowance: Allowance
    ended: str | None = None
    up: bool = True
    release: Release | None = None

    @classmethod
    def of(cls, spec: InstanceSpec) -> "Wish":
        return cls(
            tenant_id=spec.tenant_id,
            instance_id=spec.instance_id,
            generation=spec.generation,
            allowance=spec.allowance,
            release=spec.release,
        )

    @property
    def image(self) -> str | None:
        """Instead of the place's own."""
        return self.release.image if self.release else None

    @property
    def terms(self) -> "Terms":
        return Terms(tenant_id=self.tenant_id, allowance=self.allowance)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a tenant's walls were made from."""

    tenant_id: UUID
    allowance: Allowance


def agent_name(instance_id: UUID) -> str:
    return f"agent-{instance_id.hex}"


def documents(wish: Wish, placement: Placement) -> list[Document]:
    """Everything of one agent, in the order in which it is made."""
    return [
        *walls(wish.terms, placement),
        service_account(wish, placement),
        deployment(wish, placement),
    ]


def walls(terms: Terms, placement: Placement) -> list[Document]:
    """The tenant's namespace and what holds in it; the walls stand before anybody moves in."""
    return [
        namespace(terms, placement),
        resource_quota(terms, placement),
        limit_range(terms, placement),
        deny_all(terms, placement),
        let_in(terms, placement),
        let_out(terms, placement),
    ]


def namespace(terms: Terms, placement: Placement) -> Document:
    security = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "audit", "warn")
        for suffix, value in (("", "restricted"), ("-version", placement.pod_security))
    }
    made = _document(
        "v1", "Namespace", placement.namespace(terms.tenant_id), None, terms, placement
    )
    made["metadata"]["labels"] |= security
    return made


def resource_quota(terms: Terms, placement: Placement) -> Document:
    """As many pods as the tenant may have bots, and one more: a pod that goes still counts."""
    pods = min(terms.allowance.bots, _MOST_BOTS) + 1
    hard = {
        "pods": str(pods),
        "requests.cpu": _cpu(_requested_cpu(terms.allowance) * pods),
        "requests.memory": str(_requested_memory(terms.allowance) * pods),
        "limits.cpu": _cpu(terms.allowance.cpu * pods),
        "limits.memory": str(terms.allowance.memory * pods),
        "limits.ephemeral-storage": f"{pods * _DISK_GIB}Gi",
        **dict.fromkeys(("persistentvolumeclaims", "services.loadbalancers"), "0"),
        "services.nodeports": "0",
    }
    return _walled("v1", "ResourceQuota", "botyard", terms, placement) | {"spec": {"hard": hard}}


def limit_range(terms: Terms, placement: Placement) -> Document:
    """For what gets into the namespace by another way: no container without bounds."""
    allowance = terms.allowance
    most = {"cpu": _cpu(allowance.cpu), "memory": str(allowance.memory)}
    limit = {
        "type": "Container",
        "max": most,
        "default": most,
        "defaultRequest": _resources(allowance)["requests"],
    }
    return _walled("v1", "LimitRange", "botyard", terms, placement) | {"spec": {"limits": [limit]}}


def deny_all(terms: Terms, placement: Placement) -> Document:
    # Said although it is empty: only what is said is compared.
    nothing: Document = {"ingress": [], "egress": []}
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], **nothing}
    return _policy("deny-all", terms, placement, spec)


def let_in(terms: Terms, placement: Placement) -> Document:
    """The control plane calls agents; whoever collects metrics reads them."""
    peers = _control_plane(placement)
    if placement.metrics_namespace:
        peers.append(_in_namespace(placement.metrics_namespace))
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": peers, "ports": [_port(PORT)]}],
        "egress": [],
    }
    return _policy("let-in", terms, placement, spec)


def let_out(terms: Terms, placement: Placement) -> Document:
    """Names, the control plane, the public internet by TLS, and what the plan opens."""
    opened = (*placement.outbound_allow, *egress.read(terms.allowance.egress).networks)
    dns = _in_namespace("kube-system") | {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    public = [_block("0.0.0.0/0", _PRIVATE_4), _block("::/0", _PRIVATE_6)]
    rules: list[Document] = [
        {"to": [dns], "ports": [_port(53, "UDP"), _port(53)]},
        {"to": _control_plane(placement), "ports": [_port(placement.control_port)]},
        {"to": public, "ports": [_port(443)]},
    ]
    if opened:
        blocks = [_block(str(network)) for network in sorted(set(opened), key=str)]
        rules.append({"to": blocks})
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "ingress": [], "egress": rules}
    return _policy("let-out", terms, placement, spec)


def service_account(wish: Wish, placement: Placement) -> Document:
    """Who the agent is; it may do nothing in the cluster and gets no token for it."""
    # It is the same from one start to the next.
    lasting = Wish(
        tenant_id=wish.tenant_id, instance_id=wish.instance_id, generation=0, allowance=_NOTHING
    )
    made = _agents("v1", "ServiceAccount", lasting, placement)
    return made | {"automountServiceAccountToken": False}


def deployment(wish: Wish, placement: Placement) -> Document:
    """At most one pod by a roll-out; where a node lost touch, sessions decide who acts."""
    made = _agents("apps/v1", "Deployment", wish, placement)
    pod = _pod(wish, placement)
    shape = hashlib.sha256(msgspec.json.encode(pod)).hexdigest()[:16]
    made["spec"] = {
        "replicas": 1 if wish.up else 0,
        "revisionHistoryLimit": 1,
        # Two agents must never hold one account at a platform.
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {INSTANCE: str(wish.instance_id)}},
        "template": {
            "metadata": {
                "labels": _labels(wish, placement)
                | {GENERATION: str(wish.generation), SHAPE: shape},
            },
            "spec": pod,
        },
    }
    return made


def wish_of(document: Document) -> Wish | None:
    """What a Deployment or service account was made from; None when somebody spoiled that."""
    found = _read(document, Wish)
    return found if isinstance(found, Wish) else None


def terms_of(document: Document) -> Terms | None:
    """What a wall was made from; None when somebody spoiled that."""
    found = _read(document, Terms)
    return found if isinstance(found, Terms) else None


def _read(document: Document, kind: type[Wish] | type[Terms]) -> Wish | Terms | None:
    text = (document["metadata"].get("annotations") or {}).get(WISH, "")
    try:
        return msgspec.json.decode(text.encode(), type=kind)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _pod(wish: Wish, placement: Placement) -> Document:
    return {
        "serviceAccountName": agent_name(wish.instance_id),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _DRAIN_S,
        # Said although they are defaults: only what is said is compared.
        "hostNetwork": False,
        "hostPID": False,
        "hostIPC": False,
        "shareProcessNamespace": False,
        "initContainers": [],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [
            # A node that is away for a minute is replaced, as a silent agent is.
            _tolerated("node.kubernetes.io/not-ready"),
            _tolerated("node.kubernetes.io/unreachable"),
            *({"key": taint, "operator": "Exists"} for taint in placement.taints),
        ],
        **({"nodeSelector": dict(placement.nodes)} if placement.nodes else {}),
        "containers": [_container(wish, placement)],
        "volumes": [
            {"name": "data", "emptyDir": {"sizeLimit": _DATA}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            {"name": "identity", "projected": {"defaultMode": 0o440, "sources": [_token()]}},
        ],
    }


def _container(wish: Wish, placement: Placement) -> Document:
    allowed = ",".join(map(str, placement.outbound_allow))
    options = wish.release.environment if wish.release else {}
    return {
        "name": "agent",
        "image": wish.image or placement.image,
        "command": list(placement.command),
        "args": [
            *("--instance-id", str(wish.instance_id), "--generation", str(wish.generation)),
            *("--control-url", placement.control_url, "--data-dir", "/data/agent"),
            *("--bootstrap-file", "/var/run/botyard/token", "--listen", f"$(POD_IP):{PORT}"),
            *(("--outbound-allow", allowed) if allowed else ()),
        ],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "HOME", "value": "/data"},
            *({"name": name, "value": value} for name, value in sorted(options.items())),
        ],
        "envFrom": [],
        "ports": [{"name": "api", "containerPort": PORT, "protocol": "TCP"}],
        "resources": _resources(wish.allowance),
        "startupProbe": _probe("/healthz", periodSeconds=1, failureThreshold=60),
        "livenessProbe": _probe("/healthz", periodSeconds=20, failureThreshold=3),
        "readinessProbe": _probe("/readyz", periodSeconds=5, failureThreshold=2),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": []},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 -- the pod's own
            {"name": "identity", "mountPath": "/var/run/botyard", "readOnly": True},
        ],
    }


def _token() -> Document:
    token = {"audience": AUDIENCE, "expirationSeconds": _TOKEN_S, "path": "token"}
    return {"serviceAccountToken": token}


def _tolerated(taint: str) -> Document:
    return {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}


def _probe(path: str, **how: int) -> Document:
    # The node does not look at the certificate, which is the control plane's affair.
    return {"httpGet": {"path": path, "port": "api", "scheme": "HTTPS"}, "timeoutSeconds": 3} | how


def _resources(allowance: Allowance) -> Document:
    return {
        "requests": {
            "cpu": _cpu(_requested_cpu(allowance)),
            "memory": str(_requested_memory(allowance)),
            "ephemeral-storage": "64Mi",
        },
        "limits": {
            "cpu": _cpu(allowance.cpu),
            "memory": str(allowance.memory),
            "ephemeral-storage": f"{_DISK_GIB}Gi",
        },
    }


def _requested_cpu(allowance: Allowance) -> int:
    return max(allowance.cpu // _BUSY_SHARE, 1)


def _requested_memory(allowance: Allowance) -> int:
    return min(allowance.memory, _IDLE_MEMORY)


def _cpu(thousandths: int) -> str:
    return f"{thousandths}m"


def _control_plane(placement: Placement) -> list[Document]:
    peers = [_block(str(network)) for network in placement.control_networks]
    if placement.control_namespace:
        peers.append(_in_namespace(placement.control_namespace))
    return peers


def _in_namespace(name: str) -> Document:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _block(network: str, but: tuple[str, ...] = ()) -> Document:
    return {"ipBlock": {"cidr": network} | ({"except": list(but)} if but else {})}


def _port(number: int, protocol: str = "TCP") -> Document:
    return {"protocol": protocol, "port": number}


def _policy(name: str, terms: Terms, placement: Placement, spec: Document) -> Document:
    made = _walled("networking.k8s.io/v1", "NetworkPolicy", name, terms, placement)
    return made | {"spec": spec}


def _walled(version: str, kind: str, name: str, terms: Terms, placement: Placement) -> Document:
    return _document(version, kind, name, placement.namespace(terms.tenant_id), terms, placement)


def _agents(version: str, kind: str, wish: Wish, placement: Placement) -> Document:
    name, home = agent_name(wish.instance_id), placement.namespace(wish.tenant_id)
    return _document(version, kind, name, home, wish, placement)


def _document(
    version: str, kind: str, name: str, home: str | None, wish: Wish | Terms, placement: Placement
) -> Document:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": name,
            **({"namespace": home} if home else {}),
            "labels": _labels(wish, placement),
            "annotations": {WISH: _text(wish)},
        },
    }


def _text(wish: Wish | Terms) -> str:
    said = msgspec.to_builtins(wish)
    if said.get("release") is None:
        # As it was before there were releases: what is right is not written again for it.
        said.pop("release", None)
    return msgspec.json.encode(said).decode()


def _labels(wish: Wish | Terms, placement: Placement) -> dict[str, str]:
    labels = {
        "app.kubernetes.io/managed-by": MANAGER,
        PLACE: placement.name,
        TENANT: str(wish.tenant_id),
    }
    return labels | ({INSTANCE: str(wish.instance_id)} if isinstance(wish, Wish) else {})
