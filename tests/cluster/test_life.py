"""A model's whole life on real nodes: built in Jobs, served by pods, changed, rolled back, deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tests.support.cli import Project
from tests.support.nodes.models import CLAIM, Models


def given(models: Models, project: Project) -> dict[str, Any]:
    """Put a project's sources onto the store's claim, name and bind them; return the model as a cluster takes it."""
    models.put(project.folder, models.claim())
    body: dict[str, Any] = yaml.safe_load(project.file.read_text())
    named: dict[str, str] = dict(yaml.safe_load((project.folder / "stillhouse.yaml").read_text())["sources"])
    spec = body["spec"]
    # Half a CPU: the gate's pod holds server and client, and a node of two CPUs carries the operator too.
    spec["serve"]["resources"] = {"limits": {"cpu": "500m", "memory": "512Mi"}}
    places = {"gate": spec.get("gate"), "index": spec.get("index"), "train": spec.get("distill")}
    for name, place in places.items():
        if place:
            named[f"data:{name}"] = place["data"]["uri"]
            place["data"]["uri"] = f"data:{name}"
    if spec["source"]["uri"] not in named:
        named["models:teacher"] = spec["source"]["uri"]
        spec["source"]["uri"] = "models:teacher"
    models.bind({name: f"pvc://{CLAIM}/sources/{uri.removeprefix('file://')}" for name, uri in named.items()})
    return body


def test_a_student_is_distilled_served_changed_and_rolled_back(models: Models, tmp_path: Path) -> None:
    """Teacher and student are torch's: the Jobs train, export, quantise and measure; nothing of it runs on this machine."""
    body = given(models, Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create_distilling())
    name = body["metadata"]["name"]
    models.apply(body)
    status = models.wait_ready(name, 400)
    first = status["revision"]["digest"]
    assert status["endpoint"]
    told = models.ask(name, "--requests", "20")
    assert told["digests"] == {first: 20}, told
    (pod,) = models.pods(name)
    assert pod.status.container_statuses[0].ready

    # Another batch size is measured anew; the pods change without a request lost; the students' training is not repeated.
    asking = models.asking(name, "--threads", "4", "--requests", "0", "--pause", "0.01")
    body["spec"]["serve"]["batching"] = {"maxBatchSize": 16}
    models.apply(body)
    status = models.wait_ready(name, 300)
    second = status["revision"]["name"]
    models.eventually(lambda: [each.metadata.labels["stillhouse.io/revision"] for each in models.pods(name)] == [second])
    asking.terminate()
    told = yaml.safe_load(asking.communicate(timeout=60)[0])
    assert told["answers"] > 100 and not told["failures"], told
