"""Models follow whoever has the cluster's external metrics; the condition says by what they scale."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.cluster import NAMESPACE, SOURCES, Cluster, model

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.interface import Forbidden
from stillhouse.clients.kube.kinds import API_SERVICE, HPA, SCALED_OBJECT, Kind
from stillhouse.reconcile.controller import Controller
from stillhouse.reconcile.figures import look
from stillhouse.reconcile.metrics import Metrics
from stillhouse.resources.metrics_api import APISERVICE, Figures
from stillhouse.resources.wanted import ClusterSettings

SETTINGS = ClusterSettings(sources=SOURCES, metrics_api=True, metrics_service="stillhouse-metrics")
OFF = ClusterSettings(sources=SOURCES, metrics_service="stillhouse-metrics")
ROOM = {"minReplicas": 1, "maxReplicas": 4}


@pytest.fixture
def serving() -> Cluster:
    cluster = Cluster(settings=SETTINGS)
    cluster.reconciler.figures = Figures("queue")
    cluster.apply(model(scale=ROOM))
    cluster.build()
    return cluster


def scaler(cluster: Cluster) -> list[str]:
    """Return kinds of autoscalers and by what they go."""
    found = [each for name in ("HorizontalPodAutoscaler", "ScaledObject") if (each := cluster.get(name, "m-main"))]
    return [f"{each['kind']} {(each['spec'].get('metrics') or each['spec'].get('triggers'))[0]['type']}" for each in found]


def test_a_model_follows_the_figures_and_says_so(serving: Cluster) -> None:
    assert scaler(serving) == ["HorizontalPodAutoscaler External"]
    assert serving.condition("Scaling") == ("True", "ScalesByQueue")
    serving.reconciler.figures = Figures("keda")
    serving.settle()
    assert scaler(serving) == ["ScaledObject metrics-api"]
    assert serving.condition("Scaling") == ("True", "ScalesByKeda")
    # Of two autoscalers of one Deployment neither works: the former goes first.
    assert [(verb, kind) for verb, kind, _ in serving.kube.writes if kind in (HPA.name, SCALED_OBJECT.name)][-2:] == [
        ("delete", HPA.name),
        ("create", SCALED_OBJECT.name),
    ]
    serving.reconciler.figures = Figures("cpu", "it belongs to monitoring/adapter")
    serving.settle()
    assert scaler(serving) == ["HorizontalPodAutoscaler Resource"]
    assert serving.condition("Scaling") == ("True", "ScalesByCpu")
    (said,) = [each["message"] for each in serving.status()["conditions"] if each["type"] == "Scaling"]
    assert said == "it belongs to monitoring/adapter"


@pytest.mark.parametrize(
    ("scale", "value", "reason"),
    [
        ({"mode": "cpu", **ROOM}, "True", "ScalesByCpu"),
        ({"mode": "external", "replicas": 2}, "False", "ScaledExternally"),
        ({"minReplicas": 2, "maxReplicas": 2}, "False", "FixedReplicas"),
    ],
)
def test_every_mode_has_its_reason(serving: Cluster, scale: dict[str, Any], value: str, reason: str) -> None:
    serving.apply(model(scale=scale))
    serving.settle()
    assert serving.condition("Scaling") == (value, reason)


def test_what_somebody_else_scales_with_is_left_alone(serving: Cluster) -> None:
    """KEDA gives the autoscaler that it makes the labels of its ScaledObject: ours."""
    live = serving.get("HorizontalPodAutoscaler", "m-main")
    assert live is not None
    meta = {"name": "keda-hpa-m-main", "namespace": NAMESPACE, "labels": live["metadata"]["labels"]}
    meta["ownerReferences"] = [{"kind": "ScaledObject", "name": "m-main", "uid": "of-keda", "controller": True}]
    serving.run(serving.kube.create(HPA, NAMESPACE, {**live, "metadata": meta}))
    serving.reconciler.figures = Figures("keda")
    serving.settle()
    assert serving.get("HorizontalPodAutoscaler", "keda-hpa-m-main") is not None
    assert serving.get("HorizontalPodAutoscaler", "m-main") is None


def test_a_kind_that_went_stops_nothing(serving: Cluster) -> None:
    serving.kube.unknown.add(SCALED_OBJECT.name)
    serving.reconciler.figures = Figures("keda")
    serving.reconcile()
    assert scaler(serving) == []
    assert serving.condition("Scaling") == ("True", "ScalesByKeda"), "the status is written all the same"


def api_service(service: str = "stillhouse-metrics", manager: str = "stillhouse") -> dict[str, Any]:
    meta = {"name": APISERVICE, "labels": {"app.kubernetes.io/managed-by": manager}}
    return {"metadata": meta, "spec": {"service": {"namespace": "stillhouse", "name": service}}, "kind": API_SERVICE.name}


def registered(kube: FakeKube, service: str = "stillhouse-metrics", manager: str = "stillhouse") -> None:
    asyncio.run(kube.create(API_SERVICE, "", api_service(service, manager)))


def test_keda_counts_only_where_its_kind_is_known() -> None:
    kube = FakeKube()
    registered(kube, "keda-operator-metrics-apiserver", "Helm")
    assert asyncio.run(look(kube, SETTINGS)).kind == "keda"
    kube.unknown.add(SCALED_OBJECT.name)
    assert asyncio.run(look(kube, SETTINGS)).kind == "cpu"


def test_what_a_metrics_api_left_that_is_turned_off_is_removed() -> None:
    kube = FakeKube()
    registered(kube)
    assert asyncio.run(look(kube, OFF)) == Figures("cpu", "the metrics API is turned off (metricsAPI.enabled of the chart)")
    assert kube.names(API_SERVICE) == []


@pytest.mark.parametrize(("service", "manager"), [("another", "stillhouse"), ("stillhouse-metrics", "Helm")])
def test_what_is_another_s_stays(service: str, manager: str) -> None:
    kube = FakeKube()
    registered(kube, service, manager)
    asyncio.run(look(kube, OFF))
    assert kube.names(API_SERVICE) == [APISERVICE]


def test_who_may_not_look_scales_by_cpu_and_says_why() -> None:
    def refuse(verb: str, kind: Kind, name: str) -> None:
        raise Forbidden("no")

    kube = FakeKube()
    kube.before = refuse
    assert "ClusterRole" in asyncio.run(look(kube, SETTINGS)).why
    assert "turned off" in asyncio.run(look(kube, ClusterSettings())).why, "and who has no Service does not ask"


def test_a_change_of_owner_brings_every_model_back_and_no_change_none() -> None:
    kube = FakeKube()
    controller = Controller(kube, SETTINGS, Metrics())
    for name in ("a", "b"):
        controller.cache.put({**model(name), "metadata": {**model(name)["metadata"], "uid": name, "resourceVersion": "1"}})

    async def looked() -> int:
        """Look, and take out of the queue what that brought."""
        await controller.look_for_figures()
        depth = controller.queue.depth
        for _ in range(depth):
            controller.queue.done(await controller.queue.get(), failed=False)
        return depth

    async def told() -> list[int]:
        first = [await looked(), await looked()]
        await kube.create(API_SERVICE, "", api_service())
        return [*first, await looked(), await looked()]

    assert asyncio.run(told()) == [2, 0, 2, 0]
