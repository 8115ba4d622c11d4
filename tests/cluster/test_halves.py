"""A model in two halves on real nodes: the lower one in a gateway, the upper one in pods, and both changed under load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.cli import Project
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim

_REVISION = "stillhouse.io/revision"


@pytest.mark.slow
def test_halves_are_changed_without_a_failed_request(models: Models, tmp_path: Path) -> None:
    """Old gateways find their upper half for as long as clients may ask them: of all pods no other will do."""
    made = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create()
    run = {"resources": {"limits": {"cpu": "250m", "memory": "256Mi"}}}
    body = on_claim(models, made, edge={"cut": {"layer": "rows"}, "rest": False, "run": run})
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
    assert second["digest"] == first["digest"], "of the same weights"

    def gateways() -> set[str]:
        return {pod.metadata.labels[_REVISION] for pod in models.pods(name, "gateway", ending=True)}

    models.eventually(lambda: gateways() == {second["name"]}, 150, about=name)
    asking.terminate()
    told = json.loads(asking.communicate(timeout=60)[0])
    assert not told["failures"], told
    assert told["digests"][first["digest"]] > 100, told
