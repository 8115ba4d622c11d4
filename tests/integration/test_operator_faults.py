"""The operator on a real API server that refuses, holds a stranger's object, or is given what is large and odd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client
from tests.integration.test_operator import PLACE, Hands, eventually
from tests.support.cluster import SOURCES, model, record
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import Operator, install_crds, running_operator


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    install_crds(control_plane)
    with running_operator(control_plane, tmp_path, namespace=namespace, lease_namespace=namespace, sources=SOURCES) as running:
        yield running


@pytest.fixture
def hands(operator: Operator, api_client: client.ApiClient, namespace: str) -> Hands:
    return Hands(api_client, namespace)


def test_a_strangers_object_is_left_alone_until_it_goes(hands: Hands) -> None:
    mine = {"metadata": {"name": "m"}, "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]}}
    before = hands.core.create_namespaced_service(hands.namespace, mine)
    hands.apply(model())
    hands.build()
    eventually(lambda: hands.condition("Ready") == ("False", "NotOwned"))
    assert hands.condition("Stalled") == ("True", "NotOwned")
    after = hands.core.read_namespaced_service("m", hands.namespace)
    assert after.metadata.resource_version == before.metadata.resource_version
    hands.core.delete_namespaced_service("m", hands.namespace)
    live = hands.get()
    live["metadata"].setdefault("labels", {})["again"] = "x"  # nothing of ours has changed: a stranger's object is not watched
    hands.objects.replace_namespaced_custom_object(*PLACE, hands.namespace, "distilledmodels", "m", live)
    eventually(lambda: hands.core.read_namespaced_service("m", hands.namespace).spec.selector.get("stillhouse.io/model") == "m")
    eventually(lambda: hands.condition("Ready") == ("False", "RollingOut"))


def test_a_quota_is_told_and_its_end_is_seen(hands: Hands) -> None:
    hard = {"count/deployments.apps": "0"}
    quota = {"metadata": {"name": "none"}, "spec": {"hard": hard}}
    hands.core.create_namespaced_resource_quota(hands.namespace, quota)
    hands.core.patch_namespaced_resource_quota_status("none", hands.namespace, {"status": {"hard": hard, "used": hard}})
    hands.apply(model())
    hands.end("resolve", {"next": None, "record": record()})
    eventually(lambda: hands.condition("Ready") == ("False", "ApplyFailed"))
    message = next(each["message"] for each in hands.get()["status"]["conditions"] if each["type"] == "Ready")
    assert "exceeded quota" in message
    assert hands.condition("Built") == ("True", "Built")
    hands.core.delete_namespaced_resource_quota("none", hands.namespace)
    eventually(lambda: hands.apps.read_namespaced_deployment("m-main", hands.namespace))
    hands.roll()
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))


def test_what_is_large_and_odd_is_a_model_like_any_other(hands: Hands) -> None:
    body = model("a" * 40)
    body["metadata"]["labels"] = {f"example.org/label-{number}": "x" * 60 for number in range(1000)}
    body["metadata"]["annotations"] = {"example.org/long": "y" * 100_000}
    hands.apply(body)
    hands.end("resolve", {"next": None, "record": record()})
    hands.roll("a" * 40 + "-main")
    eventually(lambda: hands.condition("Ready", "a" * 40) == ("True", "Serving"))
    service = hands.core.read_namespaced_service("a" * 40, hands.namespace)
    assert not [name for name in service.metadata.labels if name.startswith("example.org")]


def test_a_model_that_is_deleted_during_its_build_is_forgotten(operator: Operator, hands: Hands) -> None:
    hands.apply(model())
    eventually(lambda: "resolve" in hands.jobs())
    hands.objects.delete_namespaced_custom_object(*PLACE, hands.namespace, "distilledmodels", "m")
    eventually(lambda: operator.metric("stillhouse_models") == 0)
    hands.apply(model())  # of the same name, and another resource: the old one's Job is not its own
    eventually(lambda: hands.condition("Ready") == ("False", "AwaitingCollection"))
    assert hands.condition("Reconciling") == ("True", "AwaitingCollection")
    hands.core.delete_namespaced_service_account("m-serve", hands.namespace)  # what the garbage collector would do
    for job in hands.jobs().values():
        hands.batch.delete_namespaced_job(job.metadata.name, hands.namespace, propagation_policy="Background")
    eventually(lambda: hands.condition("Ready") == ("False", "Building"))
    assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]
