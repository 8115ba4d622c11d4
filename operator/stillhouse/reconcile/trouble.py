"""Why pods do not come up: from what the kubelet, the scheduler and the Deployment say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from stillhouse.reconcile.decide import Verdict
from stillhouse.reconcile.observed import Body

__all__ = ["blocked", "homeless", "trouble"]

_NO_IMAGE = (
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError",
    "SignatureValidationFailed",
)  # fmt: skip
_NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_LINES, _CHARACTERS = 12, 800
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: )?|\bErrImagePull: ')
"""What the kubelet says between two attempts, around the same error: told apart, a status would be written at every one."""


_SERVING_MEMORY = "spec.serve.resources.limits.memory"


def trouble(
    workload: Mapping[str, Any], pods: Iterable[Body], chosen: Mapping[str, str], memory: str = _SERVING_MEMORY
) -> Verdict | None:
    """Return why pods with these labels do not answer; None where nothing is known that goes beyond "not yet".

    `memory`: the field to raise where it is too little.
    """
    found = sorted((pod for pod in pods if _counts(pod, chosen)), key=_age)
    for look in (partial(_crash, memory=memory), _image, _container):
        for pod in found:
            verdict = look(_containers(pod))
            if verdict:
                return verdict
    return _refused(workload) or next(filter(None, map(homeless, found)), None)


def blocked(containers: Iterable[Body]) -> Verdict | None:
    """Return why one of a pod's containers (their statuses) cannot be started, in the same words at every attempt."""
    found = list(containers)
    return _image(found) or _container(found)


def _counts(pod: Body, chosen: Mapping[str, str]) -> bool:
    """Return whether it is a pod with these labels that is to stay and does not answer."""
    ours = chosen.items() <= (pod["metadata"].get("labels") or {}).items()
    return ours and not pod["metadata"].get("deletionTimestamp") and _condition(pod, "Ready").get("status") != "True"


def _age(pod: Body) -> tuple[str, str]:
    return (str(pod["metadata"].get("creationTimestamp", "")), str(pod["metadata"]["name"]))


def _condition(body: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == kind), {})


def _containers(pod: Body) -> list[Body]:
    return list((pod.get("status") or {}).get("containerStatuses") or [])


def _crash(containers: list[Body], *, memory: str) -> Verdict | None:
    for each in containers:
        ended = (each.get("state") or {}).get("terminated") or (each.get("lastState") or {}).get("terminated")
        if not ended:
            continue
        name, code = each.get("name", ""), ended.get("exitCode")
        if ended.get("reason") == "OOMKilled":
            return Verdict("ServerCrashes", f"{name} needed more memory than its limit (OOMKilled): raise {memory}")
        lines = str(ended.get("message") or "it left no message").strip().splitlines()[-_LINES:]
        # A crash of the process itself is told by the signal: 128 and its number.
        return Verdict("ServerCrashes", f"{name} ended with exit code {code}: " + "\n".join(lines)[-_CHARACTERS:])
    return None


def _waiting(containers: list[Body], reasons: tuple[str, ...]) -> tuple[str, str, str] | None:
    for each in containers:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in reasons:
            return str(each.get("image") or each.get("name")), str(waiting["reason"]), str(waiting.get("message") or "")
    return None


def _image(containers: list[Body]) -> Verdict | None:
    found = _waiting(containers, _NO_IMAGE)
    if found is None:
        return None
    image, reason, message = found
    why = _BACK_OFF.sub("", message).strip()
    told = f": {why}" if why else "" if reason in ("ErrImagePull", "ImagePullBackOff") else f": {reason}"
    return Verdict("ImageUnavailable", f"{image} cannot be pulled{told}"[:_CHARACTERS])


def _container(containers: list[Body]) -> Verdict | None:
    found = _waiting(containers, _NO_CONTAINER)
    return Verdict("ImageUnavailable", f"{found[0]} cannot be started: {found[2] or found[1]}"[:_CHARACTERS]) if found else None


def _refused(deployment: Mapping[str, Any]) -> Verdict | None:
    """Return what the ReplicaSet heard when it wanted to create a pod: a quota, a policy."""
    failure = _condition(deployment, "ReplicaFailure")
    return Verdict("PodsRefused", str(failure.get("message", ""))[:_CHARACTERS]) if failure.get("status") == "True" else None


def homeless(pod: Body) -> Verdict | None:
    """Return why no node takes a pod."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    return Verdict("Unschedulable", str(scheduled.get("message", ""))[:_CHARACTERS])
