"""The whole loop with Kubernetes' own autoscaler: pods that count, our figures through a real APIService, replicas that follow.

There is no kubelet: the test makes pods ready, and servers on loopback count for them as Triton does.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, watch
from tests.integration.test_metrics_api import leave, mark_ready
from tests.support.cluster import SOURCES, model
from tests.support.hands import Hands, eventually
from tests.support.kube.control_plane import ControlPlane, running_control_plane
from tests.support.kube.controllers import GARBAGE, WORKLOADS, running_controllers
from tests.support.metrics_process import FarPods, MetricsProcess, running_metrics
from tests.support.operator_process import install_crds, running_operator

from stillhouse.resources.metrics_api import APISERVICE

NAME = "m-main"
_CONTROLLERS = (*GARBAGE, *WORKLOADS, "horizontal-pod-autoscaler-controller")


@pytest.fixture(scope="module")
def plane(binaries: dict[str, Path], controller_manager: Path) -> Iterator[ControlPlane]:
    with running_control_plane(binaries) as running:
        install_crds(running)
        with running_controllers(controller_manager, running, _CONTROLLERS, autoscaler_period="1s"):
            yield running


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[client.ApiClient]:
    with plane.client() as found:
        yield found
        try:
            client.ApiregistrationV1Api(found).delete_api_service(APISERVICE)
        except client.ApiException as error:
            if error.status != 404:
                raise


@pytest.fixture
def hands(api: client.ApiClient) -> Hands:
    name = f"test-{secrets.token_hex(4)}"
    client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
    return Hands(api, name)


@pytest.fixture
def far() -> Iterator[FarPods]:
    pods = FarPods("m")
    pods.up(0)
    yield pods
    pods.close()


@pytest.fixture
def metrics(plane: ControlPlane, hands: Hands, far: FarPods, tmp_path: Path) -> Iterator[MetricsProcess]:
    with running_metrics(plane, tmp_path, hands.namespace, pod_port=far.port) as running:
        yield running


@pytest.fixture
def serving(plane: ControlPlane, hands: Hands, metrics: MetricsProcess, tmp_path: Path) -> Iterator[Hands]:
    """An operator, and its model with an accepted revision; of fewer replicas a second of less load is enough."""
    settings = {"operator_namespace": hands.namespace, "metrics_api": True, "metrics_service": "stillhouse-metrics"}
    place = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": SOURCES}
    with running_operator(plane, tmp_path, **place, settings={**settings, "scale_down_after_s": 1}) as operator:
        hands.apply(model(scale={"minReplicas": 1, "maxReplicas": 8}))
        hands.build()
        yield hands
        assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]


def replicas(hands: Hands, far: FarPods) -> int:
    """Let every pod that there should be come up, and return how many there should be."""
    chosen = "app.kubernetes.io/component=serve"
    for pod in hands.core.list_namespaced_pod(hands.namespace, label_selector=chosen).items:
        if not pod.status.pod_ip and not pod.metadata.deletion_timestamp:
            mark_ready(hands.core.api_client, hands.namespace, pod.metadata.name, far.up(len(far.addresses)))
    return int(hands.apps.read_namespaced_deployment(NAME, hands.namespace).spec.replicas)


def first_pod(hands: Hands, far: FarPods) -> None:
    """Give the first pod the address that is up already."""
    pods = eventually(
        lambda: hands.core.list_namespaced_pod(hands.namespace, label_selector="app.kubernetes.io/component=serve").items
    )
    mark_ready(hands.core.api_client, hands.namespace, pods[0].metadata.name, far.addresses[0])


def autoscaler(hands: Hands) -> Any:
    return client.AutoscalingV2Api(hands.core.api_client).read_namespaced_horizontal_pod_autoscaler(NAME, hands.namespace)


def writers_of_replicas(hands: Hands) -> set[str]:
    """Return the field managers that hold `spec.replicas` of the Deployment."""
    entries = hands.apps.read_namespaced_deployment(NAME, hands.namespace).metadata.managed_fields
    return {each.manager for each in entries if "f:replicas" in (each.fields_v1 or {}).get("f:spec", {})}


def test_replicas_follow_the_load_up_and_down(serving: Hands, far: FarPods) -> None:
    eventually(lambda: serving.condition("Scaling") == ("True", "ScalesByQueue"))
    first_pod(serving, far)
    far.load(20.0)
    assert replicas(serving, far) == 1
    # 185 requests a second of 10 ms each, in pods of one instance that is to be busy for 70 % of its time: 2.6 pods.
    far.load(185.0)
    eventually(lambda: replicas(serving, far) == 3)
    eventually(lambda: autoscaler(serving).status.current_replicas == 3)
    assert writers_of_replicas(serving) == {"kube-controller-manager"}
    far.load(10.0)
    eventually(lambda: replicas(serving, far) == 1)
    assert writers_of_replicas(serving) == {"kube-controller-manager"}


@contextmanager
def numbers(plane: ControlPlane, namespace: str) -> Iterator[list[int]]:
    """Collect every number of replicas that the Deployment ever has in the block, as a watch tells it; -1 where that broke."""
    seen: list[int] = []
    begun, ended, stream = threading.Event(), threading.Event(), watch.Watch()

    def follow() -> None:
        with plane.client() as api:
            apps = client.AppsV1Api(api)
            try:
                for event in stream.stream(apps.list_namespaced_deployment, namespace, timeout_seconds=600):
                    seen.append(int(event["object"].spec.replicas))
                    begun.set()
            except Exception:
                if not ended.is_set():
                    seen.append(-1)  # who did not see everything must not say that nothing happened

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    assert begun.wait(30)
    yield seen
    ended.set()
    stream.stop()


def told(hands: Hands, kind: str, reason: str = "") -> bool:
    """Return whether the autoscaler goes by a kind of metric and has looked since it does, with what comes of it."""
    live = autoscaler(hands)
    conditions = {each.type: each for each in (live.status.conditions if live.status else None) or []}
    active = conditions.get("ScalingActive")
    return [each.type for each in live.spec.metrics] == [kind] and active is not None and active.reason == reason


def test_no_change_of_mode_or_of_the_figures_owner_lowers_the_number(
    plane: ControlPlane, serving: Hands, far: FarPods, metrics: MetricsProcess, tmp_path: Path
) -> None:
    eventually(lambda: serving.condition("Scaling") == ("True", "ScalesByQueue"))
    first_pod(serving, far)
    far.load(325.0)  # 4.6 pods
    eventually(lambda: replicas(serving, far) == 5 and len(far.addresses) == 5)
    room = {"minReplicas": 1, "maxReplicas": 5}
    serving.apply(model(scale=room))
    eventually(lambda: autoscaler(serving).spec.max_replicas == 5)
    with numbers(plane, serving.namespace) as seen:
        serving.apply(model(scale={"mode": "cpu", **room}))
        # CPU use is not measured here: an autoscaler that knows nothing keeps what there is.
        eventually(lambda: told(serving, "Resource", "FailedGetResourceMetric"))
        assert serving.condition("Scaling") == ("True", "ScalesByCpu")
        serving.apply(model(scale={"mode": "external", "replicas": 5}))
        eventually(lambda: serving.condition("Scaling") == ("False", "ScaledExternally"))
        eventually(lambda: writers_of_replicas(serving) >= {"stillhouse"})
        serving.apply(model(scale=room))
        eventually(lambda: told(serving, "External", "ValidMetricFound"))
        assert "stillhouse" not in writers_of_replicas(serving)
        assert leave(metrics, serving.namespace, tmp_path) == 0
        eventually(lambda: serving.condition("Scaling") == ("True", "ScalesByCpu"))
        eventually(lambda: told(serving, "Resource", "FailedGetResourceMetric"))
        assert set(seen) == {5}
    assert replicas(serving, far) == 5


def test_a_namespace_ends_although_the_metrics_api_is_dead_once_it_has_left(
    plane: ControlPlane, api: client.ApiClient, hands: Hands, metrics: MetricsProcess, tmp_path: Path
) -> None:
    core = client.CoreV1Api(api)
    name = f"going-{secrets.token_hex(4)}"
    core.create_namespace({"metadata": {"name": name}})
    metrics.process.kill()
    metrics.process.wait(20)
    registry = client.ApiregistrationV1Api(api)

    def works() -> str:
        conditions = registry.read_api_service(APISERVICE).status.conditions or []
        return next((each.status for each in conditions if each.type == "Available"), "")

    eventually(lambda: works() == "False")
    core.delete_namespace(name)

    def stuck() -> bool:
        conditions = core.read_namespace(name).status.conditions or []
        return any(each.type == "NamespaceDeletionDiscoveryFailure" and each.status == "True" for each in conditions)

    eventually(stuck)
    assert leave(metrics, hands.namespace, tmp_path) == 0
    eventually(lambda: name not in {each.metadata.name for each in core.list_namespace().items})
