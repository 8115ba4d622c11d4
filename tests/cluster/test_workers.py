"""A student trained by two pods on two nodes, one of which is killed in the middle."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

from kubernetes import client
from tests.support.cli import Project
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim

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


def test_two_pods_train_and_go_on_together_where_one_was_killed(models: Models, tmp_path: Path) -> None:
    made = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create_distilling()
    body = on_claim(models, made, build={"workers": 2, "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}}})
    body["spec"]["distill"]["stages"][0]["epochs"] = 16
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
