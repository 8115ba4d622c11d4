"""A claim that one node alone can mount: named where pods are on two, asked for nowhere else."""

from __future__ import annotations

import pytest
from tests.support.cluster import NAMESPACE, Cluster, model

from stillhouse.clients.kube.kinds import CLAIM, POD, Kind


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
