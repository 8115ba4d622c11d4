"""The Jobs of a build: one a stage, each of which can be killed at any moment and goes on from the store."""

from __future__ import annotations

import json
from typing import Any

from stillhouse.api.model import API_VERSION, KIND
from stillhouse.resources import images, labels, names, pods
from stillhouse.resources.wanted import ClusterSettings, Owner, metadata

__all__ = ["PERMANENT", "job"]

PERMANENT = (2, 3, 4)
"""Exit codes of the worker that another attempt cannot mend: the spec, a source or the data is wrong; the gate refused."""
_SCHEME = "pvc://"
_ATTEMPTS = 4
"""Attempts after the first: pods that were evicted do not count."""


def job(
    owner: Owner,
    request_hash: str,
    stage: str,
    spec: dict[str, Any],
    bound: dict[str, str],
    settings: ClusterSettings,
    rebuild: str = "",
) -> dict[str, Any]:
    """Return the Job of one stage. `spec` is the DistilledModel's, `bound` what its URIs are bound to, `rebuild` its token."""
    meta = metadata(owner, names.build_job(owner.name, request_hash, stage), "build")
    marks = {labels.REQUEST: request_hash[:32], labels.STAGE: stage}
    meta["labels"] |= marks
    named: dict[str, Any] = {"name": owner.name, **({"annotations": {labels.REBUILD: rebuild}} if rebuild else {})}
    model = {"apiVersion": API_VERSION, "kind": KIND, "metadata": named, "spec": spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            "backoffLimit": _ATTEMPTS,
            "activeDeadlineSeconds": settings.job_deadline_s,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "worker", "operator": "In", "values": list(PERMANENT)},
                    },
                ]
            },
            "template": {
                "metadata": {"labels": {**labels.labels(owner.name, names.VARIANT, "build"), **marks}},
                "spec": _pod(owner, stage, model, bound, settings),
            },
        },
    }


def _claims(bound: dict[str, str], settings: ClusterSettings) -> list[str]:
    """Return the claims that a build needs: the store's first, then those of its sources."""
    named = {target.removeprefix(_SCHEME).partition("/")[0] for target in bound.values() if target.startswith(_SCHEME)}
    return [settings.store_claim, *sorted(named - {settings.store_claim, ""})]


def _pod(owner: Owner, stage: str, model: dict[str, Any], bound: dict[str, str], settings: ClusterSettings) -> dict[str, Any]:
    claims = _claims(bound, settings)
    amounts = {"cpu": settings.build_cpu, "memory": settings.build_memory}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": names.account(owner.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
        "containers": [
            {
                "name": "worker",
                "image": images.worker_image(settings),
                "args": ["build", f"--stage={stage}", f"--store={pods.store(settings.store_claim)}"],
                "env": [
                    {"name": "STILLHOUSE_MODEL", "value": json.dumps(model, sort_keys=True)},
                    {"name": "STILLHOUSE_SOURCES", "value": json.dumps(bound, sort_keys=True)},
                ],
                "resources": {"limits": amounts, "requests": amounts},
                "securityContext": pods.container_security(),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [
                    *(pods.claim(name, position, read_only=position > 0) for position, name in enumerate(claims)),
                    pods.SHM_MOUNT,
                    {"name": "work", "mountPath": "/work"},
                ],
            }
        ],
        "volumes": [
            *(pods.claim_volume(name, position, read_only=position > 0) for position, name in enumerate(claims)),
            pods.shared_memory("256Mi"),
            {"name": "work", "emptyDir": {}},
        ],
    }
    return pods.with_secrets(pod, settings.pull_secrets)
