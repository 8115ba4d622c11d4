"""A store on a volume that one node alone has."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cli import Project
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim


@pytest.fixture
def only_on_node1(models: Models) -> Iterator[Path]:
    """The store's claim, ReadWriteOnce, bound to a volume that pods of node1 alone can have."""
    kept_there = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]}
    with tempfile.TemporaryDirectory(prefix="stillhouse-volume-") as folder:
        Path(folder).chmod(0o777)  # the kubelet gives a hostPath to no group
        volume = {
            "metadata": {"name": models.namespace},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": models.namespace,
                "hostPath": {"path": folder, "type": "Directory"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [kept_there]}]}},
            },
        }
        models.core.create_persistent_volume(volume)
        yield models.claim(modes=("ReadWriteOnce",), volumes=models.namespace)
        models.core.delete_persistent_volume(models.namespace)


def test_a_volume_of_one_node_keeps_a_models_pods_there_and_they_serve(
    models: Models, only_on_node1: Path, tmp_path: Path
) -> None:
    project = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create()
    body = on_claim(models, project, only_on_node1, scale={"minReplicas": 2, "maxReplicas": 2})
    # Two of them, the operator and a build's worker on one node of two CPUs.
    body["spec"]["serve"]["resources"] = {"limits": {"cpu": "200m", "memory": "512Mi"}}
    name = body["metadata"]["name"]
    models.apply(body)
    models.eventually(lambda: models.status(name).get("readyReplicas") == 2, 300, about=name)
    models.wait_ready(name, 60)
    # Pods of a Deployment are spread over nodes where that can be had; here it cannot, and nobody waits.
    assert [pod.spec.node_name for pod in models.pods(name)] == ["node1", "node1"]
    assert not models.ask(name, "--requests", "10")["failures"]
