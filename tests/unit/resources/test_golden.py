"""Every child of a model, as YAML: what of it changes is seen in the difference.

`golden/NAME.yaml` has all objects of one case. After a change that you want, write them anew, and read the difference:

    UPDATE_GOLDEN=1 python -m pytest tests/unit/resources/test_golden.py
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.cluster import model

from stillhouse.api.load import parse
from stillhouse.planning.request import from_record
from stillhouse.reconcile.decide import Decision
from stillhouse.reconcile.desired import children
from stillhouse.reconcile.front import Front
from stillhouse.resources.gateway_legs import finds_middle
from stillhouse.resources.guards import build_policy
from stillhouse.resources.jobs import job
from stillhouse.resources.labels import COMPONENT
from stillhouse.resources.metrics_api import Figures
from stillhouse.resources.wanted import Between, Building, ClusterSettings, Gateway, Owner, Scaling, Serving

GOLDEN = Path(__file__).parent / "golden"
OWNER = Owner("search", "models", "0b5e3f0a-0000-4000-8000-000000000000")
REQUEST = "f" * 64
BOUND = {"models:minilm": "pvc://sources/minilm", "data:gate": "pvc://stillhouse-models/gate.jsonl"}
SPEC = {"source": {"uri": "models:minilm", "task": "sentence-embedding"}, "gate": {"data": {"uri": "data:gate"}}}
SETTINGS = ClusterSettings(
    serve_image="registry.internal/serve:1", worker_image="registry.internal/worker:1",
    serve_gpu_image="registry.internal/serve-nvidia:1", metrics_service="stillhouse-metrics", monitoring_namespace="monitoring",
)  # fmt: skip


def serving(**record: Any) -> Serving:
    return Serving("search-1", "sha256:" + "a" * 64, "int8", from_record({"maxBatchSize": 32, "cpu": "1", **record}))


def served(mode: str, figures: str, serving: Serving) -> list[dict[str, Any]]:
    decision = Decision(REQUEST, BOUND, Scaling(mode, 1, 4, 2), serving=serving)
    return children(OWNER, decision, SETTINGS, monitors=True, figures=Figures(figures))


def built(stage: str) -> list[dict[str, Any]]:
    made = job(OWNER, REQUEST, stage, SPEC, BOUND, SETTINGS, serving(), Building(queue="team"))
    return [build_policy(OWNER, SETTINGS), made]


EDGE = {
    "cascade": {"larger": {"model": "big"}, "data": {"uri": "data:gate"}, "targetAgreement": "95%"},
    "away": {"policy": "queue", "queue": {"maxSize": "128Mi"}},
    "clients": {"tokens": "clients", "rate": 100},
    "tls": {"secret": "front", "clientAuthority": "clients-ca"},
    "guard": {"audit": {"key": "audit-key", "maxSize": "256Mi"}},
    "telemetry": {"endpoint": "http://collector:4318"},
}


def fronted(
    edge: dict[str, Any], cascade: str | None, middle: Between | None = None, cut: str | None = None, **more: Any
) -> list[dict[str, Any]]:
    """All that is there once clients have moved to the gateway."""
    spec = parse(model("search", edge=edge, **more)).spec
    gateway = Gateway(spec, "search-1", "sha256:" + "a" * 64, "int8", cascade, middle, cut)
    serves = dataclasses.replace(serving(), cut=cut)
    decision = Decision(REQUEST, BOUND, Scaling("hpa", 1, 4, 2), serving=serves, gateway=gateway)
    revisions = ("search-1",) if gateway.bound and gateway.asks_pods else ()
    asked = {"revisions": revisions, "middles": (middle,) if middle is not None and finds_middle(gateway) else ()}
    front = Front(gateway, True, "2026-01-01T00:00:00Z", gateway_only=gateway.asks_pods, **asked)
    return children(OWNER, decision, SETTINGS, monitors=True, front=front)


def bridged(mqtt: dict[str, Any], edge: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The bridge's objects; clients ask the gateway, where there is one."""
    more = {"edge": edge} if edge else {}
    spec = parse(model("search", serve={"mqtt": mqtt}, **more)).spec
    gateway = Gateway(spec, "search-1", "sha256:" + "a" * 64, "int8") if edge else None
    decision = Decision(REQUEST, BOUND, Scaling("hpa", 1, 4, 2), serving=serving(), gateway=gateway, mqtt=spec.serve.mqtt)
    made = children(OWNER, decision, SETTINGS, monitors=True, front=Front(gateway, gateway is not None))
    return [each for each in made if each["metadata"]["labels"][COMPONENT] == "bridge"]


