"""Specs in any order, valid and invalid, hands that delete and edit what is ours, on a real API server: nothing ever wedges.

Many models walk at once, each its own way, which its seed decides. A spec is refused by the server, or it is taken, and then
the model comes to say that it serves, or that it is stuck and on what; whatever came before, a good spec at the end serves.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.support.cluster import DIGEST, SOURCES, model
from tests.support.kube.control_plane import ControlPlane, running_control_plane
from tests.support.lives import Lives
from tests.support.operator_process import install_crds, running_operator

SEED = 20261126
GOOD = model()
CHILDREN = {
    "deployments/m-main": (client.AppsV1Api, "deployment"),
    "services/m": (client.CoreV1Api, "service"),
    "serviceaccounts/m-serve": (client.CoreV1Api, "service_account"),
    "poddisruptionbudgets/m-main": (client.PolicyV1Api, "pod_disruption_budget"),
    "networkpolicies/m-main": (client.NetworkingV1Api, "network_policy"),
}
Chance = random.Random


def precision(of: Chance) -> Any:
    return model(compress={"precision": of.choice(["int8", "fp32", "auto", "fp16", "int9", 7, None])})["spec"]


def source(of: Chance) -> Any:
    return model(source={"uri": of.choice(["models:minilm", "models:other", "file://x", "x", ""]), "task": "sentence-embedding"})[
        "spec"
    ]


def scale(of: Chance) -> Any:
    replicas = {name: of.randint(0, 5) for name in ("minReplicas", "maxReplicas", "replicas")}
    return model(scale={"mode": of.choice(["hpa", "cpu", "external", "else"]), **replicas})["spec"]


def pin(of: Chance) -> Any:
    return model(serve={"pin": of.choice([DIGEST, "sha256:" + "d" * 64, "x"])})["spec"]


def resources(of: Chance) -> Any:
    return model(serve={"resources": {"limits": {"cpu": of.choice(["500m", "2", "0", "many"]), "memory": "1Gi"}}})["spec"]


def junk(of: Chance) -> Any:
    return of.choice([None, 7, "x", [], {}, {"source": None}, {"unknown": {"a": 2**40}}])


SPECS: tuple[Callable[[Chance], Any], ...] = (lambda _: GOOD["spec"], precision, source, scale, pin, resources, junk)


@pytest.fixture(scope="module")
def plane(binaries: dict[str, Path]) -> Iterator[ControlPlane]:
    """A control plane of its own: the operator sees the whole cluster."""
    with running_control_plane(binaries) as running:
        install_crds(running)
        yield running


class Walks:
    """Models that go on at once. `refused`, `taken` and `stuck` count what became of their specs."""

    def __init__(self, api: client.ApiClient, count: int) -> None:
        self.lives = Lives(api, count)
        self._api = api
        self._chance = {name: Chance(f"{SEED} {number}") for number, name in enumerate(self.lives.namespaces)}
        self.refused, self.taken, self.by_hand, self.stuck = 0, 0, 0, Counter[str]()

    def step(self) -> None:
        """Let one thing happen to each model, and wait until each has come to an end with it."""
        for namespace, of in self._chance.items():
            if of.random() < 0.2:
                self._by_hand(namespace, of)
            else:
                self.ask(namespace, of.choice(SPECS)(of))
        self.lives.until(lambda: not self._unsettled())
        for status in self._statuses().values():
            told = {each["type"]: each for each in status["conditions"]}
            if "Stalled" in told:
                self.stuck[told["Stalled"]["reason"]] += 1
            # Nothing says that it serves what was asked for while nothing serves.
            assert told["Ready"]["status"] == "False" or told["Available"]["status"] == "True", status

    def finish(self) -> None:
        """Give each model what is good, and see it serve."""
        for namespace in self._chance:
            self.ask(namespace, GOOD["spec"])
        self.lives.until(lambda: not self.lives.waiting())

    def ask(self, namespace: str, spec: Any) -> None:
        try:
            self.lives.apply(namespace, {**GOOD, "spec": spec})
            self.taken += 1
        except client.ApiException as error:
            assert error.status in (400, 422), error
            self.refused += 1

    def _by_hand(self, namespace: str, of: Chance) -> None:
        place, (group, kind) = of.choice(list(CHILDREN.items()))
        api, name = group(self._api), place.partition("/")[2]
        self.by_hand += 1
        try:
            if of.random() < 0.5:
                getattr(api, f"delete_namespaced_{kind}")(name, namespace)
            else:
                getattr(api, f"patch_namespaced_{kind}")(
                    name, namespace, {"metadata": {"labels": {"stillhouse.io/variant": "x"}}}
                )
        except client.ApiException as error:
            if error.status != 404:  # a model that has never served has no children
                raise

    def _unsettled(self) -> list[str]:
        """Return where a model neither serves what was asked for nor says why it never will."""
        ends = {("Ready", "True"), ("Stalled", "True")}
        return [
            namespace
            for namespace, status in self._statuses().items()
            if not status["current"] or not ends & {(each["type"], each["status"]) for each in status["conditions"]}
        ]

    def _statuses(self) -> dict[str, Any]:
        listed: Any = client.CustomObjectsApi(self._api).list_cluster_custom_object(
            "stillhouse.io", "v1alpha1", "distilledmodels"
        )
        found = {}
        for each in listed["items"]:
            status = each.get("status") or {}
            current = status.get("observedGeneration") == each["metadata"]["generation"]
            found[each["metadata"]["namespace"]] = {"conditions": [], **status, "current": current}
        return {namespace: found[namespace] for namespace in self._chance}


def walk(plane: ControlPlane, folder: Path, count: int, steps: int) -> Walks:
    with plane.client() as api, running_operator(plane, folder, sources=SOURCES, words=["--resync-seconds=5"]) as operator:
        walks = Walks(api, count)
        for namespace in walks.lives.namespaces:
            walks.ask(namespace, GOOD["spec"])
        for _ in range(steps):
            walks.step()
        walks.finish()
        for end in walks.lives.ends().values():  # which fails for an orphan as well
            revision = end["distilledmodels/m"]["status"]["revision"]
            assert (
                end["deployments/m-main"]["spec"]["template"]["metadata"]["annotations"]["stillhouse.io/digest"]
                == revision["digest"]
            )
            for child in CHILDREN:
                assert end[child]["metadata"]["labels"].get("stillhouse.io/variant", "") != "x", child
            assert not [name for name in end if name.startswith("jobs/")]
        assert not [each for each in operator.records() if each["level"] == "CRITICAL" or "a bug" in each["message"]]
    return walks


def test_some_walks(plane: ControlPlane, tmp_path: Path) -> None:
    walks = walk(plane, tmp_path, count=30, steps=6)
    assert walks.taken > 60
    assert walks.refused > 30
    assert walks.by_hand > 20
    assert set(walks.stuck) >= {"PinNotFound", "SourceUnusable"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_transitions(plane: ControlPlane, tmp_path: Path) -> None:
    walks = walk(plane, tmp_path, count=100, steps=20)
    assert walks.taken + walks.refused + walks.by_hand >= 2000
