"""One stage: the steps of it that are missing, and what follows."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from stillhouse.clients.sources.remote.access import of_worker
from stillhouse.entrypoints.local import state
from stillhouse.entrypoints.local.building import runner
from stillhouse.entrypoints.local.lineage import lineage
from stillhouse.entrypoints.local.workspace import Workspace, machine, open_file
from stillhouse.entrypoints.worker.given import Given
from stillhouse.entrypoints.worker.pinned import Pinned
from stillhouse.entrypoints.worker.record import record
from stillhouse.errors import WorkerLost
from stillhouse.passes.base import ONE_WORKER, CandidateServer, Progress, Workers
from stillhouse.passes.following import Follower
from stillhouse.passes.runner import Listener
from stillhouse.planning.plan import STAGES, Step
from stillhouse.planning.request import is_built
from stillhouse.planning.steps import steps_of
from stillhouse.settings import load_settings

__all__ = ["follow_stage", "run_stage"]

_LOOK_S: Final = 1.0


def run_stage(
    given: Given,
    stage: str,
    work: Path,
    listener: Listener,
    server: CandidateServer | None = None,
    planned: dict[str, Any] | None = None,
    workers: Workers = ONE_WORKER,
) -> dict[str, Any]:
    """Run what is missing of a stage; return what its termination message says.

    Into `planned` goes `planHash` and `lineage` as soon as they are known: who catches an error has them.

    `work` is a folder of the pod's own; `server` serves the gate's candidates, None: a process of this container. Of several
    `workers` this is number 0; the others `follow_stage`.

    Raises:
        StillhouseError: the spec, a source or a step's input will not do, or the gate let no candidate pass.
    """
    first = stage == STAGES[0]
    pinned = _pins(given)
    if first:
        pinned.begin()
    workspace = _opened(given, work, listener, pinned, first=first)
    name = workspace.name
    with workspace.store.model(name):
        if first:
            pinned.write(workspace.resolved, workspace.env.pins)
            for note in workspace.notes:
                listener.note(note)
        state.planned(workspace.store, workspace.plan, "", workspace.model.spec.serve.pin)
        if planned is not None:
            made_of = lineage(workspace.plan, lambda step: workspace.store.receipt(step.key))
            planned |= {"planHash": workspace.plan.plan_hash, "lineage": made_of}
        steps = [step for step in _missing(workspace) if step.stage == stage]
        if steps:
            part = dataclasses.replace(workspace.plan, targets=tuple(step.id for step in steps))
            with contextlib.redirect_stdout(sys.stderr):
                runner(workspace, listener, server, workers).run(part)
        if first:
            pinned.imported()
        told: dict[str, Any] = {"stage": stage, "planHash": workspace.plan.plan_hash, "next": None}
        later = [step.stage for step in _missing(workspace)]
        if later:
            return {**told, "next": min(later, key=STAGES.index)}
        with contextlib.redirect_stdout(sys.stderr):
            receipts = runner(workspace, listener, server).run(workspace.plan)
        revision = state.accepted(workspace.store, workspace.plan, receipts)
        spec = workspace.model.spec
        return {**told, "record": record(revision, gated=spec.gate is not None and steps_of(spec) is None)}


def follow_stage(given: Given, stage: str, work: Path, listener: Listener, workers: Workers) -> dict[str, Any]:
    """Help number 0 with a stage; return what the termination message says, which nobody reads.

    Raises:
        StillhouseError: a step cannot be carried out, or number 0 is gone or does not come.
    """
    workspace = _opened(given, work, listener, _pins(given), first=False)
    steps = tuple(step for step in workspace.plan.steps if step.stage == stage)
    with listener.busy("worker 0") as progress:
        _await(workspace, steps, workers, progress)
    part = dataclasses.replace(workspace.plan, targets=tuple(step.id for step in steps))
    with contextlib.redirect_stdout(sys.stderr):
        helper = Follower(workspace.store, machine(), workspace.source_path, listener, workers=workers)
        helper.follow(part)
    return {"stage": stage, "worker": workers.index}


def _await(workspace: Workspace, steps: Sequence[Step], workers: Workers, progress: Progress) -> None:
    """Wait until number 0 has begun the same steps: a key is also over the processor where a step measures."""
    began = time.monotonic()
    mine = {step.id: step.key for step in steps}
    while True:
        told = {step["id"]: step["key"] for step in workspace.store.state(workspace.name).get("steps", [])}
        if told.items() >= mine.items():
            return
        waited = time.monotonic() - began
        if waited > workers.wait_s:
            raise WorkerLost(
                "worker 0 has not begun what this worker is to help with",
                field="spec.build.workers",
                found=f"waited {waited:.0f} s for the plan of {workspace.name} in the store",
                allowed="one store, and machines of one kind where distill.search measures students",
                fix="look at worker 0: kubectl get pods -l stillhouse.io/stage=train -o wide; keep them on nodes of one kind:"
                " spec.build.placement.nodeSelector",
            )
        progress.update(0, None, "", "waiting until it begins")
        time.sleep(_LOOK_S)


def _pins(given: Given) -> Pinned:
    return Pinned(load_settings().home, str((given.model.get("metadata") or {}).get("name") or "unnamed"), given.request)


def _opened(given: Given, work: Path, listener: Listener, pinned: Pinned, *, first: bool) -> Workspace:
    """Return the resource bound to this pod; the `first` stage pins its sources anew."""
    file = work / "distilledmodel.yaml"
    file.write_text(json.dumps(given.model), encoding="utf-8")  # JSON is YAML
    names = {uri: target for uri, target in given.sources.items() if "://" not in uri and not is_built(uri)}
    with listener.busy("sources") as progress:
        return open_file(
            file,
            names,
            progress,
            given.rebuild,
            given.server,
            access=of_worker(os.environ),
            cache=pinned.fetched,
            known=None if first else pinned.read(),
            middle=next((target for uri, target in given.sources.items() if is_built(uri)), None),
        )


def _missing(workspace: Workspace) -> list[Any]:
    return list(workspace.plan.missing(lambda step: workspace.store.done(step.key, contents=False) is not None))


def set_up(store: Path, work: Path) -> None:
    """Point everything that reads the environment to the pod's volumes: the root file system is read-only."""
    for folder in ("cache", "tmp", "home", "config"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "STILLHOUSE_HOME": str(store),
        "XDG_CACHE_HOME": str(work / "cache"),
        "XDG_CONFIG_HOME": str(work / "config"),
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "HF_HOME": str(work / "cache" / "huggingface"),
        # What the node may do is not what a model's author may: no credentials from the cloud's metadata service.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
