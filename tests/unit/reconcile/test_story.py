"""The life of a model, told through the fake API server: what is there after each thing that happens."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import DIGEST, NAMESPACE, SOURCES, Cluster, model, record

from stillhouse.api.status import Status
from stillhouse.clients.kube.interface import KubeError, Unavailable, refusal
from stillhouse.clients.kube.kinds import ACCOUNT, CLAIM, DEPLOYMENT, EVENT, JOB, MODEL, POD, REVISION, Kind
from stillhouse.entrypoints.worker.given import NEEDED_VARIABLE
from stillhouse.planning.packed import PACKED, pack
from stillhouse.reconcile.admission import said_place, wait_s
from stillhouse.reconcile.decide import decide
from stillhouse.resources import names
from stillhouse.resources.guards import account
from stillhouse.resources.wanted import ClusterSettings, Owner

OTHER = "sha256:" + "c" * 64


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def serving(cluster: Cluster) -> Cluster:
    cluster.apply(model())
    cluster.build()
    cluster.roll()
    cluster.settle()
    return cluster


def test_a_new_model_begins_with_the_stage_that_pins_its_sources(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    assert cluster.job("resolve") is not None
    assert cluster.everything()["Job"] == [cluster.job("resolve")["metadata"]["name"]]  # type: ignore[index]
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
    template = serving.get("Deployment", "m-main")["spec"]["template"]  # type: ignore[index]
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


def test_a_binding_of_the_namespace_comes_before_the_operators(cluster: Cluster) -> None:
    body = model(source={"uri": "models:own", "task": "sentence-embedding"})
    cluster.apply(body)
    cluster.settle()

    def told() -> str:
        return str(next(each["message"] for each in cluster.status()["conditions"] if each["type"] == "Accepted"))

    label = f"kubectl label configmap stillhouse-sources -n {NAMESPACE} stillhouse.io/sources=bindings --overwrite"
    assert told().endswith(label), "one without the label is not seen"
    named = {"name": "stillhouse-sources", "namespace": NAMESPACE, "uid": "other", "resourceVersion": "1"}
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named}
    cluster.cache.put({**other, "data": {"models.other": "pvc://claim/other"}})
    cluster.settle()
    assert label not in told(), "this one is seen"
    cluster.cache.drop(other)
    cluster.settle()
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stillhouse-sources", "namespace": NAMESPACE}}
    assert list(cluster.cache.put({**config, "data": {"models.own": "pvc://claim/own"}})) == [(NAMESPACE, "m")]
    cluster.settle()
    assert cluster.condition("Accepted") == ("True", "Accepted")
    assert len(cluster.everything()["Job"]) == 1


@pytest.mark.parametrize("kind", ["Service", "Deployment", "ServiceAccount", "NetworkPolicy"])
def test_an_object_of_our_name_that_is_not_ours_is_left_alone(cluster: Cluster, kind: str) -> None:
    from stillhouse.clients.kube.kinds import by_name

    name = {"Service": "m", "ServiceAccount": "m-serve"}.get(kind, "m-main")
    stranger = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": {"theirs": True}}
    before = cluster.run(cluster.kube.create(by_name(kind), NAMESPACE, stranger))
    cluster.apply(model())
    if kind == "ServiceAccount":
        cluster.settle()
    else:
        cluster.build()
    assert cluster.get(kind, name) == before
    assert cluster.condition("Ready") == ("False", "NotOwned")
    assert cluster.condition("Stalled") == ("True", "NotOwned")
    cluster.run(cluster.kube.delete(by_name(kind), NAMESPACE, name, before["metadata"]["uid"]))
    cluster.settle()
    assert cluster.condition("Ready")[1] != "NotOwned"


def test_what_a_namesake_left_is_waited_for_and_made_anew(cluster: Cluster) -> None:
    left = account(Owner("m", NAMESPACE, "of-before"))
    before = cluster.run(cluster.kube.create(ACCOUNT, NAMESPACE, left))
    cluster.apply(model())
    again = cluster.run(cluster.reconciler.reconcile((NAMESPACE, "m")))
    assert again > 0
    assert cluster.get("ServiceAccount", "m-serve") == before
    assert cluster.condition("Ready") == ("False", "AwaitingCollection")
    assert cluster.condition("Reconciling") == ("True", "AwaitingCollection")
    assert cluster.condition("Stalled") == ("", "")
    cluster.run(cluster.kube.delete(ACCOUNT, NAMESPACE, "m-serve", before["metadata"]["uid"]))
    cluster.settle()
    assert cluster.condition("Ready") == ("False", "Building")
    made = cluster.get("ServiceAccount", "m-serve")
    assert made is not None
    assert made["metadata"]["uid"] != before["metadata"]["uid"]


@pytest.mark.parametrize("how", ["edited", "a label more", "a port more", "deleted", "added to"])
def test_a_child_that_was_changed_by_hand_is_restored(serving: Cluster, how: str) -> None:
    live = serving.get("Service", "m")
    assert live is not None
    if how == "deleted":
        serving.run(serving.kube.delete(serving_kind("Service"), NAMESPACE, "m", live["metadata"]["uid"]))
    elif how == "edited":
        serving.kube.set({**live, "spec": {**live["spec"], "selector": {"app": "another"}}})
    elif how == "a label more":
        serving.kube.set({**live, "spec": {**live["spec"], "selector": {**live["spec"]["selector"], "app": "another"}}})
    elif how == "a port more":
        serving.kube.set({**live, "spec": {**live["spec"], "ports": [*live["spec"]["ports"], {"port": 80}]}})
    else:
        serving.kube.set({**live, "spec": {**live["spec"], "sessionAffinity": "ClientIP"}})
    serving.settle()
    after = serving.get("Service", "m")
    assert after is not None
    assert after["spec"]["selector"] == live["spec"]["selector"]
    assert after["spec"]["ports"] == live["spec"]["ports"]
    # What we never named is nobody's business of ours.
    assert after["spec"].get("sessionAffinity") == ("ClientIP" if how == "added to" else None)


def serving_kind(name: str) -> Any:
    from stillhouse.clients.kube.kinds import by_name

    return by_name(name)


def test_replicas_belong_to_the_autoscaler(serving: Cluster) -> None:
    live = serving.get("Deployment", "m-main")
    assert live is not None
    serving.kube.set({**live, "spec": {**live["spec"], "replicas": 5}})
    serving.settle()
    assert serving.get("Deployment", "m-main")["spec"]["replicas"] == 5  # type: ignore[index]


def test_an_external_scaler_writes_the_resource_and_there_is_no_autoscaler(serving: Cluster) -> None:
    serving.apply(model(scale={"mode": "external", "replicas": 3}))
    serving.settle()
    assert serving.get("Deployment", "m-main")["spec"]["replicas"] == 3  # type: ignore[index]
    assert serving.everything()["HorizontalPodAutoscaler"] == []
    assert [write for write in serving.kube.writes if write[:2] == ("create", "Job")].__len__() == 3, "nothing was built again"


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


def test_deleting_a_model_needs_no_operator(serving: Cluster) -> None:
    live = serving.get("DistilledModel", "m")
    assert live is not None
    assert not live["metadata"].get("finalizers")
    serving.run(serving.kube.delete(serving_kind("DistilledModel"), NAMESPACE, "m", live["metadata"]["uid"]))
    assert not any(serving.everything().values())
    serving.reconcile()
    assert not any(serving.everything().values())


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


@pytest.mark.parametrize("code", [409, 429, 500])
def test_what_could_not_be_written_yet_is_not_told_as_ready(serving: Cluster, code: int) -> None:
    """The Deployment is that of the spec before, and it answers: of the new one that says nothing."""
    before = serving.status()["observedGeneration"]

    def refuse(verb: str, kind: Any, name: str) -> None:
        if kind is DEPLOYMENT and verb != "get":
            raise refusal(code, "", "injected", name)

    serving.kube.before = refuse
    serving.apply(model(scale={"mode": "external", "replicas": 3}))
    for _ in range(3):
        with pytest.raises(KubeError):
            serving.reconcile()
    if code == 409:
        assert serving.status()["observedGeneration"] == before
    else:
        assert serving.status()["observedGeneration"] == before + 1
        assert serving.condition("Ready") == ("False", "ApplyFailed")
        assert serving.condition("Available")[0] == "True"
    serving.kube.before = lambda verb, kind, name: None
    serving.settle()
    assert serving.status()["observedGeneration"] == before + 1
    assert serving.condition("Ready")[1] != "ApplyFailed"


def test_a_revision_that_could_not_be_rolled_out_yet_is_not_told_as_ready(serving: Cluster) -> None:
    """The spec has been seen, its build has ended well, and the Deployment is still that of the revision before."""

    def refuse(verb: str, kind: Any, name: str) -> None:
        if kind is DEPLOYMENT and verb != "get":
            raise refusal(429, "", "injected", name)

    serving.apply(model(compress={"precision": "fp32"}))
    serving.settle()
    serving.kube.before = refuse
    with pytest.raises(KubeError):
        serving.build(digest=OTHER)
    assert serving.condition("Ready") == ("False", "ApplyFailed")
    serving.kube.before = lambda verb, kind, name: None
    serving.settle()
    serving.roll()
    serving.settle()
    assert serving.condition("Ready") == ("True", "Serving")


def test_a_record_that_another_operator_wrote_is_taken(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    other = Cluster(kube=cluster.kube, cache=cluster.cache, settings=cluster.settings)
    cluster.end("resolve", {"next": None, "record": record()})
    cluster.follows = other.follows = False
    other.reconcile()
    cluster.reconcile()
    assert len(cluster.kube.names(REVISION)) == 1
    assert cluster.kube.names(DEPLOYMENT) == [names.workload("m")]
    assert cluster.kube.names(JOB) == []


def test_every_reason_is_documented() -> None:
    """Those that stand in the code; what a worker says is held against the same list."""
    from stillhouse.api.status import REASONS

    room = Path(decide.__code__.co_filename).parent
    said = {name for file in room.glob("*.py") for name in re.findall(r'Verdict\(\s*"([A-Za-z]+)"', file.read_text())}
    assert said
    assert said <= REASONS.keys()


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


def storage(cluster: Cluster, *modes: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "stillhouse-models", "namespace": NAMESPACE},
    }
    cluster.run(cluster.kube.create(CLAIM, NAMESPACE, {**claim, "spec": {"accessModes": list(modes)}}))


def place(cluster: Cluster, name: str, phase: str, host: str) -> None:
    """Put a serving pod on a node."""
    live = cluster.get("Deployment", "m-main")
    assert live is not None
    meta = {"name": name, "labels": live["spec"]["template"]["metadata"]["labels"]}
    made = cluster.run(cluster.kube.create(POD, NAMESPACE, {"apiVersion": "v1", "kind": "Pod", "metadata": meta}))
    cluster.kube.set(made, phase=phase, hostIP=host)


def asked_for_claims(cluster: Cluster) -> list[str]:
    asked: list[str] = []

    def before(verb: str, kind: Kind, name: str) -> None:
        if kind == CLAIM:
            asked.append(name)

    cluster.kube.before = before
    return asked


@pytest.mark.parametrize(
    ("modes", "host", "reason"),
    [
        (("ReadWriteOnce",), "10.0.0.2", "VolumeNotShared"),
        (("ReadWriteOncePod",), "10.0.0.2", "VolumeNotShared"),
        (("ReadWriteOnce", "ReadWriteMany"), "10.0.0.2", "RollingOut"),
        (("ReadWriteOnce",), "10.0.0.1", "RollingOut"),
        ((), "10.0.0.2", "RollingOut"),
    ],
)
def test_a_claim_of_one_node_is_named_where_pods_are_on_two(
    serving: Cluster, modes: tuple[str, ...], host: str, reason: str
) -> None:
    storage(serving, *modes)
    live = serving.get("Deployment", "m-main")
    assert live is not None
    serving.kube.set(live, updatedReplicas=1)
    place(serving, "a", "Running", "10.0.0.1")
    place(serving, "b", "Pending", host)
    serving.settle()
    assert serving.condition("Ready") == ("False", reason)
    before = len(serving.kube.writes)
    asked = asked_for_claims(serving)
    serving.reconcile()
    assert len(serving.kube.writes) == before
    assert not asked or not modes, "a claim's modes do not change"


def test_no_claim_is_asked_for_while_pods_come_up_as_they_should(serving: Cluster) -> None:
    asked = asked_for_claims(serving)
    for name, phase in (("a", "Running"), ("b", "Running"), ("c", "Succeeded")):
        place(serving, name, phase, "10.0.0." + str(len(name + phase)))
    serving.settle()
    assert asked == []


def test_a_build_whose_pod_waits_for_the_volume_of_another_node_says_so(serving: Cluster) -> None:
    storage(serving, "ReadWriteOnce")
    place(serving, "a", "Running", "10.0.0.1")
    serving.apply(model(compress={"precision": "fp32"}))
    serving.settle()
    job = serving.job("resolve")
    assert job is not None
    meta = {
        "name": "w",
        "labels": job["spec"]["template"]["metadata"]["labels"],
        "ownerReferences": [{"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}],
    }
    made = serving.run(serving.kube.create(POD, NAMESPACE, {"apiVersion": "v1", "kind": "Pod", "metadata": meta}))
    serving.kube.set(made, phase="Pending", hostIP="10.0.0.2")
    serving.settle()
    assert serving.status()["progress"].startswith("resolve: starting: claim stillhouse-models is ReadWriteOnce: one node alone")
