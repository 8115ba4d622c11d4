"""One step of training: a batch through the student, its losses, and the optimizer's answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from stillhouse.passes.distill.encoded import Arrays, Texts, length_batches
from stillhouse.passes.distill.live import FIELD, MASK, LiveTeacher, joined, mask_of
from stillhouse.passes.distill.losses.pooled import FEATURES
from stillhouse.passes.distill.losses.term import Targets
from stillhouse.passes.distill.objective import Objective
from stillhouse.passes.distill.prune.pruner import Pruner
from stillhouse.passes.distill.quantize.quantizer import Quantizer
from stillhouse.passes.distill.teacher import FEATURES_FIELD
from stillhouse.passes.distill.together import ALONE, Group
from stillhouse.passes.distill.top_logits import CLASSES, REST, TOP, whole
from stillhouse.passes.models.device import tensors_of
from stillhouse.passes.models.features import Features
from stillhouse.passes.models.network import Network, NetworkOutput
from stillhouse.passes.models.precision import mixed
from stillhouse.passes.models.traces import Traces

__all__ = ["Stepper", "TrainingSet"]

_CLIP_NORM: Final = 1.0
_SLICE_TOKENS: Final = 8192
"""Padded tokens that go through the network at once: what a slice's states take stays near the cache."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What there is to learn from, row by row.

    `inputs`: what the student reads. `teacher`: the teacher's outputs by name, [rows, …] each. `labels`: int64 [rows],
    -100 for none, or None. `groups`: int64 [rows], equal for rows that belong together and are to be in one batch, -1 for
    none, or None. `classes`: how many logits the teacher has, where only its largest were kept. `live`: a teacher
    that reads along. `weights`: float64 [rows], how often a row is drawn against the others, or None. `calibration`: batches off
    which ranges are read, as the student takes them.
    """

    inputs: Texts | Arrays
    teacher: Mapping[str, Tensor]
    labels: npt.NDArray[np.int64] | None = None
    groups: npt.NDArray[np.int64] | None = None
    classes: int = 0
    live: LiveTeacher | None = None
    weights: npt.NDArray[np.float64] | None = None
    calibration: Sequence[tuple[Tensor, ...]] = ()

    def targets(
        self,
        slices: Sequence[npt.NDArray[np.int64]],
        drawn: npt.NDArray[np.int64],
        device: torch.device,
        read: Mapping[str, Tensor],
    ) -> Targets:
        """Return what belongs to the rows of the slices, in their order; the embeddings of `drawn` are its keys.

        `read` is what a teacher that reads along says of them.
        """
        rows = np.concatenate(slices)
        index = torch.from_numpy(rows)
        teacher = {name: tensor[index].to(device) for name, tensor in self.teacher.items()}
        if TOP in teacher:
            teacher["logits"] = whole({name: teacher.pop(name) for name in (TOP, CLASSES, REST)}, self.classes)
        teacher |= read
        return Targets(
            {name: tensor.to(torch.float32) for name, tensor in teacher.items()},
            None if self.labels is None else torch.from_numpy(self.labels[rows]).to(device),
            self.teacher["embedding"][torch.from_numpy(drawn)].to(device, torch.float32) if len(drawn) else None,
            None if self.groups is None else torch.from_numpy(self.groups[rows]).to(device),
        )


class Stepper:
    """Does steps: everything that stays the same from one to the next is here."""

    def __init__(
        self,
        accelerator: Accelerator,
        network: Network,
        objective: Objective,
        data: TrainingSet,
        optimizer: Any,
        seed: int,
        steps: int,
        group: Group = ALONE,
        pruner: Pruner | None = None,
        quantizer: Quantizer | None = None,
        *,
        bfloat16: bool = False,
    ) -> None:
        self._group = group
        self._accelerator = accelerator
        self._network = network
        self._objective = objective
        self._data = data
        self._optimizer = optimizer
        self._seed = seed
        self._steps = steps
        self._pruner = pruner
        self._quantizer = quantizer
        self._bfloat16 = bfloat16
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._hidden = any(term.wants_hidden for term in objective.terms)
        self._traces: Traces | None = None
        looking = [term for term in objective.terms if term.traces]
        if looking and data.live is not None:
            wanted = [(what, term.depth) for term in looking for what in term.traces if term.depth is not None]
            self._traces = Traces(network, wanted, FIELD)
            data.live.watch((what, term.layer) for term in looking for what in term.traces)
        wants_features = any(term.wants_features for term in objective.terms)
        self._features = Features(network, FEATURES_FIELD) if wants_features else None
        own = {id(parameter) for term in objective.terms for parameter in term.parameters()}
        self._of_network = [parameter for parameter in self._parameters if id(parameter) not in own]
        self._of_terms = [parameter for parameter in self._parameters if id(parameter) in own]
        self._keys = max((term.config.keys for term in objective.terms), default=0)

    def step(self, number: int, rows: npt.NDArray[np.int64]) -> list[float]:
        """Train on the rows of step `number`, int64 [batch]; return the objective and each term.

        Raises:
            DataError: the objective or its gradient is no longer a finite number; the network is as it was before the step.
            WorkerLost: another worker has gone; likewise.
        """
        self._objective.begin(number, self._steps)
        if self._quantizer is not None:
            self._quantizer.begin(number)
        inputs = self._data.inputs
        drawn = _draw(inputs.count, rows, self._keys, (self._seed, number))
        # Rows of one group differ in length: slices of like lengths spare most of the padding.
        slices = length_batches(inputs.lengths, rows, _SLICE_TOKENS, len(rows))
        share = self._group.share(inputs.lengths, rows)
        mine = slices if len(share) == len(rows) else length_batches(inputs.lengths, share, _SLICE_TOKENS, len(share))
        read = {} if self._data.live is None else self._data.live(mine, self._accelerator.device)
        output = self._forward(mine)
        if mine is not slices:
            output, read = self._whole(output, read)
        targets = self._data.targets(slices, drawn, self._accelerator.device, read)
        values = self._objective(output, targets)
        self._accelerator.backward(values[0])
        self._group.add_up(self._of_network, self._of_terms, shared=mine is not slices)
        norm = self._accelerator.clip_grad_norm_(self._parameters, _CLIP_NORM)
        self._objective.demand_finite(norm, lambda: f"a gradient of norm {float(norm):g}")
        if self._pruner is not None:
            self._pruner.learn()
        self._optimizer.step()
        if self._pruner is not None:
            self._pruner.apply_after(number)
        self._optimizer.zero_grad()
        return [float(value.detach()) for value in values]

    def check(self, rows: npt.NDArray[np.int64]) -> None:
        """Look at what the network says of a batch: a step that nothing follows has no objective after it that would tell.

        Raises:
            DataError: not all of it is finite numbers.
        """
        self._network.eval()
        with torch.no_grad():
            slices = length_batches(self._data.inputs.lengths, rows, _SLICE_TOKENS, len(rows))
            largest = self._forward(slices).output.abs().max()
        self._network.train()
        self._objective.demand_finite(largest, lambda: f"an output of {float(largest):g}")

    def sound(self) -> bool:
        """Return whether all weights are finite numbers: whether they are worth keeping."""
        return bool(nn.utils.get_total_norm(self._parameters, math.inf).isfinite())

    def _forward(self, slices: Sequence[npt.NDArray[np.int64]]) -> NetworkOutput:
        """Run the network over a batch slice by slice; the outputs' rows are in the order of the slices."""
        parts, traces = [], []
        device = self._accelerator.device
        for rows in slices:
            arrays = tensors_of(self._data.inputs.batch(rows), device)
            with mixed(device, bfloat16=self._bfloat16):
                parts.append(self._network.run(*arrays, hidden=self._hidden))
            found = {} if self._traces is None else self._traces.take()
            if self._features is not None:
                found[FEATURES] = self._features.take()
            mask = mask_of(self._data.inputs, arrays)
            traces.append(found if mask is None or self._traces is None else {**found, MASK: mask})
        kept = joined(traces)
        mask = kept.pop(MASK, None)
        kept = {name: trace.float() for name, trace in kept.items()}  # losses are reckoned in float32
        states = zip(*(part.hidden for part in parts), strict=True)
        hidden = tuple(_joined(layer) for layer in states)
        return NetworkOutput(_joined([part.output for part in parts]), hidden, kept, mask)

    def _whole(self, output: NetworkOutput, read: Mapping[str, Tensor]) -> tuple[NetworkOutput, dict[str, Tensor]]:
        """Return what all workers' networks and teachers say of the batch, from what this one's do of its share."""
        traces, masks = sorted(output.traces), [] if output.mask is None else [output.mask]
        own = [output.output, *output.hidden, *(output.traces[name] for name in traces), *masks]
        found = iter(self._group.gathered([*own, *read.values()]))
        logits, hidden = next(found), tuple(next(found) for _ in output.hidden)
        kept = {name: next(found) for name in traces}
        mask = next(found) if masks else None
        return NetworkOutput(logits, hidden, kept, mask), {name: next(found) for name in read}

    def close(self) -> None:
        """Leave the network as it was."""
        for hooks in (self._traces, self._features):
            if hooks is not None:
                hooks.close()


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return the slices' rows one after another, float32."""
    return (parts[0] if len(parts) == 1 else torch.cat(tuple(parts))).float()


def _draw(count: int, batch: npt.NDArray[np.int64], most: int, seed: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return at most `most` rows that are not in the batch; they follow from seed and step, so that a run can go on."""
    if not most:
        return np.zeros(0, dtype=np.int64)
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = generator.choice(count, min(most, count), replace=False, shuffle=False)
    return drawn[~np.isin(drawn, batch)].astype(np.int64)
