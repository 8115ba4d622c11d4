"""The training loop: steps, checkpoints, and going on where an earlier attempt was."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from stillhouse.errors import DataError, SpecError
from stillhouse.passes.base import Progress
from stillhouse.passes.distill import checkpoint
from stillhouse.passes.distill.losses.term import LossTerm, Targets
from stillhouse.passes.distill.rows import Images, Texts, length_batches
from stillhouse.passes.distill.schedule import epoch_batches, grouped_batches, learning_rate, steps_per_epoch
from stillhouse.passes.models.network import Network, NetworkOutput

__all__ = ["CurvePoint", "LoopResult", "LoopSettings", "train"]

# Half a minute's work is what a crash may cost; writing a small student takes a fraction of a second.
_CHECKPOINT_SECONDS: Final = 30.0
_REPORT_SECONDS: Final = 0.5
_CURVE_POINTS: Final = 50
_CLIP_NORM: Final = 1.0
_SLICE_TOKENS: Final = 8192
"""Padded tokens that go through the network at once: what a slice's states take stays near the cache."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """What the loop needs to know; rates per step follow from these alone."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    checkpoint_steps: int
    seed: int
    embedding_learning_rate: float | None = None
    """Peak of the token vectors' own rate; None: the same as all."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Means over the steps since the last point: the weighted sum, and each term without its weight."""

    step: int
    loss: float
    terms: Mapping[str, float]


