"""Training as one of several workers: each reads its share of every batch, and all take the same step.

With the batch's rows in the order of their lengths, cut into one share a worker, worker w runs the network over its share and
is told what it gave for all others': o_1 … o_n. Each then works out the whole objective L(o_1, …, o_n), in which only its own o_w
leads back to the weights θ. So its gradient is ∂L/∂o_w · ∂o_w/∂θ, and the sum over workers is ∂L/∂θ of the whole batch: the same
as one worker's for every term, also for those that compare a batch's rows with each other. What is sent is what a network gives
for a row, and once a step the gradient. See docs/design/20261127-several-machines.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from stillhouse.errors import SpecError, WorkerLost

__all__ = ["ALONE", "Group", "demand_rows_alone", "shares"]


def shares(lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], count: int) -> list[npt.NDArray[np.int64]]:
    """Cut a batch into `count` shares of about as many tokens, at least one row each; the longest rows first, as in one.

    Args:
        lengths: tokens per row of the data, int64 [rows].
        rows: the batch, int64 [batch] with batch ≥ count.
        count: workers.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    until = np.cumsum(lengths[order])
    cuts = [0]
    for part in range(1, count):
        wanted = int(np.searchsorted(until, until[-1] * part / count, side="left")) + 1
        cuts.append(min(max(wanted, cuts[-1] + 1), len(order) - (count - part)))
    return [order[first:last] for first, last in zip(cuts, [*cuts[1:], len(order)], strict=True)]


@dataclass(frozen=True, slots=True)
class Group:
    """The workers, of which this is number `index`. Every method must be called by all of them, in the same order.

    Each raises WorkerLost where another has gone, or says nothing for as long as the meeting allowed.
    """

    count: int
    index: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Return whether this one's checkpoints and result count."""
        return self.index == 0

    def share(self, lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return this worker's rows of a batch; of one with fewer rows than there are workers, all of it."""
        return rows if self.count == 1 or len(rows) < self.count else shares(lengths, rows, self.count)[self.index]

    def gathered(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return every tensor with the rows of all workers, in their order; only this one's lead back to the network.

        Args:
            tensors: [rows, …] each, as many for all; the second dimension may differ between workers (the positions of a text)
                and is padded with 0 at its end.
        """
        sizes = torch.tensor([size for tensor in tensors for size in tensor.shape], dtype=torch.int64, device=self.device)
        all_sizes = [torch.empty_like(sizes) for _ in range(self.count)]
        with self._together():
            dist.all_gather(all_sizes, sizes)
        shapes = [_shapes(each.tolist(), tensors) for each in all_sizes]
        flat = torch.cat([tensor.detach().reshape(-1).to(torch.float32) for tensor in tensors])
        most = max(sum(int(np.prod(shape)) for shape in each) for each in shapes)
        mine = torch.zeros(most, device=self.device)
        mine[: len(flat)] = flat
        found = [torch.empty_like(mine) for _ in range(self.count)]
        with self._together():
            dist.all_gather(found, mine)
        parts: list[list[Tensor]] = [[] for _ in tensors]
        for worker, values in enumerate(found):
            at = 0
            for position, (tensor, shape) in enumerate(zip(tensors, shapes[worker], strict=True)):
                size = int(np.prod(shape))
                other = values[at : at + size].view(shape).to(tensor.dtype)
                parts[position].append(tensor if worker == self.index else other)
                at += size
        return [_joined(each) for each in parts]

    def add_up(self, split: Sequence[nn.Parameter], whole: Sequence[nn.Parameter], *, shared: bool) -> None:
        """Give every worker the same gradients.

        Args:
            split: the network's parameters: each worker has a part of their gradient, the sum counts.
            whole: the terms' own: each worker has their whole gradient, number 0's counts (two kinds of CPU differ in the
                last digit, and the workers must not drift apart).
            shared: whether the batch was shared; else every worker has the whole gradient of all.
        """
        if self.count == 1:
            return
        parameters = [*split, *whole]
        counted = [self.leads or shared] * len(split) + [self.leads] * len(whole)
        gradients = [
            parameter.grad if parameter.grad is not None and counts else torch.zeros_like(parameter)
            for parameter, counts in zip(parameters, counted, strict=True)
        ]
        there = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=self.device)
        flat = torch.cat([*(gradient.detach().reshape(-1) for gradient in gradients), there])
        with self._together():
            dist.all_reduce(flat)
        *sums, there = flat.split([*(parameter.numel() for parameter in parameters), len(parameters)])
        # What no worker has a gradient of is left alone: an optimizer would let its decay work on it.
        for parameter, total, used in zip(parameters, sums, there.tolist(), strict=True):
            parameter.grad = total.view_as(parameter) if used else None

    def agreed(self, value: float) -> float:
        """Return number 0's value."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        with self._together():
            dist.broadcast(told, src=0)
        return float(told)

    def stop_if(self, asked: bool) -> None:
        """Stop all where one of them is asked to.

        Raises:
            KeyboardInterrupt: this one is.
            WorkerLost: another is.
        """
        if asked and self.count == 1:
            raise KeyboardInterrupt
        if self.count == 1:
            return
        told = torch.tensor([float(asked)], device=self.device)
        with self._together():
            dist.all_reduce(told, op=dist.ReduceOp.MAX)
        if asked:
            raise KeyboardInterrupt
        if bool(told):
            raise WorkerLost(
                "another worker of this training was asked to stop",
                field="spec.build.workers",
                found=f"worker {self.index} of {self.count} was not",
                fix="nothing: all begin again from the checkpoint that number 0 has just written",
            )

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise WorkerLost(
                "another worker of this training is gone",
                field="spec.build.workers",
                found=f"worker {self.index} of {self.count} heard: {(str(error).strip().splitlines() or [''])[0][:300]}",
                fix="nothing, where its pod was evicted or its node went: all begin again from the last checkpoint; else look at"
                " its log: kubectl logs -l stillhouse.io/stage=train --prefix",
            ) from error


ALONE = Group(1, 0, torch.device("cpu"))
"""One worker, which has every batch to itself."""


def demand_rows_alone(network: nn.Module, count: int) -> None:
    """Look whether the network says of a row what it would say beside others, where `count` workers share a batch.

    Raises:
        SpecError: it normalises over the batch, of which each worker sees a share.
    """
    found = [name for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if count > 1 and found:
        raise SpecError(
            "a student with batch normalisation cannot be trained by several workers: each sees a share of the batch",
            field="spec.build.workers",
            found=f"{count} workers, and {found[0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else ""),
            allowed="one worker, or a network that normalises each row by itself (GroupNorm, LayerNorm)",
            fix="workers: 1, or another student",
        )


def _shapes(sizes: list[int], tensors: Sequence[Tensor]) -> list[list[int]]:
    """Cut a list of sizes into as many dimensions as each tensor has."""
    out, at = [], 0
    for tensor in tensors:
        out.append(sizes[at : at + tensor.dim()])
        at += tensor.dim()
    return out


def _joined(parts: Sequence[Tensor]) -> Tensor:
    if parts[0].dim() < 2:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    # Pairs from the last dimension backwards: none for what lies behind the positions, then their end.
    return torch.cat([nn.functional.pad(part, (*(0, 0) * (part.dim() - 2), 0, longest - part.shape[1])) for part in parts])
