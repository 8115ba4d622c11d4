"""The bridge between a broker of MQTT and a model: a Deployment, and what guards it. It asks whom the model's clients ask."""

from __future__ import annotations

from typing import Any

from stillhouse.api.broker import Mqtt
from stillhouse.api.scalars import parse_quantity
from stillhouse.resources import images, labels, names, pods, quantities
from stillhouse.resources.broker import files
from stillhouse.resources.gateway_guards import bridge_account, bridge_binding, bridge_policy
from stillhouse.resources.gateway_place import SECRETS, Mounted
from stillhouse.resources.services import GRPC_PORT, METRICS_PORT
from stillhouse.resources.wanted import ClusterSettings, Owner, metadata

__all__ = ["CONTAINER", "bridge", "bridge_secrets"]

CONTAINER = "bridge"
_COMMAND = ["/opt/stillhouse/bin/python", "-m", "stillhouse.entrypoints.bridge"]
"""In the gateway's image, which has all of it."""
_GRACE_S, _SPARE_S = 30, 10
_LARGEST = 8 << 20
"""Bytes of a message."""
_FEWEST, _MOST = 4, 256
"""Requests under way: with the largest message for each and its answer they fit into half of the memory."""
_SESSION_S = 60
"""Seconds that the broker waits for a bridge which was killed: its container is back within them, and a pod of its name never."""
_CPU, _RESERVED_CPU = 1.0, 0.1


def bridge_secrets(mqtt: Mqtt) -> tuple[Mounted, ...]:
    """Return every Secret that `spec.serve.mqtt` names."""
    named = (
        ("authority", mqtt.authority),
        ("credentials", mqtt.credentials),
        ("certificate", mqtt.certificate),
        ("backendAuthority", mqtt.backend_authority),
        ("backendToken", mqtt.backend_token),
    )
    return tuple(Mounted(f"serve.mqtt.{field}", name, f"{SECRETS}/{field.lower()}") for field, name in named if name)


def bridge(owner: Owner, mqtt: Mqtt, settings: ClusterSettings, *, gateway: bool, tls: bool) -> list[dict[str, Any]]:
    """Return the bridge's objects. `gateway`: clients ask a gateway, which knows its clients; `tls`: it has TLS."""
    chosen = {"matchLabels": labels.bridge(owner.name, names.VARIANT)}
    spec = {
        "replicas": mqtt.replicas,
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "selector": chosen,
        # They share the requests, and one that ends answers what it has: nobody needs its successor first.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": {
            "metadata": {"labels": labels.labels(owner.name, names.VARIANT, "bridge")},
            "spec": _pod(owner, mqtt, settings, chosen, gateway=gateway, tls=tls),
        },
    }
    meta = metadata(owner, names.bridge(owner.name), "bridge")
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    found = [bridge_account(owner), bridge_binding(owner, settings), bridge_policy(owner, mqtt, settings), deployment]
    if mqtt.replicas > 1:
        kept = {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": chosen}
        found.append({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": kept})
    return found


def _pod(
    owner: Owner, mqtt: Mqtt, settings: ClusterSettings, chosen: dict[str, Any], *, gateway: bool, tls: bool
) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - in a container of our own
    for each in bridge_secrets(mqtt):
        name = each.folder.rpartition("/")[2]
        volumes.append({"name": name, "secret": {"secretName": each.name, "defaultMode": 0o440}})
        mounts.append({"name": name, "mountPath": each.folder, "readOnly": True})
    spread = {
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": chosen,
        "matchLabelKeys": ["pod-template-hash"],
    }
    memory = {"memory": quantities.memory(parse_quantity(mqtt.memory))}
    pod = {
        "serviceAccountName": names.bridge(owner.name),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
        "terminationGracePeriodSeconds": _GRACE_S + _SPARE_S,
        "topologySpreadConstraints": [{**spread, "topologyKey": "kubernetes.io/hostname"}],
        "containers": [
            {
                "name": CONTAINER,
                "image": images.gateway_image(settings),
                "command": _COMMAND,
                "args": _arguments(owner, mqtt, gateway=gateway, tls=tls),
                "ports": [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}],
                "resources": {
                    "limits": {"cpu": quantities.cpu(_CPU), **memory},
                    "requests": {"cpu": quantities.cpu(_RESERVED_CPU), **memory},
                },
                "securityContext": pods.container_security(),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
                # A broker that is away is no reason to start anew.
                "readinessProbe": _probe("/readyz", period=2, failures=2),
                "livenessProbe": _probe("/healthz", period=10, failures=3),
            }
        ],
        "volumes": volumes,
    }
    return pods.with_secrets(pod, settings.pull_secrets)


def _arguments(owner: Owner, mqtt: Mqtt, *, gateway: bool, tls: bool) -> list[str]:
    found = {each.field: each.folder for each in bridge_secrets(mqtt)}
    options = {"username": "username-file", "password": "password-file"}
    shown = files(found, "serve.mqtt.authority", "serve.mqtt")
    service = f"{owner.namespace}/{names.client_service(owner.name)}:{GRPC_PORT}"
    words = [f"--broker={mqtt.address}", f"--slices={owner.name}={service}", f"--metrics=0.0.0.0:{METRICS_PORT}"]
    at_once = max(_FEWEST, min(_MOST, parse_quantity(mqtt.memory) // (4 * _LARGEST)))
    words += [f"--at-once={at_once}", f"--largest-message={_LARGEST}", f"--session={_SESSION_S}", f"--grace={_GRACE_S}"]
    words += [f"--{options.get(what, what)}={file}" for what, file in shown.items()]
    if tls:
        words += ["--backend-tls", f"--backend-name={names.client_service(owner.name)}.{owner.namespace}.svc"]
        authority = found.get("serve.mqtt.backendAuthority")
        words += [f"--backend-authority={authority}/ca.crt"] if authority else []
    token = found.get("serve.mqtt.backendToken")
    return [*words, *([f"--backend-token={token}/token"] if token and gateway else [])]


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    look = {"path": path, "port": "metrics"}
    return {"httpGet": look, "periodSeconds": period, "timeoutSeconds": 2, "failureThreshold": failures}
