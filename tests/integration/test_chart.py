"""The chart, by the real Helm: what it renders, what it refuses.

`golden/NAME.yaml` is what the chart makes of `golden/NAME.values.yaml` (without the CRDs, which are generated). After a change
that you want, write them anew, and read the difference before you commit it:

    UPDATE_GOLDEN=1 python -m pytest tests/integration/test_chart.py -k golden
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.helm import CHART, KUBE_VERSION, Helm

import stillhouse
from stillhouse.api.crd import crd, revision_crd
from stillhouse.resources.wanted import ClusterSettings

GOLDEN = Path(__file__).parent / "golden"
SETS = sorted(path.name.removesuffix(".values.yaml") for path in GOLDEN.glob("*.values.yaml"))


@pytest.fixture
def chart(helm: Path, tmp_path: Path) -> Helm:
    return Helm(helm, tmp_path / "helm")


def values(name: str) -> Path:
    return GOLDEN / f"{name}.values.yaml"


def rules(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in objects:
        if each["kind"] in ("Role", "ClusterRole"):
            for rule in each["rules"]:
                yield f"{each['kind']}/{each['metadata']['name']}", rule


def only(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the one of the operator."""
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith("-operator")]
    return found


@pytest.mark.parametrize("name", SETS)
def test_helm_finds_nothing_to_say(name: str, chart: Helm) -> None:
    told = chart.do("lint", "--strict", "--kube-version", KUBE_VERSION, "--values", str(values(name)), str(CHART))
    assert "0 chart(s) failed" in told


@pytest.mark.parametrize("name", SETS)
def test_it_renders_what_is_golden(name: str, chart: Helm) -> None:
    rendered = chart.render(values(name), "--set", "crds.install=false")
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(rendered)
    assert rendered == golden.read_text(), "see this file's first lines"


def test_notes_say_what_is_open(chart: Helm, tmp_path: Path) -> None:
    # Helm shows notes after an installation alone, which needs a cluster: here a template has them in it.
    copy = shutil.copytree(CHART, tmp_path / "chart")
    shutil.copy(copy / "templates/NOTES.txt", copy / "notes.txt")
    shown = (
        '{kind: ConfigMap, apiVersion: v1, metadata: {name: notes}, data: {text: {{ tpl (.Files.Get "notes.txt") . | toJson }}}}'
    )
    (copy / "templates/notes.yaml").write_text(shown)

    def notes(*words: str) -> str:
        rendered = chart.do(
            "template", "stillhouse", str(copy), "--kube-version", KUBE_VERSION, "-s", "templates/notes.yaml", *words
        )
        return str(yaml.safe_load(rendered)["data"]["text"])

    assert "may get Secrets in every namespace" in notes()
    assert "networkPolicy.from" in notes()
    assert "may get Secrets in namespace models" in notes("--set", "watchNamespace=models")
    shut = notes("--set", "credentials.enabled=false", "--set", "networkPolicy.from[0].podSelector.matchLabels.a=b")
    assert "get Secrets" not in shut
    assert "networkPolicy.from" not in shut


@pytest.mark.parametrize("version", ["1.32.0", "1.33.7-gke.100", "1.34.4", "1.35.0"])
def test_these_versions_of_kubernetes_are_allowed(version: str, chart: Helm) -> None:
    chart.do("template", "stillhouse", str(CHART), "--kube-version", version)


@pytest.mark.parametrize("version", ["1.31.9", "1.36.0"])
def test_others_are_refused(version: str, chart: Helm) -> None:
    ended = chart.run("template", "stillhouse", str(CHART), "--kube-version", version)
    assert ended.returncode != 0
    assert "requires kubeVersion: >=1.32" in ended.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("replicaCount=3", "additional properties 'replicaCount' not allowed"),
        ("images.operator.tags=x", "at '/images/operator': additional properties 'tags' not allowed"),
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("rbac.create=maybe", "at '/rbac/create': got string, want boolean"),
        ("watchNamespace=A_B", "at '/watchNamespace': 'A_B' does not match pattern"),
        ("build.memory=lots", "at '/build/memory': 'lots' does not match pattern"),
        ("build.cpu=0", "at '/build/cpu': exclusiveMinimum: got 0, want 0"),
        ("build.cpu=many", "at '/build/cpu': 'many' does not match pattern"),
        ("metricsAPI.enabled=perhaps", "at '/metricsAPI/enabled': value must be one of true, false, 'auto'"),
        ("logLevel=loud", "at '/logLevel': value must be one of 'debug', 'info', 'warning', 'error'"),
        ("images.serve.digest=sha256:1", "at '/images/serve/digest': 'sha256:1' does not match pattern"),
        ("fetching.allowedNetworks={10.0.0.0}", "at '/fetching/allowedNetworks/0': '10.0.0.0' does not match pattern"),
        ("fetching.allowedHosts={ftp://files}", "at '/fetching/allowedHosts/0': 'ftp://files' does not match pattern"),
        ("credentials.enabled=1", "at '/credentials/enabled': got number, want boolean"),
        ("rbac.aggregate=true,watchNamespace=models", "rbac.aggregate: true needs ClusterRoles, and watchNamespace makes Roles"),
    ],
)
def test_a_wrong_value_is_named(given: str, told: str, chart: Helm) -> None:
    ended = chart.run("template", "stillhouse", str(CHART), "--kube-version", KUBE_VERSION, "--set", given)
    assert ended.returncode != 0
    assert told in ended.stderr


