"""Serving against a real API server: what kubelet, scheduler and quota would say is written by hand, the rest is real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.integration.test_chart_cluster import MONITORS
from tests.support.cluster import DIGEST, SOURCES, model, record
from tests.support.hands import PLACE, Hands, eventually
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import Operator, install_crds, kept_operator, running_operator

from stillhouse.entrypoints.cluster.process import NEW_KIND

MONITOR = ("monitoring.coreos.com", "v1")


@pytest.fixture(scope="module", autouse=True)
def definitions(control_plane: ControlPlane) -> None:
    install_crds(control_plane)


@pytest.fixture
def hands(api_client: client.ApiClient, namespace: str) -> Hands:
    return Hands(api_client, namespace)


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    with running_operator(control_plane, tmp_path, namespace=namespace, lease_namespace=namespace, sources=SOURCES) as running:
        yield running


def put_pod(hands: Hands, **status: Any) -> None:
    """Create a pod of the Deployment's template, or change what is said of it."""
    template = hands.apps.read_namespaced_deployment("m-main", hands.namespace).spec.template
    meta = {"name": "m-main-x", "labels": template.metadata.labels}
    try:
        hands.core.create_namespaced_pod(
            hands.namespace, {"metadata": meta, "spec": {"containers": [{"name": "triton", "image": "localhost/none"}]}}
        )
    except client.ApiException as error:
        if error.status != 409:
            raise
    hands.core.patch_namespaced_pod_status("m-main-x", hands.namespace, {"status": status})


def triton(**parts: Any) -> list[dict[str, Any]]:
    return [{"name": "triton", "image": "localhost/none", "imageID": "", "ready": False, "restartCount": 3, **parts}]


def message(hands: Hands, kind: str) -> str:
    return next(str(each["message"]) for each in hands.get()["status"]["conditions"] if each["type"] == kind)


def told(hands: Hands, reason: str) -> list[Any]:
    return [each for each in hands.core.list_namespaced_event(hands.namespace).items if each.reason == reason]


def test_pods_in_trouble_are_told_in_condition_and_event(operator: Operator, hands: Hands) -> None:
    hands.apply(model())
    hands.build()
    eventually(lambda: hands.apps.read_namespaced_deployment("m-main", hands.namespace))
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small"}
    hands.apps.patch_namespaced_deployment_status("m-main", hands.namespace, {"status": {"conditions": [refused]}})
    eventually(lambda: hands.condition("Ready") == ("False", "PodsRefused"))
    assert "exceeded quota: small" in message(hands, "Available")
    hands.apps.patch_namespaced_deployment_status("m-main", hands.namespace, {"status": {"conditions": None}})

    why = 'failed to pull image "localhost/none": connection refused'
    put_pod(hands, containerStatuses=triton(state={"waiting": {"reason": "ErrImagePull", "message": why}}))
    eventually(lambda: hands.condition("Ready") == ("False", "ImageUnavailable"))
    assert why in message(hands, "Ready")

    ended = {"exitCode": 134, "reason": "Error", "message": "Triton 2.51\nerror: cannot load libcuda.so.1\n"}
    waits = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
    put_pod(hands, containerStatuses=triton(state=waits, lastState={"terminated": ended}))
    eventually(lambda: hands.condition("Ready") == ("False", "ServerCrashes"))
    assert "cannot load libcuda.so.1" in message(hands, "Ready")
    (event,) = eventually(lambda: told(hands, "ServerCrashes"))
    assert event.type == "Warning"
    assert "cannot load libcuda.so.1" in event.message
    assert len(told(hands, "RuntimeAdvisory")) == 1

    hands.roll()
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
    assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]


def test_template_and_strategy_change_the_deployment_and_nothing_is_built(operator: Operator, hands: Hands) -> None:
    hands.apply(model())
    hands.build()
    eventually(lambda: hands.apps.read_namespaced_deployment("m-main", hands.namespace))
    placed = {
        "metadata": {"labels": {"team": "search"}, "annotations": {"note": "mine"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "dedicated", "value": "models", "effect": "NoSchedule"}],
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"labelSelector": {"matchLabels": {"app": "noisy"}}, "topologyKey": "kubernetes.io/hostname"}
                    ]
                }
            },
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}
            ],
            "imagePullSecrets": [{"name": "registry"}],
            "priorityClassName": "system-node-critical",
            "runtimeClassName": "nvidia",
        },
    }
    hands.apply(model(serve={"podTemplate": placed, "strategy": {"type": "Recreate"}}))

    def live() -> Any:
        return hands.apps.read_namespaced_deployment("m-main", hands.namespace)

    eventually(lambda: live().spec.strategy.type == "Recreate")
    found = live()
    assert found.spec.strategy.rolling_update is None
    assert found.spec.template.metadata.labels["team"] == "search"
    pod = found.spec.template.spec
    assert (pod.node_selector, pod.runtime_class_name) == ({"disk": "ssd"}, "nvidia")
    assert [each.key for each in pod.tolerations] == ["dedicated"]
    assert [each.when_unsatisfiable for each in pod.topology_spread_constraints] == ["DoNotSchedule"]
    assert hands.jobs() == {}
    written = found.metadata.resource_version
    hands.apply(model(serve={"podTemplate": placed, "strategy": {"type": "Recreate"}, "revisionHistoryLimit": 4}))
    eventually(lambda: hands.get()["status"]["observedGeneration"] == hands.get()["metadata"]["generation"])
    assert live().metadata.resource_version == written, "nothing of it has changed"
    hands.apply(model())
    eventually(lambda: live().spec.strategy.type == "RollingUpdate")
    found = live()
    assert found.spec.strategy.rolling_update.max_unavailable == 0
    pod = found.spec.template.spec
    assert (pod.node_selector, pod.tolerations, pod.priority_class_name) == (None, None, None)
    assert pod.affinity.pod_anti_affinity.required_during_scheduling_ignored_during_execution is None
    assert "team" not in found.spec.template.metadata.labels
    assert [each.topology_key for each in pod.topology_spread_constraints] == ["kubernetes.io/hostname"]


