"""What guards a gateway's pods: an account that may read EndpointSlices, and a policy of whom they speak with."""

from __future__ import annotations

import urllib.parse
from typing import Any

from stillhouse.api.broker import Mqtt
from stillhouse.planning.pipeline import step_models
from stillhouse.resources import labels, names
from stillhouse.resources.gateway_legs import between_at, finds_middle, port_of
from stillhouse.resources.gateway_place import watches
from stillhouse.resources.services import GRPC_PORT, HTTP_PORT, METRICS_PORT
from stillhouse.resources.wanted import ClusterSettings, Gateway, Owner, Target, metadata

__all__ = ["bridge_account", "bridge_binding", "bridge_policy", "gateway_account", "gateway_binding", "gateway_policy"]

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_ANYWHERE: tuple[dict[str, Any], ...] = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
    {"namespaceSelector": {}},  # some networks match no pod by its address
)
"""But where clouds tell a machine its credentials."""
_SCHEMES = {"http": 80, "https": 443}


def gateway_account(owner: Owner) -> dict[str, Any]:
    """Return the ServiceAccount. Pods say for themselves whether they take its token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(owner, names.gateway(owner.name), "gateway"),
        "automountServiceAccountToken": False,
    }


def gateway_binding(owner: Owner, settings: ClusterSettings) -> dict[str, Any]:
    """Return the RoleBinding by which the gateway reads the EndpointSlices of its namespace: the role is the chart's."""
    kind, _, name = settings.gateway_role.partition("/")
    account = {"kind": "ServiceAccount", "name": names.gateway(owner.name), "namespace": owner.namespace}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(owner, names.gateway(owner.name), "gateway"),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [account],
    }


def gateway_policy(
    owner: Owner, gateway: Gateway, settings: ClusterSettings, *, asks: bool = False, targets: tuple[Target, ...] = ()
) -> dict[str, Any]:
    """Return the policy: clients from everywhere in; out to names, the model, the larger model, the API server, the collector.

    `asks`: gateways of before still ask the model's pods, whatever the one that is wanted does; `targets`: whom pods that run
    steps ask, to their end.
    """
    finding = watches(gateway) or asks or any(each.model for each in targets)
    egress = _egress(owner, gateway, settings, asks=asks, finding=finding)
    egress += [way for way in map(_way, targets) if way not in egress]
    doors = [GRPC_PORT, *([HTTP_PORT] if gateway.edge.rest else [])]
    spec = {
        "podSelector": {"matchLabels": labels.gateway(owner.name, names.VARIANT)},
        "policyTypes": ["Egress", "Ingress"],
        "ingress": [{"ports": _ports(*doors)}, {"from": _readers(settings), "ports": _ports(METRICS_PORT)}],
        "egress": egress,
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(owner, names.gateway(owner.name), "gateway"),
        "spec": spec,
    }


def bridge_account(owner: Owner) -> dict[str, Any]:
    """Return the ServiceAccount of the bridge."""
    return {**gateway_account(owner), "metadata": metadata(owner, names.bridge(owner.name), "bridge")}


def bridge_binding(owner: Owner, settings: ClusterSettings) -> dict[str, Any]:
    """Return the RoleBinding by which it finds whom the model's clients ask, as gateways find theirs."""
    subject = {"kind": "ServiceAccount", "name": names.bridge(owner.name), "namespace": owner.namespace}
    meta = metadata(owner, names.bridge(owner.name), "bridge")
    return {**gateway_binding(owner, settings), "metadata": meta, "subjects": [subject]}


def bridge_policy(owner: Owner, mqtt: Mqtt, settings: ClusterSettings) -> dict[str, Any]:
    """Return the policy of the bridge: metrics in; out to names, the API server, the broker, and the model or its gateway."""
    to = [{"ipBlock": {"cidr": each}} for each in settings.api_server_cidrs]
    spec = {
        "podSelector": {"matchLabels": labels.bridge(owner.name, names.VARIANT)},
        "policyTypes": ["Egress", "Ingress"],
        "ingress": [{"from": _readers(settings), "ports": _ports(METRICS_PORT)}],
        "egress": [
            _lookups(),
            _to_pods({labels.MODEL: owner.name}),
            {**({"to": to} if to else {}), "ports": _ports(*settings.api_server_ports)},
            {"to": [*_ANYWHERE], "ports": _ports(port_of(mqtt.address))},
        ],
    }
    meta = metadata(owner, names.bridge(owner.name), "bridge")
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def _readers(settings: ClusterSettings) -> list[dict[str, Any]]:
    reading = {settings.operator_namespace: None, settings.monitoring_namespace: None}
    return [{"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: name}}} for name in reading if name]


def _lookups() -> dict[str, Any]:
    return {"ports": [{"port": 53, "protocol": each} for each in ("UDP", "TCP")]}


def _egress(owner: Owner, gateway: Gateway, settings: ClusterSettings, *, asks: bool, finding: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [_lookups()]
    if gateway.asks_pods or asks:
        found.append(_to_pods(labels.selector(owner.name, names.VARIANT)))
    if gateway.lower and gateway.edge.cut is not None and gateway.edge.cut.address is not None:
        found.append({"to": [*_ANYWHERE], "ports": _ports(port_of(gateway.edge.cut.address))})
    if finding:
        to = [{"ipBlock": {"cidr": each}} for each in settings.api_server_cidrs]
        found.append({**({"to": to} if to else {}), "ports": _ports(*settings.api_server_ports)})
    found += [_to_pods({labels.MODEL: each}) for each in step_models(gateway.spec)]
    cascade = gateway.edge.cascade if gateway.cascade else None
    if cascade is not None:
        if cascade.larger.address is None:
            found.append(_to_pods({labels.MODEL: cascade.larger.model}))
        else:
            found.append({"to": [*_ANYWHERE], "ports": _ports(port_of(cascade.larger.address))})
        middle = between_at(gateway)
        if gateway.middle is not None and finds_middle(gateway):
            found.append(_to_pods(labels.selector(gateway.middle.model, names.VARIANT)))
        elif middle is not None and middle.address is not None:
            found.append({"to": [*_ANYWHERE], "ports": _ports(port_of(middle.address))})
    steps = gateway.edge.preprocess if gateway.steps else None
    if steps is not None:
        at = steps.address
        found.append(_way(Target(steps.model) if at is None else Target(port=port_of(at))))
    if gateway.edge.telemetry is not None:
        url = urllib.parse.urlsplit(gateway.edge.telemetry.endpoint)
        found.append({"to": [*_ANYWHERE], "ports": _ports(_port(url))})
    return found


def _way(target: Target) -> dict[str, Any]:
    if target.model:
        return _to_pods({labels.MODEL: target.model})
    return {"to": [*_ANYWHERE], "ports": _ports(target.port)}


def _port(url: urllib.parse.SplitResult) -> int:
    try:
        port = url.port
    except ValueError:  # beyond 65535: nobody listens there
        port = None
    return port or _SCHEMES[url.scheme]


def _to_pods(chosen: dict[str, str]) -> dict[str, Any]:
    return {"to": [{"podSelector": {"matchLabels": chosen}}], "ports": _ports(GRPC_PORT)}


def _ports(*numbers: int) -> list[dict[str, Any]]:
    return [{"port": number, "protocol": "TCP"} for number in numbers]
