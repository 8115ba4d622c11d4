"""Steps before another model, told through the fake API server: what stands for them, how a model gives way to them, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.cluster import DIGEST, NAMESPACE, OTHER, model
from tests.support.fronted import CASCADE, GATEWAY, Fronted

from stillhouse.api.status import Status
from stillhouse.clients.kube.kinds import DEPLOYMENT, POD
from stillhouse.reconcile.reconciler import Reconciler
from stillhouse.resources import labels
from stillhouse.resources.gateway import CONFIG
from stillhouse.resources.wanted import ClusterSettings

WINDOW: dict[str, Any] = {"kind": "window", "length": 8, "hop": 4}
PYTHON = {
    "kind": "python",
    "function": "health.steps:features",
    "inputs": [{"name": "A", "datatype": "FP32", "shape": [-1]}],
    "outputs": [{"name": "B", "datatype": "FP32", "shape": [-1]}],
}


def edge(*steps: dict[str, Any], **preprocess: Any) -> dict[str, Any]:
    return {"rest": False, "preprocess": {"model": "large", "steps": list(steps or (WINDOW,)), **preprocess}}


def packed(cluster: Fronted, body: dict[str, Any], digest: str) -> None:
    """Let the one Job of steps succeed."""
    cluster.apply(body)
    cluster.settle()
    told = {"next": None, "planHash": "b" * 64, "record": {"digest": digest, "precision": "steps", "size": 900}}
    cluster.end("resolve", told)
    cluster.settle()


def built(cluster: Fronted, body: dict[str, Any], digest: str) -> None:
    cluster.apply(body)
    cluster.settle()
    cluster.build(digest)
    cluster.settle()


def revision(cluster: Fronted) -> str:
    return str(cluster.status()["revision"]["name"])


def ways(cluster: Fronted) -> list[str]:
    """Return the models that gateways may ask."""
    egress = (cluster.get("NetworkPolicy", GATEWAY) or {})["spec"]["egress"]
    peers = [peer["podSelector"]["matchLabels"] for each in egress for peer in each.get("to", ()) if "podSelector" in peer]
    return sorted(each[labels.MODEL] for each in peers)


@pytest.fixture
def cluster() -> Fronted:
    return Fronted()


@pytest.fixture
def steps(cluster: Fronted) -> Fronted:
    packed(cluster, model(edge=edge()), CASCADE)
    cluster.start()
    cluster.settle()
    return cluster


def test_gateways_are_all_that_stands_for_steps(steps: Fronted) -> None:
    assert steps.kube.names(DEPLOYMENT) == [GATEWAY]
    assert steps.everything()["HorizontalPodAutoscaler"] == []
    assert steps.chosen() == "gateway"
    first = steps.config()["edge"]
    assert (first["kind"], first["digest"], first["variant"]) == ("steps", CASCADE, "steps")
    assert first["folder"].endswith(f"/objects/{CASCADE.replace(':', '-')}")
    asked = steps.config()["preprocess"]
    assert (asked["larger"]["model"], asked["larger"]["service"], asked["encoding"]) == ("large", "large", "none")
    for kind in ("Available", "Ready", "GatewayAvailable", "GatePassed", "Built"):
        assert steps.condition(kind)[0] == "True", kind
    assert steps.condition("Scaling") == ("", "")
    assert (steps.status()["replicas"], steps.status()["revision"]["precision"]) == (2, "steps")
    template = (steps.get("Deployment", GATEWAY) or {})["spec"]["template"]
    assert template["metadata"]["labels"][labels.REVISION] == revision(steps)
    assert "--verify" in template["spec"]["containers"][0]["args"]
    assert ways(steps) == ["large"]
    Status.model_validate(steps.status())
    before = list(steps.kube.writes)
    steps.later(600)
    assert steps.kube.writes == before


def test_a_failing_gateway_of_steps_is_told_as_the_models_own_failure(steps: Fronted) -> None:
    steps.start(0)
    steps.settle()
    assert steps.condition("Available") == ("False", "ServerDown")
    assert steps.condition("Ready")[0] == "False"


def test_nothing_of_new_steps_meets_those_of_before(steps: Fronted) -> None:
    """The new model behind them, and new limits, were meant for the new ones: until these are packed, nothing changes."""
    before, first = steps.config(), revision(steps)
    changed = edge({**WINDOW, "hop": 2}, model="other")
    steps.apply(model(edge=changed))
    steps.settle()
    assert steps.config() == before
    assert steps.condition("Available")[0] == "True"
    assert steps.condition("GatewayAvailable") == ("True", "GatewayServes")
    assert steps.status()["gateway"] == {"kind": "Deployment", "replicas": 2, "readyReplicas": 2, "revision": first}
    assert steps.condition("Ready") == ("False", "Building")
    about = {CONFIG: json.dumps(before)}
    old = steps.pod(f"{GATEWAY}-1", "gateway", **{labels.REVISION: first})
    steps.kube.set({**old, "metadata": {**old["metadata"], "annotations": about}})
    packed(steps, model(edge=changed), OTHER)
    assert revision(steps) != first
    assert ways(steps) == ["large", "other"], "who ends asks as before until it has"
    steps.run(steps.kube.delete(POD, NAMESPACE, old["metadata"]["name"], old["metadata"]["uid"]))
    steps.settle()
    assert ways(steps) == ["other"]
    assert (steps.config()["edge"]["digest"], steps.config()["preprocess"]["larger"]["model"]) == (OTHER, "other")
    steps.apply(model(edge=edge({**WINDOW, "hop": 2}, address="grpcs://cloud.example:443")))
    steps.settle()
    assert steps.config()["preprocess"]["larger"]["backends"] == {"cloud.example:443": 1.0}, "whom they ask is none of the steps"


def test_a_model_goes_once_nobody_asks_it(cluster: Fronted) -> None:
    built(cluster, model(), DIGEST)
    cluster.roll()
    cluster.settle()
    former = revision(cluster)
    cluster.apply(model(edge=edge()))
    cluster.settle()
    assert cluster.config()["edge"]["kind"] == "slices", "until they are packed the gateway is as without steps"
    cluster.start()
    cluster.settle()
    old = cluster.pod(f"{GATEWAY}-old", "gateway")
    packed(cluster, model(edge=edge()), CASCADE)
    assert cluster.config()["edge"]["kind"] == "steps"
    cluster.start()
    cluster.later(120)
    assert cluster.get("Deployment", "m-main") is not None, "a gateway of before asks it"
    assert cluster.get("NetworkPolicy", "m-main") is not None
    policy = (cluster.get("NetworkPolicy", GATEWAY) or {})["spec"]["egress"]
    assert any(labels.COMPONENT in str(each) for each in policy), "and may"
    cluster.run(cluster.kube.delete(POD, NAMESPACE, old["metadata"]["name"], old["metadata"]["uid"]))
    cluster.settle()
    assert cluster.kube.names(DEPLOYMENT) == [GATEWAY]
    assert cluster.get("NetworkPolicy", "m-main") is None
    assert cluster.chosen() == "gateway"
    assert revision(cluster) != former


@pytest.mark.parametrize("after", [{}, {"edge": {"rest": False}}], ids=["a model", "a gateway that passes on"])
def test_steps_answer_until_the_model_after_them_does(steps: Fronted, after: dict[str, Any]) -> None:
    before = steps.config()
    going = steps.pod(f"{GATEWAY}-1", "gateway", **{labels.REVISION: revision(steps)})
    steps.slice(f"{GATEWAY}-1")
    built(steps, model(**after), DIGEST)
    assert steps.kube.names(DEPLOYMENT) == ["m-main", GATEWAY]
    assert (steps.config(), steps.chosen()) == (before, "gateway")
    assert steps.condition("Available") == ("True", "Serving")
    assert steps.condition("Ready")[0] == "False"
    steps.roll()
    steps.pod("m-main-1", "serve", **{labels.REVISION: revision(steps)})
    steps.settle()
    if after:
        assert steps.config()["edge"]["kind"] == "slices"
        assert steps.chosen() == "gateway"
        return
    assert steps.chosen() == "serve"
    steps.slice("m-main-1")
    steps.settle()
    assert steps.kube.names(DEPLOYMENT) == ["m-main"]
    steps.run(steps.kube.delete(POD, NAMESPACE, going["metadata"]["name"], going["metadata"]["uid"]))
    steps.settle()
    assert steps.gone()
    assert steps.condition("Ready") == ("True", "Serving")


def test_a_spec_that_cannot_be_read_leaves_steps_as_they_are(steps: Fronted) -> None:
    before = steps.everything()
    steps.apply(model(edge={"nonsense": 1}))
    steps.settle()
    assert steps.everything() == before
    assert steps.condition("Accepted") == ("False", "InvalidSpec")
    assert steps.condition("Available") == ("True", "Serving")


@pytest.mark.parametrize(
    ("given", "reason", "says"),
    [
        (edge(PYTHON), "NotAvailable", "spec.edge.preprocess.steps[0].function: health is none of the packages"),
        (edge(model="m"), "InvalidSpec", "spec.edge.preprocess.model: m is this model itself"),
    ],
    ids=["code", "itself"],
)
def test_what_cannot_run_here_is_refused_and_changes_nothing(
    steps: Fronted, given: dict[str, Any], reason: str, says: str
) -> None:
    before = steps.config()
    steps.apply(model(edge=given))
    steps.settle()
    assert steps.condition("Accepted") == ("False", reason)
    (told,) = [each["message"] for each in steps.status()["conditions"] if each["type"] == "Accepted"]
    assert says in told
    assert steps.config() == before


def test_a_circle_of_steps_is_refused_by_all_of_it_and_ends_with_any(steps: Fronted) -> None:
    def other(**preprocess: Any) -> dict[str, Any]:
        body = model(edge=edge(**preprocess))
        return {**body, "metadata": {**body["metadata"], "name": "large", "uid": "u-large"}}

    before = steps.config()
    steps.apply(other(model="m"))
    steps.settle()
    steps.settle("large")
    for name, says in (("m", "m asks large, large asks m"), ("large", "large asks m, m asks large")):
        (accepted,) = [each for each in steps.status(name)["conditions"] if each["type"] == "Accepted"]
        assert (accepted["status"], accepted["reason"]) == ("False", "InvalidSpec")
        assert f"spec.edge.preprocess.model: {says}" in accepted["message"]
    assert steps.config() == before, "what runs goes on"
    steps.apply(other(model="m", address="grpcs://elsewhere.example:443"))
    steps.settle()
    assert steps.condition("Accepted") == ("True", "Accepted")


def test_code_of_a_package_that_the_administrator_allows_runs(cluster: Fronted) -> None:
    cluster.settings = ClusterSettings(sources=cluster.settings.sources, edge_packages=("health",))
    cluster.reconciler = Reconciler(cluster.kube, cluster.cache, cluster.settings, clock=cluster._clock)
    packed(cluster, model(edge=edge(PYTHON)), CASCADE)
    assert cluster.config()["edge"]["allowed"] == ["health"]


def test_a_source_that_no_step_reads_need_not_be_bound(cluster: Fronted) -> None:
    body = model(edge=edge(), source={"uri": "models:unbound", "task": "text-classification"})
    packed(cluster, body, CASCADE)
    assert cluster.condition("Accepted") == ("True", "Accepted")
    cluster.apply({**body, "spec": {**body["spec"], "edge": edge({"kind": "tokenise"})}})
    cluster.settle()
    assert cluster.condition("Accepted") == ("False", "SourceUnusable")
