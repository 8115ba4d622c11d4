"""What decides the number of replicas, for each mode and for each owner of the cluster's external metrics."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.resources.autoscaler import autoscaler
from stillhouse.resources.metrics_api import Figures, figures_of
from stillhouse.resources.wanted import ClusterSettings, Owner, Scaling

OWNER = Owner("m", "models", "uid-1")
SETTINGS = ClusterSettings(operator_namespace="still", metrics_api=True, metrics_service="still-metrics", scale_down_after_s=60)
QUEUE, KEDA, CPU = Figures("queue"), Figures("keda"), Figures("cpu", "why")


def made(mode: str, figures: Figures, least: int = 1, most: int = 4) -> dict[str, Any]:
    found = autoscaler(OWNER, Scaling(mode, least, most, 1), SETTINGS, figures)
    assert found is not None
    return found


def test_by_our_figure_an_average_of_one_is_the_number_of_replicas() -> None:
    found = made("hpa", QUEUE)
    assert (found["kind"], found["metadata"]["name"]) == ("HorizontalPodAutoscaler", "m-main")
    (metric,) = found["spec"]["metrics"]
    assert metric == {
        "type": "External",
        "external": {
            "metric": {"name": "stillhouse_wanted_replicas", "selector": {"matchLabels": {"stillhouse.io/model": "m"}}},
            "target": {"type": "AverageValue", "averageValue": "1"},
        },
    }
    assert found["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 60
    assert (found["spec"]["minReplicas"], found["spec"]["maxReplicas"]) == (1, 4)


def test_keda_asks_our_service_for_the_same_figure() -> None:
    found = made("hpa", KEDA)
    assert (found["apiVersion"], found["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    (trigger,) = found["spec"]["triggers"]
    assert trigger["type"] == "metrics-api"
    assert trigger["metadata"] == {
        "url": "http://still-metrics.still.svc:8080/signals/models/m",
        "valueLocation": "wantedReplicas",
        "targetValue": "1",
    }
    assert (found["spec"]["minReplicaCount"], found["spec"]["maxReplicaCount"]) == (1, 4)
    assert found["spec"]["scaleTargetRef"]["name"] == "m-main"


@pytest.mark.parametrize(
    ("mode", "figures", "least"), [("hpa", CPU, 1), ("cpu", QUEUE, 1), ("cpu", KEDA, 1), ("hpa", QUEUE, 4), ("hpa", KEDA, 4)]
)
def test_by_cpu_where_it_is_asked_for_where_nothing_else_is_there_and_where_there_is_no_room(
    mode: str, figures: Figures, least: int
) -> None:
    found = made(mode, figures, least)
    assert found["kind"] == "HorizontalPodAutoscaler"
    assert [each["type"] for each in found["spec"]["metrics"]] == ["Resource"]


def test_in_mode_external_nobody_of_ours_decides() -> None:
    assert autoscaler(OWNER, Scaling("external", 1, 4, 3), SETTINGS, QUEUE) is None


def api_service(service: str, namespace: str = "still", manager: str = "") -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": manager} if manager else {}
    spec = {"service": {"name": service, "namespace": namespace}} if service else {}
    return {"metadata": {"name": "v1beta1.external.metrics.k8s.io", "labels": labels}, "spec": spec}


@pytest.mark.parametrize(
    ("live", "service", "keda", "kind", "why"),
    [
        (api_service("still-metrics", manager="stillhouse"), "still-metrics", True, "queue", ""),
        (api_service("still-metrics", "other", "stillhouse"), "still-metrics", True, "cpu", "Service other/still-metrics"),
        (api_service("still-metrics", manager="Helm"), "still-metrics", True, "cpu", "managed by Helm"),
        (api_service("keda-operator-metrics-apiserver", "keda", "Helm"), "still-metrics", True, "keda", ""),
        (api_service("keda-operator-metrics-apiserver", "keda"), "still-metrics", False, "cpu", "Service keda/keda-operator"),
        (api_service("prometheus-adapter", "monitoring"), "still-metrics", True, "cpu", "nobody that it names"),
        (api_service(""), "still-metrics", True, "cpu", "the API server itself"),
        (None, "still-metrics", True, "cpu", "is not registered"),
        (api_service("still-metrics", manager="stillhouse"), "", True, "cpu", "turned off"),
    ],
)
def test_whose_the_external_metrics_are(live: dict[str, Any] | None, service: str, keda: bool, kind: str, why: str) -> None:
    found = figures_of(live, "still", service, keda=keda)
    assert found.kind == kind
    assert why in found.why
    assert bool(found.why) is (kind == "cpu")
