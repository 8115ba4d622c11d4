"""Serving, told through the fake API server: pods in trouble, revisions kept and forgotten, monitors, pins, Recreate."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cluster import DIGEST, NAMESPACE, Cluster, model

from stillhouse.clients.kube.kinds import EVENT, MONITOR, POD, REVISION
from stillhouse.resources import labels, names


def digest(number: int) -> str:
    return "sha256:" + f"{number:064x}"


def spec(number: int, **serve: Any) -> dict[str, Any]:
    """Return a model that asks for another build than those of other numbers."""
    return model(serve={"batching": {"maxBatchSize": number + 1}, **serve})


def events(cluster: Cluster, reason: str) -> list[dict[str, Any]]:
    found = cluster.run(cluster.kube.find(EVENT, NAMESPACE))
    return [each for each in found if each["reason"] == reason]


def message(cluster: Cluster, kind: str) -> str:
    return next(str(each["message"]) for each in cluster.status()["conditions"] if each["type"] == kind)


def build(cluster: Cluster, number: int, **serve: Any) -> None:
    cluster.apply(spec(number, **serve))
    cluster.build(digest(number))
    cluster.roll()
    cluster.settle()


def fail(cluster: Cluster, number: int, **serve: Any) -> None:
    cluster.apply(spec(number, **serve))
    cluster.settle()
    cluster.end("resolve", {"message": "bad rows"}, code=2)
    cluster.settle()


def digests(cluster: Cluster) -> list[str]:
    found = cluster.run(cluster.kube.find(REVISION, NAMESPACE))
    return sorted(each["spec"].get("digest", each["spec"]["reason"]) for each in found)


def test_former_revisions_beyond_the_limit_are_forgotten_and_the_one_that_serves_never(cluster: Cluster) -> None:
    for number in range(5):
        build(cluster, number, revisionHistoryLimit=2)
    assert digests(cluster) == [digest(number) for number in (2, 3, 4)]
    assert cluster.status()["revision"]["digest"] == digest(4)
    # The oldest that is left serves again: none of the others is older than it, and the newest are kept.
    cluster.apply(spec(2, revisionHistoryLimit=1))
    cluster.settle()
    assert cluster.status()["revision"]["digest"] == digest(2)
    assert digests(cluster) == [digest(2), digest(4)]


def test_a_pinned_revision_is_kept_however_old(cluster: Cluster) -> None:
    build(cluster, 0, revisionHistoryLimit=1)
    for number in range(1, 4):
        cluster.apply(spec(number, revisionHistoryLimit=1, pin=digest(0)))
        cluster.build(digest(number))
    assert digests(cluster) == [digest(number) for number in (0, 2, 3)]
    assert cluster.status()["revision"]["digest"] == digest(0)
    assert cluster.status()["pin"] == digest(0)[7:19]
    cluster.apply(spec(3, revisionHistoryLimit=1))
    cluster.settle()
    assert "pin" not in cluster.status()
    assert digests(cluster) == [digest(2), digest(3)]


def test_a_failed_record_that_the_spec_asks_for_is_kept_and_nothing_is_built_again(cluster: Cluster) -> None:
    build(cluster, 0)
    for number in range(1, 4):
        fail(cluster, number, revisionHistoryLimit=1)
    assert digests(cluster) == sorted([digest(0), "BuildFailed", "BuildFailed"])
    made = [write for write in cluster.kube.writes if write[:2] == ("create", "Job")]
    for _ in range(3):
        cluster.reconcile()
    assert [write for write in cluster.kube.writes if write[:2] == ("create", "Job")] == made
    assert cluster.condition("Stalled") == ("True", "BuildFailed")
    # A spec whose failure was forgotten is tried again.
    cluster.apply(spec(1, revisionHistoryLimit=1))
    cluster.settle()
    assert cluster.job("resolve") is not None


@pytest.mark.parametrize("change", [{"pin": "sha256:" + "d" * 64}, {"source": {"uri": "models:none"}}], ids=["pin", "source"])
def test_nothing_is_forgotten_while_it_is_not_known_what_is_asked_for(cluster: Cluster, change: dict[str, Any]) -> None:
    for number in range(3):
        build(cluster, number)
    serve = {"revisionHistoryLimit": 1, **({"pin": change["pin"]} if "pin" in change else {})}
    body = spec(2, **serve)
    if "source" in change:
        body["spec"]["source"]["uri"] = change["source"]["uri"]
    cluster.apply(body)
    cluster.settle()
    assert len(digests(cluster)) == 3


def crash(cluster: Cluster, text: str) -> None:
    """Let the newest revision's pod end, as the kubelet says it."""
    live = cluster.get("Deployment", names.workload("m"))
    assert live is not None
    template = live["spec"]["template"]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "m-main-x", "labels": template["metadata"]["labels"]}}
    pod = cluster.get("Pod", "m-main-x") or cluster.run(cluster.kube.create(POD, NAMESPACE, body))
    ended = {"exitCode": 1, "reason": "Error", "message": text}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    cluster.kube.set(
        pod, containerStatuses=[{"name": "triton", "image": "i", "state": state, "lastState": {"terminated": ended}}]
    )


