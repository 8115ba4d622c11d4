"""What is said of pods that do not come up, and what of a server that goes on ending."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.reconcile.trouble import trouble

REVISION = "m-1234567890"
CHOSEN = {"app.kubernetes.io/component": "serve", "stillhouse.io/revision": REVISION}


def pod(name: str = "a", revision: str = REVISION, **status: Any) -> dict[str, Any]:
    marks = {"app.kubernetes.io/component": "serve", "stillhouse.io/revision": revision}
    return {"metadata": {"name": name, "labels": marks, "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status}


def container(**parts: Any) -> list[dict[str, Any]]:
    return [{"name": "triton", "image": "r/serve:1", "ready": False, **parts}]


CRASHED = {"exitCode": 5, "reason": "Error", "message": "starting\nproblem: the artifact cannot be served\nfix: build it again\n"}
BACK_OFF = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}


@pytest.mark.parametrize(
    "state",
    [
        {"state": {"terminated": CRASHED}},
        {"state": {"waiting": BACK_OFF}, "lastState": {"terminated": CRASHED}},
        {"state": {"running": {}}, "lastState": {"terminated": CRASHED}},
    ],
    ids=["ended", "waits", "runs again"],
)
def test_a_server_that_ends_is_told_with_the_last_lines_of_its_log_in_one_way(state: dict[str, Any]) -> None:
    said = trouble({}, [pod(containerStatuses=container(**state))], CHOSEN)
    assert said is not None
    assert said.reason == "ServerCrashes"
    assert said.message == (
        "triton ended with exit code 5: starting\nproblem: the artifact cannot be served\nfix: build it again"
    )


def test_of_a_long_log_the_end_is_told() -> None:
    told = {**CRASHED, "message": "\n".join(f"line {number} {'x' * 100}" for number in range(200))}
    said = trouble({}, [pod(containerStatuses=container(state={"terminated": told}))], CHOSEN)
    assert said is not None
    assert "line 199" in said.message
    assert "line 180" not in said.message
    assert len(said.message) < 1000


def test_a_lack_of_memory_names_the_field() -> None:
    killed = {"exitCode": 137, "reason": "OOMKilled"}
    said = trouble({}, [pod(containerStatuses=container(lastState={"terminated": killed}))], CHOSEN)
    assert said is not None
    assert "spec.serve.resources.limits.memory" in said.message


def test_an_image_that_cannot_be_pulled_is_told_in_the_same_words_between_attempts() -> None:
    why = 'failed to pull and unpack image "r/serve:1": not found'
    between = f'Back-off pulling image "r/serve:1": ErrImagePull: {why}'
    states = [{"reason": "ErrImagePull", "message": why}, {"reason": "ImagePullBackOff", "message": between}]
    said = [trouble({}, [pod(containerStatuses=container(state={"waiting": each}))], CHOSEN) for each in states]
    assert said[0] == said[1]
    assert said[0] is not None
    assert said[0].reason == "ImageUnavailable"
    assert said[0].message == f"r/serve:1 cannot be pulled: {why}"


def test_what_the_scheduler_and_the_quota_say_is_told() -> None:
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes: Insufficient cpu"}
    said = trouble({}, [pod(conditions=[waits])], CHOSEN)
    assert said is not None
    assert (said.reason, said.message) == ("Unschedulable", "0/2 nodes: Insufficient cpu")
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small"}
    said = trouble({"status": {"conditions": [failure]}}, [], CHOSEN)
    assert said is not None
    assert (said.reason, said.message) == ("PodsRefused", "exceeded quota: small")


def test_pods_that_answer_go_or_are_of_another_revision_are_nobodys_trouble() -> None:
    ended = container(lastState={"terminated": CRASHED})
    well = pod(containerStatuses=ended, conditions=[{"type": "Ready", "status": "True"}])
    going = pod(containerStatuses=ended)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    build = pod(containerStatuses=ended)
    build["metadata"]["labels"]["app.kubernetes.io/component"] = "build"
    starting = pod(containerStatuses=container(state={"waiting": {"reason": "ContainerCreating"}}))
    assert trouble({}, [well, going, build, starting, pod(revision="m-0", containerStatuses=ended)], CHOSEN) is None


def test_of_several_pods_the_oldest_speaks_and_a_crash_before_a_wait() -> None:
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    crashes = pod("z", containerStatuses=container(lastState={"terminated": CRASHED}))
    said = trouble({}, [pod("a", conditions=[waits]), crashes], CHOSEN)
    assert said is not None
    assert said.reason == "ServerCrashes"
