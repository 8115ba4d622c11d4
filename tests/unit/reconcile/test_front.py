"""A gateway before a model, told through the fake API server: what is there after each thing that happens, and in which order."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from tests.support.cluster import DIGEST, NAMESPACE, OTHER, model
from tests.support.fronted import CASCADE, EDGE, GATEWAY, WITH_CASCADE, Fronted, built

from stillhouse.api.status import Status
from stillhouse.clients.kube.interface import KubeError, Unavailable
from stillhouse.clients.kube.kinds import DEPLOYMENT, POD, SECRET, SERVICE, Kind, by_name
from stillhouse.reconcile.front import LOOK_AGAIN_S
from stillhouse.reconcile.reconciler import Reconciler
from stillhouse.resources import labels


@pytest.fixture
def cluster() -> Fronted:
    found = Fronted()
    found.apply(model())
    found.build()
    found.roll()
    found.settle()
    return found


@pytest.fixture
def fronted(cluster: Fronted) -> Fronted:
    cluster.apply(model(edge=EDGE))
    cluster.settle()
    cluster.start()
    cluster.settle()
    return cluster


def test_clients_move_once_the_gateway_answers_and_not_before(cluster: Fronted) -> None:
    cluster.apply(model(edge=EDGE))
    cluster.settle()
    assert cluster.kube.names(DEPLOYMENT) == ["m-main", GATEWAY]
    assert cluster.chosen() == "serve"
    assert cluster.condition("GatewayAvailable") == ("False", "GatewayStarting")
    assert cluster.condition("Ready") == ("False", "GatewayStarting")
    assert cluster.condition("Available") == ("True", "Serving")
    cluster.start()
    cluster.settle()
    assert cluster.chosen() == "gateway"
    assert cluster.condition("GatewayAvailable") == ("True", "GatewayServes")
    assert cluster.condition("Ready") == ("True", "Serving")
    told = cluster.status()["gateway"]
    assert (told["kind"], told["replicas"], told["readyReplicas"]) == ("Deployment", 2, 2)
    Status.model_validate(cluster.status())


def test_the_model_answers_everybody_until_nobody_can_know_its_pods(fronted: Fronted) -> None:
    assert fronted.open_to() is None
    wait = fronted.run(fronted.reconciler.reconcile((NAMESPACE, "m")))
    assert wait == 60.0
    fronted.later(59)
    assert fronted.open_to() is None
    fronted.later(2)
    (peer,) = fronted.open_to()
    assert peer["podSelector"]["matchLabels"][labels.COMPONENT] == "gateway"
    assert fronted.run(fronted.reconciler.reconcile((NAMESPACE, "m"))) == 0.0


def test_a_gateway_that_was_there_from_the_first_is_the_only_way() -> None:
    cluster = Fronted()
    cluster.apply(model(edge=EDGE))
    cluster.build()
    cluster.settle()
    assert cluster.chosen() == "gateway"
    assert cluster.open_to() is not None


def test_a_gateway_that_fails_is_never_gone_round(fronted: Fronted) -> None:
    """What guards a model fails closed."""
    fronted.later(61)
    fronted.start(0)
    fronted.settle()
    assert fronted.chosen() == "gateway"
    assert fronted.open_to() is not None
    assert fronted.condition("GatewayAvailable")[0] == "False"
    assert fronted.condition("Ready")[0] == "False"


def test_nothing_is_written_when_nothing_changes(fronted: Fronted) -> None:
    fronted.later(61)
    before = list(fronted.kube.writes)
    fronted.later(600)
    assert fronted.kube.writes == before


def test_the_way_back_is_taken_in_order(fronted: Fronted) -> None:
    fronted.later(61)
    going = fronted.pod(f"{GATEWAY}-1", "gateway")
    fronted.slice(f"{GATEWAY}-1")
    fronted.apply(model())
    begun = len(fronted.kube.writes)
    fronted.settle()
    written = [(verb, kind) for verb, kind, name in fronted.kube.writes[begun:] if kind in ("NetworkPolicy", "Service")]
    assert written[0][1] == "NetworkPolicy" and written[-1][1] == "Service", "who is led back is let in first"
    assert fronted.chosen() == "serve"
    assert fronted.open_to() is None
    assert fronted.get("Deployment", GATEWAY) is not None
    assert fronted.condition("GatewayAvailable") == ("False", "GatewayLeaving")
    assert fronted.condition("Ready") == ("True", "Serving")
    assert fronted.run(fronted.reconciler.reconcile((NAMESPACE, "m"))) == LOOK_AGAIN_S

    fronted.slice("m-main-1")
    fronted.settle()
    assert fronted.get("Deployment", GATEWAY) is None
    for kind in ("ServiceAccount", "RoleBinding", "NetworkPolicy"):
        assert fronted.get(kind, GATEWAY) is not None, "its pods still answer who knows them"

    fronted.run(fronted.kube.delete(POD, NAMESPACE, going["metadata"]["name"], going["metadata"]["uid"]))
    fronted.settle()
    assert fronted.gone()
    assert fronted.condition("GatewayAvailable") == ("", "")
    assert "gateway" not in fronted.status()


def test_it_comes_back_while_it_leaves(fronted: Fronted) -> None:
    fronted.pod(f"{GATEWAY}-1", "gateway")
    fronted.slice(f"{GATEWAY}-1")
    fronted.apply(model())
    fronted.settle()
    fronted.apply(model(edge=EDGE))
    fronted.settle()
    assert fronted.chosen() == "gateway"
    assert fronted.get("Deployment", GATEWAY) is not None


def test_a_spec_that_cannot_be_read_changes_nothing_of_it(fronted: Fronted) -> None:
    fronted.later(61)
    before = {kind: fronted.kube.names(by_name(kind)) for kind in ("Deployment", "Service", "RoleBinding", "NetworkPolicy")}
    fronted.apply(model(edge={"nonsense": 1}))
    fronted.settle()
    assert fronted.condition("Accepted") == ("False", "InvalidSpec")
    assert fronted.chosen() == "gateway"
    assert before == {kind: fronted.kube.names(by_name(kind)) for kind in before}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            {"edge": {"cut": {"layer": "encoder.2", "address": "mqtt://b:1883"}}, "gate": {"data": {"uri": "data:gate"}}},
            "spec.edge.cut.address",
        ),
    ],
    ids=["a cut behind a broker"],
)
def test_what_an_edge_alone_can_be_is_refused_in_a_cluster_and_changes_nothing(
    fronted: Fronted, spec: dict[str, Any], says: str
) -> None:
    fronted.later(61)
    before = {kind: fronted.kube.names(by_name(kind)) for kind in ("Deployment", "Service", "RoleBinding", "NetworkPolicy")}
    fronted.apply(model(**spec))
    fronted.settle()
    assert fronted.condition("Accepted") == ("False", "NotAvailable")
    assert fronted.condition("Ready") == ("False", "NotAvailable")
    (told,) = [each["message"] for each in fronted.status()["conditions"] if each["type"] == "Accepted"]
    assert says in told and "still edge FILE" in told
    assert fronted.chosen() == "gateway"
    assert before == {kind: fronted.kube.names(by_name(kind)) for kind in before}


def test_a_gateways_broker_is_configured_and_its_secrets_are_looked_for() -> None:
    cluster = Fronted()
    larger = {"model": "big", "address": "mqtts://broker.example:8883"}
    edge = {"cascade": {**WITH_CASCADE["cascade"], "larger": larger}, "broker": {"credentials": "user"}, "backendAuthority": "ca"}
    built(cluster, model(edge=edge, index={"data": {"uri": "data:gate"}}), DIGEST, CASCADE)
    assert cluster.config()["cascade"]["larger"]["kind"] == "mqtt"
    for missing, field in (("ca", "backendAuthority"), ("user", "broker.credentials")):
        assert cluster.condition("GatewayAvailable") == ("False", "SecretMissing")
        (told,) = [each["message"] for each in cluster.status()["conditions"] if each["type"] == "GatewayAvailable"]
        assert told == f"spec.edge.{field}: there is no Secret {missing} in {NAMESPACE}"
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": missing}}
        cluster.run(cluster.kube.create(SECRET, NAMESPACE, secret))
        cluster.settle()
    assert cluster.condition("GatewayAvailable") == ("False", "GatewayStarting")


def test_the_secrets_of_a_pipelines_steps_are_looked_for(cluster: Fronted) -> None:
    step = {"name": "topic", "model": "topics", "inputs": {"TEXT": "request.TEXT"}, "outputs": {"LABEL": "TOPIC"}}
    steps = [step, {**step, "name": "mood", "model": "moods", "outputs": {"LABEL": "MOOD"}, "backendToken": "mine"}]
    cluster.apply(model(edge=EDGE, pipeline={"placement": "apart", "steps": steps}))
    cluster.settle()
    assert cluster.condition("GatewayAvailable") == ("False", "SecretMissing")
    (told,) = [each["message"] for each in cluster.status()["conditions"] if each["type"] == "GatewayAvailable"]
    assert told == f"spec.pipeline.steps[1].backendToken: there is no Secret mine in {NAMESPACE}"


def test_a_strangers_object_of_its_name_is_left_alone(cluster: Fronted) -> None:
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": GATEWAY, "labels": {labels.MODEL: "m"}},
        "spec": {},
    }
    cluster.run(cluster.kube.create(DEPLOYMENT, NAMESPACE, body))
    cluster.apply(model(edge=EDGE))
    cluster.settle()
    assert (cluster.get("Deployment", GATEWAY) or {})["spec"] == {}
    assert cluster.condition("Ready") == ("False", "NotOwned")
    assert cluster.chosen() == "serve"


def test_a_release_of_another_name_gives_gateways_another_role(fronted: Fronted) -> None:
    """A binding's role cannot be changed: it is made anew."""
    before = fronted.get("RoleBinding", GATEWAY) or {}
    fronted.settings = dataclasses.replace(fronted.settings, gateway_role="Role/another")
    fronted.reconciler = Reconciler(fronted.kube, fronted.cache, fronted.settings, clock=fronted._clock)
    fronted.settle()
    after = fronted.get("RoleBinding", GATEWAY) or {}
    assert (after["roleRef"]["kind"], after["roleRef"]["name"]) == ("Role", "another")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