def test_a_server_that_goes_on_ending_is_not_ready_and_its_last_lines_are_in_condition_and_event(serving: Cluster) -> None:
    serving.apply(spec(1))
    serving.build(digest(1))
    crash(serving, "loading\nCUDA is not there")
    serving.settle()
    assert serving.condition("Ready") == ("False", "ServerCrashes")
    assert serving.condition("Available") == ("True", "Serving"), "the former pods go on"
    assert serving.condition("Reconciling") == ("True", "ServerCrashes")
    assert "CUDA is not there" in message(serving, "Ready")
    (told,) = events(serving, "ServerCrashes")
    assert told["type"] == "Warning"
    assert "CUDA is not there" in told["note"]
    before = len(serving.kube.writes)
    crash(serving, "loading\nCUDA is not there")
    for _ in range(3):
        serving.reconcile()
    assert [write for write in serving.kube.writes[before:] if write[1] != "Pod"] == []
    serving.roll()
    serving.settle()
    assert serving.condition("Ready") == ("True", "Serving")


def progress(cluster: Cluster, reason: str, available: int) -> None:
    live = cluster.get("Deployment", names.workload("m"))
    assert live is not None
    live["spec"].setdefault("replicas", 1)
    live = cluster.kube.set(live)
    condition = {"type": "Progressing", "status": "True", "reason": reason, "message": reason}
    counts = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": available, "availableReplicas": available}
    cluster.kube.set(live, observedGeneration=live["metadata"]["generation"], conditions=[condition], **counts)


def test_a_rollout_that_was_given_up_is_stalled_with_what_is_known(serving: Cluster) -> None:
    serving.apply(spec(1))
    serving.build(digest(1))
    crash(serving, "no memory")
    progress(serving, "ProgressDeadlineExceeded", 0)
    serving.settle()
    assert serving.condition("Stalled") == ("True", "ServerCrashes")
    assert serving.condition("Available") == ("False", "ServerDown")
    assert "no memory" in message(serving, "Available")


def test_while_pods_are_recreated_nobody_answers_and_that_is_a_rollout(serving: Cluster) -> None:
    serving.apply(model(serve={"strategy": {"type": "Recreate"}}))
    serving.settle()
    assert serving.get("Deployment", "m-main")["spec"]["strategy"] == {"type": "Recreate"}  # type: ignore[index]
    progress(serving, "ReplicaSetUpdated", 0)
    serving.settle()
    assert serving.condition("Available") == ("False", "RollingOut")
    assert serving.condition("Ready") == ("False", "RollingOut")
    assert serving.condition("Reconciling")[0] == "True"
    assert "Recreate" in message(serving, "Available")
    assert not [each for each in events(serving, "RollingOut") if each["type"] == "Warning"]
    progress(serving, "NewReplicaSetAvailable", 1)
    serving.settle()
    assert serving.condition("Ready") == ("True", "Serving")
    # A pod that goes later is no rollout.
    progress(serving, "NewReplicaSetAvailable", 0)
    serving.settle()
    assert serving.condition("Available") == ("False", "ServerDown")


