"""`still doctor --cluster`: what is installed, who may what, whose the external metrics are, and whether they answer."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from stillhouse import __version__
from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.kinds import API_SERVICE, CLAIM, CONFIG_MAP, DEPLOYMENT, LEASE, MODEL, SCALED_OBJECT, Kind
from stillhouse.entrypoints.remote.doctoring import TESTED, examine_cluster
from stillhouse.entrypoints.remote.place import Place
from stillhouse.entrypoints.remote.rights import EVERYWHERE
from stillhouse.resources.metrics_api import APISERVICE

ROOT = Path(__file__).parents[3]


class Versioned(FakeKube):
    """An API server with a version, which answers who may what: everything but what `denied` has, as (user, verb, resource)."""

    def __init__(self) -> None:
        super().__init__()
        self.denied: set[tuple[str, str, str]] = set()
        self.asked: list[dict[str, Any]] = []

    async def version(self) -> str:
        return "v1.34.4"

    async def create(self, kind: Kind, namespace: str, body: dict[str, Any], *, manager: str = "test") -> dict[str, Any]:
        if not kind.name.endswith("SubjectAccessReview"):
            return await super().create(kind, namespace, body, manager=manager)
        spec = body["spec"]
        about = spec["resourceAttributes"]
        self.asked.append(spec)
        allowed = (spec.get("user", "me"), about["verb"], about["resource"]) not in self.denied
        return {**body, "status": {"allowed": allowed}}


def examined(kube: Versioned, title: str, namespace: str = "default", of: str = "stillhouse") -> list[dict[str, Any]]:
    return [dict(each) for each in asyncio.run(examine_cluster(kube, Place(namespace, "prod"), of)) if each["title"] == title]


def release(kube: Versioned, name: str, *, version: str = __version__, metrics: int = 2) -> None:
    """Install a release into namespace `tools`, as the chart does, whose operator leads."""

    async def install() -> None:
        labels = {"app.kubernetes.io/name": "distillery", "app.kubernetes.io/instance": name}
        for component, replicas in (("operator", 2), ("metrics", metrics)):
            container = {"name": component, "image": f"registry.internal/{component}:{version}"}
            container |= {"args": ["--lease-namespace=tools", f"--lease-name={name}-operator"]} if component == "operator" else {}
            volume = {"name": "settings", "configMap": {"name": f"{name}-operator"}}
            spec = {"serviceAccountName": f"{name}-sa", "containers": [container], "volumes": [volume]}
            marks = {**labels, "app.kubernetes.io/component": component, "app.kubernetes.io/version": version}
            meta = {"name": f"{name}-{component}", "labels": marks}
            body = {"kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas, "template": {"spec": spec}}}
            await kube.create(DEPLOYMENT, "tools", {**body, "status": {"readyReplicas": replicas}})
        data = {"settings.json": json.dumps({"store_claim": "artifacts", "credentials": False})}
        await kube.create(CONFIG_MAP, "tools", {"kind": "ConfigMap", "metadata": {"name": f"{name}-operator"}, "data": data})
        lease = {"holderIdentity": "one", "renewTime": datetime.now(UTC).isoformat()}
        await kube.create(LEASE, "tools", {"kind": "Lease", "metadata": {"name": f"{name}-operator"}, "spec": lease})
        claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "artifacts"}, "spec": {"accessModes": ["ReadWriteMany"]}}
        await kube.create(CLAIM, "models", claim)

    asyncio.run(install())


def test_a_release_of_another_name_with_another_claim_is_found() -> None:
    kube = Versioned()
    release(kube, "mine")
    assert [(each["state"], each["detail"]) for each in examined(kube, "operator", "models", "tools")] == [("ok", "one leads")]
    assert [each["detail"] for each in examined(kube, "store", "models", "tools")] == ["artifacts: ReadWriteMany"]
    assert examined(kube, "metrics API pods", "models", "tools")[0]["detail"] == "2 of 2 are ready"


def test_without_an_operator_the_usual_names_are_looked_for() -> None:
    (one,) = examined(Versioned(), "operator", of="nowhere")
    assert one["state"] == "failed"
    assert "no operator has ever led in namespace nowhere (Lease stillhouse-operator)" in one["detail"]
    assert not examined(Versioned(), "operator's rights")


@pytest.mark.parametrize(("version", "state"), [(__version__, "ok"), ("0.0.9", "warning")])
def test_versions_of_operator_and_command_are_compared(version: str, state: str) -> None:
    kube = Versioned()
    release(kube, "mine", version=version)
    (one,) = examined(kube, "operator's version", of="tools")
    assert (one["state"], bool(one["fix"])) == (state, state != "ok")
    assert f"{version} (registry.internal/operator:{version})" in one["detail"]


def test_one_pod_of_the_metrics_api_is_a_warning() -> None:
    kube = Versioned()
    release(kube, "mine", metrics=1)
    (one,) = examined(kube, "metrics API pods", of="tools")
    assert (one["state"], one["fix"]) == (
        "warning",
        "two replicas: helm upgrade mine charts/stillhouse -n tools --kube-context prod"
        " --reset-then-reuse-values --set metricsAPI.replicas=2",
    )


def test_what_the_operator_may_not_do_is_told() -> None:
    kube = Versioned()
    release(kube, "mine")
    assert [each["state"] for each in examined(kube, "operator's rights", of="tools")] == ["ok"]
    user = "system:serviceaccount:tools:mine-sa"
    kube.denied = {(user, "patch", "leases"), (user, "create", "jobs"), (user, "get", "secrets")}
    (one,) = examined(kube, "operator's rights", of="tools")
    assert one["state"] == "failed"
    assert "create jobs.batch, patch leases.coordination.k8s.io mine-operator" in one["detail"]
    assert "secrets" not in one["detail"], "this release may use none"
    assert {each["resourceAttributes"].get("namespace", "") for each in kube.asked if each.get("user") == user} == {"", "tools"}


def test_what_the_user_may_not_do_is_told_by_command() -> None:
    kube = Versioned()
    assert [each["state"] for each in examined(kube, "your rights")] == ["ok"]
    kube.denied = {("me", "patch", "distilledmodels"), ("me", "create", "pods")}
    rollback, push = examined(kube, "your rights")
    assert rollback["detail"] == "still rollback fails in default: patch distilledmodels.stillhouse.io"
    assert push["detail"] == "still push fails in default: create pods, create pods/exec"


def test_the_rights_that_are_looked_at_are_those_of_the_chart() -> None:
    documents = yaml.safe_load_all((ROOT / "tests/integration/golden/default.yaml").read_text())
    (role,) = [
        each for each in documents if each and each["kind"] == "ClusterRole" and each["metadata"]["name"].endswith("-operator")
    ]
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        if "resourceNames" not in rule
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {(group, resource, verb) for group, resource, verbs in EVERYWHERE for verb in verbs} == granted


def test_the_version_that_is_called_tested_is_the_one_that_tests_run_on() -> None:
    pinned = (ROOT / "tests/support/kube/gomod/kubernetes/go.mod").read_text()
    assert f"k8s.io/kubernetes v{TESTED[0]}.{TESTED[1]}." in pinned
    (one,) = examined(Versioned(), "Kubernetes")
    assert one["detail"] == "v1.34.4; supported are 1.32 to 1.35, tested is 1.34"


def found(service: str, namespace: str, manager: str, *, answers: bool = True, keda: bool = True) -> dict[str, Any]:
    kube = Versioned()
    if not keda:
        kube.unknown.add(SCALED_OBJECT.name)
    if service:
        meta = {"name": APISERVICE, "labels": {"app.kubernetes.io/managed-by": manager}}
        status = {"conditions": [{"type": "Available", "status": str(answers)}]}
        body = {"kind": API_SERVICE.name, "metadata": meta, "spec": {"service": {"namespace": namespace, "name": service}}}
        asyncio.run(kube.create(API_SERVICE, "", {**body, "status": status}))
    findings = asyncio.run(examine_cluster(kube, Place("default", "prod"), "stillhouse"))
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
    assert f"kubectl delete apiservice {APISERVICE} --context prod" in one["fix"]
    assert f"kubectl describe service metrics -n {namespace} --context prod" in one["fix"]


def test_keda_s_api_without_its_resource_is_of_no_use() -> None:
    assert found("keda-operator-metrics-apiserver", "keda", "Helm", keda=False)["state"] == "warning"


COMMAND = re.compile(r"(?:kubectl|helm|still) (?:[a-z]+ )[^|;()]*")


def test_every_command_of_a_fix_names_the_cluster_and_the_namespace() -> None:
    """Commands that were told without them changed another namespace, or another cluster."""
    kube = Versioned()
    release(kube, "mine", version="0.0.9", metrics=1)
    kube.denied = {("me", "patch", "distilledmodels"), ("system:serviceaccount:tools:mine-sa", "create", "jobs")}

    async def fill() -> None:
        stalled = {"type": "Stalled", "status": "True", "reason": "GateFailed", "message": "no"}
        for name, conditions in (("seen", [stalled]), ("unseen", [])):
            body = {"kind": MODEL.name, "metadata": {"name": name}, "spec": {}, "status": {"conditions": conditions}}
            await kube.create(MODEL, "default", body)
        await kube.create(CONFIG_MAP, "default", {"kind": "ConfigMap", "metadata": {"name": "stillhouse-sources"}})

    asyncio.run(fill())
    commands = [
        command
        for of in ("tools", "nowhere")
        for each in asyncio.run(examine_cluster(kube, Place("default", "prod"), of))
        for command in COMMAND.findall(each["fix"])
    ]
    assert len(commands) > 12, commands
    everywhere = ("still crd", "kubectl apply --server-side -f -", "kubectl delete apiservice")
    for command in commands:
        assert "-context prod" in command or command.startswith("still crd"), command
        assert " -n " in command or command.startswith(everywhere), command


def test_what_keeps_a_model_is_told_to_its_end() -> None:
    kube = Versioned()
    message = "a " * 400 + "fix: kubectl label configmap x -n default a=b"
    stalled = {"type": "Stalled", "status": "True", "reason": "SourceUnusable", "message": message}
    body = {"kind": MODEL.name, "metadata": {"name": "m"}, "spec": {}, "status": {"conditions": [stalled]}}
    asyncio.run(kube.create(MODEL, "default", body))
    one = examined(kube, "m")[0]
    assert one["detail"] == f"SourceUnusable: {message}"
    assert one["fix"] == "still status m -n default --context prod"


def test_bindings_that_no_operator_sees_are_told() -> None:
    kube = Versioned()
    assert [each["state"] for each in examined(kube, "sources")] == ["ok"]
    body = {"kind": "ConfigMap", "metadata": {"name": "stillhouse-sources"}, "data": {"models.m": "pvc://c/m"}}
    asyncio.run(kube.create(CONFIG_MAP, "default", body))
    (one,) = examined(kube, "sources")
    assert one["state"] == "failed"
    wanted = "kubectl label configmap stillhouse-sources stillhouse.io/sources=bindings --overwrite -n default --context prod"
    assert one["fix"] == wanted
    asyncio.run(
        kube.patch(CONFIG_MAP, "default", "stillhouse-sources", {"metadata": {"labels": {"stillhouse.io/sources": "bindings"}}})
    )
    assert [each["state"] for each in examined(kube, "sources")] == ["ok"]


def test_what_is_known_against_a_server_is_told_where_it_serves() -> None:
    kube = Versioned()

    def runtimes() -> list[dict[str, Any]]:
        found = asyncio.run(examine_cluster(kube, Place("default", "prod"), "stillhouse"))
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
