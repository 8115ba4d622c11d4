"""Which pods are asked, whatever order watches and lists come in."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.clients.kube.kinds import MODEL, POD
from stillhouse.resources import labels
from stillhouse.scaling.targets import Targets, cpus_of, instances_of

KEY = ("default", "m")


def model(version: int, most: int = 3, uid: str = "uid-m") -> dict[str, Any]:
    meta = {"namespace": "default", "name": "m", "uid": uid, "resourceVersion": str(version)}
    return {"kind": "DistilledModel", "metadata": meta, "spec": {"scale": {"minReplicas": 1, "maxReplicas": most}}}


def pod(name: str, version: int, *, ready: bool = True, uid: str = "") -> dict[str, Any]:
    marks = {labels.MODEL: "m", labels.COMPONENT: "serve"}
    meta = {"namespace": "default", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version), "labels": marks}
    return {
        "kind": "Pod",
        "metadata": meta,
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def known() -> Targets:
    targets = Targets()
    targets.see("ADDED", model(1))
    targets.see("ADDED", pod("a", 2))
    return targets


def names(targets: Targets) -> list[str]:
    return sorted(each.uid.removeprefix("uid-") for each in targets.by_model().get(KEY, []))


def test_a_pod_that_was_seen_while_the_list_ran_stays() -> None:
    targets = known()
    targets.see("ADDED", pod("b", 11))
    targets.replace(POD, [pod("a", 2)], 10)
    assert names(targets) == ["a", "b"]


def test_a_pod_that_ended_while_the_list_ran_does_not_come_back() -> None:
    targets = known()
    targets.see("DELETED", pod("a", 12))
    targets.replace(POD, [pod("a", 2)], 10)
    assert names(targets) == []
    targets.see("ADDED", pod("a", 13, uid="uid-again"))
    assert names(targets) == ["again"], "one of its name that is made later is another"


def test_a_list_does_not_undo_what_was_told_later() -> None:
    targets = known()
    targets.see("MODIFIED", pod("a", 12, ready=False))
    targets.replace(POD, [pod("a", 2)], 10)
    assert names(targets) == []


def test_a_list_of_a_cache_that_is_behind_takes_nothing_away() -> None:
    targets = known()
    targets.replace(POD, [], 1)
    assert names(targets) == ["a"]


def test_what_a_watch_has_missed_comes_and_goes_with_the_list() -> None:
    targets = known()
    targets.replace(POD, [pod("b", 7)], 10)
    assert names(targets) == ["b"]
    targets.replace(POD, [], 11)
    assert names(targets) == []


def test_models_likewise() -> None:
    targets = known()
    targets.see("MODIFIED", model(12, most=1))
    targets.replace(MODEL, [model(1)], 10)
    assert targets.by_model() == {}, "it may not scale any more"
    targets.see("DELETED", model(13, most=1))
    targets.replace(MODEL, [model(1)], 10)
    assert targets.by_model() == {}
    targets.see("ADDED", model(14, uid="uid-other"))
    targets.replace(MODEL, [], 10)
    assert list(targets.by_model()) == [KEY]
    targets.replace(MODEL, [], 20)
    assert targets.by_model() == {}


@pytest.mark.parametrize(
    ("settings", "instances", "cpus"),
    [
        ('{"cpus": 2.0, "instances": 2, "threads": 1}', 2.0, 2.0),
        ('{"cpus": 0.2}', 1.0, 0.2),
        ('{"cpus": null, "instances": 3}', 3.0, None),
        ('{"cpus": 4.0, "gpus": 2, "instances": 2}', 4.0, 4.0),
        ('{"cpus": "many"}', 1.0, None),
        ("[]", 1.0, None),
        ("no JSON", 1.0, None),
    ],
)
def test_what_a_pod_has_is_read_from_what_it_is_started_with(settings: str, instances: float, cpus: float | None) -> None:
    variable = {"name": "STILLHOUSE_SERVE", "value": settings}
    body = pod("a", 2) | {"spec": {"containers": [{"name": "sidecar"}, {"name": "triton", "env": [variable]}]}}
    assert (instances_of(body), cpus_of(body)) == (instances, cpus)
    targets = known()
    targets.see("MODIFIED", body | {"metadata": body["metadata"] | {"resourceVersion": "3"}})
    assert [(each.instances, each.cpus) for each in targets.by_model()[KEY]] == [(instances, cpus)]
