"""The pod through which `still push` writes into a claim: short-lived, restricted, without an account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stillhouse.resources import labels, pods

__all__ = ["CONTAINER", "LIFE_S", "push_pod"]

CONTAINER = "push"
LIFE_S = 6 * 3600
"""A pod that nobody removed ends by itself."""


def push_pod(name: str, namespace: str, claim: str, root: str, image: str, pull_secrets: Sequence[str]) -> dict[str, Any]:
    """Return the pod; it mounts `claim` at `root` and waits to be told what to run."""
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LIFE_S,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "command": ["sleep", str(LIFE_S)],
                "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
                "securityContext": pods.container_security(),
                "volumeMounts": [{"name": "claim", "mountPath": root}],
            }
        ],
        "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
    }
    marks = {labels.MANAGED_BY: "still-push", labels.COMPONENT: "push"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": marks},
        "spec": pods.with_secrets(spec, pull_secrets),
    }
