"""What a build does next, from the Jobs and pods that are there. Pure.

A stage's worker leaves JSON in its termination message: `next` (the stage that follows, null after the last), `planHash`, and
after the last `record` (or, packed, `packedRecord`), the parts of a ModelRevision that only the build knows. On failure: `reason`
and `message`. Of several workers that train together number 0 says what follows, and any of them why it failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stillhouse.api.status import REASONS
from stillhouse.planning import packed
from stillhouse.reconcile.decide import Decision, Verdict
from stillhouse.reconcile.observed import Body, Observed, ended, number_of
from stillhouse.reconcile.trouble import blocked, homeless
from stillhouse.reconcile.workers import containers, culprits, failed_alone, newest, pods_of, starved, state_of, workers
from stillhouse.resources import labels
from stillhouse.resources.pods import volume_name
from stillhouse.resources.server import SERVER

__all__ = ["FIRST_STAGE", "RECORD_UNREADABLE", "STARTING", "Build", "Outcome", "next_of"]

FIRST_STAGE = "resolve"
STARTING = ": starting"
"""How the progress of a stage ends whose pod waits for what nobody has told."""
_STAGES = ("resolve", "train", "compress", "gate")
_BY_EXIT_CODE = {2: "BuildFailed", 3: "GateFailed", 4: "GateInconclusive"}
RECORD_UNREADABLE = "RecordUnreadable"
_LOST = "its worker ended well, and what it left cannot be read"
_REBUILD = 'then build again: kubectl annotate dm {name} --overwrite stillhouse.io/rebuild="$(date)"'


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished build: the parts of its ModelRevision's spec."""

    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Build:
    """What is to be done: Jobs that must go, the stage whose Job must be there, or how it ended; `progress` is for people.

    `silent` is a Job that has ended and whose pods are not known: they may be gone, or their watch is behind its Job's.
    `trouble` is what a Job waits for that will not come by itself; where it does come, the Job goes on.
    """

    remove: tuple[Body, ...] = ()
    stage: str = ""
    outcome: Outcome | None = None
    progress: str = ""
    silent: Body | None = None
    trouble: Verdict | None = None


def next_of(observed: Observed, decision: Decision, *, asked: bool = False) -> Build:
    """Return what a build does next. `asked`: the pods of the Job that was silent are known as the server has them."""
    jobs = observed.jobs()
    mine = [job for job in jobs if job["metadata"]["labels"].get(labels.REQUEST) == decision.request[:32]]
    if not decision.build:
        return Build(remove=tuple(jobs))
    if decision.waits:
        return Build(remove=tuple(jobs), progress=decision.waits)
    others = tuple(job for job in jobs if job not in mine)
    by_stage = {job["metadata"]["labels"].get(labels.STAGE, ""): job for job in mine}
    stage = FIRST_STAGE
    for _ in _STAGES:
        job = by_stage.get(stage)
        if job is None:
            return Build(others, stage, progress=f"{stage}: starting")
        how = ended(job) or ("Failed" if starved(job, observed) else "")
        if not how:
            stuck = _blocked(job, observed)
            doing = f"{stage}: {stuck.message if stuck else _doing(job, observed)}{_former(job, observed)}"
            return Build(others, progress=doing, trouble=replace(stuck, message=doing) if stuck else None)
        told = _told(job, observed, failed=how == "Failed")
        if how == "Failed":
            if not asked and not _last_has_ended(job, observed):
                return Build(others, silent=job, progress=f"{stage}: ending")
            return Build(others, outcome=_failure(observed, decision, stage, job, told))
        if told is None:  # its pod is gone and with it what it said: the steps are in the store, so asking again is cheap
            return Build((*others, job), silent=job, progress=f"{stage}: asking again")
        if told.get("unread"):  # the work is done, and asking again at once would be answered alike
            return Build(others, progress=f"{stage}: {_LOST}", trouble=_lost(stage, job, told))
        if not told.get("next"):
            return Build(others, outcome=_success(observed, decision, told))
        stage = str(told["next"])
        if stage not in _STAGES:
            break
    return Build(others, outcome=_broken(observed, decision, stage))


