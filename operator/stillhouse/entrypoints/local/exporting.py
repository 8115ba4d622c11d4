"""The model of a file in formats of other runtimes, as folders outside the store."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stillhouse.api.export import Export
from stillhouse.clients.store.files import disk_errors
from stillhouse.clients.store.manifests import MANIFEST
from stillhouse.clients.store.receipts import Receipt
from stillhouse.entrypoints.local.building import runner
from stillhouse.entrypoints.local.lineage import lineage
from stillhouse.entrypoints.local.modelless import require_model
from stillhouse.entrypoints.local.workspace import Workspace, under_token
from stillhouse.errors import UsageError
from stillhouse.passes.runner import Listener
from stillhouse.planning.build import build_plan
from stillhouse.planning.exports import export_id
from stillhouse.planning.plan import Plan

__all__ = ["Asked", "export"]

RECEIPT = "receipt.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says; without formats, the file says it."""

    formats: tuple[str, ...] = ()
    precision: str | None = None
    batch: int | None = None
    tokens: int | None = None


def export(work: Workspace, asked: Asked, out: Path, listener: Listener) -> list[dict[str, Any]]:
    """Make the exports and write each to a folder of its own below `out`. The caller holds the model.

    Raises:
        UsageError: neither the file nor the command line names a format, or a folder is there with something else in it.
        StillhouseError: a step could not be carried out.
    """
    require_model(work.model, work.path, "exports")
    wanted = _wanted(work, asked)
    folders = {each.format: out / f"{work.name}-{each.format}" for each in wanted}
    for folder in folders.values():
        _refuse_other(folder)
    work = under_token(work)
    spec = work.model.spec.model_copy(update={"export": wanted})
    model = work.model.model_copy(update={"spec": spec})
    plan = build_plan(model, work.env, {uri: each.uri for uri, each in work.resolved.items()})
    plan = dataclasses.replace(plan, targets=tuple(export_id(each.format) for each in wanted))
    run = runner(work, listener)
    with contextlib.redirect_stdout(sys.stderr):  # converters print
        receipts = run.run(plan)
    made = []
    with work.store.using():
        for each in wanted:
            step = plan.step(export_id(each.format))
            artifact, receipt = run.artifact(step), receipts[step.id]
            told = {
                "digest": artifact.digest,
                "facts": dict(artifact.facts),
                "lineage": lineage(_towards(plan, step.id), _of(receipts)),
            }
            _write(artifact.path, folders[each.format], {**told, "step": step.key, "seconds": receipt.seconds})
            made.append({"folder": str(folders[each.format]), **told})
    return made


def _wanted(work: Workspace, asked: Asked) -> tuple[Export, ...]:
    given = {name: value for name in ("precision", "batch", "tokens") if (value := getattr(asked, name)) is not None}
    if not asked.formats:
        if given:
            raise UsageError(f"--{next(iter(given))} belongs to --format", field=f"--{next(iter(given))}", fix="add --format")
        if not work.model.spec.export:
            raise UsageError(
                "nothing says which format",
                field="--format",
                found="left out, and the file has no spec.export",
                fix="add --format",
            )
        return work.model.spec.export
    try:
        return tuple(Export.model_validate({"format": each, **given}) for each in dict.fromkeys(asked.formats))
    except ValidationError as error:
        said = error.errors()[0]
        raise UsageError(
            str(said["msg"]).removeprefix("Value error, "), field="--format", found=", ".join(asked.formats), fix="leave them out"
        ) from error


def _towards(plan: Plan, step_id: str) -> Plan:
    """Return the part of a plan that a step is made of."""
    wanted, stack = set[str](), [step_id]
    while stack:
        each = stack.pop()
        if each not in wanted:
            wanted.add(each)
            stack.extend(plan.step(each).parents.values())
    return dataclasses.replace(plan, steps=tuple(step for step in plan.steps if step.id in wanted))


def _of(receipts: dict[str, Receipt]) -> Any:
    return lambda step: receipts.get(step.id)


def _refuse_other(folder: Path) -> None:
    with disk_errors(folder, "read"):
        if folder.exists() and not (folder / RECEIPT).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                "something else is there",
                field="--dir",
                found=str(folder),
                allowed="no folder, or an earlier export",
                fix="move it away",
            )


def _write(source: Path, target: Path, receipt: dict[str, Any]) -> None:
    """Put a copy of an artifact in the place of an earlier one, whole or not at all; its files are the user's own."""
    aside = target.with_name(target.name + ".part")
    with disk_errors(target):
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(source, aside, ignore=shutil.ignore_patterns(MANIFEST), copy_function=shutil.copyfile)
        for path in aside.rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.suffix == ".sh" else 0o644)
        (aside / RECEIPT).write_text(json.dumps(receipt, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