def test_a_secret_that_is_not_there_is_named(cluster: Fronted) -> None:
    cluster.apply(model(edge={"clients": {"tokens": "keys"}}))
    cluster.settle()
    assert cluster.condition("GatewayAvailable") == ("False", "SecretMissing")
    assert cluster.run(cluster.reconciler.reconcile((NAMESPACE, "m"))) > 0, "Secrets are not watched"
    cluster.run(cluster.kube.create(SECRET, NAMESPACE, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}))
    cluster.settle()
    assert cluster.condition("GatewayAvailable") == ("False", "GatewayStarting")


def test_a_gateways_crash_is_told(cluster: Fronted) -> None:
    cluster.apply(model(edge=EDGE))
    cluster.settle()
    pod = cluster.pod(f"{GATEWAY}-1", "gateway", ready=False)
    ended = {"name": "gateway", "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    cluster.kube.set(pod, phase="Running", containerStatuses=[ended])
    cluster.settle()
    assert cluster.condition("GatewayAvailable") == ("False", "ServerCrashes")
    message = next(each for each in cluster.status()["conditions"] if each["type"] == "Ready")["message"]
    assert "spec.edge.run.resources.limits.memory" in message


def test_a_pod_that_goes_and_comes_is_no_news_and_one_that_crashes_is(fronted: Fronted) -> None:
    live = fronted.get("Deployment", GATEWAY) or {}
    ended = [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]
    fronted.kube.set(live, **{**live["status"], "availableReplicas": 1, "conditions": ended})
    fronted.settle()
    assert fronted.condition("GatewayAvailable") == ("True", "GatewayServes")
    assert fronted.condition("Ready") == ("True", "Serving")
    pod = fronted.pod(f"{GATEWAY}-2", "gateway", ready=False)
    crash = {"name": "gateway", "lastState": {"terminated": {"exitCode": 2, "reason": "Error", "message": "a part is wrong"}}}
    fronted.kube.set(pod, phase="Running", containerStatuses=[crash])
    fronted.settle()
    assert fronted.condition("GatewayAvailable") == ("False", "ServerCrashes")


def test_one_of_the_other_kind_stays_until_its_successor_answers(fronted: Fronted) -> None:
    fronted.apply(model(edge={"run": {"kind": "DaemonSet"}}))
    fronted.settle()
    assert fronted.get("Deployment", GATEWAY) is not None
    assert fronted.get("DaemonSet", GATEWAY) is not None
    fronted.start(3, "DaemonSet")
    fronted.settle()
    assert fronted.get("Deployment", GATEWAY) is None
    assert fronted.condition("GatewayAvailable") == ("True", "GatewayServes")
    assert fronted.status()["endpoint"] == "m-main-local.default.svc:8001"
    assert (fronted.get("Service", "m-main-local") or {})["spec"]["internalTrafficPolicy"] == "Local"
    fronted.later(61)
    assert fronted.open_to() is None, "the model's pods have no gateway that asks them"


def cascaded(batch: int, **more: Any) -> dict[str, Any]:
    index = {"data": {"uri": "data:gate"}}
    return model(edge=WITH_CASCADE, index=index, serve={"batching": {"maxBatchSize": batch}}, **more)


def revision_of(cluster: Fronted) -> str:
    live = cluster.get("Deployment", GATEWAY) or {}
    return str(live["spec"]["template"]["metadata"]["labels"].get(labels.REVISION, ""))


def test_a_cascade_belongs_to_the_revision_that_answers() -> None:
    cluster = Fronted()
    first = built(cluster, cascaded(1), DIGEST, CASCADE)
    assert revision_of(cluster) == first
    config = cluster.config()
    assert config["edge"]["service"] == f"{first}-pods"
    assert config["edge"]["digest"] == DIGEST
    assert config["cascade"]["folder"].endswith("/objects/sha256-" + "d" * 64)
    service = cluster.get("Service", f"{first}-pods") or {}
    assert service["spec"]["selector"][labels.REVISION] == first

    cluster.start()
    cluster.pod("m-main-1", "serve", **{labels.REVISION: first})
    cluster.pod(f"{GATEWAY}-1", "gateway", **{labels.REVISION: first})
    second = built(cluster, cascaded(2), OTHER, "sha256:" + "e" * 64)
    assert (cluster.get("Deployment", "m-main") or {})["spec"]["template"]["metadata"]["labels"][labels.REVISION] == second
    assert revision_of(cluster) == first, "no pod of the new revision answers yet"
    assert cluster.config()["edge"]["digest"] == DIGEST

    cluster.pod("m-main-2", "serve", ready=False, **{labels.REVISION: second})
    cluster.settle()
    assert revision_of(cluster) == first
    live = cluster.get("Pod", "m-main-2") or {}
    cluster.kube.set(live, phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    cluster.settle()
    assert revision_of(cluster) == second
    assert cluster.config()["edge"]["digest"] == OTHER
    assert {f"{first}-pods", f"{second}-pods"} <= set(cluster.kube.names(SERVICE)), "a pod of before still asks the first one's"
    gone = cluster.get("Pod", f"{GATEWAY}-1") or {}
    cluster.run(cluster.kube.delete(POD, NAMESPACE, f"{GATEWAY}-1", gone["metadata"]["uid"]))
    cluster.settle()
    assert f"{first}-pods" not in cluster.kube.names(SERVICE)


def test_what_ends_with_a_pod_is_said() -> None:
    for run, said in (({}, True), ({"replicas": 1, "claim": "mine"}, False)):
        cluster = Fronted()
        edge = {**WITH_CASCADE, "away": {"policy": "queue"}, "run": run}
        body = model(edge=edge, index={"data": {"uri": "data:gate"}})
        built(cluster, body, DIGEST, CASCADE)
        cluster.start(1 if run else 2)
        cluster.settle()
        (found,) = (each for each in cluster.status()["conditions"] if each["type"] == "GatewayAvailable")
        assert found["reason"] == "GatewayServes"
        assert ("spec.edge.run.claim keeps them" in found["message"]) is said


def test_a_cascade_that_is_new_comes_with_the_first_pod_of_its_revision() -> None:
    """Else every request would go to the larger model until then."""
    cluster = Fronted()
    index = {"data": {"uri": "data:gate"}}
    first = built(cluster, model(edge={}, index=index), DIGEST, None)
    cluster.pod("m-main-1", "serve", **{labels.REVISION: first})
    cluster.start()
    second = built(cluster, model(edge=WITH_CASCADE, index=index, serve={"batching": {"maxBatchSize": 2}}), OTHER, CASCADE)
    assert (revision_of(cluster), cluster.config()["cascade"]) == ("", None)
    cluster.pod("m-main-2", "serve", **{labels.REVISION: second})
    cluster.settle()
    assert revision_of(cluster) == second
    assert cluster.config()["cascade"] is not None


def test_without_a_cascade_a_new_revision_rolls_no_gateway(fronted: Fronted) -> None:
    before = copy.deepcopy((fronted.get("Deployment", GATEWAY) or {})["spec"])
    assert fronted.config()["edge"] == {"kind": "slices", "namespace": "default", "service": "m-main-backend", "port": 8001}
    fronted.apply(model(edge=EDGE, serve={"batching": {"maxBatchSize": 2}}))
    fronted.build(OTHER)
    fronted.settle()
    assert (fronted.get("Deployment", GATEWAY) or {})["spec"] == before


@pytest.mark.parametrize("fails", range(12))
def test_a_fault_at_any_write_of_the_way_there_and_back_ends_where_none_would_have(cluster: Fronted, fails: int) -> None:
    """Also with the operator's process gone in between: what it knew is what is observed."""
    left = [fails]

    def before(verb: str, kind: Kind, name: str) -> None:
        if verb in ("create", "apply", "patch", "delete") and kind.name not in ("Event", "Pod", "EndpointSlice"):
            left[0] -= 1
            if left[0] == -1:
                raise Unavailable("the server went away", field=name, status=0)

    def through(settled: str) -> None:
        for _ in range(10):
            try:
                cluster.settle()
            except KubeError:
                continue
            break
        assert cluster.chosen() == settled

    cluster.kube.before = before
    cluster.apply(model(edge=EDGE))
    for _ in range(2):
        try:
            cluster.settle()
        except KubeError:
            cluster.settle()
    cluster.start()
    through("gateway")
    cluster.seconds += 61
    cluster.apply(model())
    through("serve")
    through("serve")
    assert cluster.gone()
