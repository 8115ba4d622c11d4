"""The operator on a real API server that refuses, holds a stranger's object, or is given what is large and odd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client
from tests.support.cluster import DIGEST, SOURCES, model, record
from tests.support.hands import PLACE, Hands, eventually
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import Operator, install_crds, running_operator


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    install_crds(control_plane)
    with running_operator(control_plane, tmp_path, namespace=namespace, lease_namespace=namespace, sources=SOURCES) as running:
        yield running


@pytest.fixture
def hands(operator: Operator, api_client: client.ApiClient, namespace: str) -> Hands:
    return Hands(api_client, namespace)


def test_a_strangers_object_is_left_alone_until_it_goes(hands: Hands) -> None:
    mine = {"metadata": {"name": "m"}, "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]}}
    before = hands.core.create_namespaced_service(hands.namespace, mine)
    hands.apply(model())
    hands.build()
    eventually(lambda: hands.condition("Ready") == ("False", "NotOwned"))
    assert hands.condition("Stalled") == ("True", "NotOwned")
    after = hands.core.read_namespaced_service("m", hands.namespace)
    assert after.metadata.resource_version == before.metadata.resource_version
    hands.core.delete_namespaced_service("m", hands.namespace)
    live = hands.get()
    live["metadata"].setdefault("labels", {})["again"] = "x"  # nothing of ours has changed: a stranger's object is not watched
    hands.objects.replace_namespaced_custom_object(*PLACE, hands.namespace, "distilledmodels", "m", live)
    eventually(lambda: hands.core.read_namespaced_service("m", hands.namespace).spec.selector.get("stillhouse.io/model") == "m")
    eventually(lambda: hands.condition("Ready") == ("False", "RollingOut"))


def test_a_quota_is_told_and_its_end_is_seen(hands: Hands) -> None:
    hard = {"count/deployments.apps": "0"}
    quota = {"metadata": {"name": "none"}, "spec": {"hard": hard}}
    hands.core.create_namespaced_resource_quota(hands.namespace, quota)
    hands.core.patch_namespaced_resource_quota_status("none", hands.namespace, {"status": {"hard": hard, "used": hard}})
    hands.apply(model())
    hands.end("resolve", {"next": None, "record": record()})
    eventually(lambda: hands.condition("Ready") == ("False", "ApplyFailed"))
    message = next(each["message"] for each in hands.get()["status"]["conditions"] if each["type"] == "Ready")
    assert "exceeded quota" in message
    assert hands.condition("Built") == ("True", "Built")
    hands.core.delete_namespaced_resource_quota("none", hands.namespace)
    eventually(lambda: hands.apps.read_namespaced_deployment("m-main", hands.namespace))
    hands.roll()
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))


def test_what_is_large_and_odd_is_a_model_like_any_other(hands: Hands) -> None:
    body = model("a" * 40)
    body["metadata"]["labels"] = {f"example.org/label-{number}": "x" * 60 for number in range(1000)}
    body["metadata"]["annotations"] = {"example.org/long": "y" * 100_000}
    hands.apply(body)
    hands.end("resolve", {"next": None, "record": record()})
    hands.roll("a" * 40 + "-main")
    eventually(lambda: hands.condition("Ready", "a" * 40) == ("True", "Serving"))
    service = hands.core.read_namespaced_service("a" * 40, hands.namespace)
    assert not [name for name in service.metadata.labels if name.startswith("example.org")]


def test_a_model_that_is_deleted_during_its_build_is_forgotten(operator: Operator, hands: Hands) -> None:
    hands.apply(model())
    eventually(lambda: "resolve" in hands.jobs())
    hands.objects.delete_namespaced_custom_object(*PLACE, hands.namespace, "distilledmodels", "m")
    eventually(lambda: operator.metric("stillhouse_models") == 0)
    hands.apply(model())  # of the same name, and another resource: the old one's Job is not its own
    eventually(lambda: hands.condition("Ready") == ("False", "AwaitingCollection"))
    assert hands.condition("Reconciling") == ("True", "AwaitingCollection")
    # What the garbage collector would do:
    hands.core.delete_namespaced_service_account("m-serve", hands.namespace)
    policies = client.NetworkingV1Api(hands.core.api_client)
    for policy in policies.list_namespaced_network_policy(hands.namespace).items:
        policies.delete_namespaced_network_policy(policy.metadata.name, hands.namespace)
    for job in hands.jobs().values():
        hands.batch.delete_namespaced_job(job.metadata.name, hands.namespace, propagation_policy="Background")
    eventually(lambda: hands.condition("Ready") == ("False", "Building"))
    assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]


def message(hands: Hands, kind: str) -> str:
    return str(next(each["message"] for each in hands.get()["status"]["conditions"] if each["type"] == kind))


def uids(hands: Hands) -> set[str]:
    return {job.metadata.uid for job in hands.jobs().values()}


def test_a_spec_that_is_changed_and_changed_back_during_its_build_has_one_job_and_one_record(hands: Hands) -> None:
    a, b = model(), model(compress={"precision": "fp32"})
    hands.apply(a)
    first = eventually(lambda: uids(hands))
    hands.apply(b)
    second = eventually(lambda: len(uids(hands)) == 1 and not uids(hands) & first and uids(hands))
    for body in (a, b, a):  # at once, faster than anybody looks
        hands.apply(body)
    # An operator that was quick has had Jobs for those between, too.
    eventually(lambda: hands.get()["status"]["observedGeneration"] == hands.get()["metadata"]["generation"])
    eventually(lambda: len(uids(hands)) == 1 and not uids(hands) & (first | second))
    hands.build()
    hands.roll()
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
    assert hands.revisions() == {DIGEST}
    assert not hands.jobs()


def test_a_place_on_a_laptop_is_refused_with_the_way_out_and_what_serves_goes_on(hands: Hands) -> None:
    hands.apply(model())
    hands.build()
    hands.roll()
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
    before = hands.apps.read_namespaced_deployment("m-main", hands.namespace).metadata.generation
    hands.apply(model(source={"uri": "file:///home/me/teacher", "task": "sentence-embedding"}))
    eventually(lambda: hands.condition("Accepted") == ("False", "SourceUnusable"))
    assert "still push" in message(hands, "Accepted")
    assert hands.condition("Available") == ("True", "Serving")
    assert not hands.jobs()
    hands.apply(model())
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
    assert hands.apps.read_namespaced_deployment("m-main", hands.namespace).metadata.generation == before
    assert hands.revisions() == {DIGEST}


def test_a_worker_without_memory_is_told_with_the_way_out_and_is_not_tried_for_ever(hands: Hands) -> None:
    hands.apply(model())
    job = eventually(lambda: hands.jobs().get("resolve"))
    ended = {"exitCode": 137, "reason": "OOMKilled", "message": ""}
    pod_of(hands, job, {"terminated": ended}, "Failed")
    now = "2026-01-01T00:00:00Z"
    why = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit", "lastTransitionTime": now}
    met = [{"type": kind, "status": "True", **why} for kind in ("FailureTarget", "Failed")]
    status = {"startTime": now, "failed": 1, "conditions": met}
    hands.batch.patch_namespaced_job_status(job.metadata.name, hands.namespace, {"status": status})
    eventually(lambda: hands.condition("Built") == ("False", "BuildFailed"))
    assert "more memory than its limit" in message(hands, "Built")
    assert "stillhouse.io/rebuild" in message(hands, "Built")
    eventually(lambda: not hands.jobs())
    hands.apply({**model(), "metadata": {"name": "m", "labels": {"looked": "at"}}})
    eventually(lambda: hands.condition("Stalled")[0] == "True")
    assert hands.revisions() == {"BuildFailed"}
    assert not hands.jobs()


def test_an_image_that_is_not_there_is_told_while_the_build_waits_for_it(hands: Hands) -> None:
    hands.apply(model())
    job = eventually(lambda: hands.jobs().get("resolve"))
    pod_of(hands, job, {"waiting": {"reason": "ImagePullBackOff", "message": "worker:none: not found"}}, "Pending")
    eventually(lambda: hands.condition("Ready") == ("False", "ImageUnavailable"))
    assert hands.get()["status"]["progress"] == "resolve: worker cannot be pulled: worker:none: not found"
    assert set(hands.jobs()) == {"resolve"}


def pod_of(hands: Hands, job: client.V1Job, state: dict[str, object], phase: str) -> None:
    """Make a Job's pod whose worker is in a state."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.metadata.name, "uid": job.metadata.uid}
    meta = {"name": f"{job.metadata.name}-x", "labels": job.spec.template.metadata.labels, "ownerReferences": [owner]}
    body = {"metadata": meta, "spec": {"containers": [{"name": "worker", "image": "localhost/none"}]}}
    hands.core.create_namespaced_pod(hands.namespace, body)
    worker = {"name": "worker", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    hands.core.patch_namespaced_pod_status(
        str(meta["name"]), hands.namespace, {"status": {"phase": phase, "containerStatuses": [worker]}}
    )
