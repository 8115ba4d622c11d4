"""The Jobs of a build: one a stage, each of which can be killed at any moment and goes on from the store."""

from __future__ import annotations

import json
from typing import Any

from stillhouse.api.model import API_VERSION, KIND
from stillhouse.api.scalars import parse_cpu
from stillhouse.errors import WorkerLost
from stillhouse.resources import fetching, images, labels, names, pods, quantities, template
from stillhouse.resources.server import gpus, served_by, server_container, server_pod
from stillhouse.resources.services import MEETING_PORT
from stillhouse.resources.wanted import Building, ClusterSettings, Owner, Serving, metadata

__all__ = ["EXCHANGE", "PERMANENT", "PROGRESS_PORT", "WORKER", "job"]

PERMANENT = (2, 3, 4)
"""Exit codes of the worker that another attempt cannot mend: the spec, a source or the data is wrong; the gate refused."""
WORKER = "worker"
"""Name of the container that carries a stage out."""
PROGRESS_PORT = 8090
"""Where a worker answers GET /progress."""
GATE = "gate"
TRAINING = "train"
"""The one stage that several pods may carry out together."""
FETCHING = "resolve"
"""The one stage that fetches sources: it alone gets credentials."""
EXCHANGE = "/exchange"
"""Where worker and server of a gate's pod mount the volume that they speak through."""
_SOCKET = "server.sock"
_SCHEME = "pvc://"
_CLIENT_CPUS = 0.5
_ATTEMPTS = 4
"""Attempts after the first: pods that were evicted do not count."""
_LOST = {
    "action": "Ignore",
    "onExitCodes": {"containerName": WORKER, "operator": "In", "values": [WorkerLost.exit_code]},
}
"""Who ended because another worker did is made anew and not counted: that one is."""


def job(
    owner: Owner,
    request_hash: str,
    stage: str,
    spec: dict[str, Any],
    bound: dict[str, str],
    settings: ClusterSettings,
    serving: Serving,
    building: Building,
    rebuild: str = "",
) -> dict[str, Any]:
    """Return the Job of one stage.

    `spec` is the DistilledModel's, `bound` what its URIs are bound to, `serving` how its candidates are to be served,
    `building` its `build`, `rebuild` its token. With a queue, Kueue suspends the Job as it is made, and lets it go in its turn.
    """
    workers = building.workers if stage == TRAINING else 1
    meta = metadata(owner, names.build_job(owner.name, request_hash, stage), "build")
    marks = {labels.REQUEST: request_hash[:32], labels.STAGE: stage}
    meta["labels"] |= {**marks, **({labels.QUEUE: building.queue} if building.queue else {})}
    named: dict[str, Any] = {"name": owner.name, **({"annotations": {labels.REBUILD: rebuild}} if rebuild else {})}
    model = {"apiVersion": API_VERSION, "kind": KIND, "metadata": named, "spec": spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            **(_together(workers) if workers > 1 else {"backoffLimit": _ATTEMPTS}),
            "activeDeadlineSeconds": settings.job_deadline_s,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    *([_LOST] if workers > 1 else []),
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": WORKER, "operator": "In", "values": list(PERMANENT)},
                    },
                ]
            },
            "template": {
                "metadata": {"labels": {**labels.labels(owner.name, names.VARIANT, "build"), **marks}},
                "spec": _pod(owner, request_hash, stage, model, bound, settings, serving, building),
            },
        },
    }


def _together(workers: int) -> dict[str, Any]:
    """Return what a Job has of which several pods work together: each has its own number, name and attempts."""
    return {
        "completionMode": "Indexed",
        "completions": workers,
        "parallelism": workers,
        "backoffLimitPerIndex": _ATTEMPTS,
        "maxFailedIndexes": 0,
    }


def _claims(bound: dict[str, str], settings: ClusterSettings) -> list[str]:
    """Return the claims that a build needs: the store's first, then those of its sources."""
    named = {target.removeprefix(_SCHEME).partition("/")[0] for target in bound.values() if target.startswith(_SCHEME)}
    return [settings.store_claim, *sorted(named - {settings.store_claim, ""})]


