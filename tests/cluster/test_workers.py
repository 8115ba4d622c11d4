"""A student trained by two pods on two nodes, one of which is killed in the middle."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

from kubernetes import client
from safetensors.numpy import load_file
from tests.support.cli import Project
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim

from stillhouse.clients.store.local import LocalStore

NUMBER = "batch.kubernetes.io/job-completion-index"


def process_of(pod: Any) -> int:
    """Return the process of a pod's worker on this machine, on which all nodes are."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, control_group = (folder / "cmdline").read_bytes(), (folder / "cgroup").read_text()
        except OSError:  # it has ended meanwhile
            continue
        uid = pod.metadata.uid
        if b"--stage=train" in words and (uid in control_group or uid.replace("-", "_") in control_group):
            return int(folder.name)
    return 0


def networks(home: Path) -> dict[str, dict[str, Any]]:
    """Return the weights that every step of a store made, by the step's name."""
    store = LocalStore(home)
    found = [receipt for receipt in map(store.receipt, store.receipt_keys()) if receipt and receipt.kind == "torch-model"]
    return {each.step: load_file(store.objects.opened(each.artifact) / "model.safetensors") for each in found}


def test_two_pods_train_and_go_on_together_where_one_was_killed(models: Models, tmp_path: Path) -> None:
    made = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create_distilling()
    spec = made.read()["spec"]
    made.edit(distill={"stages": [{**spec["distill"]["stages"][0], "epochs": 16}]})
    body = on_claim(models, made, build={"workers": 2, "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}}})
    name = body["metadata"]["name"]
    models.apply(body)

    def training() -> dict[int, client.V1Pod]:
        found = models.core.list_namespaced_pod(models.namespace, label_selector="stillhouse.io/stage=train").items
        return {int(pod.metadata.labels[NUMBER]): pod for pod in found if pod.status.phase == "Running"}

    def both(but: tuple[str, ...] = ()) -> dict[int, client.V1Pod]:
        found = training()
        return found if set(found) == {0, 1} and not {pod.metadata.uid for pod in found.values()} & set(but) else {}

    def log(pod: client.V1Pod) -> str:
        try:
            return str(models.core.read_namespaced_pod_log(pod.metadata.name, models.namespace) or "")
        except client.ApiException:  # its container starts
            return ""

    first = models.eventually(both, 150, about=name)
    assert first[0].spec.node_name != first[1].spec.node_name, "a node each, where that can be had"
    step = models.eventually(lambda: models.steps(first[0]), 60, about=name)
    assert models.steps(first[1]) == 0, "number 0 tells, and it alone"
    policies = client.NetworkingV1Api(models.core.api_client)
    found = policies.list_namespaced_network_policy(models.namespace).items
    (policy,) = [each for each in found if each.metadata.name.endswith("-workers")]
    assert policy.spec.pod_selector.match_labels.items() <= first[1].metadata.labels.items()

    os.kill(process_of(first[1]), signal.SIGKILL)
    second = models.eventually(lambda: both(tuple(pod.metadata.uid for pod in first.values())), 90, about=name)
    resumed = models.eventually(lambda: re.search(r"going on from step (\d+) of 400", log(second[0])), 60, about=name)
    assert int(resumed[1]) >= step, "what both had done is not done again"
    jobs = models.batch

    def trained() -> bool:
        found = {job.metadata.labels["stillhouse.io/stage"]: job for job in jobs.list_namespaced_job(models.namespace).items}
        return "compress" in found and (found["train"].status.succeeded or 0) == 2

    models.eventually(trained, 90, about=name)
    assert models.build_pods()["train"] == 4, "both were made anew, once"

    made.still("build", str(made.file))  # the same file without a cluster: one process
    (steps,) = models.volume().rglob("steps")
    both_gave, alone = networks(steps.parent), networks(made.home)
    begun, expected = alone["train/student"], alone["train/soft"]
    assert all((both_gave["train/student"][name] == begun[name]).all() for name in begun)
    moved, apart = (
        sum(float(((expected[name] - other[name]) ** 2).sum()) for name in expected) ** 0.5
        for other in (begun, both_gave["train/soft"])
    )
    assert moved > 0.3
    assert apart < 0.03 * moved, "two pods, one of them killed and made anew, give the student that one process gives"
