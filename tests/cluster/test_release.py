"""The chart on real nodes: upgraded from a former one, with an image that is missing, gone and installed again; models go on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.cluster.conftest import RELEASE, SPACE
from tests.support.cli import Project
from tests.support.helm import CHART, Helm
from tests.support.nodes import images
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim

PLACE = ("--namespace", SPACE)
READY = ("--wait", "--timeout", "120s")
CRD = "distilledmodels.stillhouse.io"
COLUMN = "Size"


def former(folder: Path) -> Path:
    """Return a chart as it could have been before ours: another version, and CRDs without a field and a column that ours have."""
    shutil.copytree(CHART, folder)
    about = yaml.safe_load((folder / "Chart.yaml").read_text())
    (folder / "Chart.yaml").write_text(yaml.safe_dump({**about, "version": "0.0.9", "appVersion": "0.0.9"}))
    file = folder / "files" / "crds" / "stillhouse.io_distilledmodels.yaml"
    definition = yaml.safe_load(file.read_text())
    (version,) = definition["spec"]["versions"]
    version["additionalPrinterColumns"] = [each for each in version["additionalPrinterColumns"] if each["name"] != COLUMN]
    gate = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["gate"]["properties"]
    del gate["repeats"]  # with a default that is in the request's hash: a model that never named it is none the older for it
    file.write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder


def known(models: Models) -> tuple[bool, bool]:
    """Return whether the cluster's CRD has the field, and the column."""
    (version,) = client.ApiextensionsV1Api(models.core.api_client).read_custom_resource_definition(CRD).spec.versions
    gate = version.schema.open_apiv3_schema.properties["spec"].properties["gate"].properties
    return "repeats" in gate, COLUMN in {each.name for each in version.additional_printer_columns}


@pytest.fixture(scope="module")
def body(shared: Models, helm: Helm, values: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A model that became Ready under the former chart. Ours is there again when this module has ended, whatever happened."""
    folder = tmp_path_factory.mktemp("former")
    helm.do("upgrade", RELEASE, str(former(folder / "chart")), *PLACE, *READY, "--values", str(values))
    assert known(shared) == (False, False)
    made = on_claim(shared, Project(folder / "project", folder / "none", folder / "cache").create())
    shared.apply(made)
    shared.wait_ready(made["metadata"]["name"], 300)
    yield made
    helm.do("upgrade", "--install", RELEASE, str(CHART), *PLACE, *READY, "--values", str(values))


def serving(models: Models, name: str) -> set[tuple[str, int]]:
    """Return the serving pods, with how often they were started again."""
    return {(pod.metadata.uid, pod.status.container_statuses[0].restart_count) for pod in models.pods(name)}


def test_an_upgrade_from_a_former_chart_leaves_models_as_they_are(
    shared: Models, body: dict[str, Any], helm: Helm, values: Path
) -> None:
    models, name = shared, body["metadata"]["name"]
    before, built, ready = serving(models, name), models.build_pods(), models.conditions(name)["Ready"]
    assert built["gate"] == 1
    # The operator's pods are others: the Lease is handed over, nothing is built, no serving pod changes.
    helm.do("upgrade", RELEASE, str(CHART), *PLACE, *READY, "--values", str(values), "--set", "logLevel=debug")
    assert known(models) == (True, True)
    lease = client.CoordinationV1Api(models.core.api_client)
    pods = {pod.metadata.name for pod in models.core.list_namespaced_pod(SPACE).items if not pod.metadata.deletion_timestamp}
    models.eventually(lambda: lease.read_namespaced_lease("stillhouse-operator", SPACE).spec.holder_identity in pods)
    assert "Phase:          Succeeded" in helm.do("test", RELEASE, *PLACE, "--timeout", "60s")
    # A change that builds nothing says that the new operator has looked at the model.
    body["spec"]["scale"] = {"minReplicas": 1, "maxReplicas": 2}
    models.apply(body)
    assert models.wait_ready(name, 60)["revision"]["digest"]
    assert models.conditions(name)["Ready"]["lastTransitionTime"] == ready["lastTransitionTime"]
    assert serving(models, name) == before
    assert models.build_pods() == built
    assert models.get(name)["spec"]["gate"].get("repeats", 3) == 3


def test_an_image_that_cannot_be_pulled_is_told_and_the_pods_before_serve_on(
    shared: Models, body: dict[str, Any], helm: Helm, values: Path
) -> None:
    models, name = shared, body["metadata"]["name"]
    before, built = serving(models, name), models.build_pods()
    image = images.NAMES["serve"].rpartition(":")[0] + ":missing"
    missing = ("--set", "images.serve.tag=missing", "--set", "images.pullPolicy=IfNotPresent")
    helm.do("upgrade", RELEASE, str(CHART), *PLACE, *READY, "--values", str(values), *missing)
    models.eventually(lambda: models.condition(name, "Ready") == ("False", "ImageUnavailable"), 90, about=name)
    told = models.conditions(name)
    assert f"{image} cannot be pulled" in told["Ready"]["message"], told["Ready"]
    assert told["Available"]["status"] == "True"
    models.told(name, "ImageUnavailable", image)
    assert not models.ask(name, "--requests", "5")["failures"]
    helm.do("upgrade", RELEASE, str(CHART), *PLACE, *READY, "--values", str(values))
    models.wait_ready(name, 90)
    assert before <= serving(models, name)
    assert models.build_pods() == built


def test_a_release_is_removed_and_made_again(shared: Models, body: dict[str, Any], helm: Helm, values: Path) -> None:
    models, name = shared, body["metadata"]["name"]
    digest = models.wait_ready(name, 60)["revision"]["digest"]
    # Gone: the API that is in everybody's way goes first, what serves stays, and so do the CRDs with the models.
    helm.do("uninstall", RELEASE, *PLACE, *READY)
    registration = client.ApiregistrationV1Api(models.core.api_client)
    names = {each.metadata.name for each in registration.list_api_service().items}
    assert "v1beta1.external.metrics.k8s.io" not in names
    assert not models.ask(name, "--requests", "5")["failures"]
    assert models.status(name)["revision"]["digest"] == digest

    # Deleted while no operator runs: Kubernetes removes every child.
    models.objects.delete_namespaced_custom_object("stillhouse.io", "v1alpha1", models.namespace, "distilledmodels", name)
    models.eventually(lambda: not models.pods(name) and not models.apps.list_namespaced_deployment(models.namespace).items)

    helm.do("install", RELEASE, str(CHART), *PLACE, *READY, "--values", str(values))
    models.apply(body)
    models.wait_ready(name, 200)
    assert not models.batch.list_namespaced_job(models.namespace).items
