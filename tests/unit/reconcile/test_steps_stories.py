"""Stories at random of a model, a gateway before it, a cascade and steps that take turns: what holds at every moment of each.

Section 9 of docs/design/20261126-edge-cluster.md says what that is. Pods follow their workloads as controllers would let them:
new ones first, then those of before go.
"""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.cluster import NAMESPACE, model
from tests.support.fronted import GATEWAY, Fronted
from tests.unit.reconcile.test_faults import everything
from tests.unit.reconcile.test_steps import WINDOW, edge

from stillhouse.api.status import Status
from stillhouse.clients.kube.kinds import POD
from stillhouse.resources import labels

FEWER = {**WINDOW, "hop": 2}
SPECS = {
    "model": model(),
    "smaller": model(compress={"precision": "fp32"}),
    "passed on": model(edge={"rest": False}),
    "steps": model(edge=edge()),
    "other steps": model(edge=edge(FEWER, model="other")),
    "steps elsewhere": model(edge=edge(address="grpcs://cloud.example:443")),
}
PAIRS = {("steps", "large"), ("other steps", "other"), ("steps", "cloud.example:443")}
"""Whose features may go to whom."""


def digest_of(request: str) -> str:
    return "sha256:" + hashlib.sha256(request.encode()).hexdigest()


class Story(Fronted):
    """A cluster whose pods come and go as its workloads say."""

    count = 0

    def write(self, name: str) -> None:
        self.apply(SPECS[name])
        self.settle()

    def finish(self) -> None:
        """Let the build that is wanted succeed, if there is one."""
        body = self.get("DistilledModel", "m") or {}
        steps = "preprocess" in body["spec"].get("edge", {})
        for stage in ("resolve",) if steps else ("resolve", "compress", "gate"):
            if self.job(stage) is None:
                return
            told: dict[str, Any] = {"next": None if steps else {"resolve": "compress", "compress": "gate"}.get(stage)}
            if told["next"] is None:
                precision = "steps" if steps else "int8"
                told["record"] = {"digest": digest_of(self.request(body)), "precision": precision, "size": 900}
            self.end(stage, {**told, "planHash": "b" * 64})
            self.settle()

    def come(self) -> None:
        """Start what the workloads want, ready, and tell the clients' Service."""
        for live in self._workloads():
            template, count = live["spec"]["template"], live["spec"].setdefault("replicas", 1)
            for number in range(count - len(self._pods(template))):
                self.count += 1
                meta = {**template["metadata"], "name": f"{live['metadata']['name']}-{self.count}-{number}"}
                made = self.run(self.kube.create(POD, NAMESPACE, {"apiVersion": "v1", "kind": "Pod", "metadata": meta}))
                self.kube.set(made, phase="Running", conditions=[{"type": "Ready", "status": "True"}])
            sized = self.kube.set(live)
            told = dict.fromkeys(("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"), count)
            over = [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]
            self.kube.set(sized, observedGeneration=sized["metadata"]["generation"], conditions=over, **told)
        self._told()
        self.settle()

    def go(self) -> None:
        """End the pods that no workload wants any more."""
        for pod in self._all():
            mine = [each for each in self._workloads() if self._of(pod, each)]
            wanted = any(pod in self._pods(each["spec"]["template"]) for each in mine)
            if not mine or (not wanted and any(self._pods(each["spec"]["template"]) for each in mine)):
                self.run(self.kube.delete(POD, NAMESPACE, pod["metadata"]["name"], pod["metadata"]["uid"]))
        self._told()
        self.settle()

    def answering(self) -> list[str]:
        """Return the pods that answer a client: chosen by the Service, of a workload that is there."""
        service = self.get("Service", "m")
        chosen = (service or {}).get("spec", {}).get("selector") or {}
        there = [pod for pod in self._all() if any(self._of(pod, each) for each in self._workloads())]
        return [p["metadata"]["name"] for p in there if service and chosen.items() <= p["metadata"]["labels"].items()]

    def _workloads(self) -> list[dict[str, Any]]:
        return [found for name in ("m-main", GATEWAY) if (found := self.get("Deployment", name)) is not None]

    def _all(self) -> list[dict[str, Any]]:
        return list(self.run(self.kube.find(POD, NAMESPACE, f"{labels.COMPONENT} in (serve,gateway)")))

    @staticmethod
    def _of(pod: dict[str, Any], workload: dict[str, Any]) -> bool:
        chosen: dict[str, str] = workload["spec"]["selector"]["matchLabels"]
        return chosen.items() <= pod["metadata"]["labels"].items()

    def _pods(self, template: dict[str, Any]) -> list[dict[str, Any]]:
        def same(meta: dict[str, Any]) -> bool:
            return all((meta.get(part) or {}) == (template["metadata"].get(part) or {}) for part in ("labels", "annotations"))

        return [pod for pod in self._all() if same(pod["metadata"])]

    def _told(self) -> None:
        if self.get("Service", "m") is not None:
            self.slice(*self.answering())


def holds(story: Story, answered: bool) -> bool:
    """Look at what must hold now; return whether clients are answered. `answered`: they were."""
    now = bool(story.answering())
    assert now or not answered, "clients were answered, and are no more"
    Status.model_validate(story.status())
    gateway = story.get("Deployment", GATEWAY)
    if gateway is not None and story.config()["edge"]["kind"] == "steps":
        larger = story.config()["preprocess"]["larger"]
        whom = next(iter(larger.get("backends") or ()), larger.get("model"))
        of = "steps" if story.config()["edge"]["digest"] == digest_of(story.request(SPECS["steps"])) else "other steps"
        assert (of, whom) in PAIRS, "features go to a model that was never named with them"
    return now


def rest(story: Story) -> None:
    """Let everything come to its end."""
    for _ in range(3):
        story.finish()
        story.come()
        story.later(120)
        story.go()


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from([*SPECS, "finish", "finish", "come", "come", "go", "later"]), min_size=4, max_size=12))
def test_clients_are_answered_throughout_and_the_end_is_that_of_the_last_spec(events: list[str]) -> None:
    story, answered, last = Story(), False, "model"
    story.write(last)
    for event in events:
        if event in SPECS:
            last = event
            story.write(event)
        elif event == "later":
            story.later(70)
        else:
            getattr(story, event)()
        answered = holds(story, answered)
    rest(story)
    assert story.condition("Ready") == ("True", "Serving")
    holds(story, answered)
    fresh = Story()
    fresh.write(last)
    rest(fresh)
    found, wanted = ({n for n in everything(each) if not n.startswith(("ModelRevision/", "Pod/"))} for each in (story, fresh))
    assert found == wanted
