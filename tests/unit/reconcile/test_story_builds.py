"""A build's life in the cluster: how it ends, how its words are read, how it waits for others, for its image, for Kueue."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from tests.support.cluster import DIGEST, NAMESPACE, SOURCES, Cluster, model, record

from stillhouse.clients.kube.kinds import EVENT, JOB, MODEL, POD, REVISION
from stillhouse.entrypoints.worker.given import NEEDED_VARIABLE
from stillhouse.planning.packed import PACKED, pack
from stillhouse.reconcile.admission import said_place, wait_s
from stillhouse.resources.wanted import ClusterSettings


def test_a_rebuild_annotation_builds_anew(serving: Cluster) -> None:
    body = model()
    body["metadata"]["annotations"] = {"stillhouse.io/rebuild": "1"}
    serving.apply(body)
    serving.settle()
    assert serving.condition("Ready") == ("False", "Building")
    assert serving.condition("Available") == ("True", "Serving")


@pytest.mark.parametrize(
    ("code", "killed", "told", "reason", "says"),
    [
        (137, "OOMKilled", "", "BuildFailed", "more memory"),
        (2, "", {"reason": "DataInvalid", "message": "no column text"}, "DataInvalid", "no column text"),
        (4, "", {"message": "too noisy"}, "GateInconclusive", "too noisy"),
        (1, "", "Traceback: boom", "BuildFailed", "boom"),
        (0, "", {"next": None}, "BuildFailed", "same version"),
        (0, "", {"next": "fly"}, "BuildFailed", "same version"),
    ],
)
def test_a_build_that_ends_badly_is_recorded_with_its_reason(
    cluster: Cluster, code: int, killed: str, told: Any, reason: str, says: str
) -> None:
    cluster.apply(model())
    cluster.settle()
    cluster.end("resolve", told, code=code, killed=killed)
    cluster.settle()
    assert cluster.condition("Ready") == ("False", reason)
    assert says in next(each["message"] for each in cluster.status()["conditions"] if each["type"] == "Ready")
    assert len(cluster.kube.names(REVISION)) == 1
    assert cluster.everything()["Job"] == []
    assert cluster.everything()["Deployment"] == []


@pytest.mark.parametrize("left", ['{"stage":"resolve","next":"gat', "[1, 2]", "", '{"next":null,"packedRecord":"c-n"}'])
def test_words_of_a_finished_stage_that_cannot_be_read_are_no_failure_for_good(left: str) -> None:
    """A kubelet cuts them where others have put containers into the pod: no property of the spec."""
    cluster = Cluster(settings=ClusterSettings(sources=SOURCES, max_concurrent_builds=1))
    cluster.apply(model())
    cluster.settle()
    cluster.end("resolve", left)
    cluster.settle()
    job = cluster.job("resolve")
    assert job is not None
    assert cluster.kube.names(REVISION) == []
    assert cluster.condition("Ready") == ("False", "RecordUnreadable")
    assert cluster.condition("Reconciling") == ("True", "RecordUnreadable")
    message = next(each["message"] for each in cluster.status()["conditions"] if each["type"] == "Built")
    fix = f"kubectl delete job {job['metadata']['name']} -n {NAMESPACE}"
    assert fix in message
    other = cluster.apply(model("n"))
    cluster.settle("n")
    assert cluster.job("resolve", "n") is not None, "it keeps no place from others"
    cluster.run(cluster.kube.delete(MODEL, NAMESPACE, "n", other["metadata"]["uid"]))
    cluster.settle("n")
    cluster.run(cluster.kube.delete(JOB, NAMESPACE, job["metadata"]["name"], job["metadata"]["uid"]))
    cluster.settle()
    assert cluster.job("resolve") is not None
    cluster.build()
    assert cluster.condition("Built") == ("True", "Built")


def test_a_packed_record_is_read(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    cluster.end("resolve", {"next": None, "planHash": "b" * 64, PACKED: pack(record(DIGEST))})
    cluster.settle()
    assert cluster.status()["revision"]["digest"] == DIGEST


def test_a_job_whose_pod_is_gone_is_asked_again(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    job = cluster.job("resolve")
    assert job is not None
    cluster.kube.set(job, conditions=[{"type": "Complete", "status": "True"}])
    cluster.settle()
    again = cluster.job("resolve")
    assert again is not None
    assert again["metadata"]["uid"] != job["metadata"]["uid"]


def test_builds_wait_for_each_other_in_the_order_of_their_age(cluster: Cluster) -> None:
    few = Cluster(settings=dataclasses.replace(cluster.settings, max_concurrent_builds=2))
    for name in ("a", "b", "c", "d"):
        few.apply(model(name))
    for name in ("d", "a", "c", "b"):
        few.settle(name)
    assert {name[0] for name in few.kube.names(JOB)} == {"a", "d"}, "d came first, while nobody else had asked"
    assert few.status("b")["progress"].startswith("queued: number 1 of") or few.status("c")["progress"].startswith(
        "queued: number 1 of"
    )
    for name in ("c", "b", "c"):
        few.settle(name)
    assert few.status("b")["progress"].startswith("queued: number 1 of")
    assert few.status("c")["progress"].startswith("queued: number 2 of")
    assert few.condition("Ready", "b") == ("False", "Building")
    few.end("resolve", {"next": None, "record": record()}, name="a")
    few.settle("c")
    assert not [name for name in few.kube.names(JOB) if name.startswith("c")], "b is before it"
    few.settle("a")
    few.settle("b")
    assert [name for name in few.kube.names(JOB) if name.startswith("b")]
    live = few.get("DistilledModel", "d")
    assert live is not None
    few.run(few.kube.delete(MODEL, NAMESPACE, "d", live["metadata"]["uid"]))
    few.settle("c")
    assert [name for name in few.kube.names(JOB) if name.startswith("c")]


def test_who_waits_far_behind_is_not_written_at_every_build_that_begins() -> None:
    cluster = Cluster(settings=ClusterSettings(sources=SOURCES, max_concurrent_builds=1))
    names_ = [f"m{number:02}" for number in range(40)]
    for name in names_:
        cluster.apply(model(name))

    def round_() -> int:
        for name in names_:
            cluster.settle(name)
        before = len(cluster.kube.writes)
        for name in names_:
            cluster.reconcile(name)
        assert len(cluster.kube.writes) == before
        return before

    before = round_()
    assert cluster.status("m05")["progress"] == "queued: number 5 of those that wait for a build to end"
    assert cluster.status("m15")["progress"] == "queued: beyond number 10 of those that wait for a build to end"
    assert cluster.status("m39")["progress"] == "queued: beyond number 20 of those that wait for a build to end"
    cluster.end("resolve", {"next": None, "record": record()}, name="m00")
    round_()
    moved = {name for verb, kind, name in cluster.kube.writes[before:] if kind == "DistilledModel" and verb == "patch"}
    assert moved == {f"{NAMESPACE}/m{number:02}" for number in (*range(12), 21)}


def test_who_waits_looks_again_the_later_the_more_are_before_it() -> None:
    assert [wait_s(position) for position in (1, 10, 11, 35, 5000)] == [5, 5, 10, 20, 60]
    assert [said_place(position) for position in (10, 11, 20, 21, 100000)] == [
        "number 10", "beyond number 10", "beyond number 10", "beyond number 20", "beyond number 5000",
    ]  # fmt: skip


def test_a_build_whose_image_is_missing_says_so_once_and_goes_on_when_it_comes(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    job = cluster.job("resolve")
    assert job is not None
    owner = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    meta = {"name": "p", "labels": job["spec"]["template"]["metadata"]["labels"], "ownerReferences": [owner]}
    pod = cluster.run(cluster.kube.create(POD, NAMESPACE, {"apiVersion": "v1", "kind": "Pod", "metadata": meta}))
    before = len(cluster.kube.writes)

    def waits(reason: str, told: str) -> None:
        worker = {"name": "worker", "image": "r/worker:1", "state": {"waiting": {"reason": reason, "message": told}}}
        cluster.kube.set(pod, containerStatuses=[worker])
        cluster.settle()

    for _ in range(3):
        waits("ErrImagePull", "not found")
        waits("ImagePullBackOff", 'Back-off pulling image "r/worker:1": ErrImagePull: not found')
    said = ("False", "ImageUnavailable")
    assert cluster.condition("Ready") == cluster.condition("Built") == said
    assert cluster.condition("Reconciling") == ("True", "ImageUnavailable")
    assert cluster.condition("Stalled") == ("", "")
    (ready,) = [each for each in cluster.status()["conditions"] if each["type"] == "Ready"]
    assert ready["message"] == "resolve: r/worker:1 cannot be pulled: not found"
    written = [write[:2] for write in cluster.kube.writes[before:] if write[1] != "Pod"]
    assert written == [("patch", "DistilledModel"), ("create", "Event")]
    (event,) = [each for each in cluster.run(cluster.kube.find(EVENT)) if each["reason"] == "ImageUnavailable"]
    assert event["type"] == "Warning"
    cluster.kube.set(pod, containerStatuses=[{"name": "worker", "state": {"running": {}}}])
    cluster.settle()
    assert cluster.condition("Ready") == cluster.condition("Built") == ("False", "Building")
    cluster.run(cluster.kube.delete(POD, NAMESPACE, "p", pod["metadata"]["uid"]))
    cluster.build()
    assert cluster.condition("Built") == ("True", "Built")


def test_how_a_build_runs_is_no_other_build(serving: Cluster) -> None:
    before = len(serving.kube.writes)
    serving.apply(model(build={"queue": "team-a", "resources": {"limits": {"memory": "64Gi"}}}))
    serving.settle()
    assert serving.condition("Ready") == ("True", "Serving")
    assert [write for write in serving.kube.writes[before:] if write[0] == "create"] == []


def test_what_kueue_holds_keeps_nobody_waiting() -> None:
    cluster = Cluster(settings=ClusterSettings(sources=SOURCES, max_concurrent_builds=1))
    for name in ("m", "n"):
        cluster.apply(model(name, build={"queue": "team-a"}))
        cluster.settle(name)
    assert cluster.job("resolve", "n") is None
    held = cluster.job("resolve", "m")
    assert held is not None
    cluster.kube.set({**held, "spec": {**held["spec"], "suspend": True}})
    cluster.settle("n")
    assert cluster.job("resolve", "n") is not None
    cluster.settle("m")
    assert cluster.status()["progress"] == "resolve: queued by Kueue in team-a"


def test_the_first_stage_is_told_what_the_namespace_needs_of_its_store(serving: Cluster) -> None:
    serving.apply(model(compress={"precision": "fp32"}))
    serving.settle()
    told = {}
    for stage in ("resolve", "gate"):
        job = serving.job(stage)
        assert job is not None
        (worker,) = job["spec"]["template"]["spec"]["containers"]
        told[stage] = {each["name"]: each["value"] for each in worker["env"] if "value" in each}.get(NEEDED_VARIABLE)
        serving.end(stage, {"next": "gate"})
        serving.settle()
    assert json.loads(str(told["resolve"])) == {"namespace": NAMESPACE, "models": ["m"], "digests": [DIGEST[:23]]}
    assert told["gate"] is None
