"""A small cluster in memory: the fake API server, a cache that follows it, and the reconciler between them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from stillhouse.api.load import parse
from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.kinds import DEPLOYMENT, JOB, MODEL, POD, REVISION, by_name
from stillhouse.planning.build import request_hash
from stillhouse.reconcile.cache import Cache
from stillhouse.reconcile.reconciler import Reconciler
from stillhouse.resources import labels, names
from stillhouse.resources.wanted import ClusterSettings

__all__ = ["DIGEST", "NAMESPACE", "OTHER", "SOURCES", "Cluster", "model", "record"]

NAMESPACE = "default"
_LOOP = asyncio.new_event_loop()
"""One for all: nothing here waits, and a loop of its own for each call took most of the time."""
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "c" * 64
SOURCES = {"models:minilm": "pvc://stillhouse-models/minilm", "data:gate": "pvc://stillhouse-models/gate.jsonl"}


def model(name: str = "m", **spec: Any) -> dict[str, Any]:
    """Return a DistilledModel; `spec` replaces parts of its spec."""
    whole = {"source": {"uri": "models:minilm", "task": "sentence-embedding"}, **spec}
    return {
        "apiVersion": "stillhouse.io/v1alpha1",
        "kind": "DistilledModel",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": whole,
    }


def record(digest: str = DIGEST, **more: Any) -> dict[str, Any]:
    """Return what the last stage's worker leaves of an accepted build."""
    return {"digest": digest, "precision": "int8", "size": 6_900_000, "serve": {"maxBatchSize": 32, "cpu": "1"}, **more}


@dataclass
class Cluster:
    """`kube`, `cache` and `reconciler`. With `follows` the cache sees every change at once, else after `catch_up`."""

    kube: FakeKube = field(default_factory=FakeKube)
    cache: Cache = field(default_factory=Cache)
    settings: ClusterSettings = field(default_factory=lambda: ClusterSettings(sources=SOURCES))
    follows: bool = True
    moment: int = 0

    def __post_init__(self) -> None:
        self.reconciler = Reconciler(self.kube, self.cache, self.settings, clock=self._clock)
        self.kube.watchers.append(self._see)

    def _clock(self) -> str:
        self.moment += 1
        return f"2026-01-01T00:{self.moment // 60 % 60:02}:{self.moment % 60:02}Z"

    def _see(self, event: str, body: dict[str, Any]) -> None:
        if self.follows:
            (self.cache.drop if event == "DELETED" else self.cache.put)(body)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return _LOOP.run_until_complete(work)

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a model or replace its spec and annotations, as kubectl would."""
        kind = by_name(body["kind"])
        live = self.get(body["kind"], body["metadata"]["name"])
        if live is None:
            made: dict[str, Any] = self.run(self.kube.create(kind, NAMESPACE, copy.deepcopy(body)))
            return made
        changed = {**live, "spec": body["spec"]}
        changed["metadata"] = {**live["metadata"], "annotations": body["metadata"].get("annotations", {})}
        return self.kube.set(changed)

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.run(self.kube.get(by_name(kind), NAMESPACE, name))
        return found

    def reconcile(self, name: str = "m") -> None:
        self.run(self.reconciler.reconcile((NAMESPACE, name)))

    def settle(self, name: str = "m", rounds: int = 20) -> None:
        """Reconcile until nothing is written any more."""
        for _ in range(rounds):
            before = len(self.kube.writes)
            self.reconcile(name)
            if len(self.kube.writes) == before:
                return
        raise AssertionError(f"it goes on writing: {self.kube.writes[-10:]}")

    def status(self, name: str = "m") -> dict[str, Any]:
        found: dict[str, Any] = (self.get("DistilledModel", name) or {}).get("status", {})
        return found

    def condition(self, kind: str, name: str = "m") -> tuple[str, str]:
        """Return status and reason of a condition, ("", "") where it is not there."""
        found = {each["type"]: (each["status"], each["reason"]) for each in self.status(name).get("conditions", [])}
        return found.get(kind, ("", ""))

    def request(self, body: dict[str, Any]) -> str:
        """Return the request hash of a model here."""
        parsed = parse({part: value for part, value in body.items() if part != "status"})
        return request_hash(parsed, self.settings.sources, parsed.metadata.annotations.get(labels.REBUILD, ""))

    def job(self, stage: str, name: str = "m") -> dict[str, Any] | None:
        """Return the Job of a stage of the build that is wanted now."""
        body = self.get("DistilledModel", name)
        assert body is not None
        return self.get("Job", names.build_job(name, self.request(body), stage))

    def end(self, stage: str, told: Any, *, code: int = 0, killed: str = "", name: str = "m") -> None:
        """Let a stage's pod end with a termination message (a mapping becomes JSON), and its Job with it."""
        import json

        job = self.job(stage, name)
        assert job is not None, f"there is no job of {stage}"
        message = told if isinstance(told, str) else json.dumps(told)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": job["metadata"]["name"] + "-x",
                "labels": job["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [{"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}],
            },
        }
        made = self.run(self.kube.create(POD, NAMESPACE, pod))
        ended = {"exitCode": code, "message": message, "reason": killed or ("Completed" if code == 0 else "Error")}
        self.kube.set(made, containerStatuses=[{"name": "worker", "state": {"terminated": ended}}])
        condition = {"type": "Complete" if code == 0 else "Failed", "status": "True"}
        self.kube.set(self.get("Job", job["metadata"]["name"]) or {}, conditions=[condition])

    def build(self, digest: str = DIGEST, name: str = "m") -> None:
        """Let the whole build of a model succeed."""
        self.settle(name)
        stages = ["resolve", "compress", "gate"]
        for stage, following in zip(stages, [*stages[1:], None], strict=True):
            told: dict[str, Any] = {"next": following, "planHash": "b" * 64}
            if following is None:
                told["record"] = record(digest)
            self.end(stage, told, name=name)
            self.settle(name)

    def roll(self, replicas: int = 1, name: str = "m") -> None:
        """Let the Deployment's pods come up."""
        live = self.get("Deployment", names.workload(name))
        assert live is not None
        live["spec"].setdefault("replicas", replicas)
        count = live["spec"]["replicas"]
        live = self.kube.set(live)
        told = dict.fromkeys(("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"), count)
        self.kube.set(live, observedGeneration=live["metadata"]["generation"], **told)

    def everything(self) -> dict[str, list[str]]:
        """Return the names of all objects by kind, without events."""
        kinds = (MODEL, REVISION, DEPLOYMENT, JOB, *map(by_name, ("Service", "ServiceAccount", "NetworkPolicy")))
        kinds += tuple(map(by_name, ("PodDisruptionBudget", "HorizontalPodAutoscaler")))
        return {kind.name: self.kube.names(kind) for kind in kinds}
