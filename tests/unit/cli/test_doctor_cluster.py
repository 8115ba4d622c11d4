"""`still doctor --cluster`: whose the external metrics are, and whether they answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.kinds import API_SERVICE, MODEL, SCALED_OBJECT
from stillhouse.entrypoints.remote.doctoring import examine_cluster
from stillhouse.resources.metrics_api import APISERVICE


class Versioned(FakeKube):
    async def version(self) -> str:
        return "v1.34.4"


def found(service: str, namespace: str, manager: str, *, answers: bool = True, keda: bool = True) -> dict[str, Any]:
    kube = Versioned()
    if not keda:
        kube.unknown.add(SCALED_OBJECT.name)
    if service:
        meta = {"name": APISERVICE, "labels": {"app.kubernetes.io/managed-by": manager}}
        status = {"conditions": [{"type": "Available", "status": str(answers)}]}
        body = {"kind": API_SERVICE.name, "metadata": meta, "spec": {"service": {"namespace": namespace, "name": service}}}
        asyncio.run(kube.create(API_SERVICE, "", {**body, "status": status}))
    findings = asyncio.run(examine_cluster(kube, "default", "stillhouse"))
    (one,) = [each for each in findings if each["title"] == "external metrics"]
    return dict(one)


@pytest.mark.parametrize(
    ("service", "namespace", "manager", "state", "detail"),
    [
        ("", "", "", "warning", "not registered: models of mode hpa scale by CPU"),
        ("stillhouse-metrics", "stillhouse", "stillhouse", "ok", "ours: models of mode hpa scale by queue time"),
        ("keda-operator-metrics-apiserver", "keda", "Helm", "ok", "KEDA's: models of mode hpa scale by a ScaledObject"),
        ("prometheus-adapter", "monitoring", "Helm", "warning", "belongs to Service monitoring/prometheus-adapter"),
        ("stillhouse-metrics", "elsewhere", "stillhouse", "warning", "belongs to Service elsewhere/stillhouse-metrics"),
    ],
)
def test_whose_it_is(service: str, namespace: str, manager: str, state: str, detail: str) -> None:
    one = found(service, namespace, manager)
    assert one["state"] == state
    assert detail in one["detail"]
    assert bool(one["fix"]) is (state != "ok")


@pytest.mark.parametrize("namespace", ["stillhouse", "monitoring"])
def test_one_that_is_dead_is_a_failure_whose_ever_it_is(namespace: str) -> None:
    one = found("metrics", namespace, "stillhouse", answers=False)
    assert one["state"] == "failed"
    assert "no namespace can end" in one["detail"]
    assert f"kubectl delete apiservice {APISERVICE}" in one["fix"]


def test_keda_s_api_without_its_resource_is_of_no_use() -> None:
    assert found("keda-operator-metrics-apiserver", "keda", "Helm", keda=False)["state"] == "warning"


def test_what_is_known_against_a_server_is_told_where_it_serves() -> None:
    kube = Versioned()

    def runtimes() -> list[dict[str, Any]]:
        found = asyncio.run(examine_cluster(kube, "default", "stillhouse"))
        return [dict(each) for each in found if each["title"].startswith("runtime")]

    assert runtimes() == []
    for name, runtime in (("a", "triton-ort-cpu"), ("b", "triton-ort-cpu"), ("c", "triton-nvidia"), ("d", "")):
        body = {"kind": MODEL.name, "metadata": {"name": name, "namespace": "default"}, "spec": {}}
        asyncio.run(kube.create(MODEL, "default", {**body, "status": {"revision": {"runtime": runtime}}}))
    gpu, cpu = runtimes()
    assert (gpu["title"], gpu["state"]) == ("runtime triton-nvidia", "ok")
    assert (cpu["title"], cpu["state"]) == ("runtime triton-ort-cpu", "warning")
    assert cpu["detail"].startswith("serves a, b. Triton 2.51")
    assert "CVEs" in cpu["detail"]
    assert "let nobody in whom you do not trust" in cpu["fix"]
