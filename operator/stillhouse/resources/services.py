"""Services: what clients connect to, and the pods behind it. Both are headless: clients balance with `round_robin`."""

from __future__ import annotations

from typing import Any

from stillhouse.resources import labels, names
from stillhouse.resources.wanted import Between, Owner, metadata

__all__ = [
    "GRPC_PORT", "HTTP_PORT", "MEETING_PORT", "METRICS_PORT",
    "backend_service", "client_service", "local_service", "metrics_service", "middle_service", "revision_service",
    "workers_service",
]  # fmt: skip

GRPC_PORT = 8001
HTTP_PORT = 8000
METRICS_PORT = 8002
MEETING_PORT = 29400
"""Where number 0 of several workers waits for the others: torchrun's own."""


def client_service(owner: Owner, *, gateway: bool = False, rest: bool = False, moved: str = "") -> dict[str, Any]:
    """Return the Service `<model>`: gRPC of the model's pods, or gRPC and `rest` of its gateway's.

    Only pods that are ready are in it. `moved`: when it came to be the gateway's; empty where it was from the first.
    """
    if not gateway:
        return _service(owner, names.client_service(owner.name), {"grpc": GRPC_PORT})
    service = _service(owner, names.client_service(owner.name), _doors(rest), chosen=_of_gateway(owner))
    if moved:
        service["metadata"]["annotations"] = {labels.MOVED: moved}
    return service


def backend_service(owner: Owner) -> dict[str, Any]:
    """Return the Service of the pods themselves, for a gateway and for metrics; pods that are not ready are in it as well."""
    return _service(owner, names.backend(owner.name), {"grpc": GRPC_PORT, "metrics": METRICS_PORT}, unready=True)


def revision_service(owner: Owner, revision: str) -> dict[str, Any]:
    """Return the Service of the pods of one revision: a gateway whose confidence was fitted on it asks no others."""
    chosen = {**labels.selector(owner.name, names.VARIANT), labels.REVISION: revision}
    return _service(owner, names.of_revision(revision), {"grpc": GRPC_PORT}, chosen=chosen, component="gateway")


def middle_service(owner: Owner, middle: Between) -> dict[str, Any]:
    """Return the Service of another model's pods that serve the artifact which a cascade's thresholds were solved with."""
    chosen = {**labels.selector(middle.model, names.VARIANT), **labels.of_artifact(middle.digest)}
    return _service(owner, names.between(owner.name, middle.digest), {"grpc": GRPC_PORT}, chosen=chosen, component="gateway")


def workers_service(owner: Owner, request_hash: str) -> dict[str, Any]:
    """Return the Service that gives each pod of those that train together a name; none of them is ever ready to be asked."""
    chosen = labels.together(owner.name, names.VARIANT, request_hash)
    return _service(owner, names.workers(owner.name), {"meet": MEETING_PORT}, unready=True, chosen=chosen, component="build")


def local_service(owner: Owner, *, rest: bool) -> dict[str, Any]:
    """Return the Service that leads a client to the gateway of its own node. It has an address: without one nothing is local."""
    service = _service(
        owner, names.local_service(owner.name), _doors(rest), chosen=_of_gateway(owner), component="gateway", headless=False
    )
    service["spec"] |= {"type": "ClusterIP", "internalTrafficPolicy": "Local"}
    return service


def metrics_service(owner: Owner) -> dict[str, Any]:
    """Return the Service that a ServiceMonitor finds the gateway's metrics by."""
    return _service(
        owner, names.gateway(owner.name), {"metrics": METRICS_PORT}, unready=True, chosen=_of_gateway(owner), component="gateway"
    )


def _doors(rest: bool) -> dict[str, int]:
    return {"grpc": GRPC_PORT, **({"rest": HTTP_PORT} if rest else {})}


def _of_gateway(owner: Owner) -> dict[str, str]:
    return labels.gateway(owner.name, names.VARIANT)


def _service(
    owner: Owner,
    name: str,
    ports: dict[str, int],
    *,
    unready: bool = False,
    chosen: dict[str, str] | None = None,
    component: str = "serve",
    headless: bool = True,
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        **({"clusterIP": "None"} if headless else {}),
        "selector": chosen or labels.selector(owner.name, names.VARIANT),
        "ports": [
            {"name": port, "port": number, "targetPort": port, "protocol": "TCP", **_protocol(port)}
            for port, number in ports.items()
        ],
        "publishNotReadyAddresses": unready,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(owner, name, component), "spec": spec}


def _protocol(port: str) -> dict[str, str]:
    return {"appProtocol": "kubernetes.io/h2c"} if port == "grpc" else {}
