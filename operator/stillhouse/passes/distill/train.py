"""The `distill` pass: one stage of training a student on what its teacher said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

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
from stillhouse.passes.distill.encoded import read_inputs
from stillhouse.passes.distill.fitting import check_student, labels_of
from stillhouse.passes.distill.freezing import Freeze
from stillhouse.passes.distill.live import LiveTeacher, check_tokenizer
from stillhouse.passes.distill.loop import LoopSettings, train
from stillhouse.passes.distill.losses import build_losses, needed_outputs, reads_along
from stillhouse.passes.distill.losses.base import LossConfig
from stillhouse.passes.distill.objective import Objective, Part
from stillhouse.passes.distill.prune.config import PruneConfig, course_of
from stillhouse.passes.distill.quantize.calibration import calibration_rows
from stillhouse.passes.distill.quantize.config import QuantizeConfig
from stillhouse.passes.distill.rows import NO_LABEL, Rows
from stillhouse.passes.distill.schedule import steps_per_epoch
from stillhouse.passes.distill.step import TrainingSet
from stillhouse.passes.distill.stopping import EarlyStopping
from stillhouse.passes.distill.teacher import read_outputs
from stillhouse.passes.distill.terms import names_of, sizes_of
from stillhouse.passes.distill.validation import Validation
from stillhouse.passes.evaluate.disjoint import check_disjoint
from stillhouse.passes.models.artifact import load, save
from stillhouse.passes.models.network import count_parameters
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

    def steps(self, inputs: int) -> int:
        """Return how many steps a training on so many inputs takes."""
        return steps_per_epoch(inputs, self.batch_size) * self.epochs


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
        wanted = needed_outputs(config.losses)
        outputs, description = read_outputs(inputs["outputs"].path) if wanted else ({}, {})
        teacher = {name: tensor for name, tensor in outputs.items() if name.partition("-")[0] in wanted}
        if description:
            width = teacher["embedding"].shape[1] if "embedding" in teacher else 0
            check_student(config.losses, student.signature, description.get("labels", ()), int(width))
        elif "teacher" in inputs:  # nobody asked it; validation and gate compare with it all the same
            theirs = Signature.read(inputs["teacher"].path)
            check_student(config.losses, student.signature, theirs.labels, theirs.dimension)
        labels = labels_of(config.losses, rows, student.signature.labels)
        labelled = 0 if labels is None else int((labels != NO_LABEL).sum())
        if not labelled and ctx.workers.index == 0 and any(loss.kind == "logits" and loss.alpha < 1 for loss in config.losses):
            ctx.progress.note(
                "no row has a label, so loss logits learns from the teacher alone: its share for labels, 1 - alpha, is unused"
            )
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
        terms = build_losses(config.losses, sizes_of(student, teacher, depth, labels, live, data))
        names = names_of(config.losses)
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
        """Refuse rows that will not do, and an imported student that does not fit its teacher, before anything is trained.

        `run` takes validation rows that are learned from: what a student learns does not depend on them, and a gate refuses
        them in its `run`. Rows that are made of the imported ones, changed copies for instance, are seen by `run` alone.

        Raises:
            DataError: rows of the validation are among the training's, or labels are missing or unknown.
            SpecError: the student's classes, width or, for losses of tokens, tokenizer are not the teacher's, or the recovery
                leaves no step to prune in.
        """
        roles = {"training": "data", "validation": "validation"}
        # A stage is not given the rows that its teacher was fine-tuned on, which are often the same file.
        note = " (not out of spec.source.fineTune.data, where that has them too)"
        check_disjoint({role: inputs[name] for role, name in roles.items() if name in inputs}, note=note)
        teacher = Signature.read(inputs["teacher"].path) if "teacher" in inputs else None
        if teacher is not None and "student" in inputs:
            student = Signature.read(inputs["student"].path)
            check_student(config.losses, student, teacher.labels, teacher.dimension)
            if reads_along(config.losses):
                check_tokenizer(student, teacher)
        if "data" in inputs:
            rows = Rows.of(inputs)
            if teacher is not None:
                labels_of(config.losses, rows, teacher.labels)
            if config.prune is not None:
                course_of(config.prune, config.steps(rows.learned), config.warmup)
