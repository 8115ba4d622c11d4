"""What a build does next and what people are told, from Jobs and pods alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stillhouse.reconcile.building import Build, next_of
from stillhouse.reconcile.decide import Decision
from stillhouse.reconcile.observed import Observed
from stillhouse.resources import labels
from stillhouse.resources.wanted import Scaling

REQUEST = "f" * 64
DECISION = Decision(REQUEST, {}, Scaling("hpa", 1, 1, 1), build=True)
MODEL = {"metadata": {"name": "m", "namespace": "default", "uid": "model"}, "spec": {}}


def job(stage: str, how: str = "", **spec: Any) -> dict[str, Any]:
    conditions = [{"type": how, "status": "True"}] if how else []
    return {
        "kind": "Job",
        "metadata": {
            "name": f"m-{stage}",
            "uid": f"job-{stage}",
            "labels": {labels.REQUEST: REQUEST[:32], labels.STAGE: stage},
            "ownerReferences": [{"uid": "model", "controller": True}],
        },
        "spec": spec,
        "status": {"conditions": conditions},
    }


def pod(stage: str, worker: dict[str, Any] | None = None, server: dict[str, Any] | None = None) -> dict[str, Any]:
    """A pod; `worker` is a container's state, `server` the whole status of the one beside it."""
    status: dict[str, Any] = {"containerStatuses": [{"name": "worker", "state": worker or {}}]}
    if server is not None:
        status["initContainerStatuses"] = [{"name": "triton", **server}]
    return {"kind": "Pod", "metadata": {"name": "p", "ownerReferences": [{"uid": f"job-{stage}"}]}, "status": status}


def told(code: int, message: dict[str, Any] | str, reason: str = "Error") -> dict[str, Any]:
    text = message if isinstance(message, str) else json.dumps(message)
    return {"terminated": {"exitCode": code, "reason": reason, "message": text}}


def after(*bodies: dict[str, Any]) -> Build:
    jobs = {(each["kind"], each["metadata"]["name"]): each for each in bodies if each["kind"] == "Job"}
    return next_of(Observed(MODEL, children=jobs, pods=tuple(each for each in bodies if each["kind"] == "Pod")), DECISION)


def failure(*bodies: dict[str, Any]) -> tuple[str, str]:
    outcome = after(*bodies).outcome
    assert outcome is not None
    return outcome.spec["reason"], outcome.spec["message"]


RESOLVED = (job("resolve", "Complete"), pod("resolve", told(0, {"next": "gate"})))


