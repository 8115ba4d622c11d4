"""A model's whole life on real nodes: built in Jobs, served by pods, changed, rolled back, deleted."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.support.cli import Project
from tests.support.nodes.cluster import Cluster
from tests.support.nodes.models import Models
from tests.support.nodes.projects import named, on_claim

_READ = "import sys, urllib.request as u; print(u.urlopen(f'http://{sys.argv[1]}:8002/metrics', timeout=10).read().decode())"


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


@pytest.fixture(scope="module")
def student(shared: Models, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A student of torch's, Ready: the Jobs train, export, quantise and measure; nothing of it runs on this machine."""
    body = on_claim(shared, project(tmp_path_factory.mktemp("student")).create_distilling())
    shared.apply(body)
    shared.wait_ready(body["metadata"]["name"], 400)
    return body


def test_a_student_that_fails_its_gate_is_told_and_the_one_before_serves(shared: Models, student: dict[str, Any]) -> None:
    name = student["metadata"]["name"]
    first = shared.status(name)["revision"]["digest"]
    asking = shared.asking(name, "--threads", "2", "--requests", "0", "--pause", "0.05")
    before = shared.build_pods()
    assert set(before) == {"resolve", "train", "compress", "gate"}
    strict = copy.deepcopy(student)
    strict["spec"]["gate"]["maxSize"] = "1Ki"
    shared.apply(strict)
    shared.eventually(lambda: shared.condition(name, "GatePassed") == ("False", "GateFailed"), 200, about=name)
    told = shared.conditions(name)
    assert {kind: (told[kind]["status"], told[kind]["reason"]) for kind in ("Built", "Available", "Ready", "Stalled")} == {
        "Built": ("True", "Built"),
        "Available": ("True", "Serving"),
        "Ready": ("False", "GateFailed"),
        "Stalled": ("True", "GateFailed"),
    }
    for kind in ("GatePassed", "Ready"):
        assert re.search(r"size [\d.,]+ [KM]i?B.* 1(\.0)? KiB", told[kind]["message"]), told[kind]
    shared.told(name, "GateFailed", "size")
    # A gate that refuses is final: one pod measured, once, and what was trained is not trained again.
    assert shared.build_pods() - before == {"resolve": 1, "gate": 1}
    (record,) = [each for each in revisions(shared) if each["spec"]["outcome"] == "Failed"]
    assert record["spec"]["reason"] == "GateFailed" and record["spec"]["candidates"], record

    shared.apply(student)
    status = shared.wait_ready(name, 60)
    assert status["revision"]["digest"] == first
    assert "Stalled" not in shared.conditions(name)
    asking.terminate()
    answers = json.loads(asking.communicate(timeout=60)[0])
    assert set(answers["digests"]) == {first} and not answers["failures"], answers
    assert shared.build_pods() - before == {"resolve": 1, "gate": 1}, "what was accepted before is not built again"


def answered(models: Models, pod: Any) -> float:
    """Return how many inferences a gateway's pod has answered; its own node may read that."""
    node = int(pod.spec.node_name.removeprefix("node"))
    text = models.cluster.run(sys.executable, "-c", _READ, pod.status.pod_ip, number=node)
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if 'inferences_total{code="OK"' in line)


def test_clients_go_to_a_gateway_and_back_without_a_failed_request(shared: Models, student: dict[str, Any]) -> None:
    name = student["metadata"]["name"]
    digest = shared.wait_ready(name, 60)["revision"]["digest"]
    asking = shared.asking(name, "--threads", "2", "--requests", "0", "--pause", "0.05")
    fronted = copy.deepcopy(student)
    fronted["spec"]["edge"] = {"rest": False, "run": {"resources": {"limits": {"cpu": "250m", "memory": "256Mi"}}}}
    shared.apply(fronted)
    shared.eventually(lambda: shared.condition(name, "GatewayAvailable")[0] == "True", 60, about=name)
    pods = shared.pods(name, "gateway")
    assert len(pods) == 2
    shared.eventually(lambda: min(answered(shared, pod) for pod in pods) > 20, 60, about=name)  # clients look by and by

    shared.apply(student)
    shared.eventually(lambda: shared.condition(name, "GatewayAvailable") == ("False", "GatewayLeaving"), 30, about=name)
    shared.eventually(lambda: shared.condition(name, "GatewayAvailable") == ("", ""), 120, about=name)
    phases = {pod.metadata.name: pod.status.phase for pod in shared.pods(name, "gateway", ending=True)}
    assert "Running" not in phases.values(), phases  # one that has ended may be there for a moment
    assert shared.condition(name, "Ready") == ("True", "Serving")
    asking.terminate()
    answers = json.loads(asking.communicate(timeout=60)[0])
    assert set(answers["digests"]) == {digest} and not answers["failures"], answers


