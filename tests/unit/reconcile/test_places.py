"""A place among the builds that may go on at once is given back: one model's trouble stops nobody else's build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.cluster import NAMESPACE, SOURCES, Cluster, model

from stillhouse.clients.kube.interface import KubeError, refusal
from stillhouse.clients.kube.kinds import JOB, REVISION, SERVICE
from stillhouse.resources.wanted import ClusterSettings


@pytest.fixture
def cluster() -> Cluster:
    """One build may go on at once."""
    return Cluster(settings=ClusterSettings(sources=SOURCES, max_concurrent_builds=1))


def attempt(cluster: Cluster, name: str) -> None:
    try:
        cluster.reconcile(name)
    except KubeError:
        return


def refuse(cluster: Cluster, which: Callable[[str, str], bool], status: int, why: str = "no") -> None:
    """Let the server refuse what is created, by its kind and name."""
    plain = cluster.kube.create

    async def create(kind: Any, namespace: str, body: dict[str, Any], **options: Any) -> Any:
        if which(kind.name, body["metadata"]["name"]):
            raise refusal(status, "", why, "POST")
        return await plain(kind, namespace, body, **options)

    cluster.kube.create = create  # type: ignore[method-assign]


def other_builds(cluster: Cluster) -> bool:
    for _ in range(2):
        attempt(cluster, "other")
    return cluster.job("resolve", "other") is not None


def test_a_recorded_builds_jobs_go_although_the_model_cannot_be_served(cluster: Cluster) -> None:
    stranger = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m", "labels": {"whose": "mine"}}, "spec": {}}
    cluster.run(cluster.kube.create(SERVICE, NAMESPACE, stranger))
    cluster.apply(model())
    cluster.apply(model("other"))
    cluster.build()
    assert cluster.condition("Ready") == ("False", "NotOwned")
    assert len(cluster.kube.names(REVISION)) == 1
    assert cluster.kube.names(JOB) == []
    assert other_builds(cluster)


@pytest.mark.parametrize("status", [403, 500])
def test_a_build_whose_next_stage_is_refused_gives_its_place_back(cluster: Cluster, status: int) -> None:
    cluster.apply(model())
    cluster.settle()
    cluster.apply(model("other"))
    assert not other_builds(cluster)
    refuse(
        cluster, lambda kind, name: kind == "Job" and name.startswith("m-") and name.endswith("-gate"), status, "exceeded quota"
    )
    cluster.end("resolve", {"next": "gate"})
    attempt(cluster, "m")
    assert other_builds(cluster)


def test_a_refused_first_job_keeps_no_place(cluster: Cluster) -> None:
    """A 500 is what a webhook that cannot be reached makes: a definite no."""
    cluster.apply(model())
    cluster.apply(model("other"))
    refuse(cluster, lambda kind, name: kind == "Job" and name.startswith("m-"), 500, "failed calling webhook")
    attempt(cluster, "m")
    cluster.apply(
        {**model(), "spec": {**model()["spec"], "serve": {"pin": "sha256:" + "e" * 64}}}
    )  # it waits for nothing any more
    attempt(cluster, "m")
    assert other_builds(cluster)


@pytest.mark.parametrize("owner", [None, "another"])
def test_a_job_that_is_not_the_models_own_takes_no_place(cluster: Cluster, owner: str | None) -> None:
    cluster.apply(model())
    cluster.build()
    cluster.settle()
    meta: dict[str, Any] = {"name": "mine", "labels": {"stillhouse.io/model": "m"}}
    if owner:
        meta["ownerReferences"] = [{"kind": "DistilledModel", "name": "m", "uid": owner, "controller": True}]
    made = cluster.run(
        cluster.kube.create(JOB, NAMESPACE, {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {}})
    )
    cluster.apply(model("other"))
    assert other_builds(cluster)
    cluster.kube.set(made, conditions=[{"type": "Complete", "status": "True"}])
    assert other_builds(cluster)


def test_a_model_that_is_about_to_go_keeps_no_place_between_stages(cluster: Cluster) -> None:
    cluster.apply(model())
    cluster.settle()
    cluster.apply(model("other"))
    live = cluster.get("DistilledModel", "m")
    assert live is not None
    live["metadata"] |= {"finalizers": ["example.com/theirs"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    cluster.kube.set(live)
    cluster.end("resolve", {"next": "gate"})
    attempt(cluster, "m")
    assert other_builds(cluster)


def test_what_a_failed_job_left_is_asked_for_where_its_pods_watch_is_behind() -> None:
    cluster = Cluster()
    cluster.apply(model())
    cluster.settle()
    cluster.end("resolve", {"next": "gate"})
    cluster.settle()
    seen = cluster._see
    cluster.kube.watchers[:] = [lambda event, body: None if body["kind"] == "Pod" else seen(event, body)]
    told = {"reason": "GateFailed", "message": "int8: cosine 0.91 < 0.95", "record": {"candidates": [{"precision": "int8"}]}}
    cluster.end("gate", told, code=3)
    cluster.reconcile()
    (name,) = cluster.kube.names(REVISION)
    spec = (cluster.get("ModelRevision", name) or {})["spec"]
    assert (spec["reason"], spec["candidates"]) == ("GateFailed", [{"precision": "int8"}])
    assert "0.91" in spec["message"]


def test_a_template_that_we_have_just_written_has_not_been_rolled_out() -> None:
    cluster = Cluster()
    cluster.apply(model())
    cluster.build()
    cluster.roll()
    live = cluster.get("Deployment", "m-main")
    assert live is not None
    live["status"]["conditions"] = [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]
    cluster.kube.set(live)
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "Serving")
    cluster.reconciler._settings = replace(cluster.settings, serve_image="registry.example/serve:2")
    cluster.settle()
    assert cluster.condition("Ready") == ("False", "RollingOut")
