"""With Kubernetes' own controllers beside the API server: what belongs to a model goes with it, whoever is there to see it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client
from tests.support.cluster import SOURCES, model
from tests.support.hands import PLACE, Hands, eventually
from tests.support.kube.control_plane import ControlPlane, running_control_plane
from tests.support.kube.controllers import GARBAGE, WORKLOADS, running_controllers
from tests.support.operator_process import install_crds, running_operator


@pytest.fixture(scope="module")
def plane(binaries: dict[str, Path], controller_manager: Path) -> Iterator[ControlPlane]:
    """A control plane of its own: what is collected here would be missed by tests that know of no collector."""
    with running_control_plane(binaries) as running:
        install_crds(running)  # first: the garbage collector looks for new kinds every 30 s only
        with running_controllers(controller_manager, running, (*GARBAGE, *WORKLOADS)):
            yield running


@pytest.fixture
def hands(plane: ControlPlane) -> Iterator[Hands]:
    with plane.client() as api:
        name = f"test-{secrets.token_hex(4)}"
        client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
        yield Hands(api, name)


def everything(hands: Hands) -> dict[str, list[str]]:
    """Return the names of all that a model has, by kind; of kinds that have none, nothing."""
    api, space = hands.core.api_client, hands.namespace
    found = {
        "deployments": hands.apps.list_namespaced_deployment(space).items,
        "replicasets": hands.apps.list_namespaced_replica_set(space).items,
        "pods": hands.core.list_namespaced_pod(space).items,
        "jobs": hands.batch.list_namespaced_job(space).items,
        "services": hands.core.list_namespaced_service(space).items,
        "accounts": hands.core.list_namespaced_service_account(space).items,
        "autoscalers": client.AutoscalingV2Api(api).list_namespaced_horizontal_pod_autoscaler(space).items,
        "budgets": client.PolicyV1Api(api).list_namespaced_pod_disruption_budget(space).items,
        "policies": client.NetworkingV1Api(api).list_namespaced_network_policy(space).items,
    }
    names = {kind: sorted(each.metadata.name for each in items) for kind, items in found.items()}
    records = hands.objects.list_namespaced_custom_object(*PLACE, space, "modelrevisions")["items"]
    names["revisions"] = sorted(each["metadata"]["name"] for each in records)
    return {kind: each for kind, each in names.items() if each}


def test_a_deployment_gets_its_pods_and_a_namespace_its_end(hands: Hands) -> None:
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "localhost/none"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": pod}
    hands.apps.create_namespaced_deployment(hands.namespace, {"metadata": {"name": "d"}, "spec": spec})
    eventually(lambda: len(hands.core.list_namespaced_pod(hands.namespace).items) == 2)
    hands.core.delete_namespace(hands.namespace)
    eventually(lambda: not [each for each in hands.core.list_namespace().items if each.metadata.name == hands.namespace])


def test_everything_goes_with_a_model_that_is_deleted_while_no_operator_runs(
    plane: ControlPlane, hands: Hands, tmp_path: Path
) -> None:
    place = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": SOURCES}
    with running_operator(plane, tmp_path, **place):
        hands.apply(model())
        hands.build()
        eventually(lambda: "pods" in everything(hands) and "autoscalers" in everything(hands))
        hands.apply(model("building"))
        eventually(lambda: "jobs" in everything(hands))
    assert everything(hands).keys() == {
        "deployments", "replicasets", "pods", "jobs", "services", "accounts", "autoscalers", "budgets", "policies", "revisions",
    }  # fmt: skip
    for name in ("m", "building"):
        hands.objects.delete_namespaced_custom_object(*PLACE, hands.namespace, "distilledmodels", name)
    eventually(lambda: not everything(hands))


def test_a_model_that_is_made_anew_under_its_name_has_children_of_its_own(
    plane: ControlPlane, hands: Hands, tmp_path: Path
) -> None:
    def made() -> set[str]:
        accounts = hands.core.list_namespaced_service_account(hands.namespace).items
        return {each.metadata.uid for each in [*accounts, *hands.jobs().values()]}

    with running_operator(
        plane, tmp_path, namespace=hands.namespace, lease_namespace=hands.namespace, sources=SOURCES
    ) as operator:
        hands.apply(model())
        eventually(lambda: len(made()) == 2)
        before, former = made(), hands.get()["metadata"]["uid"]
        hands.objects.delete_namespaced_custom_object(*PLACE, hands.namespace, "distilledmodels", "m")
        hands.apply(model())
        assert hands.get()["metadata"]["uid"] != former
        eventually(lambda: len(made()) == 2 and not made() & before)
        eventually(lambda: hands.condition("Ready") == ("False", "Building"))
        assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]


@pytest.mark.parametrize("metrics", ["no metrics API", "a metrics API that is down"])
def test_a_namespace_that_goes_takes_its_models_along_and_nothing_is_made_in_it_again(
    metrics: str, plane: ControlPlane, hands: Hands, tmp_path: Path
) -> None:
    registry = client.ApiregistrationV1Api(hands.core.api_client)
    name = "v1beta1.external.metrics.k8s.io"
    place = {"namespace": hands.namespace, "lease_namespace": "default", "sources": SOURCES}
    with running_operator(plane, tmp_path, **place) as operator:
        hands.apply(model())
        hands.build()
        hands.apply(model("building"))
        eventually(lambda: "jobs" in everything(hands) and "pods" in everything(hands))
        if metrics != "no metrics API":
            spec = {"group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100}
            spec |= {"service": {"namespace": "default", "name": "nobody"}, "insecureSkipTLSVerify": True}
            registry.create_api_service({"metadata": {"name": name}, "spec": spec})
        hands.core.delete_namespace(hands.namespace)
        eventually(lambda: not everything(hands))
        eventually(lambda: operator.metric("stillhouse_models") == 0)
        if metrics != "no metrics API":
            registry.delete_api_service(name)  # what our chart does first of all when it is uninstalled
        eventually(lambda: hands.namespace not in {each.metadata.name for each in hands.core.list_namespace().items})
        assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]
