"""What agents on Kubernetes need to be told, and the way from there into a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, field_validator

from adapters.egress import Network
from adapters.outbound import networks
from control_plane.fleet.provision.kubernetes_manifests import Placement

if TYPE_CHECKING:
    from control_plane.fleet.provision.kubernetes_api import Cluster


class KubernetesSettings(BaseModel):
    """As BOTYARD_KUBERNETES__IMAGE and so on."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    image: str = Field(default="", description="The agent's image, by tag or better by digest.")
    name: str = Field(
        default="botyard",
        description="Begins every namespace; two control planes in one cluster need two.",
    )
    kubeconfig: Path | None = Field(
        default=None, description="How to reach the cluster; none: as the pod that we are."
    )
    context: str | None = Field(
        default=None, description="The kubeconfig's context, if not its own."
    )
    cells: dict[str, str] = Field(
        default_factory=dict,
        description="Contexts of other cells' clusters, as JSON: an api process knows them all.",
    )
    control_namespace: str | None = Field(
        default=None, description="The namespace of the control plane, if it is in the cluster."
    )
    control_networks: str = Field(
        default="", description="Networks by comma where the control plane is, if it is not."
    )
    control_port: int = Field(
        default=8080,
        ge=1,
        le=65535,
        description="Port of api where its pods listen: network policies know no services.",
    )
    metrics_namespace: str | None = Field(
        default=None, description="The namespace of what reads metrics."
    )
    pod_security: str = Field(
        default="v1.30",
        pattern=r"^(latest|v1\.[0-9]+)$",
        description="Version of the Pod Security rules, kept until somebody decides otherwise.",
    )
    nodes: dict[str, str] = Field(
        default_factory=dict, description="Labels of the nodes that agents run on, as JSON."
    )
    taints: tuple[str, ...] = Field(
        default=(), description="Keys of taints that agents tolerate, as JSON."
    )
    calls_per_second: float = Field(
        default=50, gt=0, le=1000, description="Calls of one process to the API, each second."
    )
    calls_at_once: float = Field(
        default=100, ge=1, le=10_000, description="Calls that may come at once after a quiet time."
    )

    @field_validator("control_networks")
    @classmethod
    def _networks(cls, text: str) -> str:
        networks(text)
        return text

    def placement(
        self, cell: str, *, control_url: str, outbound_allow: tuple[Network, ...]
    ) -> Placement:
        """Where agents of a cell run; raises ValueError for what cannot be."""
        if not self.image:
            raise ValueError("set BOTYARD_KUBERNETES__IMAGE to the agent's image")
        return Placement(
            name=f"{self.name}-{cell}" if cell else self.name,
            image=self.image,
            control_url=control_url,
            control_port=self.control_port,
            control_namespace=self.control_namespace,
            control_networks=networks(self.control_networks),
            metrics_namespace=self.metrics_namespace,
            outbound_allow=outbound_allow,
            pod_security=self.pod_security,
            nodes=tuple(sorted(self.nodes.items())),
            taints=self.taints,
        )

    async def cluster(self, cell: str) -> "Cluster":
        """A way into a cell's cluster; raises Invalid when there is none."""
        # Half a second of imports that no other process needs.
        from control_plane.fleet.provision.kubernetes_api import Cluster

        return await Cluster.open(
            kubeconfig=self.kubeconfig,
            context=self.cells.get(cell, self.context),
            rate=self.calls_per_second,
            burst=self.calls_at_once,
        )