def _server_out_of_memory(pod: Body) -> bool:
    """Return whether the server beside the gate's worker was killed for its memory; it is started anew and told nothing."""
    states = [each.get(part) or {} for each in containers(pod) if each.get("name") == SERVER for part in ("state", "lastState")]
    return any((state.get("terminated") or {}).get("reason") == "OOMKilled" for state in states)


def _told(job: Body, observed: Observed, *, failed: bool = False) -> dict[str, Any] | None:
    """Return what the newest pod that ended left; None where nothing is left.

    Of several workers number 0's; where the Job `failed`, that of whoever failed by itself before those who lost it.
    """
    leads = [pod for pod in pods_of(job, observed)[::-1] if not number_of(pod)]
    for pod in (*(culprits(job, observed) if failed else ()), *leads):
        last = state_of(pod).get("terminated")
        if not last:
            continue
        data = _read(str(last.get("message") or ""))
        killed = {"killed": last.get("reason"), "serverOutOfMemory": _server_out_of_memory(pod)}
        return {**data, "exitCode": last.get("exitCode"), **killed}
    return None


def _read(message: str) -> dict[str, Any]:
    """Return what a termination message says; `unread` where it is none of ours, or cut."""
    try:
        return packed.told(message)
    except ValueError:
        return {"message": message[-2000:], "unread": True}


def _lost(stage: str, job: Body, told: Mapping[str, Any]) -> Verdict:
    meta = job["metadata"]
    begins = " ".join(str(told.get("message") or "nothing").split())[:100]
    return Verdict(
        RECORD_UNREADABLE,
        f"{stage}: {_LOST}: {begins}. A kubelet keeps 12 KiB for all containers of a pod: keep injected ones out of builds, then"
        f" kubectl delete job {meta['name']} -n {meta['namespace']}, which runs the stage again (what is finished is kept)",
    )


def _last_has_ended(job: Body, observed: Observed) -> bool:
    """Return whether the newest pod of a Job is known to have ended: what an older one said is not how the Job failed."""
    if workers(job) > 1:
        return any(failed_alone(pod) for pod in newest(job, observed))
    pods = pods_of(job, observed)
    return bool(pods) and "terminated" in state_of(pods[-1])


def _blocked(job: Body, observed: Observed) -> Verdict | None:
    """Return why the newest pod of a Job cannot start."""
    for pod in [] if job["spec"].get("suspend") else newest(job, observed):
        alone, which = homeless(pod), f"worker {number_of(pod)}: " if workers(job) > 1 else ""
        if alone is not None:
            return replace(alone, message=f"{which}no node takes it: {alone.message}"[:300])
        stuck = blocked(containers(pod))
        if stuck is not None:
            return replace(stuck, message=f"{which}{stuck.message}")
    return None


