"""The `distill` pass: one stage of training a student on what its teacher said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from stillhouse.errors import DataError
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.base import Artifact, Context, Pass
from stillhouse.passes.compress.feeds import tell_one_class
from stillhouse.passes.compress.learned import write_learned
from stillhouse.passes.distill.checkpoint import seed_everything
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.distill.encoded import Arrays, Texts, read_inputs
from stillhouse.passes.distill.fitting import check_student
from stillhouse.passes.distill.freezing import Freeze
from stillhouse.passes.distill.live import LiveTeacher
from stillhouse.passes.distill.loop import LoopSettings, train
from stillhouse.passes.distill.losses import build_losses, needed_outputs, reads_along
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.losses.pooled import FEATURES
from stillhouse.passes.distill.losses.term import Sizes
from stillhouse.passes.distill.objective import Objective, Part
from stillhouse.passes.distill.prune.config import PruneConfig
from stillhouse.passes.distill.quantize.calibration import calibration_rows
from stillhouse.passes.distill.quantize.config import QuantizeConfig
from stillhouse.passes.distill.rows import NO_LABEL, Rows
from stillhouse.passes.distill.step import TrainingSet
from stillhouse.passes.distill.stopping import EarlyStopping
from stillhouse.passes.distill.teacher import FEATURES_FIELD, read_outputs
from stillhouse.passes.distill.validation import Validation
from stillhouse.passes.evaluate.disjoint import check_disjoint
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.device import tensors_of
from stillhouse.passes.models.features import width_of
from stillhouse.passes.models.network import Network, count_parameters
from stillhouse.passes.models.precision import MixedPrecision

__all__ = ["Distill", "DistillConfig", "DistillFacts"]


class DistillConfig(CamelConfig):
    """One stage."""

    stage: str
    losses: tuple[LossConfig, ...] = Field(min_length=1)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    embedding_learning_rate: float | None = Field(default=None, gt=0)
    warmup: float = Field(default=0.05, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_length: int | None = Field(default=None, ge=1)
    checkpoint_steps: int = Field(default=500, ge=1)
    seed: int = 0
    freeze: Freeze | None = None
    progressive: Literal["alone", "stacked"] | None = None
    early_stopping: EarlyStopping | None = None
    prune: PruneConfig | None = None
    quantize: QuantizeConfig | None = None
    mixed_precision: MixedPrecision | None = None


@dataclass(frozen=True, slots=True)
class DistillFacts:
    """How training went, over all attempts of the step.

    `losses`: each term (without its weight) over the last point of the curve. `curve`: at most 50 points of
    {step, loss, terms}. `samples_per_second` counts rows trained on, validation included in the time. `validation`:
    the metric's name and its value after each epoch; the result is the last one, with early stopping `best_epoch` (else 0).
    `pruned`: what was taken out (see `prune/pruner.py`), `quantized`: what was rounded meanwhile (`quantize/quantizer.py`), empty
    where nothing was asked for. `arithmetic`: of the student's matrix products, in the last attempt.
    """

    stage: str
    steps: int
    epochs: int
    rows: int
    labelled_rows: int
    tokens: int
    truncated_rows: int
    truncated_tokens: int
    losses: dict[str, float]
    curve: tuple[dict[str, Any], ...]
    validation_metric: str
    validation: tuple[float, ...]
    parameters: int
    parameters_without_embeddings: int
    samples_per_second: float
    seconds: float
    resumed: int
    seed: int
    best_epoch: int = 0
    pruned: dict[str, Any] = field(default_factory=dict)
    quantized: dict[str, Any] = field(default_factory=dict)
    arithmetic: str = "float32"


class Distill(Pass[DistillConfig, DistillFacts]):
    """Train the student of role `student`; checkpoints in `ctx.scratch`, the result in `ctx.out`.

    On the CPU with the same number of threads, a run that was interrupted and went on gives the same bytes as one that
    was not. Several workers (`ctx.workers`) take the steps that one takes; their sums are in another order, so the last
    digits differ.
    """

    name: ClassVar[str] = "distill"
    version: ClassVar[int] = 3
    kind: ClassVar[str] = "torch-model"
    config_type = DistillConfig
    shared: ClassVar[bool] = True

    def __init__(self, *, tell_epochs: bool = True) -> None:
        """`tell_epochs`: note how good the student is after each; a search of many short trainings has its own lines."""
        self._tell_epochs = tell_epochs

    def run(self, config: DistillConfig, inputs: Mapping[str, Artifact], ctx: Context) -> DistillFacts:
        """Fill `ctx.out` with the trained torch-model artifact.

        Raises:
            DataError: labels are missing or unknown, or the teacher's outputs belong to other rows.
            SpecError: a loss that these networks cannot have, or nothing that INT8 would round.
            KeyboardInterrupt: stopped; a checkpoint lies in `ctx.scratch`.
        """
        torch.set_num_threads(ctx.threads)
        seed_everything(config.seed)
        ctx.progress.update(0, None, "steps", "loading student and data")
        folder = inputs["student"].path
        student = load(folder, role="student")
        rows = Rows.of(inputs)
        data = read_inputs(rows, folder, student.signature, config.max_length, ctx.progress)
        labels = None
        if any(loss.kind in {"hard", "logits"} for loss in config.losses):
            labels = rows.labels(student.signature.labels)
        labelled = 0 if labels is None else int((labels != NO_LABEL).sum())
        if not labelled and any(loss.kind == "hard" for loss in config.losses):
            raise DataError(
                "loss 'hard' needs labels",
                field="spec.distill.data.columns.label",
                found="no label column" if labels is None else "no row has a label",
                fix="name the column: columns: {label: YOUR_COLUMN}",
            )
        wanted = needed_outputs(config.losses)
        outputs, description = read_outputs(inputs["outputs"].path) if wanted else ({}, {})
        teacher = {name: tensor for name, tensor in outputs.items() if name.partition("-")[0] in wanted}
        _check_fit(config, student.signature, description, teacher)
        for name, tensor in teacher.items():
            if len(tensor) != data.count:
                raise DataError(
                    "the teacher's outputs belong to other rows",
                    field=name,
                    found=f"{len(tensor)} rows",
                    allowed=f"{data.count} rows",
                    fix="build again: still rebuild NAME",
                )
        weights = rows.weights()
        if weights is not None and ctx.workers.index == 0:
            even = weights.sum() ** 2 / (weights**2).sum()  # Kish's effective sample size
            ctx.progress.note(
                f"rows are drawn by weight: {int((weights > 0).sum()):,} of {len(weights):,} weigh more than 0, and say as much"
                f" as {even:,.0f} of equal weight"
            )
        live = None
        if reads_along(config.losses):
            live = LiveTeacher(inputs["teacher"].path, rows, data, student, config.max_length)
        depth = live.network.layers if live is not None else int(description.get("teacher_layers", 0))
        terms = build_losses(config.losses, _sizes(student, teacher, depth, labels, live, data))
        names = _names(config.losses)
        validation = None
        if "validation" in inputs:
            validation = Validation(
                Rows.of(inputs, "validation"), folder, student, inputs["teacher"].path, config.max_length, ctx
            )
        calibration: Sequence[tuple[Tensor, ...]] = ()
        if config.quantize is not None:
            calibration = calibration_rows(folder, student.signature, inputs["calibration"], config.quantize.samples)
            tell_one_class(inputs["calibration"], ctx)
        result = train(
            student,
            Objective(
                [
                    Part(name, loss.weight, term, loss.weight_course)
                    for name, loss, term in zip(names, config.losses, terms, strict=True)
                ],
                config.progressive,
            ),
            TrainingSet(
                data,
                teacher,
                labels,
                rows.groups() if any(term.wants_groups for term in terms) else None,
                len(description.get("labels", ())),
                live,
                weights,
                calibration,
            ),
            LoopSettings(
                config.epochs,
                config.batch_size,
                config.learning_rate,
                config.warmup,
                config.weight_decay,
                config.checkpoint_steps,
                config.seed,
                config.embedding_learning_rate,
                config.freeze,
                config.early_stopping,
                config.prune,
                quantize=config.quantize,
                mixed_precision=config.mixed_precision,
            ),
            ctx.scratch,
            ctx.progress,
            validation,
            ctx.workers,
            tell_epochs=self._tell_epochs,
        )
        if result.pruned is not None:
            ctx.progress.note(result.pruned.told)
        if result.quantized is not None:
            ctx.progress.note(result.quantized.told)
        if ctx.workers.index == 0:
            tokenizer = folder / TOKENIZER_FILE
            save(student, ctx.out, tokenizer=tokenizer if tokenizer.is_file() else None)
            if result.quantized is not None:
                write_learned(ctx.out, result.learned)
        total, without = count_parameters(student)
        cut = getattr(data, "cut", None)
        return DistillFacts(
            stage=config.stage,
            steps=result.steps,
            epochs=config.epochs,
            rows=data.count,
            labelled_rows=labelled,
            tokens=int(data.lengths.sum()) if cut is not None else 0,
            truncated_rows=int((cut > 0).sum()) if cut is not None else 0,
            truncated_tokens=int(cut.sum()) if cut is not None else 0,
            losses=dict(result.curve[-1].terms) if result.curve else {},
            curve=tuple({"step": point.step, "loss": point.loss, "terms": dict(point.terms)} for point in result.curve),
            validation_metric="" if validation is None else validation.metric,
            validation=tuple(round(value, 6) for value in result.validation),
            parameters=total,
            parameters_without_embeddings=without,
            samples_per_second=round(result.rows / max(1e-9, result.seconds), 2),
            seconds=round(result.seconds, 3),
            resumed=result.resumed,
            seed=config.seed,
            best_epoch=result.best,
            pruned={} if result.pruned is None else result.pruned.to_json(),
            quantized={} if result.quantized is None else result.quantized.to_json(),
            arithmetic=result.arithmetic,
        )

    def foresee(self, config: DistillConfig, inputs: Mapping[str, Artifact]) -> None:
        """Refuse validation rows that are learned from, and an imported student that does not fit its teacher.

        `run` takes such rows: what a student learns does not depend on them, and a gate refuses them in its `run`.

        Raises:
            DataError: rows of the validation are among the training's.
            SpecError: the student's classes or width are not the teacher's.
        """
        roles = {"training": "data", "validation": "validation"}
        check_disjoint({role: inputs[name] for role, name in roles.items() if name in inputs})
        if "teacher" in inputs and "student" in inputs:
            teacher = Signature.read(inputs["teacher"].path)
            check_student(config.losses, Signature.read(inputs["student"].path), teacher.labels, teacher.dimension)


def _check_fit(config: DistillConfig, student: Signature, description: Mapping[str, Any], teacher: Mapping[str, Tensor]) -> None:
    """Hold the student against what the teacher said, where it said anything."""
    if description:
        width = teacher["embedding"].shape[1] if "embedding" in teacher else 0
        check_student(config.losses, student, description.get("labels", ()), int(width))


def _sizes(
    student: Network,
    teacher: Mapping[str, Tensor],
    depth: int,
    labels: npt.NDArray[np.int64] | None,
    live: LiveTeacher | None,
    data: Texts | Arrays,
) -> Sizes:
    widths = {int(name.removeprefix("hidden-")): int(t.shape[1]) for name, t in teacher.items() if name.startswith("hidden-")}
    rows = dict.fromkeys(student.signature.labels, 0)
    if labels is not None:
        counts = np.bincount(labels[labels != NO_LABEL], minlength=len(rows)).tolist()
        rows = dict(zip(rows, counts, strict=True))
    width, heads = (live.network.hidden_size, live.network.heads) if live is not None else (0, 0)
    mine, theirs = 0, 0
    if FEATURES in teacher:
        theirs = int(teacher[FEATURES].shape[1])
        mine = width_of(student, tensors_of(data.batch([0])), FEATURES_FIELD)
    return Sizes(student.layers, student.hidden_size, depth, widths, width, heads, mine, theirs, rows)


def _names(losses: Sequence[LossConfig]) -> list[str]:
    """Return a name per term: its kind, numbered where a kind comes twice."""
    many = Counter(loss.kind for loss in losses)
    seen: Counter[str] = Counter()
    names = []
    for loss in losses:
        seen[loss.kind] += 1
        names.append(loss.kind if many[loss.kind] == 1 else f"{loss.kind}-{seen[loss.kind]}")
    return names
