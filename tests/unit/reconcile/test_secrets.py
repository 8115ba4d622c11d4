"""Which Secrets a model may fetch with, and what its pods get of them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tests.support.cluster import NAMESPACE, Cluster, model

from stillhouse.clients.kube.kinds import SECRET
from stillhouse.reconcile.secrets import LOOK_AGAIN_S
from stillhouse.resources import labels

CREDENTIALS = [
    {"secret": "keys", "for": "s3://models"},
    {"secret": "hub", "for": "hf://owner"},
    {"secret": "keys", "for": "s3://b"},
]


def secret(cluster: Cluster, name: str, **marks: str) -> None:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": marks}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"token": "c2VjcmV0"}}
    live = cluster.get("Secret", name)
    if live is None:
        cluster.run(cluster.kube.create(SECRET, NAMESPACE, body))
    else:
        cluster.kube.set({**live, "metadata": {**live["metadata"], "labels": marks}})


def message(cluster: Cluster) -> str:
    return str(next(each["message"] for each in cluster.status()["conditions"] if each["type"] == "Accepted"))


def marked(cluster: Cluster, *names: str) -> None:
    for name in names:
        secret(cluster, name, **{labels.CREDENTIALS: "true"})


def test_a_secret_must_be_there_and_marked(cluster: Cluster) -> None:
    cluster.apply(model(credentials=CREDENTIALS))
    cluster.settle()
    assert cluster.condition("Accepted") == ("False", "CredentialsMissing")
    assert "kubectl create secret generic keys -n default" in message(cluster)
    assert cluster.everything()["Job"] == []

    secret(cluster, "keys", **{labels.CREDENTIALS: "yes"})
    cluster.settle()
    assert cluster.condition("Accepted") == ("False", "CredentialsNotAllowed")
    assert f"kubectl label secret keys -n default {labels.CREDENTIALS}=true" in message(cluster)
    assert cluster.everything()["Job"] == []

    marked(cluster, "keys", "hub")
    cluster.settle()
    assert cluster.condition("Accepted")[0] == "True"
    assert len(cluster.everything()["Job"]) == 1


def test_who_mends_a_secret_is_seen_without_another_event(cluster: Cluster) -> None:
    cluster.apply(model(credentials=CREDENTIALS))
    waits = [cluster.run(cluster.reconciler.reconcile((NAMESPACE, "m"))) for _ in range(3)]
    assert waits[-1] == LOOK_AGAIN_S


def test_without_the_right_nothing_is_asked_for(cluster: Cluster) -> None:
    none = Cluster(settings=dataclasses.replace(cluster.settings, credentials=False))
    marked(none, "keys", "hub")
    asked: list[str] = []
    none.kube.before = lambda verb, kind, name: asked.append(kind.name)
    none.apply(model(credentials=CREDENTIALS))
    none.settle()
    assert none.condition("Accepted") == ("False", "CredentialsNotAllowed")
    assert "credentials.enabled" in message(none)
    assert "Secret" not in asked


def test_the_stage_that_fetches_has_the_secrets_as_files_and_no_other_pod_has(cluster: Cluster) -> None:
    made: list[dict[str, Any]] = []
    cluster.kube.watchers.append(lambda event, body: made.append(body))
    marked(cluster, "keys", "hub")
    cluster.apply(model(credentials=CREDENTIALS))
    cluster.build()
    cluster.settle()
    jobs = {each["metadata"]["labels"][labels.STAGE]: each["spec"]["template"]["spec"] for each in made if each["kind"] == "Job"}
    serving = [each["spec"]["template"]["spec"] for each in made if each["kind"] == "Deployment"]
    assert serving
    assert set(jobs) >= {"resolve", "compress"}
    assert mounted(jobs.pop("resolve")) == {"/credentials/0": "keys", "/credentials/1": "hub"}
    for pod in [*jobs.values(), *serving]:
        assert mounted(pod) == {}
        names = {each["name"] for container in pod["containers"] for each in container.get("env") or []}
        assert not {"STILLHOUSE_CREDENTIALS", "STILLHOUSE_SOURCE_HOSTS"} & names


def test_the_worker_is_told_what_each_is_for(cluster: Cluster) -> None:
    marked(cluster, "keys", "hub")
    cluster.apply(model(credentials=CREDENTIALS))
    cluster.settle()
    job = cluster.job("resolve")
    assert job is not None
    environment = {each["name"]: each["value"] for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert json.loads(environment["STILLHOUSE_CREDENTIALS"]) == [
        {"for": "s3://models", "path": "/credentials/0", "secret": "keys"},
        {"for": "hf://owner", "path": "/credentials/1", "secret": "hub"},
        {"for": "s3://b", "path": "/credentials/0", "secret": "keys"},
    ]


def mounted(pod: dict[str, Any]) -> dict[str, str]:
    volumes = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
    mounts = [each for container in pod["containers"] for each in container["volumeMounts"] if each["name"] in volumes]
    assert all(each["readOnly"] for each in mounts)
    return {each["mountPath"]: volumes[each["name"]] for each in mounts}
