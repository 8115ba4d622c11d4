"""A fake cluster with hands for gateways, and models that have one."""

from __future__ import annotations

import json
from typing import Any

from tests.support.cluster import NAMESPACE, Cluster

from stillhouse.clients.kube.kinds import POD, SLICE, by_name
from stillhouse.resources import labels
from stillhouse.resources.gateway import CONFIG

__all__ = ["CASCADE", "EDGE", "GATEWAY", "WITH_CASCADE", "Fronted", "built"]

CASCADE = "sha256:" + "d" * 64
EDGE: dict[str, Any] = {"rest": False}
GATEWAY = "m-main-gateway"
WITH_CASCADE: dict[str, Any] = {
    "cascade": {
        "larger": {"model": "big", "address": "grpcs://cloud:443"}, "data": {"uri": "data:gate"}, "targetAgreement": "95%",
    },
}  # fmt: skip


class Fronted(Cluster):
    """A cluster with hands for gateways. Its clock stands still but for `later`."""

    seconds = 0

    def _clock(self) -> str:
        return f"2026-01-01T00:{self.seconds // 60:02}:{self.seconds % 60:02}+00:00"

    def later(self, seconds: int) -> None:
        self.seconds += seconds
        self.settle()

    def chosen(self) -> str:
        return str((self.get("Service", "m") or {})["spec"]["selector"][labels.COMPONENT])

    def open_to(self) -> Any:
        return (self.get("NetworkPolicy", "m-main") or {})["spec"]["ingress"][0].get("from")

    def config(self) -> dict[str, Any]:
        template = (self.get("Deployment", GATEWAY) or {})["spec"]["template"]
        found: dict[str, Any] = json.loads(template["metadata"]["annotations"][CONFIG])
        return found

    def start(self, count: int = 2, kind: str = "Deployment") -> None:
        """Let the gateway's pods come up."""
        live = self.get(kind, GATEWAY)
        assert live is not None
        names = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas")
        if kind == "DaemonSet":
            names = ("desiredNumberScheduled", "currentNumberScheduled", "numberAvailable", "updatedNumberScheduled")
        self.kube.set(live, observedGeneration=live["metadata"]["generation"], **dict.fromkeys(names, count))

    def pod(self, name: str, component: str, ready: bool = True, **more: str) -> dict[str, Any]:
        marks = {**labels.labels("m", "main", component), **more}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": marks}}
        made = self.run(self.kube.create(POD, NAMESPACE, body))
        conditions = [{"type": "Ready", "status": str(ready)}]
        return self.kube.set(made, phase="Running", conditions=conditions)

    def slice(self, *pods: str) -> None:
        """Make the slice of the clients' Service name these pods."""
        endpoints = [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": each}} for each in pods]
        meta = {"name": "m-1", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "m"}}
        body = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta, "endpoints": endpoints}
        live = self.get("EndpointSlice", "m-1")
        if live is None:
            self.run(self.kube.create(SLICE, NAMESPACE, body))
        else:
            self.kube.set({**live, "endpoints": endpoints})

    def gone(self) -> bool:
        """Return whether nothing of a gateway is left."""
        kinds = ("Deployment", "DaemonSet", "ServiceAccount", "RoleBinding", "NetworkPolicy", "PodDisruptionBudget", "Service")
        marks = [(self.get(kind, name) or {})["metadata"]["labels"] for kind in kinds for name in self.kube.names(by_name(kind))]
        return all(each[labels.COMPONENT] != "gateway" for each in marks)


def built(cluster: Fronted, body: dict[str, Any], digest: str, cascade: str | None) -> str:
    """Let a build of a model with a cascade succeed; return its revision."""
    cluster.apply(body)
    cluster.settle()
    stages = ["resolve", "gate"]
    for stage, following in zip(stages, ["gate", None], strict=True):
        told: dict[str, Any] = {"next": following}
        if following is None:
            told["record"] = {"digest": digest, "precision": "int8", "size": 1, "serve": {"maxBatchSize": 1}}
            told["record"] |= {"cascade": cascade} if cascade else {}
        cluster.end(stage, told)
        cluster.settle()
    return next(
        name
        for name in cluster.kube.names(by_name("ModelRevision"))
        if (cluster.get("ModelRevision", name) or {})["spec"]["digest"] == digest
    )
