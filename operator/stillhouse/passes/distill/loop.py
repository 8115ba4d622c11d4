"""The training loop: steps, checkpoints, and going on where an earlier attempt was."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn

from stillhouse.errors import DataError, WorkerLost
from stillhouse.passes.base import ONE_WORKER, Progress, SilentProgress, Workers
from stillhouse.passes.compress.learned import Learned
from stillhouse.passes.distill import checkpoint
from stillhouse.passes.distill.freezing import frozen
from stillhouse.passes.distill.interrupts import interrupts_between_steps
from stillhouse.passes.distill.meeting import meeting
from stillhouse.passes.distill.objective import Objective
from stillhouse.passes.distill.prune.config import course_of
from stillhouse.passes.distill.prune.pruner import Pruned, Pruner
from stillhouse.passes.distill.quantize.quantizer import Quantized, Quantizer
from stillhouse.passes.distill.schedule import epoch_batches, grouped_batches, learning_rate, steps_per_epoch
from stillhouse.passes.distill.settings import LoopSettings, groups_of
from stillhouse.passes.distill.step import Stepper, TrainingSet
from stillhouse.passes.distill.stopping import Judge
from stillhouse.passes.distill.together import Group, demand_rows_alone
from stillhouse.passes.models.device import tensors_of
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.precision import bfloat16_in_hardware, trains_in_bfloat16

__all__ = ["CurvePoint", "LoopResult", "LoopSettings", "train"]

# Half a minute's work is what a crash may cost; writing a small student takes a fraction of a second.
_CHECKPOINT_SECONDS: Final = 30.0
_REPORT_SECONDS: Final = 0.5
_CURVE_POINTS: Final = 50
_APART: Final = 1_000_003
"""What the seeds of two workers differ by, where a network draws numbers of its own."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Means over the steps since the last point: the weighted sum, and each term without its weight."""

    step: int
    loss: float
    terms: Mapping[str, float]


@dataclass(slots=True)
class LoopResult:
    """What happened, over all attempts. `validation` holds one figure per epoch where there was something to judge by.

    `best`: with early stopping the epoch (from 1) that is the result, else 0. `learned`: how each layer rounds what it is given,
    where it `quantized`. `arithmetic`: of the student's matrix products, in the last attempt.
    """

    steps: int = 0
    seconds: float = 0.0
    rows: int = 0
    resumed: int = 0
    curve: list[CurvePoint] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: int = 0
    pruned: Pruned | None = None
    quantized: Quantized | None = None
    learned: tuple[Learned, ...] = ()
    arithmetic: str = "float32"


@dataclass(slots=True)
class _State:
    """What goes into a checkpoint beside tensors."""

    seconds: float = 0.0
    rows: int = 0
    resumed: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    count: int = 0

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def train(
    network: Network,
    objective: Objective,
    data: TrainingSet,
    settings: LoopSettings,
    scratch: Path,
    progress: Progress,
    validate: Judge | None = None,
    workers: Workers = ONE_WORKER,
    *,
    tell_epochs: bool = True,
) -> LoopResult:
    """Train `network` in place.

    Args:
        network: the student, on the CPU; it comes back on the CPU, in evaluation mode.
        objective: what is lowered; its terms' own parameters are trained along.
        data: what it learns from.
        settings: what the schedule follows from.
        scratch: where checkpoints lie.
        progress: is told at least every half second, between steps.
        validate: judges the network after each epoch.
        workers: who trains; the network is the same for all when it is over.
        tell_epochs: note what each epoch was judged at, and which one is kept.

    Raises:
        DataError: the objective is no longer a finite number; a checkpoint of the last good step has been written.
        SpecError: a rate for token vectors, and a network that shows none; layers to freeze that it does not have; fewer
            steps than layers that are to have their turn; something to prune that it does not have.
        WorkerLost: another worker has gone, or did not come; likewise where this one is number 0.
        KeyboardInterrupt: asked to stop; a checkpoint of the last whole step has been written.
    """
    accelerator = Accelerator()
    demand_rows_alone(network, workers.count)
    name = f"{scratch.name} {settings}"
    with frozen(network, settings.freeze), meeting(workers, name, accelerator.device, progress) as crew:
        shown = progress if crew.leads else SilentProgress()
        return _train(accelerator, crew, network, objective, data, settings, scratch, shown, validate, tell_epochs)