def _doing(job: Body, observed: Observed) -> str:
    """Say what a Job that has not ended waits for."""
    if job["spec"].get("suspend"):
        queue = job["metadata"]["labels"].get(labels.QUEUE)
        return f"queued by Kueue in {queue}" if queue else "its Job is suspended"
    pods = [pod for pod in pods_of(job, observed) if not number_of(pod)]
    if not pods:
        return "waiting for its pod"
    pod = pods[-1]
    for each in containers(pod):
        waiting = (each.get("state") or {}).get("waiting") or {}
        last = (each.get("lastState") or {}).get("terminated") or {}
        # In the same words while it waits, starts and ends again: the kubelet's have the seconds until the next attempt.
        if waiting.get("reason") == "CrashLoopBackOff" or (last and not each.get("ready")):
            code = f" (exit code {last['exitCode']})" if "exitCode" in last else ""
            return f"{each.get('name')} ended{code} and is started again"
        if waiting.get("reason") and waiting["reason"] not in ("ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}"[:200]
    if "running" in state_of(pod):
        doing = observed.told.get(pod["metadata"].get("uid", ""), "running")
        return doing if len(pods) == 1 else f"{doing}, attempt {len(pods)}"
    return "starting"


def _former(job: Body, observed: Observed) -> str:
    """Say how the attempt before this one ended: why it is tried again would else be told by the last of them alone."""
    message = " ".join(str((_told(job, observed) or {}).get("message") or "").split())
    return f" (the attempt before: {message[:150]})" if message else ""


def _success(observed: Observed, decision: Decision, told: Mapping[str, Any]) -> Outcome:
    record = told.get("record")
    if not isinstance(record, dict) or not record.get("digest") or not record.get("precision"):
        return _broken(observed, decision, "gate")
    return Outcome(
        {
            **{name: value for name, value in record.items() if value is not None},
            "model": observed.owner.name,
            "requestHash": decision.request,
            **({"planHash": told["planHash"]} if told.get("planHash") else {}),
            "outcome": "Accepted",
            "reason": record.get("reason") or "GatePassed",
        }
    )


def _failure(observed: Observed, decision: Decision, stage: str, job: Body, told: Mapping[str, Any] | None) -> Outcome:
    reason, message = _why(observed.owner.name, stage, job, told or {})
    record = (told or {}).get("record")
    kept = record if isinstance(record, dict) else {}
    return Outcome(
        {
            **{part: kept[part] for part in ("candidates", "lineage") if kept.get(part)},
            **({"planHash": told["planHash"]} if told and told.get("planHash") else {}),
            "model": observed.owner.name,
            "requestHash": decision.request,
            "outcome": "Failed",
            "reason": reason,
            "message": message[:4000],
        }
    )


def _why(name: str, stage: str, job: Body, told: Mapping[str, Any]) -> tuple[str, str]:
    again = _REBUILD.format(name=name)
    code = told.get("exitCode")
    if told.get("serverOutOfMemory"):
        return "BuildFailed", (
            f"{stage}: the server needed more memory than its limit while a candidate was measured;"
            f" raise spec.serve.resources.limits.memory, or {again.removeprefix('then ')}"
        )
    if told.get("killed") == "OOMKilled":
        return (
            "BuildFailed",
            (f"{stage}: the worker needed more memory than its limit; raise spec.build.resources.limits.memory, {again}"),
        )
    if told.get("reason") == "StoreFull":
        return "StoreFull", (
            f"{stage}: the volume of claim {_store_claim(job)} is full; enlarge it (spec.resources.requests.storage of the claim,"
            f" where its StorageClass allows), {again}. Finished steps are kept; what nobody has needed for a day, it frees"
        )
    if code in _BY_EXIT_CODE:
        reason = str(told.get("reason") or "")
        return (
            reason if reason in REASONS else _BY_EXIT_CODE[int(code)]
        ), f"{stage}: {told.get('message') or 'no message was left'}"
    failed: Body = next((each for each in (job.get("status") or {}).get("conditions") or [] if each.get("type") == "Failed"), {})
    if failed.get("reason") == "DeadlineExceeded":
        return "BuildFailed", f"{stage}: took longer than {job['spec'].get('activeDeadlineSeconds')} s; {again}"
    last = told.get("message") or failed.get("message") or "no message was left"
    return "BuildFailed", f"{stage}: {last} (exit code {code}); {again}"


def _store_claim(job: Body) -> str:
    """Return the claim that a Job's store lies on."""
    volumes = job["spec"].get("template", {}).get("spec", {}).get("volumes") or []
    return next((each["persistentVolumeClaim"]["claimName"] for each in volumes if each["name"] == volume_name(0)), "")


def _broken(observed: Observed, decision: Decision, stage: str) -> Outcome:
    return Outcome(
        {
            "model": observed.owner.name,
            "requestHash": decision.request,
            "outcome": "Failed",
            "reason": "BuildFailed",
            "message": f"{stage}: the worker left no record that can be read; do worker and operator have the same version?",
        }
    )
