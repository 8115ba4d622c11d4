"""What builds say of themselves: when it is written, and when not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cluster import NAMESPACE, Cluster, model

from stillhouse.clients.kube.kinds import POD
from stillhouse.clients.progress import Progress
from stillhouse.reconcile.progress import LEAST_S, Polling


class Pods:
    """A cluster whose build's pod runs, and what that says."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.cluster.apply(model())
        self.cluster.settle()
        self.now = 0.0
        self.says: Progress | None = None
        self.asked: list[str] = []
        self.changed: list[Any] = []
        self.polling = Polling(self.cluster.cache, self.changed.append, self._ask, lambda: self.now)

    async def _ask(self, address: str) -> Progress | None:
        self.asked.append(address)
        return self.says

    def start(self, phase: str = "Running", owner: str = "", address: str = "10.0.0.7", name: str = "p") -> None:
        job = self.cluster.job("resolve")
        assert job is not None
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": job["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [{"kind": "Job", "name": "j", "uid": owner or job["metadata"]["uid"]}],
            },
            "status": {
                "phase": phase,
                "podIP": address,
                "containerStatuses": [{"name": "worker", "state": {"running": {}}}],
            },
        }
        self.cluster.run(self.cluster.kube.create(POD, NAMESPACE, body))

    def round(self) -> str:
        """Ask, do the work that follows, and return the progress of the status."""
        self.cluster.run(self.polling.round())
        while self.changed:
            self.changed.pop()
            self.cluster.reconcile()
        return str(self.cluster.status()["progress"])

    @property
    def writes(self) -> int:
        return len(self.cluster.kube.writes)


@pytest.fixture
def pods() -> Pods:
    found = Pods()
    found.start()
    found.cluster.settle()
    return found


def at(step: str, figures: str = "") -> Progress:
    return Progress(step, 2, 5, figures)


def test_a_step_is_told(pods: Pods) -> None:
    assert pods.round() == "resolve: running"
    pods.says = at("train/student", "30/900 steps")
    assert pods.round() == "resolve: train/student (2/5): 30/900 steps"
    assert pods.asked == ["10.0.0.7"] * 2


def test_a_model_is_written_every_fifteen_seconds_at_most(pods: Pods) -> None:
    pods.says = at("a", "1")
    pods.round()
    before = pods.writes
    for count in range(2, 5):
        pods.now += LEAST_S / 4
        pods.says = at("b", str(count))
        assert pods.round() == "resolve: a (2/5): 1"
    assert pods.writes == before
    pods.now += LEAST_S / 4
    assert pods.round() == "resolve: b (2/5): 4"
    assert pods.writes == before + 1


def test_what_is_not_new_is_not_written_and_who_does_not_answer_changes_nothing(pods: Pods) -> None:
    pods.says = at("a", "1")
    pods.round()
    before = pods.writes
    for says in (at("a", "1"), None, at("a", "1"), None):
        pods.now += 10 * LEAST_S
        pods.says = says
        assert pods.round() == "resolve: a (2/5): 1"
        pods.cluster.reconcile()
    assert pods.writes == before


def test_only_running_pods_of_our_own_jobs_are_asked() -> None:
    pods = Pods()
    pods.start("Pending", name="a")
    pods.start("Succeeded", name="b")
    pods.start(owner="a stranger's", name="c")
    pods.start(address="", name="d")
    pods.round()
    assert pods.asked == []


def test_what_a_pod_said_is_forgotten_with_it(pods: Pods) -> None:
    pods.says = at("a", "1")
    pods.round()
    first = pods.cluster.get("Pod", "p")
    assert first is not None
    pods.cluster.run(pods.cluster.kube.delete(POD, NAMESPACE, "p", uid=first["metadata"]["uid"]))
    pods.start()
    pods.says = None
    assert pods.round() == "resolve: a (2/5): 1", "nobody has looked at it again yet"
    pods.cluster.reconcile()
    assert pods.cluster.status()["progress"] == "resolve: running"


def test_a_build_that_has_ended_is_not_asked(pods: Pods) -> None:
    pods.cluster.end("resolve", {"next": "gate"})
    pods.cluster.settle()
    pods.asked.clear()
    pods.round()
    assert pods.asked == []