def _train(
    accelerator: Accelerator,
    crew: Group,
    network: Network,
    objective: Objective,
    data: TrainingSet,
    settings: LoopSettings,
    scratch: Path,
    progress: Progress,
    validate: Judge | None,
    tell_epochs: bool,
) -> LoopResult:
    per_epoch = steps_per_epoch(data.inputs.count, settings.batch_size)
    steps = per_epoch * settings.epochs
    pruner, unsettled = None, 0
    if settings.prune is not None:
        course = course_of(settings.prune, steps, settings.warmup)
        example = tensors_of(data.inputs.batch(np.arange(min(2, data.inputs.count))))
        pruner, unsettled = Pruner(network, settings.prune, course, example), course.settled(per_epoch)
    quantizer = None
    if settings.quantize is not None:
        progress.update(0, steps, "steps", "reading ranges")
        quantizer = Quantizer(network, settings.quantize, steps, data.calibration)
    terms = nn.ModuleList(objective.terms)
    optimizer = torch.optim.AdamW(groups_of(network, terms, settings), lr=settings.learning_rate, fused=True)
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    early = settings.early_stopping if validate is not None else None
    best = copy.deepcopy(network) if early is not None else None
    network, terms, optimizer = accelerator.prepare(network, terms, optimizer)
    modules = {"student": accelerator.unwrap_model(network), "losses": accelerator.unwrap_model(terms)}
    if best is not None:
        modules["best"] = best
    if pruner is not None:
        modules["pruning"] = pruner.to(accelerator.device)
    if quantizer is not None:
        modules["quantizing"] = quantizer.to(accelerator.device)
    objective.check(steps)
    state = _State(sums=[0.0] * (len(objective.parts) + 1))
    step = 0
    found = checkpoint.load_latest(scratch, modules, optimizer) if crew.leads else None
    at_step = int(crew.agreed(found[0] if found else 0))
    # Said by one for all: shares of one step are not to differ by where they were reckoned.
    bfloat16 = bool(crew.agreed(float(trains_in_bfloat16(settings.mixed_precision, accelerator.device))))
    if not crew.leads:
        found = checkpoint.load(scratch, at_step, modules, optimizer) if at_step else None
        torch.manual_seed(settings.seed + _APART * crew.index + at_step)  # what is dropped of its rows is its own
    if found:
        step, saved = found
        state = _State(**saved)
        state.resumed += 1
        progress.note(f"going on from step {step} of {steps}")
    if settings.mixed_precision == "bf16" and not bfloat16_in_hardware(accelerator.device):
        progress.note("this processor has no bfloat16 of its own: mixedPrecision: auto takes float32 here, which is faster")
    stepper = Stepper(
        accelerator,
        modules["student"],
        objective,
        data,
        optimizer,
        settings.seed,
        steps,
        crew,
        pruner,
        quantizer,
        bfloat16=bfloat16,
    )
    saved_at = began = reported = time.monotonic()
    point_every = max(1, -(-steps // _CURVE_POINTS))

    def save() -> None:
        nonlocal began, saved_at
        if not crew.leads:
            return
        now = time.monotonic()
        state.seconds += now - began
        began = saved_at = now
        checkpoint.write(scratch, step, modules, optimizer, state.to_json())

    def judge() -> None:
        # By counting, not by the step alone: an attempt may have been stopped while it judged.
        if validate is not None and len(state.validation) < step // per_epoch:
            modules["student"].eval()
            state.validation.append(crew.agreed(validate(modules["student"])))
            if early is not None and early.best(state.validation, unsettled) == len(state.validation):
                modules["best"].load_state_dict(modules["student"].state_dict())
            if tell_epochs:
                epoch, figure = len(state.validation), state.validation[-1]
                judged = f"{validate.metric} {figure:.3f} on {validate.rows:,} validation rows"
                progress.note(f"epoch {epoch} of {settings.epochs}: {judged}")
            network.train()

    network.train()
    whole = True
    order: list[npt.NDArray[np.int64]] = []
    order_of = -1
    with interrupts_between_steps() as stop:
        try:
            judge()
            while step < steps and not (early is not None and early.over(state.validation, unsettled)):
                epoch, at = divmod(step, per_epoch)
                if epoch != order_of:
                    order_of = epoch
                    order = _order(data, settings, epoch)
                factor = learning_rate(step, steps, settings.warmup)
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * factor
                whole = False
                try:
                    values = stepper.step(step, order[at])
                except (DataError, WorkerLost):  # the step has changed nothing yet: what was good is kept
                    if stepper.sound():  # else it is the step before that went astray
                        save()
                    raise
                if step + 1 == steps:
                    stepper.check(order[at])
                step += 1
                state.rows += len(order[at])
                _record(state, values, objective.names, step, last=step % point_every == 0 or step == steps)
                whole = True
                judge()
                now = time.monotonic()
                crew.stop_if(stop.is_set())
                if step % settings.checkpoint_steps == 0 or now - saved_at > _CHECKPOINT_SECONDS:
                    save()
                if now - reported > _REPORT_SECONDS or step == steps:
                    reported = now
                    progress.update(step, steps, "steps", f"epoch {epoch + 1} of {settings.epochs}, loss {values[0]:.4f}")
        except (KeyboardInterrupt, WorkerLost):
            if whole:  # a second Ctrl-C may have cut a step in two; the checkpoint before it stands
                save()
            raise
    stepper.close()
    state.seconds += time.monotonic() - began
    if state.count:
        _point(state, objective.names, step)
    if early is not None:
        modules["student"].load_state_dict(modules["best"].state_dict())
        if tell_epochs:
            why = f"stopped after epoch {len(state.validation)} of {settings.epochs}: no gain; " if step < steps else ""
            progress.note(f"{why}epoch {early.best(state.validation, unsettled)} is kept")
    modules["student"].to("cpu")
    modules["student"].eval()
    pruned = pruner.to("cpu").finish(modules["student"]) if pruner is not None else None
    quantized, learned = quantizer.to("cpu").finish() if quantizer is not None else (None, ())
    curve = [CurvePoint(**point) for point in state.curve]
    if curve and not any(value for point in curve for value in point.terms.values()):
        progress.note("every loss was 0 from the first step to the last: nothing was learned (are all rows alike?)")
    chosen = early.best(state.validation, unsettled) if early is not None else 0
    return LoopResult(
        step,
        state.seconds,
        state.rows,
        state.resumed,
        curve,
        state.validation,
        chosen,
        pruned,
        quantized,
        learned,
        "bfloat16" if bfloat16 else "float32",
    )


def _order(data: TrainingSet, settings: LoopSettings, epoch: int) -> list[npt.NDArray[np.int64]]:
    if data.groups is None:
        return epoch_batches(data.inputs.lengths, settings.batch_size, settings.seed, epoch, data.weights)
    return grouped_batches(data.groups, settings.batch_size, settings.seed, epoch)


def _record(state: _State, values: list[float], names: list[str], step: int, *, last: bool) -> None:
    state.sums = [total + value for total, value in zip(state.sums, values, strict=True)]
    state.count += 1
    if last:
        _point(state, names, step)


def _point(state: _State, names: list[str], step: int) -> None:
    means = [round(total / state.count, 6) for total in state.sums]
    state.curve.append({"step": step, "loss": means[0], "terms": dict(zip(names, means[1:], strict=True))})
    state.sums, state.count = [0.0] * len(state.sums), 0
