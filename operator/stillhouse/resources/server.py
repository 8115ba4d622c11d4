"""The container that serves, and the pod around it: those of the Deployment and, for the gate, those of its Job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stillhouse.planning.runtimes import runtime_of
from stillhouse.resources import images, names, pods, quantities
from stillhouse.resources.wanted import ClusterSettings, Owner, Serving

__all__ = ["SERVER", "gpus", "served_by", "server_container", "server_pod", "settled"]

SERVER = "triton"
"""Name of the container."""
DEFAULT_CPU = 1.0
DEFAULT_MEMORY = 512 << 20
GPU_RESOURCE = "nvidia.com/gpu"
DEFAULT_GPU_MEMORY = 8 << 30
"""Of a pod with GPUs: CUDA's libraries and the making of TensorRT's engines take gigabytes of the host's memory."""


def gpus(serve: Mapping[str, Any]) -> int:
    """Return how many GPUs the measured settings ask for."""
    return int(serve.get("gpus") or 0)


def settled(serve: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measured settings with the limits that a server has where the spec names none."""
    memory = DEFAULT_GPU_MEMORY if gpus(serve) else DEFAULT_MEMORY
    return {**serve, "cpus": serve.get("cpus") or DEFAULT_CPU, "memory": serve.get("memory") or memory}


def served_by(serving: Serving, settings: ClusterSettings) -> dict[str, Any]:
    """Return what the gate's figures depend on beside the node: a worker of any stage must know what will serve."""
    serve = settled(serving.serve)
    return {"image": images.serve_image(settings, runtime_of(serve)), "cpus": serve["cpus"]}


def server_container(serving: Serving, settings: ClusterSettings, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the container, without ports and probes: image, limits, security and mounts."""
    serve = settled(serving.serve)
    limits = {"cpu": quantities.cpu(serve["cpus"]), "memory": quantities.memory(serve["memory"])}
    requests = {"cpu": serving.cpu_request or limits["cpu"], "memory": serving.memory_request or limits["memory"]}
    if gpus(serve):
        # Kubernetes divides no GPU: what is asked for is what may be used.
        limits, requests = ({**amounts, GPU_RESOURCE: str(gpus(serve))} for amounts in (limits, requests))
    return {
        "name": SERVER,
        "image": images.serve_image(settings, runtime_of(serve)),
        "args": [*arguments, f"--store={pods.store(settings.store_claim)}"],
        "env": [{"name": "STILLHOUSE_SERVE", "value": json.dumps(serve, sort_keys=True)}],
        "resources": {"limits": limits, "requests": requests},
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            pods.claim(settings.store_claim, 0, read_only=True),
            pods.SHM_MOUNT,
            {"name": "work", "mountPath": "/work"},
            # Triton's Python backend makes its folders in /tmp, wherever TMPDIR points, and dies where it cannot.
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in a container of our own
        ],
    }


def server_pod(owner: Owner, settings: ClusterSettings, serve: Mapping[str, Any], *, read_only: bool = True) -> dict[str, Any]:
    """Return a pod's spec without its containers: account, security, and the volumes that the server mounts.

    The server only ever reads the store; not `read_only` lets another container of the pod write to it.
    """
    pod: dict[str, Any] = {
        "serviceAccountName": names.account(owner.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
        "volumes": [
            pods.claim_volume(settings.store_claim, 0, read_only=read_only),
            pods.shared_memory("256Mi" if gpus(serve) else "64Mi"),
            {"name": "work", "emptyDir": {"sizeLimit": "8Gi" if gpus(serve) else "1Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }
    return pods.with_secrets(pod, settings.pull_secrets)
