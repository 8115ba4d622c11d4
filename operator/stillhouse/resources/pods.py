"""What every pod of ours has: it runs under Pod Security *restricted* and finds the store in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["SHM_MOUNT", "STORE", "container_security", "pod_security", "shared_memory", "with_secrets"]

STORE = "/store"
"""Where pods find the store."""
SHM_MOUNT = {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - in a container of our own
"""Of the Python backend and of torch's loaders."""


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
