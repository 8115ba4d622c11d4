"""The bridge to a broker, by the fake API server: it comes with the first revision, goes with its field, says how it is."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cluster import NAMESPACE, model
from tests.support.fronted import GATEWAY, Fronted

from stillhouse.api.status import Status
from stillhouse.clients.kube.kinds import SECRET, by_name
from stillhouse.reconcile.secrets import LOOK_AGAIN_S

BRIDGE = "m-main-bridge"
KINDS = ("ServiceAccount", "RoleBinding", "NetworkPolicy", "Deployment", "PodDisruptionBudget")
SERVE: dict[str, Any] = {"mqtt": {"address": "mqtts://broker:8883", "credentials": "user", "replicas": 2}}


@pytest.fixture
def cluster() -> Fronted:
    found = Fronted()
    found.apply(model(serve=SERVE))
    found.settle()
    assert found.get("Deployment", BRIDGE) is None, "there is nothing yet to bridge to"
    found.build()
    found.roll()
    found.settle()
    return found


def connect(cluster: Fronted, count: int) -> None:
    live = cluster.get("Deployment", BRIDGE)
    assert live is not None
    told = {**dict.fromkeys(("replicas", "updatedReplicas"), 2), **dict.fromkeys(("readyReplicas", "availableReplicas"), count)}
    ended = [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]
    cluster.kube.set(live, observedGeneration=live["metadata"]["generation"], **told, conditions=ended)
    cluster.settle()


def secret(cluster: Fronted, name: str) -> None:
    cluster.run(cluster.kube.create(SECRET, NAMESPACE, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}))
    cluster.settle()


def test_it_says_what_it_lacks_and_when_it_is_connected(cluster: Fronted) -> None:
    assert cluster.condition("BridgeAvailable") == ("False", "SecretMissing")
    assert cluster.run(cluster.reconciler.reconcile((NAMESPACE, "m"))) == LOOK_AGAIN_S
    secret(cluster, "user")
    assert cluster.condition("BridgeAvailable") == ("False", "BridgeStarting")
    connect(cluster, 2)
    assert cluster.condition("BridgeAvailable") == ("True", "BridgeServes")
    assert cluster.condition("Ready") == ("True", "Serving")
    connect(cluster, 1)
    assert cluster.condition("BridgeAvailable") == ("False", "BridgeDisconnected")
    told = [(cluster.get("Event", name) or {}) for name in cluster.kube.names(by_name("Event"))]
    assert {each["reason"]: each["type"] for each in told if each["action"].startswith("BridgeAvailable")} == {
        "SecretMissing": "Warning", "BridgeStarting": "Normal", "BridgeServes": "Normal", "BridgeDisconnected": "Warning",
    }  # fmt: skip
    assert cluster.condition("Ready") == ("True", "Serving"), "a broker that is away makes no model less ready"
    pod = cluster.pod(f"{BRIDGE}-1", "bridge", ready=False)
    refused = {"exitCode": 2, "reason": "Error", "message": "error: the broker refuses the bridge\n  found: Not authorized"}
    cluster.kube.set(pod, phase="Running", containerStatuses=[{"name": "bridge", "lastState": {"terminated": refused}}])
    cluster.settle()
    assert cluster.condition("BridgeAvailable") == ("False", "ServerCrashes")
    Status.model_validate(cluster.status())


def test_nothing_is_written_when_nothing_changes_and_it_goes_with_its_field(cluster: Fronted) -> None:
    secret(cluster, "user")
    connect(cluster, 2)
    before = list(cluster.kube.writes)
    cluster.settle()
    assert cluster.kube.writes == before
    for kind in KINDS:
        assert cluster.get(kind, BRIDGE) is not None, kind
    cluster.apply(model(edge={"nonsense": 1}))
    cluster.settle()
    assert cluster.get("Deployment", BRIDGE) is not None, "a spec that cannot be read changes nothing"
    cluster.apply(model())
    cluster.settle()
    assert not [kind for kind in KINDS if BRIDGE in cluster.kube.names(by_name(kind))]
    assert cluster.condition("BridgeAvailable") == ("", "")


def test_it_asks_the_gateway_over_tls_once_clients_do(cluster: Fronted) -> None:
    mqtt = {**SERVE["mqtt"], "backendAuthority": "ca", "backendToken": "mine"}
    cluster.apply(model(serve={"mqtt": mqtt}, edge={"tls": {"secret": "front"}, "clients": {"tokens": "clients"}}))
    cluster.settle()

    def asks() -> list[str]:
        (container,) = (cluster.get("Deployment", BRIDGE) or {})["spec"]["template"]["spec"]["containers"]
        return [each.partition("=")[0] for each in container["args"] if each.startswith("--backend")]

    assert asks() == [], "clients ask the model's own pods still"
    cluster.start()
    cluster.settle()
    assert cluster.chosen() == "gateway" and cluster.get("Deployment", GATEWAY)
    assert asks() == ["--backend-tls", "--backend-name", "--backend-authority", "--backend-token"]
