"""How a student is trained, as steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stillhouse.api.distill import Distill
from stillhouse.api.loss import Loss
from stillhouse.api.scalars import parse_percent
from stillhouse.api.source import ModelSource
from stillhouse.api.stage import Stage
from stillhouse.api.student import SMALL
from stillhouse.errors import SpecError
from stillhouse.planning.imports import DATA, TEACHER, factory, import_data, import_model
from stillhouse.planning.manifest import LOSSES
from stillhouse.planning.plan import Environment, StepDraft
from stillhouse.planning.preparing import learned, taken
from stillhouse.planning.searching import SEARCH, search_step
from stillhouse.planning.students import small_config

__all__ = ["distillation", "last_stage"]

SHARD_ROWS = 2048
CHECKPOINT_STEPS = 50


def _stage_id(stage: Stage, position: int) -> str:
    return f"train/{stage.name or f'stage-{position + 1}'}"


def last_stage(distill: Distill) -> str:
    """Return the step that makes the student."""
    return _stage_id(distill.stages[-1], len(distill.stages) - 1)


def _terms(losses: Iterable[Loss]) -> list[dict[str, Any]]:
    """Return the terms' configurations: a loss of several pairs of layers is a term for each, which share its weight."""
    terms = []
    for loss in losses:
        if loss.layers is None:
            terms.append(_loss(loss))
        for pair in loss.layers or ():
            share = 1.0 / len(loss.layers or ())
            term = _loss(loss) | {"weight": float(loss.weight) * share, "layer": pair.teacher}
            if loss.weight_schedule is not None:
                term["weightCourse"] = {**term["weightCourse"], "to": float(loss.weight_schedule.to) * share}
            if pair.student is not None:
                term["studentLayer"] = pair.student
            terms.append(term)
    return terms


def _loss(loss: Loss) -> dict[str, Any]:
    """Return a loss's configuration. What came later is written only where it is set: older requests keep their keys."""
    later: dict[str, Any] = {}
    if loss.label_smoothing is not None and float(loss.label_smoothing):
        later["labelSmoothing"] = float(loss.label_smoothing)
    if loss.class_weights is not None:
        given = loss.class_weights.by_label
        later["classWeights"] = "balanced" if given is None else {label: float(weight) for label, weight in given.items()}
    for name, schedule in (("weightCourse", loss.weight_schedule), ("temperatureCourse", loss.temperature_schedule)):
        if schedule is not None:
            later[name] = {"to": float(schedule.to), "shape": schedule.shape}
    return {
        "kind": loss.kind,
        "weight": float(loss.weight),
        "distance": loss.distance,
        "temperature": float(loss.temperature or LOSSES[loss.kind].temperature),
        "alpha": float(loss.alpha),
        "layer": loss.layer,
        "keys": loss.keys or 0,
        **later,
    }


def _later(stage: Stage) -> dict[str, Any]:
    """Return what a stage's configuration has only where it is set."""
    later: dict[str, Any] = {}
    if stage.freeze is not None:
        later["freeze"] = {"embeddings": stage.freeze.embeddings, "layers": stage.freeze.layers or 0}
    if stage.progressive is not None:
        later["progressive"] = stage.progressive
    if stage.early_stopping is not None:
        later["earlyStopping"] = {
            "patience": stage.early_stopping.patience,
            "minGain": float(stage.early_stopping.min_gain),
        }
    return later


def _reads(losses: Iterable[Loss]) -> list[str]:
    """Return which of the teacher's outputs these losses learn from, in the order that is part of the step's key."""
    return sorted({reads for loss in losses if (reads := LOSSES[loss.kind].reads) not in {None, "tokens"}})


def _layers(loss: Loss) -> list[int]:
    return [pair.teacher for pair in loss.layers or ()] or [-1 if loss.layer is None else loss.layer]


