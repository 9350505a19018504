"""Looks at everything of a cell that is not watched: namespaces and what holds in them."""

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from control_plane.fleet.provision.kubernetes_api import Cluster, path
from control_plane.fleet.provision.kubernetes_compare import covers
from control_plane.fleet.provision.kubernetes_manifests import (
    Document,
    Placement,
    Terms,
    Wish,
    agent_name,
    service_account,
    terms_of,
    walls,
    wish_of,
)

KINDS = ("Namespace", "ResourceQuota", "LimitRange", "NetworkPolicy", "ServiceAccount")

_MOST_STANDING = 1000
"""Objects that somebody else keeps changing; beyond it they are fought again."""

Key = tuple[str, str]


class Standing:
    """Objects that stay as they are although we wrote them: somebody else shapes them too.

    Without this a policy engine of the cluster and we would write for ever.
    """

    def __init__(self) -> None:
        self._digests: dict[str, bytes] = {}

    def accept(self, live: Document) -> None:
        """As it is now, it may stay."""
        if len(self._digests) >= _MOST_STANDING:
            self._digests.clear()
        self._digests[live["metadata"]["uid"]] = _digest(live)

    def holds(self, wished: Document, live: Document | None) -> bool:
        """Whether there is nothing to write."""
        if live is None:
            return False
        if covers(wished, live):
            return True
        accepted = self._digests.get(live["metadata"]["uid"])
        return accepted is not None and accepted == _digest(live)


def _digest(live: Document) -> bytes:
    """Of what people write, not of what the server notes."""
    shown: dict[str, Any] = {
        name: value for name, value in live.items() if name not in {"metadata", "status"}
    }
    meta = live["metadata"]
    shown |= {"labels": meta.get("labels"), "annotations": meta.get("annotations")}
    return hashlib.sha256(msgspec.json.encode(shown, order="sorted")).digest()


Sound = dict[str, dict[Key, Terms | UUID]]
"""For each namespace, from which terms each sound object was made."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round saw."""

    sound: Sound

    def fit(self, wish: Wish, placement: Placement) -> bool:
        """Whether all that stands around this agent is as it should be."""
        found = self.sound.get(placement.namespace(wish.tenant_id), {})
        return sound(wish, placement).items() <= found.items()


def sound(wish: Wish, placement: Placement) -> dict[Key, Terms | UUID]:
    """What a round sees around an agent where all is well."""
    found: dict[Key, Terms | UUID] = dict.fromkeys(_wall_keys(wish.terms, placement), wish.terms)
    return found | {("ServiceAccount", agent_name(wish.instance_id)): wish.instance_id}


async def look(cluster: Cluster, placement: Placement, standing: Standing) -> Round:
    """List each kind once, for all tenants together."""
    sound: Sound = {}
    for kind in KINDS:
        listed = await cluster.list(path(kind), placement.selector)
        for live in listed.items:
            meta = live["metadata"]
            home = meta["name"] if kind == "Namespace" else meta["namespace"]
            made_of = _made_of(live | {"kind": kind}, placement, standing)
            if made_of is not None:
                sound.setdefault(home, {})[kind, meta["name"]] = made_of
    return Round(sound=sound)


def _made_of(live: Document, placement: Placement, standing: Standing) -> Terms | UUID | None:
    """What a sound object was made from; None for one that was changed, or that goes."""
    if "deletionTimestamp" in live["metadata"]:
        return None
    if live["kind"] == "ServiceAccount":
        wish = wish_of(live)
        if wish is None or not standing.holds(service_account(wish, placement), live):
            return None
        return wish.instance_id
    terms = terms_of(live)
    if terms is None:
        return None
    for wished in walls(terms, placement):
        if _key(wished) == _key(live):
            # A list leaves the version of its items out.
            live = live | {"apiVersion": wished["apiVersion"]}
            return terms if standing.holds(wished, live) else None
    return None


def _wall_keys(terms: Terms, placement: Placement) -> list[Key]:
    return [_key(document) for document in walls(terms, placement)]


def _key(document: Document) -> Key:
    return document["kind"], document["metadata"]["name"]
