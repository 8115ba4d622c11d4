"""Load on real nodes: replicas follow it and every pod gets its share; a node is drained. No request fails."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from kubernetes import client
from tests.support.cli import Project
from tests.support.nodes.commands import CommandFailed
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim


def ready(models: Models, name: str) -> int:
    return sum(
        1
        for pod in models.pods(name)
        if any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or [])
    )


def served(models: Models, folder: Path, cpu: str, *, least: int, most: int) -> str:
    """Serve a model from small pods, so that all of them and the load fit onto two CPUs; return its name.

    It computes so much that its servers, not the one that asks, are what is busy.
    """
    project = Project(folder / "project", folder / "none", folder / "cache", work=50).create()
    body = on_claim(models, project, scale={"minReplicas": least, "maxReplicas": most})
    body["spec"]["serve"]["resources"] = {"limits": {"cpu": cpu, "memory": "512Mi"}}
    models.apply(body)
    name: str = body["metadata"]["name"]
    models.wait_ready(name, 300)
    return name


def test_replicas_follow_the_load_and_no_request_fails(models: Models, tmp_path: Path) -> None:
    name = served(models, tmp_path, "200m", least=1, most=3)
    models.eventually(lambda: models.condition(name, "Scaling") == ("True", "ScalesByQueue"), 60, about=name)

    asking = models.asking(name, "--threads", "16", "--requests", "0")
    models.eventually(lambda: ready(models, name) == 3, 180, about=name)
    models.eventually(lambda: evenly(models, name), 90)  # clients find new pods as their connections end
    # One that asks so seldom that replicas are taken away from under it.
    seldom = models.asking(name, "--requests", "0", "--pause", "0.2")
    asking.terminate()
    told = json.loads(asking.communicate(timeout=60)[0])
    assert told["answers"] > 500
    assert not told["failures"], told

    models.eventually(lambda: len(models.pods(name)) == 1, 240, about=name)
    (last,) = models.pods(name)
    models.eventually(
        lambda: len(models.pods(name, ending=True)) == 1, 120, about=name
    )  # the others have ended, not only begun to
    before = shares(models, name)[last.metadata.name]
    models.eventually(lambda: shares(models, name)[last.metadata.name] > before, 60)
    seldom.terminate()
    told = json.loads(seldom.communicate(timeout=60)[0])
    assert told["answers"] > 50 and not told["failures"], told


def evenly(models: Models, name: str) -> bool:
    """Return whether each of three pods answers a fair part of what comes in five seconds."""
    before = shares(models, name)
    time.sleep(5)
    after = shares(models, name)
    gained = [after[pod] - before.get(pod, 0.0) for pod in after]
    return len(gained) == 3 and min(gained) > 0.4 * sum(gained) / 3


def shares(models: Models, name: str) -> dict[str, float]:
    """Return how many requests each pod has answered, of those that can be asked: one may be about to start or to end."""
    found = {}
    for pod in models.pods(name):
        node = int(pod.spec.node_name.removeprefix("node"))  # others than its own node the policy keeps away from the metrics
        try:
            text = models.cluster.run(sys.executable, "-c", _READ, pod.status.pod_ip, number=node)
        except CommandFailed:
            continue
        lines = [line for line in text.splitlines() if line.startswith("nv_inference_request_success")]
        found[pod.metadata.name] = sum(float(line.rpartition(" ")[2]) for line in lines)
    return found


_READ = "import sys, urllib.request as u; print(u.urlopen(f'http://{sys.argv[1]}:8002/metrics', timeout=10).read().decode())"


def test_a_node_is_drained_under_load(models: Models, tmp_path: Path) -> None:
    name = served(models, tmp_path, "300m", least=2, most=2)
    models.eventually(lambda: ready(models, name) == 2, 60, about=name)  # the autoscaler makes two of the Deployment's one
    assert {pod.spec.node_name for pod in models.pods(name)} == {"node1", "node2"}, "they are spread"
    asking = models.asking(name, "--threads", "8", "--requests", "0", "--pause", "0.02")
    models.core.patch_node("node2", {"spec": {"unschedulable": True}})
    try:
        for pod in models.pods(name):
            if pod.spec.node_name == "node2":
                meta = client.V1ObjectMeta(name=pod.metadata.name, namespace=models.namespace)
                models.core.create_namespaced_pod_eviction(pod.metadata.name, models.namespace, client.V1Eviction(metadata=meta))
        models.eventually(
            lambda: ready(models, name) == 2 and {pod.spec.node_name for pod in models.pods(name)} == {"node1"}, 120, about=name
        )
    finally:
        models.core.patch_node("node2", {"spec": {"unschedulable": False}})
    time.sleep(2)
    asking.terminate()
    told = json.loads(asking.communicate(timeout=60)[0])
    assert told["answers"] > 100 and not told["failures"], told
