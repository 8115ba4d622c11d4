"""The operator's process against a real API server. No controller runs beside it: what they would do is done by hand."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.support.cluster import DIGEST, SOURCES, model, record
from tests.support.hands import PLACE, Hands, eventually
from tests.support.hooks import account_token
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import Operator, install_crds, running_operator

from stillhouse.clients.kube.api import USER_AGENT
from stillhouse.entrypoints.answering import Answering
from stillhouse.resources.jobs import PROGRESS_PORT
from stillhouse.resources.wanted import ClusterSettings


def end_until(hands: Hands, told: dict[str, dict[str, Any]], met: Callable[[], bool]) -> None:
    """Let the Jobs of stages end, and again those that stand in their places, until something holds."""

    def look() -> bool:
        for stage, job in hands.jobs().items():
            if not job.status.succeeded:
                hands.end(stage, told[stage])
        return met()

    eventually(look)


def serves(hands: Hands, digest: str) -> bool:
    """Let the Deployment's pods come up, as often as it is changed; whether the model serves a build."""
    hands.roll()
    return hands.condition("Ready") == ("True", "Serving") and hands.get()["status"]["revision"]["digest"] == digest


@pytest.fixture(scope="module", autouse=True)
def definitions(control_plane: ControlPlane) -> None:
    install_crds(control_plane)


@pytest.fixture
def hands(api_client: client.ApiClient, namespace: str) -> Hands:
    return Hands(api_client, namespace)


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    with running_operator(control_plane, tmp_path, namespace=namespace, lease_namespace=namespace, sources=SOURCES) as running:
        yield running


def test_from_apply_to_ready_and_gone(operator: Operator, hands: Hands) -> None:
    hands.apply(model())
    hands.build()
    hands.roll()
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
    status = hands.get()["status"]
    assert status["revision"]["digest"] == DIGEST
    assert status["observedGeneration"] == 1
    assert hands.jobs() == {}
    revisions = hands.objects.list_namespaced_custom_object(*PLACE, hands.namespace, "modelrevisions")["items"]
    assert [each["spec"]["outcome"] for each in revisions] == ["Accepted"]
    with pytest.raises(client.ApiException, match="never changes"):
        hands.objects.patch_namespaced_custom_object(
            *PLACE, hands.namespace, "modelrevisions", revisions[0]["metadata"]["name"], {"spec": {"precision": "fp32"}}
        )
    assert operator.ask("/healthz") == (200, "ok")
    assert operator.metric("stillhouse_leader") == 1
    assert operator.metric("stillhouse_models") == 1
    # A change by hand is undone.
    hands.core.patch_namespaced_service("m", hands.namespace, {"spec": {"selector": {"stillhouse.io/model": "another"}}})
    eventually(lambda: hands.core.read_namespaced_service("m", hands.namespace).spec.selector["stillhouse.io/model"] == "m")
    hands.core.delete_namespaced_service("m", hands.namespace)
    eventually(lambda: hands.core.read_namespaced_service("m", hands.namespace))
    assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]


def test_nothing_is_written_while_nothing_changes(operator: Operator, hands: Hands, control_plane: ControlPlane) -> None:
    hands.apply(model())
    hands.build()
    hands.roll()
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))

    def written() -> list[tuple[str, str]]:
        time.sleep(1.0)  # an event is in the log about when its answer is sent
        return [
            (event["verb"], event["objectRef"]["resource"])
            for event in control_plane.audit_events()
            if event.get("userAgent", "").startswith(USER_AGENT)
            and event["objectRef"].get("namespace") == hands.namespace
            and event["objectRef"]["resource"] != "leases"
        ]

    before = written()
    assert ("create", "deployments") in before
    time.sleep(5)
    hands.apps.patch_namespaced_deployment_status("m-main", hands.namespace, {"status": {"collisionCount": 0}})
    assert written() == before


