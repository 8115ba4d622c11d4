"""One stage: the steps of it that are missing, and what follows."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from stillhouse.clients.sources.remote.access import of_worker
from stillhouse.entrypoints.local import state
from stillhouse.entrypoints.local.building import runner
from stillhouse.entrypoints.local.lineage import lineage
from stillhouse.entrypoints.local.workspace import Workspace, open_file
from stillhouse.entrypoints.worker.given import Given
from stillhouse.entrypoints.worker.pinned import Pinned
from stillhouse.entrypoints.worker.record import record
from stillhouse.passes.base import CandidateServer
from stillhouse.passes.runner import Listener
from stillhouse.planning.plan import STAGES
from stillhouse.planning.request import is_built
from stillhouse.planning.steps import steps_of
from stillhouse.settings import load_settings

__all__ = ["run_stage"]


def run_stage(
    given: Given,
    stage: str,
    work: Path,
    listener: Listener,
    server: CandidateServer | None = None,
    planned: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run what is missing of a stage; return what its termination message says.

    Into `planned` goes `planHash` and `lineage` as soon as they are known: who catches an error has them.

    `work` is a folder of the pod's own; `server` serves the gate's candidates, None: a process of this container.

    Raises:
        StillhouseError: the spec, a source or a step's input will not do, or the gate let no candidate pass.
    """
    file = work / "distilledmodel.yaml"
    file.write_text(json.dumps(given.model), encoding="utf-8")  # JSON is YAML
    pinned = Pinned(load_settings().home, str((given.model.get("metadata") or {}).get("name") or "unnamed"), given.request)
    first = stage == STAGES[0]
    known = None if first else pinned.read()
    if first:
        pinned.begin()
    names = {uri: target for uri, target in given.sources.items() if "://" not in uri and not is_built(uri)}
    with listener.busy("sources") as progress:
        workspace = open_file(
            file,
            names,
            progress,
            given.rebuild,
            given.server,
            access=of_worker(os.environ),
            cache=pinned.fetched,
            known=known,
            middle=next((target for uri, target in given.sources.items() if is_built(uri)), None),
        )
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
                runner(workspace, listener, server).run(part)
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
