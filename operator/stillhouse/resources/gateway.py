"""The gateway's workload: pods of a Deployment before the model's own, or one on every node with the model in it."""

from __future__ import annotations

from typing import Any

from stillhouse.api.scalars import parse_cpu, parse_quantity
from stillhouse.api.serve import Amounts
from stillhouse.resources import gateway_place, images, labels, names, pods, quantities, template
from stillhouse.resources.deployment import DRAIN_S
from stillhouse.resources.services import GRPC_PORT, HTTP_PORT, METRICS_PORT
from stillhouse.resources.wanted import ClusterSettings, Gateway, Owner, metadata

__all__ = ["CONFIG", "CONTAINER", "gateway_budget", "gateway_workload"]

CONFIG = "stillhouse.io/gateway"
"""Annotation of a pod: its configuration."""
CONTAINER = "gateway"
GRACE_S = 30
"""Seconds that calls under way have once the gateway has been told to end."""
_SPARE_S = 10
_AGE_S = 10
"""Seconds after which clients are asked to connect anew: so they learn of pods that come and go, as from the model's own."""
_CPU, _MEMORY = 1.0, 512 << 20


def gateway_workload(owner: Owner, gateway: Gateway, settings: ClusterSettings) -> dict[str, Any]:
    """Return the Deployment, or the DaemonSet. A changed configuration is a changed template, so it rolls."""
    run = gateway.edge.run
    given = run.pod_template.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")
    marks = labels.labels(owner.name, names.VARIANT, "gateway")
    if gateway.bound:
        marks[labels.REVISION] = gateway.revision
    text = gateway_place.config_text(owner, gateway, settings)
    meta = template.with_metadata({"labels": marks, "annotations": {CONFIG: text}}, given)
    chosen = {"matchLabels": labels.gateway(owner.name, names.VARIANT)}
    spec: dict[str, Any] = {
        "revisionHistoryLimit": 3,
        "selector": chosen,
        "template": {"metadata": meta, "spec": _pod(owner, gateway, settings, given, chosen)},
    }
    # None goes before its successor answers.
    surge = 1 if gateway.per_node else "25%"
    # Those that have the lower half of another revision all go while its pods still answer.
    rolling = {"maxUnavailable": 0, "maxSurge": "100%" if gateway.lower else surge}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    if gateway.per_node:
        spec["updateStrategy"] = strategy
    else:
        # But what is on a claim has one owner: of a queue that two delivered, everything would come twice.
        strategy = {"type": "Recreate"} if gateway_place.outlives(gateway.edge) else strategy
        spec |= {"replicas": run.replicas, "strategy": strategy, "progressDeadlineSeconds": 600}
    return {
        "apiVersion": "apps/v1",
        "kind": run.kind,
        "metadata": metadata(owner, names.gateway(owner.name), "gateway"),
        "spec": spec,
    }


def _pod(
    owner: Owner, gateway: Gateway, settings: ClusterSettings, given: dict[str, Any], chosen: dict[str, Any]
) -> dict[str, Any]:
    volumes, mounts = gateway_place.mounts(gateway, settings, CONFIG)
    pod: dict[str, Any] = {
        "serviceAccountName": names.gateway(owner.name),
        "automountServiceAccountToken": gateway_place.watches(gateway),
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
        "terminationGracePeriodSeconds": DRAIN_S + GRACE_S + _SPARE_S,
        "containers": [_container(gateway, settings, mounts)],
        "volumes": volumes,
    }
    pod = pods.with_secrets(pod, settings.pull_secrets)
    if gateway.per_node:
        return template.with_placement(pod, template.without_spread(given), {}, gpu=False)
    spread = {
        "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": chosen, "matchLabelKeys": ["pod-template-hash"],
    }  # fmt: skip
    zone = {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": chosen}
    pod["topologySpreadConstraints"] = [{**spread, "topologyKey": "kubernetes.io/hostname"}]
    pod["affinity"] = {
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 50, "podAffinityTerm": zone}]}
    }
    return template.with_placement(pod, given, spread, gpu=False)


def _container(gateway: Gateway, settings: ClusterSettings, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    ports = [{"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"}]
    if gateway.edge.rest:
        ports.append({"name": "rest", "containerPort": HTTP_PORT, "protocol": "TCP"})
    ports.append({"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"})
    return {
        "name": CONTAINER,
        "image": images.gateway_image(settings),
        "args": [
            f"--config={gateway_place.CONFIG_FOLDER}/{gateway_place.CONFIG_FILE}",
            *(["--verify"] if gateway_place.stored(gateway) else []),
            f"--grace={GRACE_S}",
            f"--connection-age={_AGE_S}",
        ],
        "ports": ports,
        "resources": _resources(gateway),
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
        # Not by /readyz: it waits for the model as long as that takes, and starting anew would help nobody.
        "startupProbe": _probe("/healthz", period=1, failures=60),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        # It serves on while clients still know its address; docs/design/20261124-operator.md, section 11.
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_S}}},
    }


def _resources(gateway: Gateway) -> dict[str, Any]:
    given = gateway.edge.run.resources
    limits = {**{"cpu": quantities.cpu(_CPU), "memory": quantities.memory(_MEMORY)}, **_amounts(given.limits)}
    return {"limits": limits, "requests": {**limits, **_amounts(given.requests)}}


def _amounts(given: Amounts) -> dict[str, str]:
    cpu = {"cpu": quantities.cpu(parse_cpu(given.cpu))} if given.cpu else {}
    return {**cpu, **({"memory": quantities.memory(parse_quantity(given.memory))} if given.memory else {})}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "metrics"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def gateway_budget(owner: Owner, gateway: Gateway) -> dict[str, Any] | None:
    """Return the disruption budget of a Deployment with more pods than one; a drain leaves a DaemonSet's where they are."""
    if gateway.per_node or gateway.edge.run.replicas < 2:
        return None
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": labels.gateway(owner.name, names.VARIANT)},
    }
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, names.gateway(owner.name), "gateway"),
        "spec": spec,
    }
