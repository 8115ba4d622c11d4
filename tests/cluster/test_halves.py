"""Gateways that need more than their model, on real nodes: its upper half, or a model between."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from kubernetes import client
from tests.support.cli import Project, write_rows
from tests.support.nodes.models import CLAIM, Models
from tests.support.nodes.projects import on_claim

from stillhouse.resources.gateway import CONFIG

_REVISION = "stillhouse.io/revision"
_RUN = {"resources": {"limits": {"cpu": "250m", "memory": "256Mi"}}}


@pytest.mark.slow
def test_halves_are_changed_without_a_failed_request(models: Models, tmp_path: Path) -> None:
    """Old gateways find their upper half for as long as clients may ask them: of all pods no other will do."""
    made = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create()
    body = on_claim(models, made, edge={"cut": {"layer": "rows"}, "rest": False, "run": _RUN})
    name = body["metadata"]["name"]
    models.apply(body)
    first = models.wait_ready(name, 300)["revision"]
    assert models.ask(name, "--requests", "20")["digests"] == {first["digest"]: 20}
    assert {pod.metadata.labels[_REVISION] for pod in models.pods(name, "gateway")} == {first["name"]}

    asking = models.asking(name, "--threads", "2", "--requests", "0", "--pause", "0.05")
    body["spec"]["serve"]["batching"] = {"maxBatchSize": 16}
    models.apply(body)
    models.eventually(lambda: (models.status(name).get("revision") or {}).get("name") != first["name"], 200, about=name)
    second = models.wait_ready(name, 200)["revision"]

    def gateways() -> set[str]:
        return {pod.metadata.labels[_REVISION] for pod in models.pods(name, "gateway", ending=True)}

    models.eventually(lambda: gateways() == {second["name"]}, 150, about=name)
    asking.terminate()
    told = json.loads(asking.communicate(timeout=60)[0])
    assert not told["failures"], told
    assert set(told["digests"]) == {first["digest"], second["digest"]}, told


@pytest.mark.slow
def test_a_model_between_is_found_by_its_artifact(models: Models, tmp_path: Path) -> None:
    """Applied at once with the model before it. (Of the same weights it is never worth asking: the solved threshold says so.)"""
    made = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache", task="text-classification").create(index=False)
    write_rows(made.folder / "threshold.jsonl", {"text": "text"}, 500, seed=11)
    body = on_claim(models, made)
    name = body["metadata"]["name"]
    near = copy.deepcopy(body)
    near["metadata"]["name"] = "near"
    del near["spec"]["gate"]
    body["spec"]["edge"] = {
        "cascade": {
            "larger": {"model": "near"}, "middle": {"model": "near"}, "escalationBudget": "90%",
            "data": {"uri": f"pvc://{CLAIM}/sources/threshold.jsonl"},
        },
        "rest": False,
        "run": {**_RUN, "replicas": 1},
    }  # fmt: skip
    models.apply(near)
    models.apply(body)
    models.eventually(lambda: "first accepted revision of near" in models.status(name).get("progress", ""), 30, about=name)
    models.wait_ready("near", 200)
    models.wait_ready(name, 300)
    assert sum(models.ask(name, "--requests", "20")["digests"].values()) == 20
    (pod,) = models.pods(name, "gateway")
    middle = json.loads(pod.metadata.annotations[CONFIG])["cascade"]["middle"]
    chosen = f"kubernetes.io/service-name={middle['service']}"
    slices = client.DiscoveryV1Api(models.core.api_client).list_namespaced_endpoint_slice(models.namespace, label_selector=chosen)
    found = {each.target_ref.name for part in slices.items for each in part.endpoints}
    assert found == {each.metadata.name for each in models.pods("near")}