def test_an_operator_that_stops_hands_over_and_one_that_dies_is_replaced(
    control_plane: ControlPlane, hands: Hands, tmp_path: Path
) -> None:
    place = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": SOURCES}
    with running_operator(control_plane, tmp_path, identity="one", **place) as one:
        eventually(lambda: one.metric("stillhouse_leader") == 1)
        with running_operator(control_plane, tmp_path, identity="two", **place) as two:
            assert two.metric("stillhouse_leader") == 0
            hands.apply(model())
            hands.end("resolve", {"next": "gate"})
            eventually(lambda: "gate" in hands.jobs())
            two.process.send_signal(signal.SIGSTOP)  # else it takes over before anybody can look
            assert one.end(signal.SIGTERM) == 0
            lease = client.CoordinationV1Api(hands.core.api_client).read_namespaced_lease("stillhouse-operator", hands.namespace)
            assert not lease.spec.holder_identity, "it was given back, and nobody waits for its end"
            two.process.send_signal(signal.SIGCONT)
            eventually(lambda: two.metric("stillhouse_leader") == 1)
            with running_operator(control_plane, tmp_path, identity="three", **place) as three:
                two.end(signal.SIGKILL)
                hands.end("gate", {"next": None, "record": record()})
                eventually(lambda: three.metric("stillhouse_leader") == 1)
                hands.roll()
                eventually(lambda: hands.condition("Ready") == ("True", "Serving"))


def administrator(hands: Hands, control_plane: ControlPlane, name: str) -> str:
    """Return the kubeconfig of an account that may do all: whose a request was stands in the audit log."""
    hands.core.create_namespaced_service_account(hands.namespace, {"metadata": {"name": name}})
    bound = {
        "metadata": {"name": f"{hands.namespace}-{name}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": hands.namespace}],
    }
    client.RbacAuthorizationV1Api(hands.core.api_client).create_cluster_role_binding(bound)
    return control_plane.kubeconfig(token=account_token(hands.core.api_client, hands.namespace, name))


def written(hands: Hands, control_plane: ControlPlane, name: str) -> list[tuple[str, str, str]]:
    """Return what an account has asked to be written, but Leases: verb, resource, name."""
    time.sleep(1.0)  # an event is in the log about when its answer is sent
    return [
        (event["verb"], event["objectRef"]["resource"], event["objectRef"].get("name", ""))
        for event in control_plane.audit_events()
        if event["user"]["username"] == f"system:serviceaccount:{hands.namespace}:{name}"
        and event["objectRef"]["resource"] != "leases"
    ]


def test_one_that_was_stopped_past_its_lease_writes_nothing_more(
    control_plane: ControlPlane, hands: Hands, tmp_path: Path
) -> None:
    place = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": SOURCES}
    mine = administrator(hands, control_plane, "one")
    with running_operator(control_plane, tmp_path / "one", identity="one", **place, kubeconfig_text=mine) as one:
        eventually(lambda: one.metric("stillhouse_leader") == 1)
        hands.apply(model("before"))
        eventually(lambda: hands.condition("Ready", "before")[1] == "Building")
        before = written(hands, control_plane, "one")
        assert [verb for verb, resource, _ in before if resource == "jobs"] == ["create"]
        one.process.send_signal(signal.SIGSTOP)
        with running_operator(control_plane, tmp_path / "two", identity="two", **place) as two:
            eventually(lambda: two.metric("stillhouse_leader") == 1)
            two.process.send_signal(signal.SIGSTOP)  # there is work that nobody does
            hands.apply(model())
            one.process.send_signal(signal.SIGCONT)
            assert one.process.wait(30) == 5
            assert written(hands, control_plane, "one") == before
            two.process.send_signal(signal.SIGCONT)  # its lease is free, or its own still


def test_two_that_both_lead_end_as_one(control_plane: ControlPlane, hands: Hands, tmp_path: Path) -> None:
    """A Lease gives no fencing: here each has its own, and both write all the time."""
    place = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": SOURCES}
    given = {name: administrator(hands, control_plane, name) for name in ("one", "two")}

    def start(name: str) -> AbstractContextManager[Operator]:
        words = [f"--lease-name={name}"]
        return running_operator(control_plane, tmp_path / name, identity=name, **place, words=words, kubeconfig_text=given[name])

    with start("one") as one, start("two") as two:
        both = (one, two)
        eventually(lambda: [each.metric("stillhouse_leader") for each in both] == [1, 1])
        other = "sha256:" + "c" * 64
        for digest, body in ((DIGEST, model()), (other, model(compress={"precision": "fp32"}))):
            hands.apply(body)
            # Who still sees the former spec deletes the new build's Jobs as the former's; the other begins anew, at the first.
            told = {"resolve": {"next": "gate"}, "gate": {"next": None, "record": record(digest)}}
            end_until(hands, told, partial(lambda digest: digest in hands.revisions() and not hands.jobs(), digest))
            eventually(partial(serves, hands, digest))
        assert hands.revisions() == {DIGEST, other}
        assert len(hands.apps.list_namespaced_deployment(hands.namespace).items) == 1
        quiet = [written(hands, control_plane, name) for name in given]
        assert all(quiet), "both have written"
        time.sleep(3)
        assert [written(hands, control_plane, name) for name in given] == quiet, "they do not undo each other's work"
        assert not [record for each in both for record in each.records() if "a bug" in record["message"]]