@dataclass(slots=True)
class LoopResult:
    """What happened, over all attempts. `validation` holds one figure per epoch where there was something to judge by."""

    steps: int = 0
    seconds: float = 0.0
    rows: int = 0
    resumed: int = 0
    curve: list[CurvePoint] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


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
    losses: Sequence[tuple[str, float, LossTerm]],
    data: Texts | Images,
    teacher: Mapping[str, Tensor],
    labels: npt.NDArray[np.int64] | None,
    groups: npt.NDArray[np.int64] | None,
    settings: LoopSettings,
    scratch: Path,
    progress: Progress,
    validate: Callable[[Network], float] | None = None,
) -> LoopResult:
    """Train `network` in place.

    Args:
        network: the student, on the CPU; it comes back on the CPU, in evaluation mode.
        losses: (name, weight, term) each; the objective is the weighted sum.
        data: the rows' inputs.
        teacher: the teacher's outputs over all rows, [rows, …] each.
        labels: int64 [rows], -100 for none, or None.
        groups: int64 [rows], equal for rows that belong together and are to be in one batch, -1 for none, or None.
        settings: what the schedule follows from.
        scratch: where checkpoints lie.
        progress: is told at least every half second, between steps.
        validate: judges the network after each epoch.

    Raises:
        DataError: the objective is no longer a finite number.
        SpecError: a rate for token vectors, and a network that shows none.
        KeyboardInterrupt: asked to stop; a checkpoint of the last whole step has been written.
    """
    accelerator = Accelerator()
    terms = nn.ModuleList([term for _, _, term in losses])
    optimizer = torch.optim.AdamW(_groups(network, terms, settings), lr=settings.learning_rate, fused=True)
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    network, terms, optimizer = accelerator.prepare(network, terms, optimizer)
    modules = {"student": accelerator.unwrap_model(network), "losses": accelerator.unwrap_model(terms)}
    per_epoch = steps_per_epoch(data.count, settings.batch_size)
    steps = per_epoch * settings.epochs
    state = _State(sums=[0.0] * (len(losses) + 1))
    step = 0
    found = checkpoint.load_latest(scratch, modules, optimizer)
    if found:
        step, saved = found
        state = _State(**saved)
        state.resumed += 1
        progress.note(f"going on from step {step} of {steps}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    hidden = any(term.wants_hidden for term in modules["losses"])
    keys = max((term.config.keys for term in modules["losses"]), default=0)
    saved_at = began = reported = time.monotonic()
    point_every = max(1, -(-steps // _CURVE_POINTS))

    def save() -> None:
        nonlocal began, saved_at
        now = time.monotonic()
        state.seconds += now - began
        began = saved_at = now
        checkpoint.write(scratch, step, modules, optimizer, state.to_json())

    def judge() -> None:
        # By counting, not by the step alone: an attempt may have been stopped while it judged.
        if validate is not None and len(state.validation) < step // per_epoch:
            modules["student"].eval()
            state.validation.append(validate(modules["student"]))
            network.train()

    network.train()
    whole = True
    order: list[npt.NDArray[np.int64]] = []
    order_of = -1
    with _interrupts_between_steps() as stop:
        try:
            judge()
            while step < steps:
                epoch, at = divmod(step, per_epoch)
                if epoch != order_of:
                    order_of = epoch
                    if groups is None:
                        order = epoch_batches(data.lengths, settings.batch_size, settings.seed, epoch)
                    else:
                        order = grouped_batches(groups, settings.batch_size, settings.seed, epoch)
                factor = learning_rate(step, steps, settings.warmup)
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * factor
                rows = order[at]
                whole = False
                drawn = _draw(data.count, rows, keys, (settings.seed, step))
                values = _step(
                    accelerator, network, losses, data, teacher, labels, groups, rows, optimizer, parameters, hidden, drawn
                )
                step += 1
                state.rows += len(rows)
                _record(state, values, [name for name, _, _ in losses], step, last=step % point_every == 0 or step == steps)
                whole = True
                judge()
                now = time.monotonic()
                if stop.is_set():
                    raise KeyboardInterrupt
                if step % settings.checkpoint_steps == 0 or now - saved_at > _CHECKPOINT_SECONDS:
                    save()
                if now - reported > _REPORT_SECONDS or step == steps:
                    reported = now
                    progress.update(step, steps, "steps", f"epoch {epoch + 1} of {settings.epochs}, loss {values[0]:.4f}")
        except KeyboardInterrupt:
            if whole:  # a second Ctrl-C may have cut a step in two; the checkpoint before it stands
                save()
            raise
    state.seconds += time.monotonic() - began
    modules["student"].to("cpu")
    modules["student"].eval()
    curve = [CurvePoint(**point) for point in state.curve]
    return LoopResult(steps, state.seconds, state.rows, state.resumed, curve, state.validation)


def _step(
    accelerator: Accelerator,
    network: nn.Module,
    losses: Sequence[tuple[str, float, LossTerm]],
    data: Texts | Images,
    teacher: Mapping[str, Tensor],
    labels: npt.NDArray[np.int64] | None,
    groups: npt.NDArray[np.int64] | None,
    rows: npt.NDArray[np.int64],
    optimizer: Any,
    parameters: list[nn.Parameter],
    hidden: bool,
    drawn: npt.NDArray[np.int64],
) -> list[float]:
    """Do one step; return the objective and each term."""
    device = accelerator.device
    # Rows of one group differ in length: slices of like lengths spare most of the padding.
    slices = length_batches(data.lengths, rows, _SLICE_TOKENS, len(rows))
    rows = np.concatenate(slices)
    index = torch.from_numpy(rows)
    targets = Targets(
        {name: tensor[index].to(device, torch.float32) for name, tensor in teacher.items()},
        None if labels is None else torch.from_numpy(labels[rows]).to(device),
        teacher["embedding"][torch.from_numpy(drawn)].to(device, torch.float32) if len(drawn) else None,
        None if groups is None else torch.from_numpy(groups[rows]).to(device),
    )
    output = _forward(accelerator.unwrap_model(network), data, slices, hidden, device)
    values = [term(output, targets) for _, _, term in losses]
    total = sum((weight * value for (_, weight, _), value in zip(losses, values, strict=True)), torch.zeros((), device=device))
    if not torch.isfinite(total):
        raise DataError(
            "training went astray: the objective is no longer a finite number",
            field="spec.distill.stages[].learningRate",
            found=", ".join(f"{name} {float(value.detach()):g}" for (name, _, _), value in zip(losses, values, strict=True)),
            fix="lower learningRate, or raise warmup",
        )
    accelerator.backward(total)
    accelerator.clip_grad_norm_(parameters, _CLIP_NORM)
    optimizer.step()
    optimizer.zero_grad()
    return [float(total.detach()), *(float(value.detach()) for value in values)]


def _forward(
    network: Network, data: Texts | Images, slices: Sequence[npt.NDArray[np.int64]], hidden: bool, device: torch.device
) -> NetworkOutput:
    """Run the network over a batch slice by slice; the outputs' rows are in the order of the slices."""
    parts = []
    for rows in slices:
        inputs = [torch.from_numpy(array).to(device) for array in data.batch(rows)]
        parts.append(network.run(*inputs, hidden=hidden))
    if len(parts) == 1:
        return parts[0]
    states = zip(*(part.hidden for part in parts), strict=True)
    return NetworkOutput(torch.cat([part.output for part in parts]), tuple(torch.cat(layer) for layer in states))


def _draw(count: int, batch: npt.NDArray[np.int64], most: int, seed: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return at most `most` rows that are not in the batch; they follow from seed and step, so that a run can go on."""
    if not most:
        return np.zeros(0, dtype=np.int64)
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = generator.choice(count, min(most, count), replace=False, shuffle=False)
    return drawn[~np.isin(drawn, batch)].astype(np.int64)


def _groups(network: Network, terms: nn.Module, settings: LoopSettings) -> list[dict[str, Any]]:
    """Return the optimizer's groups: decay pulls at matrices, never at biases and norms (Loshchilov & Hutter 2019).

    Nor at token vectors with a rate of their own: at so high a rate, decay would wear away what rare tokens began with.

    Raises:
        SpecError: such a rate, and no token vectors that we know.
    """
    parameters = [parameter for module in (network, terms) for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = []
    if settings.embedding_learning_rate is not None:
        table = network.token_vectors
        if table is None:
            raise SpecError(
                "the student shows no token vectors that could have a learning rate of their own",
                field="spec.distill.stages[].embeddingLearningRate",
                found=f"a student of kind {network.architecture.kind}",
                allowed="a text encoder or a residual student",
                fix="leave embeddingLearningRate out",
            )
        parameters = [parameter for parameter in parameters if parameter is not table]
        groups.append({"params": [table], "weight_decay": 0.0, "lr": settings.embedding_learning_rate})
    return [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
        *groups,
    ]


def _record(state: _State, values: list[float], names: list[str], step: int, *, last: bool) -> None:
    state.sums = [total + value for total, value in zip(state.sums, values, strict=True)]
    state.count += 1
    if last:
        means = [round(total / state.count, 6) for total in state.sums]
        state.curve.append({"step": step, "loss": means[0], "terms": dict(zip(names, means[1:], strict=True))})
        state.sums, state.count = [0.0] * len(values), 0


@contextmanager
def _interrupts_between_steps() -> Iterator[threading.Event]:
    """Let Ctrl-C wait for the end of a step, where weights and optimizer belong together; a second one does not wait."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only; whoever runs this one stops it by other means
        return
    former = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        if stop.is_set() and callable(former):
            former(number, frame)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, former)
