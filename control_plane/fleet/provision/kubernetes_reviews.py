"""Pods prove who they are by the token that their node gave them: the cluster is asked."""

import base64
from collections.abc import Mapping
from uuid import UUID

import msgspec
import structlog

from control_plane.fleet.bootstrap import Proof
from control_plane.fleet.provision.base import Invalid, ProvisionError
from control_plane.fleet.provision.kubernetes_api import Cluster, path
from control_plane.fleet.provision.kubernetes_manifests import (
    AUDIENCE,
    GENERATION,
    INSTANCE,
    PORT,
    Document,
    Placement,
    agent_name,
)
from control_plane.kit.errors import Unavailable

MAX_TOKEN = 8192
"""Characters of a token; a node's has about a thousand."""

_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_POD = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"

log = structlog.get_logger()


class Reviews:
    """Vouches for pods."""

    def __init__(self, clusters: Mapping[str, tuple[Cluster, Placement]]) -> None:
        self._clusters = clusters

    async def vouch(
        self, instance_id: UUID, tenant_id: UUID, cell: str, token: str
    ) -> Proof | None:
        """Whose pod shows this token; None when it is not this instance's, here and now."""
        found = self._clusters.get(cell)
        if found is None or len(token) > MAX_TOKEN:
            return None
        cluster, placement = found
        home = placement.namespace(tenant_id)
        if not claims(token, f"system:serviceaccount:{home}:{agent_name(instance_id)}"):
            return None
        try:
            return await _review(cluster, placement, instance_id, tenant_id, token)
        except Invalid as error:
            log.error("pods cannot be reviewed", cell=cell, detail=str(error))
            raise Unavailable("cluster_refuses", "Pods cannot be recognised now.") from None
        except ProvisionError as error:
            log.warning("pod not reviewed", cell=cell, detail=str(error))
            raise Unavailable("cluster_away", "Pods cannot be recognised now.") from None


async def _review(
    cluster: Cluster, placement: Placement, instance_id: UUID, tenant_id: UUID, token: str
) -> Proof | None:
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUDIENCE]},
    }
    said = (await cluster.create(_REVIEWS, asked)).get("status") or {}
    home = placement.namespace(tenant_id)
    named = pod_of(said, f"system:serviceaccount:{home}:{agent_name(instance_id)}")
    if named is None:
        return None
    name, uid = named
    pod = await cluster.get(path("Pod", home, name))
    if pod is None or pod["metadata"]["uid"] != uid:
        return None
    labels = pod["metadata"].get("labels") or {}
    if labels.get(INSTANCE) != str(instance_id) or not labels.get(GENERATION, "").isdigit():
        return None
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        return None
    # Where a pod says that it is could be anywhere; the cluster knows.
    host = f"[{address}]" if ":" in address else address
    return Proof(
        tenant_id=tenant_id,
        instance_id=instance_id,
        generation=int(labels[GENERATION]),
        endpoint=f"https://{host}:{PORT}",
        # Its node starts its container again only when the one before has ended.
        place=uid,
    )


def claims(token: str, user: str) -> bool:
    """Whether a token says of itself that it is this user's, for us.

    That proves nothing; but a stranger, who knows no tenant's id, cannot make us ask the cluster.
    """
    try:
        payload = base64.urlsafe_b64decode(token.split(".")[1] + "==")
        said = msgspec.json.decode(payload)
        return said["sub"] == user and AUDIENCE in said["aud"]
    except (IndexError, KeyError, TypeError, ValueError, msgspec.DecodeError):
        return False


def pod_of(said: Document, user: str) -> tuple[str, str] | None:
    """Name and UID of the pod that a review tells of, if it was this user's and meant for us."""
    who = said.get("user") or {}
    extra = who.get("extra") or {}
    good = said.get("authenticated") is True and AUDIENCE in (said.get("audiences") or [])
    names, uids = extra.get(_POD) or [], extra.get(_POD_UID) or []
    if not good or who.get("username") != user or len(names) != 1 or len(uids) != 1:
        return None
    return names[0], uids[0]