def test_what_was_done_while_no_operator_ran_is_found(control_plane: ControlPlane, hands: Hands, tmp_path: Path) -> None:
    place = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": SOURCES}
    with running_operator(control_plane, tmp_path, **place):
        hands.apply(model())
        eventually(lambda: "resolve" in hands.jobs())
    hands.end("resolve", {"next": "gate"})
    hands.apply(model("another"))
    hands.objects.delete_namespaced_custom_object(*PLACE, hands.namespace, "distilledmodels", "another")
    with running_operator(control_plane, tmp_path, **place):
        hands.end("gate", {"next": None, "record": record()})
        hands.roll()
        eventually(lambda: hands.condition("Ready") == ("True", "Serving"))


def test_a_spec_that_was_edited_while_no_operator_ran_ends_the_build_of_the_former_one(
    control_plane: ControlPlane, hands: Hands, tmp_path: Path
) -> None:
    place = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": SOURCES}
    with running_operator(control_plane, tmp_path, **place):
        hands.apply(model())
        former = eventually(lambda: hands.jobs().get("resolve")).metadata.uid
    hands.end("resolve", {"next": "gate"})
    hands.apply(model(compress={"precision": "fp32"}))
    with running_operator(control_plane, tmp_path, **place):
        eventually(lambda: [job.metadata.uid for job in hands.jobs().values()] not in ([], [former]))
        assert set(hands.jobs()) == {"resolve"}
        hands.build()
        hands.roll()
        eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
        assert hands.revisions() == {DIGEST}


def test_a_cluster_that_is_not_configured_is_told_in_a_line(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    ended = subprocess.run(
        [sys.executable, "-m", "stillhouse.entrypoints.operator", "--host=127.0.0.1", "--port=0"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "no cluster is configured" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_how_far_a_build_is_stands_in_the_status(operator: Operator, hands: Hands) -> None:
    told = {"step": "train/student", "position": 2, "total": 5, "figures": "30/900 steps"}
    endpoint = Answering("127.77.0.9", PROGRESS_PORT, {"/progress": lambda: (200, json.dumps(told).encode())}, "test")
    try:
        hands.apply(model())
        hands.run("resolve", "127.77.0.9")
        wanted = "resolve: train/student (2/5): 30/900 steps"
        assert eventually(lambda: hands.get()["status"].get("progress") == wanted)
    finally:
        endpoint.close()


def test_a_claim_of_one_node_is_named_where_pods_are_on_two(operator: Operator, hands: Hands) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    named = {"name": ClusterSettings().store_claim}
    hands.core.create_namespaced_persistent_volume_claim(hands.namespace, {"metadata": named, "spec": claim})
    hands.apply(model())
    hands.build()
    live = eventually(lambda: hands.apps.read_namespaced_deployment("m-main", hands.namespace))
    for name, phase, host in (("a", "Running", "10.0.0.1"), ("b", "Pending", "10.0.0.2")):
        meta = {"name": name, "labels": live.spec.template.metadata.labels}
        hands.core.create_namespaced_pod(
            hands.namespace, {"metadata": meta, "spec": {"containers": [{"name": "triton", "image": "localhost/none"}]}}
        )
        told = {"phase": phase, "hostIP": host, "hostIPs": [{"ip": host}]}
        hands.core.patch_namespaced_pod_status(name, hands.namespace, {"status": told})
    eventually(lambda: hands.condition("Ready") == ("False", "VolumeNotShared"))