def test_the_schema_has_every_value_and_no_other() -> None:
    def same(value: Any, schema: dict[str, Any], place: str) -> None:
        if not isinstance(value, dict) or "properties" not in schema:
            return
        assert schema["additionalProperties"] is False, place
        unset = {"global", "claims"}  # of a parent chart, and of Kubernetes
        assert set(value) <= set(schema["properties"]), place
        assert place.endswith("resources") or set(value) == set(schema["properties"]) - unset, place
        for name, inner in value.items():
            same(inner, schema["properties"][name], f"{place}.{name}")

    same(
        yaml.safe_load((CHART / "values.yaml").read_text()), json.loads((CHART / "values.schema.json").read_text()), "the values"
    )


def test_every_value_is_explained() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if line.lstrip()[:1] not in ("", "#", "-")]
    bare = [
        lines[number]
        for number in keys
        if not lines[number - 1].lstrip().startswith("#")
        and lines[number].rstrip()[-1] != ":"  # its values are
        and not lines[number].startswith(
            ("    repository", "    tag", "    digest", "  requests", "  limits", "    requests", "    limits")
        )
    ]
    assert bare == []


def test_the_chart_is_of_this_version_and_names_its_images(chart: Helm) -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == stillhouse.__version__
    named = {each["name"]: each["image"] for each in yaml.safe_load(about["annotations"]["artifacthub.io/images"])}
    images = yaml.safe_load((CHART / "values.yaml").read_text())["images"]
    assert named == {name: f"{images[name]['repository']}:{about['appVersion']}" for name in ("operator", "worker", "serve")}
    kinds = {each["kind"] for each in yaml.safe_load(about["annotations"]["artifacthub.io/crds"])}
    assert kinds == {crd()["spec"]["names"]["kind"], revision_crd()["spec"]["names"]["kind"]}


def test_the_settings_are_those_that_the_operator_knows(chart: Helm) -> None:
    def settings(name: str) -> ClusterSettings:
        data = json.loads(only(chart.objects(values(name)), "ConfigMap")["data"]["settings.json"])
        assert set(data) == set(ClusterSettings.__dataclass_fields__)
        return ClusterSettings(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})

    assert settings("default") == ClusterSettings(
        operator_namespace="stillhouse", metrics_api=True, metrics_service="stillhouse-metrics"
    )
    namespaced = settings("namespaced")
    assert (namespaced.metrics_api, namespaced.metrics_service) == (False, "")
    assert settings("everything") == ClusterSettings(
        serve_image="localhost/serve:1.0",
        worker_image=f"localhost/worker@sha256:{'0' * 64}",
        serve_gpu_image="localhost/serve-nvidia:1.0",
        gateway_image="localhost/gateway:1.0",
        gateway_role="ClusterRole/distillery-gateway",
        edge_packages=("machine_health",),
        api_server_ports=(6443,),
        api_server_cidrs=("10.0.0.1/32",),
        image_registry="registry.internal:5000/mirror",
        monitor_interval="15s",
        monitor_labels={"release": "prometheus"},
        monitoring_namespace="monitoring",
        store_claim="artifacts",
        operator_namespace="stillhouse",
        sources={"models:minilm": "pvc://stillhouse-models/minilm"},
        pull_secrets=("registry",),
        cpu_target_percent=60,
        scale_down_after_s=120,
        metrics_api=True,
        metrics_service="distillery-metrics",
        build_memory="16Gi",
        build_cpu="4",
        job_deadline_s=86400,
        max_concurrent_builds=2,
        source_hosts=("http://registry.internal:5000", "*.example.com"),
        source_networks=("10.20.0.0/16",),
        source_limit="100Gi",
        credentials=False,
    )


