"""The pods of a build's Job: of one that works alone, or of several workers that train together. Pure."""

from __future__ import annotations

from typing import Any

from stillhouse.errors import WorkerLost
from stillhouse.reconcile.observed import Body, Observed, number_of
from stillhouse.resources.jobs import PERMANENT, WORKER

__all__ = ["containers", "culprits", "failed_alone", "newest", "pods_of", "starved", "state_of", "workers"]

_ENDED = (137, 143)
"""Exit codes of who was killed or asked to stop, as a Job that failed does to those that are left."""


def pods_of(job: Body, observed: Observed) -> list[Body]:
    """Return the pods of a Job, the newest last."""
    uid = job["metadata"]["uid"]
    ours = [
        pod for pod in observed.pods if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or [])
    ]
    return sorted(ours, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]))


def containers(pod: Body) -> list[dict[str, Any]]:
    """Return the containers' statuses, those of the server beside the gate's worker first: nothing runs before they do."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def state_of(pod: Body) -> dict[str, Any]:
    """Return the state of a pod's worker; empty where it is not known."""
    return next((dict(each.get("state") or {}) for each in containers(pod) if each.get("name") == WORKER), {})


def starved(job: Body, observed: Observed) -> bool:
    """Return whether the worker was killed for its memory twice: a third pod has no more of it.

    (A Job's failure policy sees exit code 137, which a drained node's pods have too.)
    """
    pods = pods_of(job, observed)
    numbers = [number_of(pod) for pod in pods if (state_of(pod).get("terminated") or {}).get("reason") == "OOMKilled"]
    return len(numbers) > len(set(numbers))


def workers(job: Body) -> int:
    """Return how many pods work together."""
    return int(job["spec"].get("completions") or 1)


def failed_alone(pod: Body) -> bool:
    """Return whether a worker failed, and not for another's end."""
    return (state_of(pod).get("terminated") or {}).get("exitCode", 0) not in (0, WorkerLost.exit_code)


def culprits(job: Body, observed: Observed) -> list[Body]:
    """Return the pods that a Job of several workers can have failed for, the likeliest first, of those alike the newest."""
    found = [pod for pod in pods_of(job, observed)[::-1] if failed_alone(pod)] if workers(job) > 1 else []
    return sorted(found, key=_innocence)


def _innocence(pod: Body) -> int:
    last = state_of(pod)["terminated"]
    if last.get("exitCode") in PERMANENT:
        return 0
    return 2 if last.get("exitCode") in _ENDED and last.get("reason") != "OOMKilled" else 1


def newest(job: Body, observed: Observed) -> list[Body]:
    """Return the newest pod of each worker, number 0's first."""
    found = {number_of(pod): pod for pod in pods_of(job, observed)}
    return [pod for _, pod in sorted(found.items())]
