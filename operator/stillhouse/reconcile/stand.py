"""What stands for a revision, and how: the Deployment of its model, or gateways alone where it is steps before another. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stillhouse.reconcile.decide import Decision, Verdict
from stillhouse.reconcile.observed import Body, Observed
from stillhouse.reconcile.trouble import trouble
from stillhouse.resources import labels, names
from stillhouse.resources.gateway import CONFIG
from stillhouse.resources.wanted import Target

__all__ = ["Stand", "Standing", "behind_steps", "gateway_standing", "live_gateway", "model_standing", "runs_steps", "stands"]


@dataclass(frozen=True, slots=True)
class Stand:
    """How a gateway's workload stands: pods that are wanted, are there, are of the newest template, answer.

    `ended`: the rollout of the newest template has, whatever became of its pods later.
    """

    wanted: int = 0
    replicas: int = 0
    updated: int = 0
    available: int = 0
    current: bool = False
    ended: bool = False

    @property
    def full(self) -> bool:
        """Return whether the newest template alone runs, and all that is wanted of it answers."""
        return self.current and self.replicas == self.updated == self.available >= self.wanted > 0

    @property
    def complete(self) -> bool:
        """Return whether the newest template alone runs, and answers: a pod that goes and comes makes it no less so."""
        only_new = self.current and self.updated >= self.wanted and self.replicas == self.updated
        return self.full or (self.ended and only_new and self.available > 0)


def stands(workload: Body | None) -> Stand:
    """Return how a Deployment or a DaemonSet stands; nothing of one that is not there."""
    if workload is None:
        return Stand()
    said = workload.get("status") or {}
    generation = int((workload.get("metadata") or {}).get("generation") or 0)
    current = int(said.get("observedGeneration") or 0) >= generation

    def number(name: str) -> int:
        return int(said.get(name) or 0)

    if workload["kind"] == "DaemonSet":
        # It does not say when a rollout has ended; of many nodes there is always one that is away.
        there, updated = number("currentNumberScheduled"), number("updatedNumberScheduled")
        return Stand(number("desiredNumberScheduled"), there, updated, number("numberAvailable"), current, ended=True)
    wanted = int((workload.get("spec") or {}).get("replicas", 1))
    ended = any(each.get("reason") == "NewReplicaSetAvailable" for each in said.get("conditions") or [])
    return Stand(wanted, number("replicas"), number("updatedReplicas"), number("availableReplicas"), current, ended)


def live_gateway(observed: Observed) -> Body | None:
    """Return the workload of the gateway that is there, of whichever kind; of two, while one gives way, that which answers."""
    name = names.gateway(observed.owner.name)
    found = [live for kind in ("Deployment", "DaemonSet") if (live := observed.child(kind, name)) is not None]
    return max(found, key=lambda each: stands(each).available, default=None)


def runs_steps(workload: Body | None) -> bool:
    """Return whether a gateway's newest template is of steps, whatever becomes of the record that it was made from."""
    return (_config(((workload or {}).get("spec") or {}).get("template")).get("edge") or {}).get("kind") == "steps"


def behind_steps(pod: Body) -> Target | None:
    """Return whom a gateway's pod asks that runs steps: it does so to its end, whatever the spec says by then."""
    larger = (_config(pod).get("preprocess") or {}).get("larger") or {}
    if larger.get("kind") == "slices":
        return Target(model=str(larger.get("model")))
    at = str(larger.get("broker") or next(iter(larger.get("backends") or {}), ""))
    port = at.rpartition(":")[2]
    return Target(port=int(port)) if port.isdecimal() else None


def _config(template: Any) -> Body:
    """Return the configuration of a gateway's pod, or of a template."""
    text = (((template or {}).get("metadata") or {}).get("annotations") or {}).get(CONFIG)
    try:
        config = json.loads(text or "null")
    except ValueError:
        config = None
    return config if isinstance(config, dict) else {}