@pytest.mark.parametrize("name", SETS)
def test_no_rule_is_wide(name: str, chart: Helm) -> None:
    found = list(rules(chart.objects(values(name))))
    assert found
    for place, rule in found:
        assert set(rule) <= {"apiGroups", "resources", "verbs", "resourceNames"}, place
        words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "*" not in "".join(words), place
        assert not {"pods/exec", "pods/ephemeralcontainers"} & set(words), place
        if {"roles", "clusterroles"} & set(words):
            assert rule["verbs"] == ["bind"], place
            (name,) = rule["resourceNames"]
            assert name.endswith("-gateway"), place
        if "secrets" in words and place.endswith("-metrics-certificate"):
            assert rule["resourceNames"] == [place.removeprefix("Role/").removesuffix("-certificate")]
            assert rule["verbs"] == ["get", "patch"]
        elif "secrets" in words:
            assert rule == {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}, place
            assert name != "everything", "it is turned off there"
        assert not {"impersonate", "escalate", "deletecollection"} & set(words), place
        assert "bind" not in words or {"roles", "clusterroles"} & set(words), place


def test_who_edits_in_the_cluster_may_not_make_models_unless_asked(chart: Helm) -> None:
    def aggregated(name: str) -> set[str]:
        return {
            each["metadata"]["name"]
            for each in chart.objects(values(name))
            if any(label.startswith("rbac.authorization.k8s.io/aggregate-to") for label in each["metadata"].get("labels", {}))
        }

    assert aggregated("default") == aggregated("namespaced") == set()
    assert aggregated("everything") == {"distillery-view", "distillery-edit"}


def test_with_a_namespace_nothing_reaches_beyond_it(chart: Helm) -> None:
    objects = chart.objects(values("namespaced"), "--set", "crds.install=false")
    places = {(each["kind"], each["metadata"]["name"]): each["metadata"].get("namespace") for each in objects}
    assert not {kind for kind, _ in places if kind.startswith("Cluster")}
    assert places["Role", "stillhouse-operator"] == places["RoleBinding", "stillhouse-operator"] == "models"
    assert places["Role", "stillhouse-operator-lease"] == "stillhouse"
    assert "--namespace=models" in only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]


def test_the_metrics_api_is_there_where_it_may_be(chart: Helm) -> None:
    def there(*given: str) -> set[str]:
        words = [word for each in given for word in ("--set", each)]
        objects = chart.objects(values("default"), "--set", "crds.install=false", *words)
        return {each["kind"] for each in objects if each["metadata"]["name"].startswith("stillhouse-metrics")}

    whole = there()
    assert {
        "Deployment",
        "Service",
        "Secret",
        "ServiceAccount",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ClusterRole",
        "Job",
    } < whole
    assert "APIService" not in whole, "it could be another's"
    assert there("metricsAPI.enabled=false") == there("watchNamespace=models") == set()
    assert there("metricsAPI.enabled=true", "watchNamespace=models") == whole


def test_who_turns_the_metrics_api_off_has_what_it_left_removed(chart: Helm) -> None:
    def verbs(*words: str) -> list[str]:
        found = [rule for _, rule in rules(chart.objects(values("default"), *words)) if rule["resources"] == ["apiservices"]]
        return sorted(verb for rule in found for verb in rule["verbs"])

    assert verbs("--set", "metricsAPI.enabled=false") == ["delete", "get"]
    assert verbs() == ["create", "delete", "get", "get", "patch"]
    assert verbs("--set", "watchNamespace=models") == []


def test_the_crds_are_the_generated_ones_and_stay(chart: Helm) -> None:
    found = {each["metadata"]["name"]: each for each in chart.objects(values("default")) if each["kind"].startswith("CustomR")}
    assert set(found) == {"distilledmodels.stillhouse.io", "modelrevisions.stillhouse.io"}
    for definition in (crd(), revision_crd()):
        each = found[definition["metadata"]["name"]]
        assert each["spec"] == definition["spec"]
        assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_servicemonitor_is_made_only_where_its_kind_is_known(chart: Helm) -> None:
    words = ["template", "stillhouse", str(CHART), "--kube-version", KUBE_VERSION, "--set", "metrics.serviceMonitor.enabled=true"]
    assert "kind: ServiceMonitor" not in chart.do(*words)
    assert "kind: ServiceMonitor" in chart.do(*words, "--api-versions", "monitoring.coreos.com/v1")


def test_other_settings_are_new_pods(chart: Helm) -> None:
    def mark(*words: str) -> str:
        template = only(chart.objects(values("default"), *words), "Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert mark() == mark("--set", "replicas=3")
    assert mark() != mark("--set", "build.maxConcurrent=1")


@pytest.mark.parametrize(("given", "rendered"), [("2", "2"), ("0.5", "0.5"), ('"2"', "2"), ("500m", "500m")])
def test_cpus_may_be_a_number(given: str, rendered: str, chart: Helm, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(f"build: {{cpu: {given}}}\n")
    found = only(chart.objects(tmp_path / "values.yaml"), "ConfigMap")
    assert json.loads(found["data"]["settings.json"])["build_cpu"] == rendered
