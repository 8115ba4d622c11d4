"""The chart on real nodes: its own test, an upgrade that changes the operator's pods, gone and installed again; models go on."""

from __future__ import annotations

from pathlib import Path

from kubernetes import client
from tests.cluster.conftest import RELEASE, SPACE
from tests.support.cli import Project
from tests.support.helm import CHART, Helm
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim


def test_a_release_is_tested_upgraded_removed_and_made_again(models: Models, helm: Helm, values: Path, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create()
    body = on_claim(models, project)
    name = body["metadata"]["name"]
    models.apply(body)
    status = models.wait_ready(name, 300)
    place = ("--namespace", SPACE)
    ready = ("--wait", "--timeout", "120s")
    assert "Phase:          Succeeded" in helm.do("test", RELEASE, *place, "--timeout", "60s")

    # An upgrade that gives the operator new pods: the Lease is handed over, nothing is built, no serving pod changes.
    before = {pod.metadata.uid for pod in models.pods(name)}
    helm.do("upgrade", RELEASE, str(CHART), *place, *ready, "--values", str(values), "--set", "logLevel=debug")
    lease = client.CoordinationV1Api(models.core.api_client)
    pods = {pod.metadata.name for pod in models.core.list_namespaced_pod(SPACE).items if not pod.metadata.deletion_timestamp}
    models.eventually(lambda: lease.read_namespaced_lease("stillhouse-operator", SPACE).spec.holder_identity in pods)
    assert {pod.metadata.uid for pod in models.pods(name)} == before

    # Gone: the API that is in everybody's way goes first, what serves stays, and so do the CRDs with the models.
    helm.do("uninstall", RELEASE, *place, *ready)
    registration = client.ApiregistrationV1Api(models.core.api_client)
    names = {each.metadata.name for each in registration.list_api_service().items}
    assert "v1beta1.external.metrics.k8s.io" not in names
    assert not models.ask(name, "--requests", "5")["failures"]
    assert models.status(name)["revision"]["digest"] == status["revision"]["digest"]

    # Deleted while no operator runs: Kubernetes removes every child.
    models.objects.delete_namespaced_custom_object("stillhouse.io", "v1alpha1", models.namespace, "distilledmodels", name)
    models.eventually(lambda: not models.pods(name) and not models.apps.list_namespaced_deployment(models.namespace).items)

    helm.do("install", RELEASE, str(CHART), *place, *ready, "--values", str(values))
    models.apply(body)
    models.wait_ready(name, 200)
    assert not models.batch.list_namespaced_job(models.namespace).items