def _pod(
    owner: Owner,
    request_hash: str,
    stage: str,
    model: dict[str, Any],
    bound: dict[str, str],
    settings: ClusterSettings,
    serving: Serving,
    building: Building,
) -> dict[str, Any]:
    """Return the pod of a stage. The gate's is the pod that will serve, with the worker beside the server."""
    claims = _claims(bound, settings)
    access = fetching.access(model["spec"], settings) if stage == FETCHING else fetching.NOTHING
    worker = _worker(owner, request_hash, stage, model, bound, settings, claims, served_by(serving, settings), access, building)
    base = server_pod(owner, settings, serving.serve, read_only=False)
    volumes = [
        *(pods.claim_volume(name, position, read_only=position > 0) for position, name in enumerate(claims) if position),
        {**pods.shared_memory("256Mi"), "name": "worker-shm"},
        {"name": "worker-work", "emptyDir": {}},
        *access.volumes,
    ]
    if stage != GATE:
        own = [volume for volume in base["volumes"] if volume["name"] not in ("shm", "work", "tmp")]
        pod = {**base, "restartPolicy": "Never", "containers": [worker], "volumes": [*own, *volumes]}
        if stage == TRAINING and building.workers > 1:
            pod |= _with_names(owner, request_hash)
        return template.with_placement(pod, {"spec": building.placement}, {}, gpu=False)
    exchange = {"name": "exchange", "mountPath": EXCHANGE}
    server = server_container(serving, settings, ["candidates", f"--socket={EXCHANGE}/{_SOCKET}"])
    pod = {
        **base,
        "restartPolicy": "Never",
        # A native sidecar: it is there before the worker and goes after it, and its end does not count.
        "initContainers": [{**server, "restartPolicy": "Always", "volumeMounts": [*server["volumeMounts"], exchange]}],
        "containers": [
            {
                **worker,
                "args": [*worker["args"], f"--server={EXCHANGE}/{_SOCKET}"],
                "volumeMounts": [*worker["volumeMounts"], exchange],
            }
        ],
        "volumes": [*base["volumes"], *volumes, {"name": "exchange", "emptyDir": {"sizeLimit": "1Mi"}}],
    }
    placed = template.with_placement(pod, template.without_spread(serving.pods), {}, gpu=gpus(serving.serve) > 0)
    secrets = {"imagePullSecrets": building.placement.get("imagePullSecrets") or []}  # of the worker's image
    return template.with_placement(placed, {"spec": secrets}, {}, gpu=False)


def _with_names(owner: Owner, request_hash: str) -> dict[str, Any]:
    """Return what gives each of the pods a name in the cluster's DNS, and wishes them onto nodes of their own."""
    pods_of = labels.together(owner.name, names.VARIANT, request_hash)
    return {
        "subdomain": names.workers(owner.name),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": pods_of},
            }
        ],
    }


def _meeting(owner: Owner, request_hash: str, building: Building) -> list[str]:
    first = f"{names.build_job(owner.name, request_hash, TRAINING)}-0.{names.workers(owner.name)}"
    return [f"--workers={building.workers}", f"--meet={first}:{MEETING_PORT}"]


def _worker(
    owner: Owner,
    request_hash: str,
    stage: str,
    model: dict[str, Any],
    bound: dict[str, str],
    settings: ClusterSettings,
    claims: list[str],
    server: dict[str, Any],
    access: fetching.Access,
    building: Building,
) -> dict[str, Any]:
    limits = {"cpu": building.cpu or settings.build_cpu, "memory": building.memory or settings.build_memory}
    requests = {"cpu": building.cpu_request or limits["cpu"], "memory": building.memory_request or limits["memory"]}
    if stage == GATE:
        # The node has the server's CPUs to give beside these: docs/design/20261124-operator.md, section 6.
        requests["cpu"] = quantities.cpu(min(parse_cpu(requests["cpu"]), _CLIENT_CPUS))
    needed = [{"name": "STILLHOUSE_NEEDED", "value": json.dumps(building.needed, sort_keys=True)}] if building.needed else []
    return {
        "name": WORKER,
        "image": images.worker_image(settings),
        "args": [
            "build",
            f"--stage={stage}",
            f"--store={pods.store(settings.store_claim)}",
            f"--progress-port={PROGRESS_PORT}",
            *(_meeting(owner, request_hash, building) if stage == TRAINING and building.workers > 1 else []),
        ],
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT, "protocol": "TCP"}],
        "env": [
            {"name": "STILLHOUSE_MODEL", "value": json.dumps(model, sort_keys=True)},
            {"name": "STILLHOUSE_SOURCES", "value": json.dumps(bound, sort_keys=True)},
            {"name": "STILLHOUSE_REQUEST", "value": request_hash},
            {"name": "STILLHOUSE_SERVER", "value": json.dumps(server, sort_keys=True)},
            *needed,
            *access.environment,
        ],
        "resources": {"limits": limits, "requests": requests},
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *(pods.claim(name, position, read_only=position > 0) for position, name in enumerate(claims)),
            {**pods.SHM_MOUNT, "name": "worker-shm"},
            {"name": "worker-work", "mountPath": "/work"},
            *access.mounts,
        ],
    }