MQTT = {
    "address": "mqtts://broker.example:8883", "authority": "broker-ca", "credentials": "bridge", "certificate": "bridge-pair",
    "backendAuthority": "front-ca", "backendToken": "bridge-token", "replicas": 2,
}  # fmt: skip
INDEX = {"data": {"uri": "data:index"}}
PIPELINE = {
    "placement": "apart",
    "steps": [{"name": "topic", "model": "topics", "inputs": {"TEXT": "request.TEXT"}, "outputs": {"LABEL": "TOPIC"}}],
}


BETWEEN = Between("near", "sha256:" + "e" * 64)
CLASSES = {"source": {"uri": "models:minilm", "task": "text-classification"}}
THREE: dict[str, Any] = {"cascade": {**EDGE["cascade"], "middle": {"model": "near"}}}  # type: ignore[dict-item]


CASES = {
    "gateway-with-the-lower-half": lambda: fronted(
        {"cut": {"layer": "encoder.2"}, "run": {"kind": "DaemonSet"}}, None, cut="sha256:" + "c" * 64, gate=SPEC["gate"]
    ),
    "gateway-of-three": lambda: fronted(THREE, "sha256:" + "d" * 64, BETWEEN, **CLASSES),
    "gateway": lambda: fronted(EDGE, "sha256:" + "d" * 64, index=INDEX),
    "gateway-of-a-pipeline": lambda: fronted({}, None, pipeline=PIPELINE),
    "gateway-alone": lambda: fronted({"rest": False, "run": {"replicas": 1}}, None),
    "gateway-on-every-node": lambda: fronted(
        {
            "cascade": {**EDGE["cascade"], "larger": {"model": "big", "address": "grpcs://cloud.example:443"}},  # type: ignore[dict-item]
            "backendAuthority": "cloud-ca",
            "run": {
                "kind": "DaemonSet",
                "resources": {"limits": {"cpu": "2"}},
                "podTemplate": {"spec": {"nodeSelector": {"edge": "true"}}},
            },
        },
        "sha256:" + "d" * 64,
        index=INDEX,
    ),
    "bridge": lambda: bridged({"address": "mqtt://broker:1883"}),
    "bridge-before-a-gateway": lambda: bridged(MQTT, {"clients": {"tokens": "clients"}, "tls": {"secret": "front"}}),
    "serving": lambda: served("hpa", "queue", serving(memory=str(512 << 20))),
    "serving-by-keda": lambda: served("hpa", "keda", serving()),
    "serving-by-cpu": lambda: served("cpu", "queue", serving()),
    "serving-external-on-gpus": lambda: served("external", "queue", serving(gpus=1)),
    "build-resolve": lambda: built("resolve"),
    "build-gate": lambda: built("gate"),
}


@pytest.mark.parametrize("name", CASES)
def test_children_are_what_is_golden(name: str) -> None:
    text = yaml.safe_dump_all(CASES[name](), sort_keys=False, width=130)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text(), "see this file's first lines"


def test_nothing_golden_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == CASES.keys()


def one(kind: str, name: str = "search-main") -> dict[str, Any]:
    (found,) = [each for each in CASES["serving"]() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def test_a_drain_takes_one_pod_at_a_time_and_a_sick_one_always() -> None:
    spec = one("PodDisruptionBudget")["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_probes_shared_memory_and_token() -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= server.keys()
    (memory,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
    assert memory["emptyDir"]["medium"] == "Memory"
    assert {"name": "shm", "mountPath": "/dev/shm"} in server["volumeMounts"]
    assert pod["automountServiceAccountToken"] is False
    assert one("ServiceAccount", pod["serviceAccountName"])["automountServiceAccountToken"] is False


def test_ports_of_both_services() -> None:
    for name, ports in (("search", {"grpc": 8001}), ("search-main-backend", {"grpc": 8001, "metrics": 8002})):
        spec = one("Service", name)["spec"]
        assert spec["clusterIP"] == "None"
        assert {port["name"]: port["port"] for port in spec["ports"]} == ports, name
