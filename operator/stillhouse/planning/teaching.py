"""Who says what is learned from, as steps: the source, several teachers together, or what was learned before."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from stillhouse.api.distill import Distill
from stillhouse.api.scalars import parse_percent
from stillhouse.api.source import ModelSource
from stillhouse.errors import SpecError
from stillhouse.planning.imports import TEACHER, import_data, import_model
from stillhouse.planning.places import STAGE
from stillhouse.planning.plan import Environment, StepDraft

__all__ = [
    "CHECKPOINT_STEPS",
    "OUTPUTS",
    "SHARD_ROWS",
    "TUNED",
    "fine_tune",
    "reserved",
    "said",
    "too_many_logits",
    "tuned",
    "tuned_on",
]

OUTPUTS, TUNED = "train/teacher-outputs", "train/teacher"
TUNE_DATA, TUNE_VALIDATION = "resolve/fine-tune-data", "resolve/fine-tune-validation"
SHARD_ROWS = 2048
CHECKPOINT_STEPS = 50
_BEFORE_TUNING = {"fine-tune", "augment", "data-report"}
"""Passes that read the encoder as it came: its tokens, and the vectors of its tokens."""


def reserved(distill: Distill, source: ModelSource) -> list[str]:
    """Return the step ids that stages cannot have beside these."""
    numbers = range(1, len(distill.teachers) + 1)
    asked = [f"train/teacher-{number}-{part}" for number in numbers for part in ("outputs", "validation")]
    return [OUTPUTS, *asked, *([TUNED] if source.fine_tune else [])]


def said(
    distill: Distill,
    source: ModelSource,
    data: str,
    config: dict[str, Any],
    top: int | None,
    env: Environment,
    places: Mapping[str, str],
) -> Iterator[StepDraft]:
    """Draft what the teachers say of the rows of step `data`, so that `OUTPUTS` has it. `config`: of `teacher-outputs`.

    `top`: how many logits a row are kept. `places`: of the losses that learn from it.

    Raises:
        SpecError: a teacher cannot be asked.
    """
    if not distill.teachers:
        kept = config if top is None else {**config, "topLogits": top}
        yield StepDraft(OUTPUTS, "train", "teacher-outputs", kept, {"teacher": TEACHER, "data": data}, places=places)
        return
    parents = {"teacher": TEACHER}
    weights: dict[str, float] = {}
    for position, teacher in enumerate(distill.teachers):
        weight = 1.0 if teacher.weight is None else float(teacher.weight)
        if not weight:
            continue
        weights[str(position)] = weight
        name = f"teacher-{position + 1}"
        model = TEACHER
        itself = teacher.uri == source.uri and not (teacher.labels or teacher.factory)
        if not itself:
            model = f"resolve/{name}"
            if source.features is None and env.pins[teacher.uri].info.get("format") == "onnx":
                raise _of_onnx(f"spec.distill.teachers[{position}].uri", teacher.uri)
            theirs = {"labels": teacher.labels, "factory": teacher.factory, "max_length": teacher.max_length, "fine_tune": None}
            yield import_model(model, teacher.uri, source.model_copy(update=theirs), env)
        asked = {**config, "maxLength": teacher.max_length or config["maxLength"]}
        rows = {"teacher": model, "data": data}
        yield StepDraft(f"train/{name}-outputs", "train", "teacher-outputs", asked, rows, places=places)
        parents |= {f"model-{position}": model, f"outputs-{position}": f"train/{name}-outputs"}
        if distill.weighting == "learned":
            rows = {"teacher": model, "data": "resolve/validation"}
            yield StepDraft(f"train/{name}-validation", "train", "teacher-outputs", asked, rows, places=places)
            parents |= {f"judged-{position}": f"train/{name}-validation", "validation": "resolve/validation"}
    (output,) = config["outputs"]
    mixed = {
        "output": output,
        "weights": weights,
        "weighting": distill.weighting or "fixed",
        **({} if top is None else {"topLogits": top}),
    }
    yield StepDraft(OUTPUTS, "train", "combine-outputs", mixed, parents, places=places)


def fine_tune(source: ModelSource, env: Environment) -> Iterator[StepDraft]:
    """Draft the making of a classifier out of the source, where one is wanted.

    Raises:
        SpecError: the source is an ONNX file, which cannot be trained.
    """
    tune = source.fine_tune
    if tune is None:
        return
    if env.pins[source.uri].info.get("format") == "onnx":
        raise _of_onnx("spec.source.uri", source.uri)
    parents = {"encoder": TEACHER, "data": TUNE_DATA}
    yield import_data(TUNE_DATA, tune.data, source, env)
    if tune.validation:
        yield import_data(TUNE_VALIDATION, tune.validation, source, env)
        parents["validation"] = TUNE_VALIDATION
    config: dict[str, Any] = {
        "labels": list(source.labels) or None,
        "epochs": tune.epochs,
        "batchSize": tune.batch_size,
        "learningRate": float(tune.learning_rate),
        "headLearningRate": float(tune.head_learning_rate),
        "warmup": parse_percent(tune.warmup),
        "weightDecay": float(tune.weight_decay),
        "labelSmoothing": float(tune.label_smoothing or 0),
        "balanced": tune.balanced,
        "freeze": {"embeddings": tune.freeze.embeddings, "layers": tune.freeze.layers or 0} if tune.freeze else None,
        "earlyStopping": {"patience": tune.early_stopping.patience, "minGain": float(tune.early_stopping.min_gain)}
        if tune.early_stopping
        else None,
        "maxLength": source.max_length,
        "checkpointSteps": CHECKPOINT_STEPS,
        "seed": tune.seed,
    }
    yield StepDraft(TUNED, "train", "fine-tune", config, parents, places={STAGE: "spec.source.fineTune"})


def tuned_on(source: ModelSource) -> dict[str, str]:
    """Return role → step of the rows that the source is fine-tuned on, for whoever holds out others."""
    tune = source.fine_tune
    found = {"tuning": TUNE_DATA} if tune else {}
    return found | ({"tuningValidation": TUNE_VALIDATION} if tune and tune.validation else {})


def tuned(draft: StepDraft) -> StepDraft:
    """Return a step as it is where the source is fine-tuned: what reads the source reads what was made of it."""
    if draft.pass_name in _BEFORE_TUNING or TEACHER not in draft.parents.values():
        return draft
    parents = {role: TUNED if parent == TEACHER else parent for role, parent in draft.parents.items()}
    return dataclasses.replace(draft, parents=parents)


def _of_onnx(field: str, uri: str) -> SpecError:
    return SpecError(
        "a teacher to distil must be safetensors with config and tokenizer",
        field=field,
        found=uri,
        fix="give the model's safetensors folder",
    )


def too_many_logits(top: int, labels: int) -> SpecError | None:
    """Return what is wrong with keeping `top` logits a row of a teacher with so many labels, None where nothing is."""
    if 1 <= top < labels:
        return None
    return SpecError(
        "as many logits are to be kept as the teacher has, or more",
        field="spec.distill.topLogits",
        found=str(top),
        allowed=f"1 to {labels - 1}: the teacher has {labels} labels",
        fix=f"topLogits: {min(top, labels - 1)}, or leave it out: {labels} logits a row are small",
    )
