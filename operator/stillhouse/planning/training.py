"""How a student is trained, as steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stillhouse.api.distill import Distill
from stillhouse.api.loss import Loss
from stillhouse.api.prune import Prune
from stillhouse.api.scalars import parse_percent
from stillhouse.api.source import TEXT_TASKS, ModelSource
from stillhouse.api.stage import Stage
from stillhouse.api.student import SMALL, Student
from stillhouse.api.teachers import Assistant
from stillhouse.errors import SpecError
from stillhouse.planning.imports import DATA, TEACHER, factory, import_data, import_model
from stillhouse.planning.manifest import LOSSES
from stillhouse.planning.places import places_of
from stillhouse.planning.plan import Environment, StepDraft
from stillhouse.planning.preparing import learned, taken
from stillhouse.planning.searching import SEARCH, refuse_impossible, refuse_shape, search_step
from stillhouse.planning.students import small_config
from stillhouse.planning.teaching import CHECKPOINT_STEPS, OUTPUTS, SHARD_ROWS, reserved, said

__all__ = ["distillation", "last_stage"]


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
    if stage.prune is not None:
        later["prune"] = _prune(stage.prune)
    if stage.mixed_precision is not None:
        later["mixedPrecision"] = stage.mixed_precision
    return later


def _prune(prune: Prune) -> dict[str, Any]:
    kinds = {"weights": prune.weights, "heads": prune.heads, "neurons": prune.neurons, "channels": prune.channels}
    return {
        **{kind: parse_percent(share) for kind, share in kinds.items() if share is not None},
        "by": prune.by or ("magnitude" if prune.weights else "taylor"),
        "recovery": parse_percent(prune.recovery),
    }


def _reads(losses: Iterable[Loss]) -> list[str]:
    """Return which of the teacher's outputs these losses learn from, in the order that is part of the step's key."""
    return sorted({reads for loss in losses if (reads := LOSSES[loss.kind].reads) not in {None, "tokens"}})


def _layers(loss: Loss) -> list[int]:
    return [pair.teacher for pair in loss.layers or ()] or [-1 if loss.layer is None else loss.layer]


@dataclass(frozen=True, slots=True)
class _Pupil:
    """Who learns: an assistant, or the student. `outputs`: the step with what its `teacher` says; `stages`: step id → stage.

    `owner`: where it and its stages stand.
    """

    id: str
    student: Student
    stages: dict[str, Stage]
    teacher: str
    outputs: str
    seed: int
    owner: str

    @property
    def assists(self) -> bool:
        """Return whether this is an assistant, whom nobody serves."""
        return self.id != "train/student"

    @property
    def losses(self) -> list[Loss]:
        """Return the terms of all stages."""
        return [loss for stage in self.stages.values() for loss in stage.losses]


def _pupils(distill: Distill, source: ModelSource) -> list[_Pupil]:
    """Return who learns, in order: each from the one before it.

    Raises:
        SpecError: two steps would have one name.
    """
    names = [*taken(distill), *reserved(distill, source), *([SEARCH] if distill.search else [])]
    pupils: list[_Pupil] = []
    teacher, outputs = TEACHER, OUTPUTS
    everybody: tuple[Assistant | Distill, ...] = (*distill.assistants, distill)
    for number, each in enumerate(everybody, 1):
        last = each is distill
        own = "train/student" if last else f"train/assistant-{number}"
        steps = [_stage_id(stage, position) for position, stage in enumerate(each.stages)]
        ids = steps if last else [f"{own}-{step.partition('/')[2]}" for step in steps]
        names += [own, *ids] if last else [own, *ids, f"{own}-outputs"]
        seed = distill.seed if last else distill.seed + 1_000 * number
        owner = "spec.distill" if last else f"spec.distill.assistants[{number - 1}]"
        pupils.append(_Pupil(own, each.student, dict(zip(ids, each.stages, strict=True)), teacher, outputs, seed, owner))
        teacher, outputs = ids[-1], f"{own}-outputs"
    if len(set(names)) != len(names):
        twice = {name for name in names if names.count(name) > 1}
        raise SpecError(
            "stages need names of their own",
            field="spec.distill.stages",
            found=", ".join(sorted(name.partition("/")[2] for name in twice)),
            allowed="names that no other stage or step of the training has (student, teacher-outputs and the like are taken)",
            fix="give one of them another name",
        )
    return pupils


def distillation(distill: Distill, source: ModelSource, env: Environment, quantize: dict[str, Any] | None) -> Iterator[StepDraft]:
    """Draft a student's making: its data, what the teachers say of them, its assistants, and its stages.

    `quantize`: how what serves is made INT8, for a search that measures it; None: it serves in FP32.

    Raises:
        SpecError: two stages have one name, or a teacher cannot be asked.
    """
    pupils = _pupils(distill, source)
    yield import_data(DATA, distill.data, source, env)
    if distill.validation:
        yield import_data("resolve/validation", distill.validation, source, env)
    for pupil in pupils:
        yield from _lesson(pupil, distill, source, env, quantize)


def _lesson(
    pupil: _Pupil, distill: Distill, source: ModelSource, env: Environment, quantize: dict[str, Any] | None
) -> Iterator[StepDraft]:
    """Draft what one learns: what its teacher says, what it begins as, and its stages."""
    data, max_length = learned(distill), distill.max_length or source.max_length
    first = pupil.teacher == TEACHER
    outputs = _reads(pupil.losses)
    if first and distill.teachers and not outputs:
        raise SpecError(
            "nobody asks the teachers",
            field="spec.distill.teachers",
            found="losses " + ", ".join(loss.kind for loss in pupil.losses),
            allowed="a loss that learns from what they say, such as logits or similarity",
            fix="add such a loss to the stages that they teach, or remove teachers",
        )
    asking: list[StepDraft] = []
    if outputs:
        heard = places_of({at: each for at, each in enumerate(pupil.stages.values()) if _reads(each.losses)}, pupil.owner)
        config: dict[str, Any] = {
            "outputs": outputs,
            "maxLength": max_length,
            # Only the teacher knows how many layers it has: -1 is its last.
            "layers": sorted({layer for loss in pupil.losses if loss.kind == "hidden" for layer in _layers(loss)}),
            "shardRows": SHARD_ROWS,
        }
        top = distill.top_logits if "logits" in outputs else None
        if first:
            asking += said(distill, source, data, config, top, env, heard)
        else:
            config |= {} if top is None else {"topLogits": top}
            asked = {"teacher": pupil.teacher, "data": data}
            asking.append(StepDraft(pupil.outputs, "train", "teacher-outputs", config, asked, places=heard))
    student = pupil.student
    # What is wrong with a function of the user's is told when the student is made: before the teacher reads for hours.
    if not student.factory:
        yield from asking
    if student.uri:
        yield import_model(pupil.id, student.uri, source.model_copy(update={"factory": None, "fine_tune": None}), env)
    else:
        searched = distill.search is not None and not pupil.assists
        wide = searched and distill.search is not None and distill.search.hidden_size is not None
        if wide and student.init is None and student.architecture in (None, "encoder"):
            student = student.model_copy(update={"init": "svd"})  # which fits every width
        architecture = _architecture(student, source)
        config = {
            "architecture": architecture,
            "hiddenLayers": student.hidden_layers,
            "hiddenSize": student.hidden_size,
            "intermediateSize": student.intermediate_size,
            "attentionHeads": student.attention_heads,
            "init": student.init or _default_init(student, source),
            "vocabularySize": student.vocabulary.max_size if student.vocabulary else None,
            "maxLength": max_length,
            "factory": factory(student.factory, env),
            "seed": pupil.seed,
            **({"exported": False} if student.factory and pupil.assists else {}),
            **small_config(student),
        }
        # Whoever teaches it, its first weights and its tokens are of the source: an assistant may be of any kind.
        parents = {"teacher": TEACHER, "data": data}
        if architecture == "residual" and "embedding" in outputs and not (first and distill.teachers):
            parents["outputs"] = pupil.outputs  # what its token vectors are fitted to
        if distill.search and searched:
            judged = {"validation": "resolve/validation", **({"outputs": pupil.outputs} if outputs else {})}
            teachers = {} if first else {"teacher": pupil.teacher, "origin": TEACHER}
            name, stage = next(iter(pupil.stages.items()))
            shortened = _stage(stage, name, pupil.seed, max_length)
            found = search_step(distill.search, config, shortened, {**parents, **judged, **teachers}, quantize)
            refuse_impossible(found, pupil.losses if first else (), env.pins[source.uri].info)
            # Of what is given the layers and the width: heads are searched for, or follow from a width that is.
            refuse_shape({**config, "attentionHeads": 1}, env.pins[source.uri].info, f"{pupil.owner}.student")
            yield dataclasses.replace(found, places=places_of({0: stage}, pupil.owner))
            parents["search"] = SEARCH
        elif not student.factory and source.task in TEXT_TASKS:
            refuse_shape(config, env.pins[source.uri].info, f"{pupil.owner}.student")
        yield StepDraft(pupil.id, "train", "student", config, parents)
        if student.factory:
            yield from asking
    previous = pupil.id
    for position, (name, stage) in enumerate(pupil.stages.items()):
        config = _stage(stage, name, pupil.seed + position, max_length)
        parents = {"teacher": pupil.teacher, "student": previous, "data": data}
        if _reads(stage.losses):
            parents["outputs"] = pupil.outputs
        if distill.validation:
            parents["validation"] = "resolve/validation"
        yield StepDraft(name, "train", "distill", config, parents, places=places_of({position: stage}, pupil.owner))
        previous = name


def _stage(stage: Stage, name: str, seed: int, max_length: int | None) -> dict[str, Any]:
    """Return the configuration of a stage."""
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
        "seed": seed,
        **_later(stage),
    }


def _default_init(student: Student, source: ModelSource) -> str:
    if student.factory:
        return "random"
    if student.architecture == "residual":
        return "static"
    if student.architecture in SMALL or source.features is not None:
        return "svd" if source.task in TEXT_TASKS else "random"
    if student.hidden_size is None:
        return "layers"
    return "static" if source.task == "sentence-embedding" else "svd"


def _architecture(student: Student, source: ModelSource) -> str:
    """Return the student's architecture: where static token vectors are its beginning, the one that keeps their weights."""
    if student.architecture or student.factory:
        return student.architecture or "encoder"
    if source.features is not None:
        return "mlp"
    static = (student.init or _default_init(student, source)) == "static"
    return "residual" if static and source.task == "sentence-embedding" else "encoder"