def test_a_server_out_of_memory_is_told_with_the_limit_to_raise() -> None:
    killed = {"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    reason, message = failure(*RESOLVED, job("gate", "Failed"), pod("gate", told(5, {"message": "it ended"}), killed))
    assert reason == "BuildFailed"
    assert "spec.serve.resources.limits.memory" in message


def test_a_gate_that_refuses_is_no_servers_fault() -> None:
    reason, message = failure(
        *RESOLVED, job("gate", "Failed"), pod("gate", told(3, {"reason": "GateFailed", "message": "too slow"}), {"state": {}})
    )
    assert (reason, message) == ("GateFailed", "gate: too slow")


WHY = 'failed to pull and unpack image "r/serve:1": not found'
PULLS = [
    {"reason": "ErrImagePull", "message": WHY},
    {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "r/serve:1": ErrImagePull: {WHY}'},
]


@pytest.mark.parametrize("waiting", PULLS)
def test_an_image_that_is_missing_is_told_in_the_same_words_at_every_attempt(waiting: dict[str, Any]) -> None:
    server = {"image": "r/serve:1", "state": {"waiting": waiting}}
    found = after(*RESOLVED, job("gate"), pod("gate", {"waiting": {"reason": "PodInitializing"}}, server))
    assert found.progress == f"gate: r/serve:1 cannot be pulled: {WHY}"
    assert found.trouble is not None
    assert (found.trouble.reason, found.trouble.message) == ("ImageUnavailable", found.progress)
    assert found.outcome is None


def test_a_server_that_ends_again_and_again_is_told_in_the_same_words_whatever_it_does() -> None:
    last = {"terminated": {"exitCode": 1, "reason": "Error"}}
    states = [
        {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container=triton pod=p_x(uid)"}},
        {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container=triton pod=p_x(uid)"}},
        {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        last,
    ]
    said = set()
    for state in states:
        server = {"state": state, "lastState": last, "ready": False}
        build = after(*RESOLVED, job("gate"), pod("gate", {"waiting": {"reason": "PodInitializing"}}, server))
        said.add(build.progress)
        assert build.trouble is None
    assert said == {"gate: triton ended (exit code 1) and is started again"}
    server = {"state": {"running": {}}, "lastState": last, "ready": True}
    assert after(*RESOLVED, job("gate"), pod("gate", {"running": {}}, server)).progress == "gate: running"


def test_what_else_a_container_waits_for_is_told_as_it_is() -> None:
    waiting = {"waiting": {"reason": "Other", "message": "why"}}
    assert after(job("resolve"), pod("resolve", waiting)).progress == "resolve: Other: why"


def test_a_job_that_kueue_holds_says_so() -> None:
    held = job("resolve", suspend=True)
    held["metadata"]["labels"][labels.QUEUE] = "team-a"
    assert after(held).progress == "resolve: queued by Kueue in team-a"
    assert after(job("resolve", suspend=True)).progress == "resolve: its Job is suspended"
    assert after(job("resolve", suspend=False)).progress == "resolve: waiting for its pod"


def test_a_full_volume_is_named_with_what_to_do() -> None:
    volumes = [{"name": "claim-0", "persistentVolumeClaim": {"claimName": "models"}}, {"name": "worker-work", "emptyDir": {}}]
    failed = job("resolve", "Failed", template={"spec": {"volumes": volumes}})
    full = {"reason": "StoreFull", "message": "the disk is full; free space with `still gc`"}
    reason, message = failure(failed, pod("resolve", told(5, full)))
    assert reason == "StoreFull"
    assert "claim models is full" in message
    assert "enlarge it" in message
    assert "still gc" not in message, "nobody can run that there"


def test_a_worker_that_was_killed_for_its_memory_twice_is_not_tried_a_third_time() -> None:
    starved = pod("resolve", told(137, "", "OOMKilled"))
    assert after(job("resolve"), starved).outcome is None
    reason, message = failure(job("resolve"), starved, starved)
    assert reason == "BuildFailed"
    assert "spec.build.resources.limits.memory" in message


def test_a_pod_that_no_node_takes_is_told_with_a_reason() -> None:
    waits = pod("gate")
    why = '0/2 nodes are available: persistentvolumeclaim "nope" not found.'
    waits["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}]}
    found = after(*RESOLVED, job("gate"), waits)
    assert found.progress == f"gate: no node takes it: {why}"
    assert found.trouble is not None
    assert (found.trouble.reason, found.trouble.message) == ("Unschedulable", found.progress)
    assert found.outcome is None


def test_why_a_stage_is_tried_again_is_told_while_it_is() -> None:
    first, second = pod("resolve", told(5, {"message": "s3://nowhere/x: the host is not known"})), pod("resolve", {"running": {}})
    first["metadata"] |= {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}
    second["metadata"] |= {"name": "b", "creationTimestamp": "2026-01-01T00:01:00Z"}
    found = after(job("resolve"), first, second)
    assert found.progress == "resolve: running, attempt 2 (the attempt before: s3://nowhere/x: the host is not known)"


def together(number: int, worker: dict[str, Any], at: int = 0) -> dict[str, Any]:
    """A pod of two that train together."""
    made = pod("train", worker)
    made["metadata"] |= {
        "name": f"m-train-{number}-{at}",
        "uid": f"{number}-{at}",
        "creationTimestamp": f"2026-01-01T00:0{at}:00Z",
        "labels": {"batch.kubernetes.io/job-completion-index": str(number)},
    }
    return made


TRAINED = (job("resolve", "Complete"), pod("resolve", told(0, {"next": "train"})))


def test_of_two_workers_number_0_says_what_follows() -> None:
    first, second = together(0, told(0, {"next": "compress"})), together(1, told(0, {"worker": 1}), 1)
    assert after(*TRAINED, job("train", "Complete", completions=2), first, second).stage == "compress"


def test_a_worker_that_is_gone_is_told_while_all_begin_again() -> None:
    lost = {"message": "another worker of this training is gone"}
    pods = [together(0, told(75, lost)), together(1, told(137, "")), together(0, {"running": {}}, 1), together(1, {}, 1)]
    progress = after(*TRAINED, job("train", completions=2), *pods).progress
    assert progress == "train: running, attempt 2 (the attempt before: another worker of this training is gone)"


@pytest.mark.parametrize("culprit", [0, 1])
def test_a_training_failed_for_whoever_failed_by_itself(culprit: int) -> None:
    pods = [together(culprit, told(2, {"message": "loss 'hard' needs labels"})), together(1 - culprit, told(143, ""))]
    assert "loss 'hard' needs labels" in failure(*TRAINED, job("train", "Failed", completions=2), *pods)[1]
    pods[1] = together(1 - culprit, told(75, {"message": "another worker is gone"}))
    assert "loss 'hard' needs labels" in failure(*TRAINED, job("train", "Failed", completions=2), *pods)[1]


def test_two_workers_that_were_killed_for_their_memory_once_each_are_tried_again() -> None:
    pods = [together(number, told(137, "", "OOMKilled")) for number in (0, 1)]
    assert after(*TRAINED, job("train", completions=2), *pods).outcome is None
    reason, message = failure(*TRAINED, job("train", completions=2), *pods, together(1, told(137, "", "OOMKilled"), 1))
    assert (reason, "spec.build.resources.limits.memory" in message) == ("BuildFailed", True)


def test_the_worker_that_no_node_takes_is_named() -> None:
    waits = together(1, {})
    waits["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "cpu"}]}
    found = after(*TRAINED, job("train", completions=2), together(0, {"running": {}}), waits)
    assert found.progress == "train: worker 1: no node takes it: cpu"