def scaled(
    cluster: Cluster, wanted: int, there: int, available: int, *, new: int | None = None, why: str = "NewReplicaSetAvailable"
) -> None:
    """Let the Deployment's controller say how many replicas are wanted, there, new and answer."""
    live = cluster.get("Deployment", names.workload("m"))
    assert live is not None
    live = cluster.kube.set({**live, "spec": {**live["spec"], "replicas": wanted}})
    condition = {"type": "Progressing", "status": "True", "reason": why, "message": why}
    counts = {"replicas": there, "updatedReplicas": there if new is None else new}
    counts |= {"readyReplicas": available, "availableReplicas": available}
    cluster.settle()  # between the two writes, as an operator may see it
    cluster.kube.set(live, observedGeneration=live["metadata"]["generation"], conditions=[condition], **counts)
    cluster.settle()


def test_a_change_of_the_number_of_replicas_is_no_rollout(cluster: Cluster) -> None:
    cluster.apply(model(scale={"minReplicas": 1, "maxReplicas": 8}))
    cluster.build()
    scaled(cluster, 1, 1, 0, why="ReplicaSetUpdated")
    assert cluster.condition("Ready") == ("False", "RollingOut")
    scaled(cluster, 1, 1, 1)
    assert cluster.condition("Ready") == ("True", "Serving")
    told = len(cluster.kube.names(EVENT))
    for wanted, there, available in ((4, 1, 1), (4, 4, 1), (4, 4, 3), (4, 4, 4), (2, 4, 4), (2, 2, 2), (3, 2, 1)):
        scaled(cluster, wanted, there, available)
        assert cluster.condition("Ready") == ("True", "Serving"), (wanted, there, available)
        assert cluster.condition("Reconciling") == ("", "")
        assert message(cluster, "Available") == f"{available} of {wanted} replicas answer"
    assert len(cluster.kube.names(EVENT)) == told
    scaled(cluster, 3, 3, 0)
    assert cluster.condition("Ready")[0] == "False", "nobody answers"
    scaled(cluster, 3, 3, 3)
    scaled(cluster, 3, 4, 3, new=1, why="ReplicaSetUpdated")
    assert cluster.condition("Ready") == ("False", "RollingOut"), "a new template is one"
    scaled(cluster, 3, 4, 3, new=1)
    assert cluster.condition("Ready") == ("False", "RollingOut"), "also where the controller has not said so yet"


def test_below_its_least_number_of_replicas_a_model_is_not_ready(cluster: Cluster) -> None:
    cluster.apply(model(scale={"minReplicas": 2, "maxReplicas": 8}))
    cluster.build()
    scaled(cluster, 1, 1, 1)
    assert cluster.condition("Ready") == ("False", "RollingOut"), "the autoscaler has not brought the second one yet"
    scaled(cluster, 2, 2, 2)
    assert cluster.condition("Ready") == ("True", "Serving")
    scaled(cluster, 2, 2, 1)
    assert cluster.condition("Ready") == ("False", "RollingOut")
    assert cluster.condition("Available") == ("True", "Serving")