def test_former_revisions_are_forgotten_and_a_pinned_one_is_not(operator: Operator, hands: Hands) -> None:
    hands.apply(model())
    hands.build()
    eventually(lambda: not hands.jobs())  # else the next build would be taken for this one
    hands.objects.patch_namespaced_custom_object(
        *PLACE, hands.namespace, "distilledmodels", "m", {"spec": {"serve": {"pin": DIGEST}}}
    )
    eventually(lambda: hands.get()["status"].get("pin") == DIGEST[7:19])
    for batch in (2, 3, 4):
        serve = {"batching": {"maxBatchSize": batch}, "revisionHistoryLimit": 1, "pin": DIGEST}
        hands.apply(model(serve=serve))
        hands.end("resolve", {"next": "gate"})
        digest = "sha256:" + f"{batch:064x}"
        hands.end("gate", {"next": None, "record": record(digest)})
        eventually(lambda digest=digest: digest in hands.revisions() and not hands.jobs())
    eventually(lambda: hands.revisions() == {DIGEST, "sha256:" + f"{3:064x}", "sha256:" + f"{4:064x}"})
    assert hands.get()["status"]["revision"]["digest"] == DIGEST


def test_a_definition_that_comes_later_is_watched(control_plane: ControlPlane, hands: Hands, tmp_path: Path) -> None:
    """The operator ends by itself, with a code of its own; started anew, as a kubelet does, it mends such a child at once."""
    place = [f"--namespace={hands.namespace}", f"--lease-namespace={hands.namespace}"]
    with (
        control_plane.client() as api,
        kept_operator(tmp_path, control_plane.kubeconfig(), SOURCES, [*place, "--resync-seconds=3"]) as kept,
    ):
        definitions = client.ApiextensionsV1Api(api)
        hands.apply(model())
        hands.build()
        assert kept.codes == [], "what is not there is no reason to end"
        definitions.create_custom_resource_definition(MONITORS)
        try:
            eventually(lambda: kept.codes == [NEW_KIND])

            def endpoints() -> Any:
                found = hands.objects.get_namespaced_custom_object(*MONITOR, hands.namespace, "servicemonitors", "m-main")
                return found["spec"]["endpoints"]

            def told() -> float:
                said = kept.operator.ask("/metrics")[1].splitlines()
                lines = [line for line in said if line.startswith('stillhouse_events_total{kind="ServiceMonitor"}')]
                return sum(float(line.rpartition(" ")[2]) for line in lines)

            eventually(endpoints)
            eventually(told)
            hands.objects.patch_namespaced_custom_object(
                *MONITOR, hands.namespace, "servicemonitors", "m-main", {"spec": {"endpoints": []}}
            )
            eventually(endpoints)
            assert kept.codes == [NEW_KIND]
        finally:
            definitions.delete_custom_resource_definition("servicemonitors.monitoring.coreos.com")


def test_a_monitor_follows_its_definition(control_plane: ControlPlane, hands: Hands, tmp_path: Path) -> None:
    place = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": SOURCES}
    with control_plane.client() as api:
        definitions = client.ApiextensionsV1Api(api)
        with running_operator(control_plane, tmp_path, **place) as operator:
            hands.apply(model())
            hands.build()
            hands.roll()
            eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
            assert not [each for each in operator.records() if each["level"] in ("WARNING", "ERROR", "CRITICAL")]
        definitions.create_custom_resource_definition(MONITORS)
        try:

            def monitor() -> dict[str, Any]:
                found: dict[str, Any] = hands.objects.get_namespaced_custom_object(
                    *MONITOR, hands.namespace, "servicemonitors", "m-main"
                )
                return found

            eventually(
                lambda: "items" in hands.objects.list_namespaced_custom_object(*MONITOR, hands.namespace, "servicemonitors")
            )
            with running_operator(control_plane, tmp_path, **place) as operator:
                made = eventually(monitor)
                assert made["metadata"]["ownerReferences"][0]["uid"] == hands.get()["metadata"]["uid"]
                assert made["spec"]["endpoints"] == [{"port": "metrics", "interval": "30s"}]
                hands.objects.patch_namespaced_custom_object(
                    *MONITOR, hands.namespace, "servicemonitors", "m-main", {"spec": {"endpoints": []}}
                )
                eventually(lambda: monitor()["spec"]["endpoints"])
                hands.objects.delete_namespaced_custom_object(*MONITOR, hands.namespace, "servicemonitors", "m-main")
                eventually(monitor)
        finally:
            definitions.delete_custom_resource_definition("servicemonitors.monitoring.coreos.com")
