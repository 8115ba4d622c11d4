"""A model's whole life on real nodes: built in Jobs, served by pods, changed, rolled back, deleted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kubernetes import client
from tests.support.cli import Project
from tests.support.nodes.cluster import Cluster
from tests.support.nodes.models import Models
from tests.support.nodes.projects import named, on_claim


def project(folder: Path) -> Project:
    return Project(folder / "project", folder / "none", folder / "cache")


def still(cluster: Cluster, folder: Path, *words: str, code: int = 0) -> str:
    """Run `still` as a user on this machine does, with the cluster's kubeconfig; return what it printed."""
    command = [sys.executable, "-m", "stillhouse.entrypoints.cli", *words]
    environment = {**cluster.environment(), "STILLHOUSE_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache"),
                   "XDG_CONFIG_HOME": str(folder / "config")}  # fmt: skip
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_student_is_distilled_served_changed_and_rolled_back(cluster: Cluster, models: Models, tmp_path: Path) -> None:
    """Teacher and student are torch's: the Jobs train, export, quantise and measure; nothing of it runs on this machine."""
    body = on_claim(models, project(tmp_path).create_distilling())
    name = body["metadata"]["name"]
    models.apply(body)
    status = models.wait_ready(name, 400)
    first = status["revision"]["digest"]
    assert status["endpoint"]
    told = models.ask(name, "--requests", "20")
    assert told["digests"] == {first: 20}, told
    (pod,) = models.pods(name)
    assert pod.status.container_statuses[0].ready
    assert "Serving" in still(cluster, tmp_path, "status", name, "--context", "stillhouse", "--namespace", models.namespace)

    # Another number of epochs is another student: the pods change without a request lost.
    asking = models.asking(name, "--threads", "4", "--requests", "0", "--pause", "0.01")
    body["spec"]["distill"]["stages"][0]["epochs"] = 1
    models.apply(body)
    status = models.wait_ready(name, 400)
    second, revision = status["revision"]["digest"], status["revision"]["name"]
    assert second != first

    def revisions() -> list[str]:
        return [each.metadata.labels["stillhouse.io/revision"] for each in models.pods(name, ending=True)]

    models.eventually(lambda: revisions() == [revision], 120)  # the old pod has ended: its clients have moved
    models.ask(name, "--requests", "50")

    # Back: nothing is built, the former revision's pods come, still without a request lost.
    still(cluster, tmp_path, "rollback", name, "--context", "stillhouse", "--namespace", models.namespace)
    models.eventually(lambda: (models.status(name).get("revision") or {}).get("digest") == first, 120, about=name)
    models.eventually(lambda: len(models.pods(name)) == 1 and models.ask(name, "--requests", "5")["digests"] == {first: 5}, 120)
    models.eventually(lambda: len(models.pods(name, ending=True)) == 1, 120)
    asking.terminate()
    told = json.loads(asking.communicate(timeout=60)[0])
    assert set(told["digests"]) == {first, second} and not told["failures"], told
    assert not models.batch.list_namespaced_job(models.namespace).items

    # Deleted: Kubernetes removes every child.
    models.objects.delete_namespaced_custom_object("stillhouse.io", "v1alpha1", models.namespace, "distilledmodels", name)
    models.eventually(lambda: not models.apps.list_namespaced_deployment(models.namespace).items and not models.pods(name), 120)
    models.eventually(lambda: not models.core.list_namespaced_service(models.namespace).items)


def test_what_a_laptop_has_is_pushed_to_a_claim_and_built(cluster: Cluster, models: Models, tmp_path: Path) -> None:
    """The README's way: `still push`, `kubectl apply` of the same file."""
    made = project(tmp_path).create()
    body = named(made)
    (made.folder / "stillhouse.yaml").write_text(yaml.safe_dump({"sources": body.pop("sources")}))
    body["spec"]["serve"]["resources"] = {"limits": {"cpu": "500m"}}
    made.write(body)
    models.claim()
    place = ("--context", "stillhouse", "--namespace", models.namespace)
    said = still(cluster, tmp_path, "push", str(made.file), "--to", "pvc://stillhouse-models", *place)
    assert "kubectl apply" in said
    assert not models.core.list_namespaced_pod(models.namespace).items, "the pod that took it in has gone"
    again = still(cluster, tmp_path, "push", str(made.file), "--to", "pvc://stillhouse-models", *place)
    assert "uploaded" not in again or "0 B" in again or "there already" in again, again
    models.apply(body)
    status = models.wait_ready(body["metadata"]["name"], 300)
    assert models.ask(body["metadata"]["name"], "--requests", "3")["digests"] == {status["revision"]["digest"]: 3}


def test_a_build_goes_on_where_its_pod_was_evicted(models: Models, tmp_path: Path) -> None:
    body = on_claim(models, project(tmp_path).create_distilling())
    body["spec"]["distill"]["stages"][0]["epochs"] = 40
    name = body["metadata"]["name"]
    models.apply(body)

    def training() -> list[client.V1Pod]:
        found = models.core.list_namespaced_pod(models.namespace, label_selector="stillhouse.io/stage=train").items
        return [pod for pod in found if pod.status.phase == "Running" and pod.metadata.deletion_timestamp is None]

    pod = models.eventually(training, 200, about=name)[0]
    models.eventually(lambda: "train" in models.status(name).get("progress", ""), 60, about=name)
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name, namespace=models.namespace))
    models.core.create_namespaced_pod_eviction(pod.metadata.name, models.namespace, eviction)
    models.eventually(lambda: [each for each in training() if each.metadata.uid != pod.metadata.uid], 120, about=name)
    models.wait_ready(name, 400)


def test_a_worker_that_needs_too_much_memory_is_told(models: Models, tmp_path: Path) -> None:
    body = on_claim(models, project(tmp_path).create_distilling(), build={"resources": {"limits": {"memory": "64Mi"}}})
    name = body["metadata"]["name"]
    models.apply(body)
    models.eventually(lambda: models.condition(name, "Stalled")[0] == "True", 200, about=name)
    built = next(each for each in models.status(name)["conditions"] if each["type"] == "Built")
    assert "memory" in built["message"], built
    assert built["reason"] == "BuildFailed"


@pytest.mark.parametrize("what", ["image"])
def test_an_image_that_is_missing_is_told(models: Models, tmp_path: Path, what: str) -> None:
    body = on_claim(models, project(tmp_path).create())
    name = body["metadata"]["name"]
    models.apply(body)
    models.wait_ready(name, 300)
    # Somebody breaks the Deployment by hand: the operator mends it, and the old pod serves all the while.
    broken = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "localhost/none:1"}]
    models.apps.patch_namespaced_deployment(f"{name}-main", models.namespace, broken)
    models.eventually(
        lambda: (
            models.apps.read_namespaced_deployment(f"{name}-main", models.namespace).spec.template.spec.containers[0].image
            != "localhost/none:1"
        )
    )
    assert not models.ask(name, "--requests", "5")["failures"]