def distillation(distill: Distill, source: ModelSource, env: Environment, quantize: dict[str, Any] | None) -> Iterator[StepDraft]:
    """Draft a student's making: its data, what the teacher says of them, and its stages.

    `quantize`: how what serves is made INT8, for a search that measures it; None: it serves in FP32.

    Raises:
        SpecError: two stages have one name.
    """
    names = [_stage_id(stage, position) for position, stage in enumerate(distill.stages)]
    if len(set(names)) != len(names) or {
        "train/student",
        "train/teacher-outputs",
        *([SEARCH] if distill.search else []),
        *taken(distill),
    } & set(names):
        raise SpecError(
            "stages need names of their own", field="spec.distill.stages", found=", ".join(n.partition("/")[2] for n in names)
        )
    data = learned(distill)
    yield import_data(DATA, distill.data, source, env)
    if distill.validation:
        yield import_data("resolve/validation", distill.validation, source, env)
    max_length = distill.max_length or source.max_length
    losses = [loss for stage in distill.stages for loss in stage.losses]
    outputs = _reads(losses)
    if outputs:
        config: dict[str, Any] = {
            "outputs": outputs,
            "maxLength": max_length,
            # Only the teacher knows how many layers it has: -1 is its last.
            "layers": sorted({layer for loss in losses if loss.kind == "hidden" for layer in _layers(loss)}),
            "shardRows": SHARD_ROWS,
        }
        if distill.top_logits is not None and "logits" in outputs:
            config["topLogits"] = distill.top_logits
        yield StepDraft("train/teacher-outputs", "train", "teacher-outputs", config, {"teacher": TEACHER, "data": data})
    student = distill.student
    if student.uri:
        yield import_model("train/student", student.uri, source.model_copy(update={"factory": None}), env)
    else:
        architecture = _architecture(distill, source)
        config = {
            "architecture": architecture,
            "hiddenLayers": student.hidden_layers,
            "hiddenSize": student.hidden_size,
            "intermediateSize": student.intermediate_size,
            "attentionHeads": student.attention_heads,
            "init": student.init or _default_init(distill, source),
            "vocabularySize": student.vocabulary.max_size if student.vocabulary else None,
            "maxLength": max_length,
            "factory": factory(student.factory, env),
            "seed": distill.seed,
            **small_config(student),
        }
        parents = {"teacher": TEACHER, "data": data}
        if architecture == "residual" and "embedding" in outputs:
            parents["outputs"] = "train/teacher-outputs"  # what its token vectors are fitted to
        if distill.search:
            judged = {"validation": "resolve/validation", **({"outputs": "train/teacher-outputs"} if outputs else {})}
            first = _stage(distill, 0, names[0], max_length)
            yield search_step(distill.search, config, first, {**parents, **judged}, quantize)
            parents["search"] = SEARCH
        yield StepDraft("train/student", "train", "student", config, parents)
    previous = "train/student"
    for position, stage in enumerate(distill.stages):
        config = _stage(distill, position, names[position], max_length)
        parents = {"teacher": TEACHER, "student": previous, "data": data}
        if _reads(stage.losses):
            parents["outputs"] = "train/teacher-outputs"
        if distill.validation:
            parents["validation"] = "resolve/validation"
        yield StepDraft(names[position], "train", "distill", config, parents)
        previous = names[position]


def _stage(distill: Distill, position: int, name: str, max_length: int | None) -> dict[str, Any]:
    """Return the configuration of a stage."""
    stage = distill.stages[position]
    return {
        "stage": name.partition("/")[2],
        "losses": _terms(stage.losses),
        "epochs": stage.epochs,
        "batchSize": stage.batch_size,
        "learningRate": float(stage.learning_rate),
        "embeddingLearningRate": float(stage.embedding_learning_rate) if stage.embedding_learning_rate else None,
        "warmup": parse_percent(stage.warmup),
        "weightDecay": float(stage.weight_decay),
        "maxLength": max_length,
        "checkpointSteps": CHECKPOINT_STEPS,
        "seed": distill.seed + position,
        **_later(stage),
    }


def _default_init(distill: Distill, source: ModelSource) -> str:
    if distill.student.factory:
        return "random"
    if distill.student.architecture == "residual":
        return "static"
    if distill.student.architecture in SMALL:
        return "random" if source.task == "image-classification" else "svd"
    if distill.student.hidden_size is None:
        return "layers"
    return "static" if source.task == "sentence-embedding" else "svd"


def _architecture(distill: Distill, source: ModelSource) -> str:
    """Return the student's architecture: where static token vectors are its beginning, the one that keeps their weights."""
    student = distill.student
    if student.architecture or student.factory:
        return student.architecture or "encoder"
    static = (student.init or _default_init(distill, source)) == "static"
    return "residual" if static and source.task == "sentence-embedding" else "encoder"
