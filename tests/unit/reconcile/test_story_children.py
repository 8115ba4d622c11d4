"""What the operator made for a model and what others make of it: namesakes, changes by hand, autoscalers, pins, deletion."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cluster import NAMESPACE, OTHER, Cluster, model, record

from stillhouse.clients.kube.interface import KubeError, refusal
from stillhouse.clients.kube.kinds import ACCOUNT, DEPLOYMENT, JOB, REVISION
from stillhouse.resources import names
from stillhouse.resources.guards import account
from stillhouse.resources.wanted import Owner


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
    assert (serving.get("Deployment", "m-main") or {})["spec"]["replicas"] == 5


def test_an_external_scaler_writes_the_resource_and_there_is_no_autoscaler(serving: Cluster) -> None:
    serving.apply(model(scale={"mode": "external", "replicas": 3}))
    serving.settle()
    assert (serving.get("Deployment", "m-main") or {})["spec"]["replicas"] == 3
    assert serving.everything()["HorizontalPodAutoscaler"] == []
    assert [write for write in serving.kube.writes if write[:2] == ("create", "Job")].__len__() == 3, "nothing was built again"


def test_deleting_a_model_needs_no_operator(serving: Cluster) -> None:
    live = serving.get("DistilledModel", "m")
    assert live is not None
    assert not live["metadata"].get("finalizers")
    serving.run(serving.kube.delete(serving_kind("DistilledModel"), NAMESPACE, "m", live["metadata"]["uid"]))
    assert not any(serving.everything().values())
    serving.reconcile()
    assert not any(serving.everything().values())


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
