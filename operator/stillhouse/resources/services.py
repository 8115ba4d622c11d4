"""Services: what clients connect to, and the pods behind it. Both are headless: clients balance with `round_robin`."""

from __future__ import annotations

from typing import Any

from stillhouse.resources import labels, names
from stillhouse.resources.wanted import Owner, metadata

__all__ = ["GRPC_PORT", "HTTP_PORT", "METRICS_PORT", "backend_service", "client_service"]

GRPC_PORT = 8001
HTTP_PORT = 8000
METRICS_PORT = 8002


def client_service(owner: Owner) -> dict[str, Any]:
    """Return the Service `<model>`: gRPC alone. Only pods that are ready are in it."""
    return _service(owner, names.client_service(owner.name), {"grpc": GRPC_PORT}, unready=False)


def backend_service(owner: Owner) -> dict[str, Any]:
    """Return the Service of the pods themselves, for a gateway and for metrics; pods that are not ready are in it as well."""
    return _service(owner, names.backend(owner.name), {"grpc": GRPC_PORT, "metrics": METRICS_PORT}, unready=True)


def _service(owner: Owner, name: str, ports: dict[str, int], *, unready: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "clusterIP": "None",
        "selector": labels.selector(owner.name, names.VARIANT),
        "ports": [
            {"name": port, "port": number, "targetPort": port, "protocol": "TCP", **_protocol(port)}
            for port, number in ports.items()
        ],
        "publishNotReadyAddresses": unready,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(owner, name, "serve"), "spec": spec}


def _protocol(port: str) -> dict[str, str]:
    return {"appProtocol": "kubernetes.io/h2c"} if port == "grpc" else {}