@dataclass(frozen=True, slots=True)
class Standing:
    """How what stands for a revision stands: pods that are wanted, are there, ready, available, of the newest template.

    `exists`: it is wanted and there; `current`: what it says is of its newest template; `rolled_out`: the rollout of that has
    ended; `given_up`: it took longer than it may; `recreating`: the former pods end first; `least` are enough once it has ended.
    """

    exists: bool = False
    wanted: int = 1
    replicas: int = 0
    ready: int = 0
    available: int = 0
    updated: int = 0
    current: bool = False
    rolled_out: bool = False
    given_up: bool = False
    recreating: bool = False
    least: int = 1
    trouble: Verdict | None = None

    @property
    def full(self) -> bool:
        """Return whether every replica is of the newest template and answers."""
        return self.exists and self.current and self.updated == self.available == self.replicas == self.wanted > 0

    @property
    def complete(self) -> bool:
        """Return whether this generation is served as it asks.

        The rollout of the newest template has ended, and as many replicas as there must be at least answer. Once it has, a
        change of their number is none of the revision: replicas that start, end or wait for a node make it no less ready.
        """
        enough = self.exists and self.current and self.updated == self.replicas and self.available >= self.least
        return enough and (self.full or (self.rolled_out and (self.trouble is None or self.homeless)))

    @property
    def homeless(self) -> bool:
        """Return whether the trouble is that no node takes a pod: a bigger cluster may be on its way."""
        return self.trouble is not None and self.trouble.reason == "Unschedulable"


def model_standing(decision: Decision, deployment: Body | None, observed: Observed, apart: Verdict | None) -> Standing:
    """Return how the model's Deployment stands; what it says of an older generation says nothing about a newer template.

    `apart`: why pods wait for a volume.
    """
    body: Body = deployment or {}
    said, spec = body.get("status") or {}, body.get("spec") or {}
    current = _current(body) or _only_scaled(observed, decision, body)
    progressing: Body = next((each for each in said.get("conditions") or [] if each.get("type") == "Progressing"), {})
    reason, scaling = progressing.get("reason"), decision.scaling
    serving = decision.serving if deployment is not None else None
    found = Standing(
        exists=serving is not None,
        wanted=int(spec.get("replicas", 1)),
        replicas=int(said.get("replicas") or 0),
        ready=int(said.get("readyReplicas") or 0),
        available=int(said.get("availableReplicas") or 0),
        updated=int(said.get("updatedReplicas") or 0),
        current=current,
        rolled_out=current and reason == "NewReplicaSetAvailable",
        given_up=current and reason == "ProgressDeadlineExceeded",
        least=1 if scaling.mode == "external" else scaling.least,
    )
    if serving is None:
        return found
    wrong: Verdict | None = None
    if not found.full:
        chosen = {labels.COMPONENT: "serve", labels.REVISION: serving.revision}
        wrong = trouble(body, observed.pods, chosen) or apart
        if wrong is None and found.given_up:
            wrong = Verdict("RollingOut", str(progressing.get("message", "")))
    recreating = (spec.get("strategy") or {}).get("type") == "Recreate" and not found.rolled_out and wrong is None
    return replace(found, trouble=wrong, recreating=recreating)


def gateway_standing(workload: Body | None, observed: Observed) -> Standing:
    """Return how gateways that are all there is of a revision stand."""
    if workload is None:
        return Standing()
    stand = stands(workload)
    wrong = None
    if not stand.full:
        wrong = trouble(workload, observed.pods, {labels.COMPONENT: "gateway"}, "spec.edge.run.resources.limits.memory")
    return Standing(
        exists=True, wanted=stand.wanted, replicas=stand.replicas, ready=stand.available, available=stand.available,
        updated=stand.updated, current=stand.current, rolled_out=stand.ended, trouble=wrong,
    )  # fmt: skip


def _current(deployment: Mapping[str, Any]) -> bool:
    """Return whether a Deployment's status is of its newest generation."""
    generation = (deployment.get("metadata") or {}).get("generation")
    return int((deployment.get("status") or {}).get("observedGeneration") or 0) >= int(generation or 0)


def _only_scaled(observed: Observed, decision: Decision, deployment: Body) -> bool:
    """Return whether a status that is behind speaks of the newest template still: a new number alone makes a new generation.

    So it is where our own write has left the template as it was; and where this generation of the model was ready already
    with this revision, since what an autoscaler writes changes no template.
    """
    if not deployment:
        return False
    former = observed.child("Deployment", deployment["metadata"]["name"])
    if former is not None and _current(former) and former["spec"].get("template") == deployment["spec"].get("template"):
        return True
    if former is not None and former["spec"].get("template") != deployment["spec"].get("template"):
        return False  # our own write, just now
    before: Body = observed.model.get("status") or {}
    ready: Body = next((each for each in before.get("conditions") or [] if each["type"] == "Ready"), {})
    same = (before.get("revision") or {}).get("name") == ((decision.serves or {}).get("metadata") or {}).get("name")
    return same and ready.get("status") == "True" and ready.get("observedGeneration") == observed.generation
