"""Steps before another model on real nodes: their one Job, their gateways, and a change of them under traffic."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from tests.support.cli import Project
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim

from stillhouse.resources.gateway import CONFIG

_RUN = {"replicas": 1, "resources": {"limits": {"cpu": "250m", "memory": "256Mi"}}}


@pytest.mark.slow
def test_tokens_travel_and_steps_change_without_a_failed_request(models: Models, tmp_path: Path) -> None:
    made = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache", task="text-classification").create(index=False)
    behind = on_claim(models, made)
    del behind["spec"]["gate"]
    behind["metadata"]["name"] = "behind"
    body = copy.deepcopy(behind)
    body["metadata"]["name"] = name = "front"
    steps = {"model": "behind", "steps": [{"kind": "tokenise", "maxLength": 16}]}
    body["spec"]["edge"] = {"preprocess": steps, "rest": False, "run": _RUN}
    models.apply(behind)
    models.apply(body)
    models.eventually(lambda: models.status(name).get("revision"), 120, about=name)
    digest = models.wait_ready("behind", 300)["revision"]["digest"]
    first = models.wait_ready(name, 60)["revision"]
    assert first["precision"] == "steps"
    assert dict(models.build_pods()) == {"resolve": 2, "compress": 1, "gate": 1}, "of steps there is one Job"
    assert models.pods(name) == []

    asking = models.asking(name, "--threads", "2", "--requests", "0", "--pause", "0.05")
    steps["steps"] = [{"kind": "tokenise", "maxLength": 8}]
    models.apply(body)
    models.eventually(
        lambda: (models.status(name).get("revision") or {}).get("name") not in (None, first["name"]), 120, about=name
    )
    second = models.wait_ready(name, 120)["revision"]
    (pod,) = models.pods(name, "gateway")
    assert json.loads(pod.metadata.annotations[CONFIG])["edge"]["digest"] == second["digest"] != first["digest"]
    asking.terminate()
    told = json.loads(asking.communicate(timeout=60)[0])
    assert not told["failures"], told
    assert set(told["digests"]) == {digest}, told
