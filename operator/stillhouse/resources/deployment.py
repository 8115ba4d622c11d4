"""The Deployment: pods that serve one revision, and never fetch anything."""

from __future__ import annotations

from typing import Any

from stillhouse.resources import labels, names, template
from stillhouse.resources.server import gpus, server_container, server_pod
from stillhouse.resources.services import GRPC_PORT, HTTP_PORT, METRICS_PORT
from stillhouse.resources.wanted import ClusterSettings, Owner, Scaling, Serving, metadata

__all__ = ["DIGEST_ANNOTATION", "REVISION_LABEL", "deployment"]

REVISION_LABEL = labels.REVISION
DIGEST_ANNOTATION = "stillhouse.io/digest"

DRAIN_S = 40
"""Seconds between the pod leaving the Service and the server's end: clients learn of it meanwhile. gRPC asks for the addresses of
a name anew when a connection ends (every 10 s: --grpc-max-connection-age), but at most every 30 s; 5 s more may be the name
server's. With 10 s a client that had just asked was refused for 18 (docs/design/20261124-operator.md, section 11)."""
DRAIN_WITHOUT_SUCCESSOR_S = 5
"""The same with strategy Recreate: clients have nobody to learn of, and no new pod starts before the old ones have ended."""
DRAIN_OF_HALVES_S = 3 * DRAIN_S
"""Of pods whose upper half gateways have the lower one of, which no other pod will do for: new gateways start once the first new
pod answers, and old ones serve on for as long as clients may know them (docs/design/20261126-edge-cluster.md, section 8)."""
ANSWER_S = 50
"""Seconds that a server then has for the requests under way (entrypoints/serving/server.py takes a little less)."""
START_S = 180
GPU_START_S = 1800
"""TensorRT makes its engines first."""


def deployment(owner: Owner, serving: Serving, scaling: Scaling, settings: ClusterSettings) -> dict[str, Any]:
    """Return the Deployment. It names `replicas` in mode `external` only: else the autoscaler owns them."""
    chosen = labels.selector(owner.name, names.VARIANT)
    spec: dict[str, Any] = {
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": GPU_START_S + 300 if gpus(serving.serve) else 600,
        "selector": {"matchLabels": chosen},
        "strategy": _strategy(serving),
        "template": {
            "metadata": template.with_metadata(
                {
                    "labels": {
                        **labels.labels(owner.name, names.VARIANT, "serve"),
                        REVISION_LABEL: serving.revision,
                        **labels.of_artifact(serving.digest),
                    },
                    "annotations": {DIGEST_ANNOTATION: serving.digest},
                },
                serving.pods,
            ),
            "spec": _pod(owner, serving, settings),
        },
    }
    if scaling.mode == "external":
        spec["replicas"] = scaling.replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, names.workload(owner.name), "serve"),
        "spec": spec,
    }


def _strategy(serving: Serving) -> dict[str, Any]:
    """Return how new pods replace old ones: by default none goes before its successor answers."""
    if serving.strategy == "Recreate":
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def _drain(serving: Serving) -> int:
    if serving.strategy == "Recreate":
        return DRAIN_WITHOUT_SUCCESSOR_S
    return DRAIN_OF_HALVES_S if serving.cut else DRAIN_S


def _pod(owner: Owner, serving: Serving, settings: ClusterSettings) -> dict[str, Any]:
    spread = {
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels.selector(owner.name, names.VARIANT)},
        "matchLabelKeys": ["pod-template-hash"],
    }
    pod = {
        **server_pod(owner, settings, serving.serve),
        "terminationGracePeriodSeconds": _drain(serving) + ANSWER_S,
        "topologySpreadConstraints": [{**spread, "topologyKey": "kubernetes.io/hostname"}],
        # No constraint: the scheduler leaves nodes without a zone out of all of them, so there would be none over nodes either.
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [_another_zone(owner)]}},
        "containers": [_server(owner, serving, settings)],
    }
    return template.with_placement(pod, serving.pods, spread, gpu=gpus(serving.serve) > 0)


def _another_zone(owner: Owner) -> dict[str, Any]:
    """Return the wish to be where no other pod of the model is."""
    chosen = {"matchLabels": labels.selector(owner.name, names.VARIANT)}
    return {"weight": 50, "podAffinityTerm": {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": chosen}}


def _server(owner: Owner, serving: Serving, settings: ClusterSettings) -> dict[str, Any]:
    what = [f"--model={owner.name}", f"--digest={serving.digest}", f"--precision={serving.precision}"]
    what += [f"--cut={serving.cut}"] if serving.cut else []
    return {
        **server_container(serving, settings, ["serve", *what]),
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        # Ready after a warm-up inference: the server itself says so, once its instances have answered one.
        "startupProbe": _probe("/ready", period=2, failures=(GPU_START_S if gpus(serving.serve) else START_S) // 2),
        "readinessProbe": _probe("/ready", period=5, failures=2),
        "livenessProbe": _probe("/live", period=10, failures=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": _drain(serving)}}},
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "health"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