def revisions(models: Models) -> list[dict[str, Any]]:
    """Return the records of a namespace's builds."""
    found = models.objects.list_namespaced_custom_object("stillhouse.io", "v1alpha1", models.namespace, "modelrevisions")
    return list(found["items"])


def test_a_student_is_served_changed_and_rolled_back(
    cluster: Cluster, shared: Models, student: dict[str, Any], tmp_path: Path
) -> None:
    models, body, name = shared, copy.deepcopy(student), student["metadata"]["name"]
    status = models.wait_ready(name)
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

    def serving() -> list[str]:
        return [each.metadata.labels["stillhouse.io/revision"] for each in models.pods(name, ending=True)]

    models.eventually(lambda: serving() == [revision], 120)  # the old pod has ended: its clients have moved
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
    body["spec"]["distill"]["stages"][0]["epochs"] = 16
    name = body["metadata"]["name"]
    models.apply(body)

    def training() -> list[client.V1Pod]:
        found = models.core.list_namespaced_pod(models.namespace, label_selector="stillhouse.io/stage=train").items
        return [pod for pod in found if pod.status.phase == "Running" and pod.metadata.deletion_timestamp is None]

    def log(pod: client.V1Pod) -> str:
        try:
            return str(models.core.read_namespaced_pod_log(pod.metadata.name, models.namespace) or "")
        except client.ApiException:  # its container starts
            return ""

    pod = models.eventually(training, 200, about=name)[0]
    step = models.eventually(lambda: models.steps(pod), 60, about=name)
    assert "going on from step" not in log(pod)
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name, namespace=models.namespace))
    models.core.create_namespaced_pod_eviction(pod.metadata.name, models.namespace, eviction)
    another = models.eventually(lambda: [each for each in training() if each.metadata.uid != pod.metadata.uid], 120, about=name)[
        0
    ]
    resumed = models.eventually(lambda: re.search(r"going on from step (\d+) of 400", log(another)), 120, about=name)
    assert int(resumed[1]) >= step, "what the first pod had done is not done again"
    models.wait_ready(name, 400)


def test_a_worker_that_needs_too_much_memory_is_told(models: Models, tmp_path: Path) -> None:
    body = on_claim(models, project(tmp_path).create_distilling(), build={"resources": {"limits": {"memory": "64Mi"}}})
    name = body["metadata"]["name"]
    models.apply(body)
    models.eventually(lambda: models.condition(name, "Stalled")[0] == "True", 200, about=name)
    built = next(each for each in models.status(name)["conditions"] if each["type"] == "Built")
    assert "memory" in built["message"], built
    assert built["reason"] == "BuildFailed"


def test_pods_that_cannot_serve_are_told_and_the_ones_before_serve_on(models: Models, tmp_path: Path) -> None:
    """A Deployment broken by hand, and an artifact broken on the volume."""
    body = on_claim(models, project(tmp_path).create())
    name = body["metadata"]["name"]
    models.apply(body)
    digest = models.wait_ready(name, 300)["revision"]["digest"]
    asking = models.asking(name, "--threads", "2", "--requests", "0", "--pause", "0.05")

    # The Deployment: the operator mends it.
    broken = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "localhost/none:1"}]
    models.apps.patch_namespaced_deployment(f"{name}-main", models.namespace, broken)

    def image() -> str:
        deployment = models.apps.read_namespaced_deployment(f"{name}-main", models.namespace)
        return str(deployment.spec.template.spec.containers[0].image)

    models.eventually(lambda: image() != "localhost/none:1")
    models.wait_ready(name, 120)

    # The artifact: a pod that starts holds every byte against the digest, ends, and is started again; what it said is told.
    (artifact,) = [each for each in models.volume().rglob("model.onnx") if digest.removeprefix("sha256:")[:16] in str(each)]
    whole = artifact.read_bytes()
    artifact.chmod(0o644)
    artifact.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    body["spec"]["serve"]["podTemplate"] = {"metadata": {"labels": {"team": "search"}}}
    models.apply(body)
    models.eventually(lambda: models.condition(name, "Ready") == ("False", "ServerCrashes"), 120, about=name)
    told = models.conditions(name)
    assert told["Available"]["status"] == "True"
    assert "exit code" in told["Ready"]["message"] and "the artifact cannot be served" in told["Ready"]["message"], told["Ready"]
    models.told(name, "ServerCrashes", "the artifact cannot be served")
    artifact.write_bytes(whole)
    models.wait_ready(name, 200)
    models.eventually(lambda: [pod.metadata.labels.get("team") for pod in models.pods(name)] == ["search"])
    asking.terminate()
    answers = json.loads(asking.communicate(timeout=60)[0])
    assert set(answers["digests"]) == {digest} and not answers["failures"], answers
