"""`serve.podTemplate` put into a pod: what is the user's beside what is ours, and never in its place. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["with_metadata", "with_placement", "without_spread"]

_TAKEN = ("nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName")
_GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def with_metadata(ours: Mapping[str, Any], pods: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pod's metadata with the user's labels and annotations; of a name that both have, ours counts."""
    given = pods.get("metadata") or {}
    return {part: {**(given.get(part) or {}), **ours[part]} for part in ("labels", "annotations")}


def with_placement(pod: dict[str, Any], pods: Mapping[str, Any], spread: Mapping[str, Any], *, gpu: bool) -> dict[str, Any]:
    """Return a pod's spec with the user's placement.

    `spread` is what every constraint of ours has; the user's take the places of ours and choose the same pods. `gpu`: the taint
    that clusters put on nodes with GPUs is tolerated.
    """
    given = pods.get("spec") or {}
    found = {**pod, **{name: given[name] for name in _TAKEN if given.get(name)}}
    if gpu:
        found["tolerations"] = [
            *found.get("tolerations", []),
            *([] if _GPU_TAINT in found.get("tolerations", []) else [_GPU_TAINT]),
        ]
    wishes = given.get("topologySpreadConstraints")
    if wishes:
        found["topologySpreadConstraints"] = [{**spread, **wish} for wish in wishes]
    secrets = [*(found.get("imagePullSecrets") or []), *(given.get("imagePullSecrets") or [])]
    if secrets:
        found["imagePullSecrets"] = [each for position, each in enumerate(secrets) if each not in secrets[:position]]
    return found


def without_spread(pods: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template for a pod that has no siblings to keep away from."""
    spec = {name: value for name, value in (pods.get("spec") or {}).items() if name != "topologySpreadConstraints"}
    return {**pods, "spec": spec}