def test_who_scales_from_outside_makes_no_rollout_either(cluster: Cluster) -> None:
    cluster.apply(model(scale={"mode": "external", "replicas": 1}))
    cluster.build()
    scaled(cluster, 1, 1, 1)
    told = len(cluster.kube.names(EVENT))
    cluster.apply(model(scale={"mode": "external", "replicas": 5}))
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "Serving")
    scaled(cluster, 5, 5, 1)
    assert cluster.condition("Ready") == ("True", "Serving")
    assert len(cluster.kube.names(EVENT)) == told
    cluster.apply(model(scale={"mode": "external", "replicas": 5}, serve={"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}}))
    cluster.settle()
    assert cluster.condition("Ready") == ("False", "RollingOut")


@pytest.mark.parametrize(("trouble", "ready"), [("no node", "True"), ("crash", "False")])
def test_a_replica_more_that_does_not_come_up_is_told(cluster: Cluster, trouble: str, ready: str) -> None:
    cluster.apply(model(scale={"minReplicas": 1, "maxReplicas": 8}))
    cluster.build()
    scaled(cluster, 1, 1, 1)
    crash(cluster, "no memory")
    if trouble == "no node":
        pod = cluster.get("Pod", "m-main-x")
        assert pod is not None
        waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes: Insufficient cpu"}
        cluster.kube.set(pod, conditions=[waits])
    scaled(cluster, 2, 2, 1)
    assert cluster.condition("Ready")[0] == ready
    if trouble == "no node":
        assert message(cluster, "Available") == "1 of 2 replicas answer; 0/2 nodes: Insufficient cpu"
    else:
        assert cluster.condition("Ready")[1] == "ServerCrashes"


def test_a_changed_template_is_a_rollout_of_the_same_revision(serving: Cluster) -> None:
    made = [write for write in serving.kube.writes if write[:2] == ("create", "Job")]
    serving.apply(model(serve={"podTemplate": {"spec": {"nodeSelector": {"disk": "ssd"}}}}))
    serving.settle()
    template = serving.get("Deployment", "m-main")["spec"]["template"]  # type: ignore[index]
    assert template["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert template["metadata"]["annotations"]["stillhouse.io/digest"] == DIGEST
    assert [write for write in serving.kube.writes if write[:2] == ("create", "Job")] == made
    assert serving.condition("Ready") == ("False", "RollingOut")
    serving.roll()
    serving.apply(model())
    serving.settle()
    assert "nodeSelector" not in serving.get("Deployment", "m-main")["spec"]["template"]["spec"]  # type: ignore[index]


def test_a_spec_that_cannot_be_read_moves_no_pod_and_what_is_missing_comes_back(serving: Cluster) -> None:
    placed = model(serve={"podTemplate": {"spec": {"nodeSelector": {"disk": "ssd"}}}, "resources": {"requests": {"cpu": "100m"}}})
    serving.apply(placed)
    serving.settle()
    before = serving.get("Deployment", "m-main")
    serving.apply(model(compress={"precision": "int9"}))
    serving.settle()
    assert serving.condition("Accepted") == ("False", "InvalidSpec")
    assert serving.get("Deployment", "m-main") == before
    service = serving.get("Service", "m")
    assert service is not None
    from stillhouse.clients.kube.kinds import SERVICE

    serving.run(serving.kube.delete(SERVICE, NAMESPACE, "m", service["metadata"]["uid"]))
    serving.settle()
    assert serving.get("Service", "m") is not None


def test_what_is_known_against_the_server_is_told_once(serving: Cluster) -> None:
    (told,) = events(serving, "RuntimeAdvisory")
    assert told["type"] == "Warning"
    assert "Triton 2.51" in told["note"]
    assert "CVEs" in told["note"]
    assert len(told["note"].encode()) <= 1024
    build(serving, 1)
    serving.kube.set({**(serving.get("DistilledModel", "m") or {}), "status": {}})  # another operator has seen nothing yet
    serving.settle()
    assert len(events(serving, "RuntimeAdvisory")) == 1


def test_a_monitor_is_there_where_its_kind_is_known(serving: Cluster) -> None:
    assert serving.kube.names(MONITOR) == []
    serving.reconciler.monitors = True
    serving.settle()
    assert serving.kube.names(MONITOR) == ["m-main"]
    live = serving.get("ServiceMonitor", "m-main")
    assert live is not None
    assert live["metadata"]["labels"][labels.MODEL] == "m"
    serving.run(serving.kube.delete(MONITOR, NAMESPACE, "m-main", live["metadata"]["uid"]))
    serving.kube.unknown.add("ServiceMonitor")
    serving.settle()
    assert serving.condition("Ready") == ("True", "Serving"), "a definition that went stops nothing"
    assert not serving.reconciler.monitors
