"""What every pod of ours has: it runs under Pod Security *restricted* and finds the store in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "CLAIMS",
    "SHM_MOUNT",
    "claim",
    "claim_volume",
    "container_security",
    "pod_security",
    "shared_memory",
    "store",
    "volume_name",
    "with_secrets",
]  # fmt: skip

CLAIMS = "/claims"
"""Below it lies each PersistentVolumeClaim of a pod, under its name."""
SHM_MOUNT = {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - in a container of our own
"""Of the Python backend and of torch's loaders."""


def store(claim_name: str) -> str:
    """Return where pods find the store on the claim that holds it. What `still push` uploads lies beside it."""
    return f"{CLAIMS}/{claim_name}/store"


def volume_name(position: int) -> str:
    """Return the name of a claim's volume, of the store's at position 0: volumes' names are shorter than claims' may be."""
    return f"claim-{position}"


def claim_volume(claim_name: str, position: int, *, read_only: bool) -> dict[str, Any]:
    """Return the volume of a claim."""
    return {
        "name": volume_name(position),
        "persistentVolumeClaim": {"claimName": claim_name, **({"readOnly": True} if read_only else {})},
    }


def claim(claim_name: str, position: int, *, read_only: bool) -> dict[str, Any]:
    """Return where a claim is mounted."""
    return {"name": volume_name(position), "mountPath": f"{CLAIMS}/{claim_name}", **({"readOnly": True} if read_only else {})}


def shared_memory(size: str) -> dict[str, Any]:
    """Return the volume of `/dev/shm`. It is memory: it counts into the pod's limit."""
    return {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def with_secrets(pod: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a pod's spec with the Secrets that its images are pulled with."""
    return {**pod, "imagePullSecrets": [{"name": name} for name in names]} if names else pod


def pod_security() -> dict[str, Any]:
    """Return the security context of a pod under Pod Security *restricted*."""
    return {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """Return the security context of a container under Pod Security *restricted*, with a root file system that is read-only."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
