"""The life of a model, told through the fake API server: what is there after each thing that happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import DIGEST, NAMESPACE, OTHER, Cluster, model, record

from stillhouse.api.status import Status
from stillhouse.clients.kube.interface import Unavailable
from stillhouse.clients.kube.kinds import EVENT, REVISION
from stillhouse.reconcile.decide import decide


def test_a_new_model_begins_with_the_stage_that_pins_its_sources(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    assert cluster.job("resolve") is not None
    assert cluster.everything()["Job"] == [(cluster.job("resolve") or {})["metadata"]["name"]]
    assert cluster.everything()["Deployment"] == []
    assert cluster.condition("Accepted") == ("True", "Accepted")
    assert cluster.condition("Ready") == ("False", "Building")
    assert cluster.condition("Available") == ("False", "ServerDown")
    assert cluster.condition("Reconciling")[0] == "True"


def test_stages_follow_each_other_and_end_in_a_record_and_a_server(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.build()
    assert cluster.everything() == {
        "DistilledModel": ["m"],
        "ModelRevision": cluster.kube.names(REVISION),
        "Deployment": ["m-main"],
        "Job": [],
        "Service": ["m", "m-main-backend"],
        "ServiceAccount": ["m-serve"],
        "NetworkPolicy": ["m-main"],
        "PodDisruptionBudget": ["m-main"],
        "HorizontalPodAutoscaler": ["m-main"],
    }
    assert cluster.condition("Built") == ("True", "Built")
    assert cluster.condition("GatePassed") == ("True", "GatePassed")
    assert cluster.condition("Ready") == ("False", "RollingOut")
    cluster.roll()
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "Serving")
    assert cluster.condition("Reconciling") == ("", "")
    status = cluster.status()
    assert status["revision"]["digest"] == DIGEST
    assert status["revision"]["size"] == "6.6 MiB"
    assert status["endpoint"] == "m.default.svc:8001"
    assert status["replicas"] == status["readyReplicas"] == 1


MADE_OF = {
    "sources": [{"name": "source", "uri": "models:minilm", "digest": "sha256:" + "d" * 64}],
    "toolchain": [{"name": "torch", "value": "2.9.1"}],
}


def test_what_serves_says_what_it_was_made_of(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    cluster.end("resolve", {"next": None, "planHash": "b" * 64, "record": record(lineage=MADE_OF)})
    cluster.settle()
    revision = cluster.status()["revision"]
    assert revision["lineage"] == MADE_OF
    assert (revision["requestHash"], revision["planHash"]) == (cluster.request(model()), "b" * 64)
    Status.model_validate(cluster.status(), by_alias=True, by_name=False)


def test_a_build_that_the_gate_refused_says_what_it_was_made_of(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    told = {"message": "0.61", "planHash": "b" * 64, "record": {"candidates": [], "lineage": MADE_OF}}
    cluster.end("resolve", told, code=3)
    cluster.settle()
    (name,) = cluster.kube.names(REVISION)
    spec = (cluster.get("ModelRevision", name) or {})["spec"]
    assert (spec["outcome"], spec["lineage"], spec["planHash"]) == ("Failed", MADE_OF, "b" * 64)


def test_nothing_is_written_when_nothing_has_changed(serving: Cluster) -> None:
    before = len(serving.kube.writes)
    for _ in range(5):
        serving.reconcile()
    assert serving.kube.writes[before:] == []


def test_what_a_status_no_longer_says_goes_at_every_depth(serving: Cluster) -> None:
    live = serving.get("DistilledModel", "m")
    assert live is not None
    before = live["status"]
    serving.kube.set(live, **{**before, "former": 1, "revision": {**before["revision"], "former": {"a": 1}}})
    serving.settle()
    assert serving.status() == before


def test_a_failed_gate_leaves_the_former_revision_in_place(serving: Cluster) -> None:
    serving.apply(model(compress={"precision": "fp32"}))
    serving.settle()
    assert serving.condition("Ready") == ("False", "Building")
    assert serving.condition("Available") == ("True", "Serving")
    serving.end("resolve", {"next": "gate"})
    serving.settle()
    serving.end("gate", {"message": "mrr@10 0.61, at least 0.70 wanted", "record": {"candidates": []}}, code=3)
    serving.settle()
    assert serving.condition("GatePassed") == ("False", "GateFailed")
    assert serving.condition("Ready") == ("False", "GateFailed")
    assert serving.condition("Stalled") == ("True", "GateFailed")
    assert serving.condition("Available") == ("True", "Serving")
    assert serving.status()["revision"]["digest"] == DIGEST
    assert serving.everything()["Job"] == []
    ready = next(each for each in serving.status()["conditions"] if each["type"] == "Ready")
    assert "0.61" in ready["message"]
    # The same spec again builds nothing; the former one is ready at once.
    serving.apply(model())
    serving.settle()
    assert serving.condition("Ready") == ("True", "Serving")
    assert serving.everything()["Job"] == []


def test_a_to_b_to_a_builds_nothing_twice(serving: Cluster) -> None:
    serving.apply(model(compress={"precision": "fp32"}))
    serving.build(OTHER)
    serving.roll()
    serving.settle()
    assert serving.status()["revision"]["digest"] == OTHER
    made = [write for write in serving.kube.writes if write[:2] == ("create", "Job")]
    serving.apply(model())
    serving.settle()
    assert [write for write in serving.kube.writes if write[:2] == ("create", "Job")] == made
    assert serving.status()["revision"]["digest"] == DIGEST
    template = (serving.get("Deployment", "m-main") or {})["spec"]["template"]
    assert template["metadata"]["annotations"]["stillhouse.io/digest"] == DIGEST


def test_a_spec_that_changes_during_its_build_ends_that_build(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    first = cluster.job("resolve")
    cluster.apply(model(compress={"precision": "fp32"}))
    cluster.settle()
    second = cluster.job("resolve")
    assert first is not None
    assert second is not None
    assert cluster.everything()["Job"] == [second["metadata"]["name"]] != [first["metadata"]["name"]]


def test_a_bad_spec_that_is_taken_back_recovers(serving: Cluster) -> None:
    serving.apply(model(compress={"precision": "int9"}))
    serving.settle()
    assert serving.condition("Accepted") == ("False", "InvalidSpec")
    assert serving.condition("Ready") == ("False", "InvalidSpec")
    assert serving.condition("Available") == ("True", "Serving")
    assert serving.everything()["Deployment"] == ["m-main"]
    serving.apply(model())
    serving.settle()
    assert serving.condition("Ready") == ("True", "Serving")


@pytest.mark.parametrize(
    ("uri", "says"), [("file://model", "still push"), ("models:unknown", "nothing is bound to models:unknown")]
)
def test_what_a_cluster_cannot_see_is_refused_with_the_way_out(cluster: Cluster, uri: str, says: str) -> None:
    cluster.apply(model(source={"uri": uri, "task": "sentence-embedding"}))
    cluster.settle()
    assert cluster.condition("Accepted") == ("False", "SourceUnusable")
    assert says in next(each["message"] for each in cluster.status()["conditions"] if each["type"] == "Accepted")
    assert cluster.everything()["Job"] == []


def test_a_pin_holds_a_revision_and_says_so(serving: Cluster) -> None:
    serving.apply(model(compress={"precision": "fp32"}))
    serving.build(OTHER)
    serving.roll()
    serving.settle()
    serving.apply(model(compress={"precision": "fp32"}, serve={"pin": DIGEST}))
    serving.settle()
    assert serving.status()["revision"]["digest"] == DIGEST
    assert serving.condition("Ready") == ("False", "RollingOut"), "its pods come up"
    serving.roll()
    serving.settle()
    assert serving.condition("Ready") == ("True", "Pinned")
    assert serving.condition("Stalled") == ("", ""), "who asked for it waits for nothing"
    serving.apply(model(compress={"precision": "fp32"}, serve={"pin": "sha256:" + "d" * 64}))
    serving.settle()
    assert serving.condition("Accepted") == ("False", "PinNotFound")
    assert serving.condition("Available") == ("True", "Serving")


def test_transitions_are_told_as_events(serving: Cluster) -> None:
    told = serving.kube.names(EVENT)
    reasons = {serving.run(serving.kube.get(EVENT, NAMESPACE, name))["reason"] for name in told}
    assert {"Building", "GatePassed", "RollingOut", "Serving"} <= reasons


def test_an_event_that_is_refused_stops_nothing(cluster: Cluster) -> None:
    def refuse(verb: str, kind: Any, name: str) -> None:
        if kind is EVENT:
            raise Unavailable("the API server refused", status=429)

    cluster.kube.before = refuse
    cluster.apply(model())
    cluster.settle()
    assert cluster.condition("Accepted") == ("True", "Accepted")


def test_every_reason_is_documented() -> None:
    """Those that stand in the code; what a worker says is held against the same list."""
    from stillhouse.api.status import REASONS

    room = Path(decide.__code__.co_filename).parent
    said = {name for file in room.glob("*.py") for name in re.findall(r'Verdict\(\s*"([A-Za-z]+)"', file.read_text())}
    assert said
    assert said <= REASONS.keys()
