"""From what is to be done with the training rows before they are learned from to steps. Pure.

Nothing is drafted, and nothing else's draft changes, for a resource that asks for none of it: its keys and its request stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillhouse.api.distill import Distill
from stillhouse.api.model import Spec
from stillhouse.api.preparing import Augment
from stillhouse.api.scalars import parse_percent
from stillhouse.api.source import TEXT_TASKS, DataSource
from stillhouse.errors import SpecError
from stillhouse.planning.imports import DATA, TEACHER, import_data
from stillhouse.planning.plan import Environment, Plan, Step, StepDraft

__all__ = ["REPORT", "clean", "copied", "judged", "learned", "made_of", "prepare", "report", "reported", "taken"]

POOL = "resolve/unlabelled"
POOLED, DEDUPLICATED, BALANCED, AUGMENTED = "train/pooled", "train/deduplicated", "train/balanced", "train/augmented"
REPORT = "train/data-report"
NEARLY = 0.8
_AMOUNTS = {"synonym": 0.15, "mask": 0.15, "swap": 0.1, "delete": 0.15, "flip": 0.0, "crop": 0.12, "rotate": 0.04, "noise": 0.05}
_OF_IMAGES = {"flip", "crop", "rotate", "noise"}


def made_of(distill: Distill) -> list[str]:
    """Return the steps whose rows replace those before them, in order; empty where the data is learned from as it is."""
    asked = (
        (POOLED, distill.unlabelled),
        (DEDUPLICATED, distill.deduplicate),
        (BALANCED, distill.balance),
        (AUGMENTED, distill.augment),
    )
    return [step_id for step_id, wanted in asked if wanted is not None]


def learned(distill: Distill) -> str:
    """Return the step whose rows are learned from."""
    return (made_of(distill) or [DATA])[-1]


def clean(distill: Distill) -> str:
    """Return the step whose rows are held against those that judge.

    Deduplicated against them, what is left; else the data as it was imported, which is known before anything is trained.
    """
    return DEDUPLICATED if distill.deduplicate and distill.deduplicate.held_out else DATA


def copied(plan: Plan, step: Step) -> bool:
    """Say whether changed copies are made of the rows that a step imports, and learned from beside them."""
    return step.id in {DATA, POOL} and plan.find(AUGMENTED) is not None


def judged(distill: Distill) -> dict[str, str]:
    """Return role → step of what is held against the rows that judge."""
    rows = clean(distill)
    return {"training": rows, **({"unlabelled": POOL} if distill.unlabelled and rows == DATA else {})}


def reported(distill: Distill) -> bool:
    """Say whether a report is wanted."""
    return distill.report if distill.report is not None else bool(made_of(distill))


def taken(distill: Distill) -> set[str]:
    """Return the step ids that stages cannot have beside the student's."""
    return {*made_of(distill), *([REPORT] if reported(distill) else [])}


def prepare(spec: Spec, env: Environment) -> Iterator[StepDraft]:
    """Draft what is done with the rows, with the imports that it reads.

    Raises:
        SpecError: an operation on what the task is not shown, or copies that no loss would learn from.
    """
    distill = spec.distill
    if distill is None or not made_of(distill):
        return
    yield import_data(DATA, distill.data, spec.source, env)
    last = DATA
    if distill.unlabelled:
        yield import_data(POOL, distill.unlabelled, spec.source, env)
        yield StepDraft(POOLED, "train", "pool-data", {}, {"data": last, "unlabelled": POOL})
        last = POOLED
    if distill.deduplicate:
        parents = {"data": last}
        if distill.deduplicate.held_out:
            for role, (step_id, data) in _held_out(spec).items():
                yield import_data(step_id, data, spec.source, env)
                parents[role] = step_id
        yield StepDraft(DEDUPLICATED, "train", "deduplicate", {"threshold": float(distill.deduplicate.threshold)}, parents)
        last = DEDUPLICATED
    if distill.balance:
        config: dict[str, Any] = {"to": parse_percent(distill.balance.to), "most": distill.balance.most, "seed": distill.seed}
        yield StepDraft(BALANCED, "train", "balance", config, {"data": last})
        last = BALANCED
    if distill.augment:
        _refuse(distill, distill.augment, images=spec.source.task not in TEXT_TASKS)
        yield StepDraft(
            AUGMENTED, "train", "augment", _augment(distill.augment, distill.seed), {"data": last, "teacher": TEACHER}
        )


