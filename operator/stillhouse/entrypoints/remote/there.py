"""What a push needs of a cluster, looked at before anything is uploaded."""

from __future__ import annotations

from typing import Any

from stillhouse.clients.kube.interface import Forbidden, Kube
from stillhouse.clients.kube.kinds import CLAIM, NAMESPACE, Kind
from stillhouse.clients.sources.push.pvc import parse_claim
from stillhouse.entrypoints.remote.place import Place, claim_command
from stillhouse.errors import UsageError

__all__ = ["check_there"]


async def check_there(kube: Kube, place: Place, to: str) -> None:
    """Look whether the namespace and, for `pvc://`, the claim are there. What may not be looked at counts as there.

    Raises:
        UsageError: one of them is not.
        KubeError: the server does not answer.
    """
    if await _gone(kube, NAMESPACE, "", place.namespace):
        make = place.inside("").kubectl(f"create namespace {place.namespace}")
        shown = place.inside("").kubectl("get namespaces")
        raise UsageError(
            "there is no such namespace in the cluster",
            field="--namespace",
            found=place.namespace,
            allowed=f"one of {shown}",
            fix=make,
        )
    claim = parse_claim(to)[0] if to.startswith("pvc://") else ""
    if claim and await _gone(kube, CLAIM, place.namespace, claim):
        raise UsageError(
            "there is no such claim in the namespace",
            field="--to",
            found=f"{place.namespace}/{claim}",
            allowed=f"one of {place.kubectl('get pvc')}",
            fix=f"make it (ReadWriteOnce where there is one node alone): {claim_command(place, claim)}",
        )


async def _gone(kube: Kube, kind: Kind, namespace: str, name: str) -> bool:
    found: dict[str, Any] | None
    try:
        found = await kube.get(kind, namespace, name)
    except Forbidden:
        return False
    return found is None