def report(spec: Spec, env: Environment) -> Iterator[StepDraft]:
    """Draft the report on the rows, with the imports that it reads: it comes before the training, and prints what it found."""
    distill = spec.distill
    if distill is None or not reported(distill):
        return
    yield import_data(DATA, distill.data, spec.source, env)
    before = [step_id for step_id in made_of(distill) if step_id in {POOLED, DEDUPLICATED}]
    training = (before or [DATA])[-1]
    parents = {"teacher": TEACHER, "training": training}
    if learned(distill) != training:
        parents["trained"] = learned(distill)
    for role, (step_id, data) in _held_out(spec).items():
        yield import_data(step_id, data, spec.source, env)
        parents[role] = step_id
    if spec.compress.calibration:
        yield import_data("resolve/calibration", spec.compress.calibration, spec.source, env)
        parents["calibration"] = "resolve/calibration"
    config = {
        "maxLength": distill.max_length or spec.source.max_length,
        "servedLength": spec.source.max_length,
        "threshold": float(distill.deduplicate.threshold) if distill.deduplicate else NEARLY,
    }
    yield StepDraft(REPORT, "train", "data-report", config, parents)


def _held_out(spec: Spec) -> dict[str, tuple[str, DataSource]]:
    """Return role → (step, data) of what judges."""
    found: dict[str, tuple[str, DataSource]] = {}
    if spec.distill and spec.distill.validation:
        found["validation"] = ("resolve/validation", spec.distill.validation)
    if spec.gate:
        found["gate"] = ("resolve/gate-data", spec.gate.data)
    cascade = spec.edge.cascade if spec.edge else None
    if cascade:
        for role, name, data in (
            ("threshold", "threshold", cascade.data),
            ("cascadeCalibration", "calibration", cascade.calibration),
            ("test", "test", cascade.test),
        ):
            if data is not None:
                found[role] = (f"resolve/cascade-{name}", data)
    return found


def _augment(augment: Augment, seed: int) -> dict[str, Any]:
    operations = [
        {
            "kind": each.kind,
            "amount": _AMOUNTS[each.kind] if each.amount is None else parse_percent(each.amount),
            "chance": parse_percent(each.chance),
        }
        for each in augment.operations
    ]
    return {"copies": augment.copies, "labels": augment.labels, "operations": operations, "seed": seed}


def _refuse(distill: Distill, augment: Augment, *, images: bool) -> None:
    for position, each in enumerate(augment.operations):
        if (each.kind in _OF_IMAGES) != images:
            raise SpecError(
                f"{each.kind} is no operation on {'images' if images else 'texts'}",
                field=f"spec.distill.augment.operations[{position}].kind",
                found=each.kind,
                allowed=", ".join(kind for kind in _AMOUNTS if (kind in _OF_IMAGES) == images),
            )
    # `contrastive` asks no teacher, but a copy and its row are of one group, which takes no label.
    told = any(loss.kind != "hard" for stage in distill.stages for loss in stage.losses)
    if augment.labels == "teacher" and not told:
        raise SpecError(
            "nothing would be learned from the copies: their labels are the teacher's, and no loss asks the teacher",
            field="spec.distill.augment.labels",
            found="teacher, and losses " + ", ".join(loss.kind for stage in distill.stages for loss in stage.losses),
            allowed="keep, or a loss that learns from the teacher's outputs (logits, embedding, …)",
            fix="write labels: keep where the operations leave the label as it is, or add a loss of kind logits",
        )
