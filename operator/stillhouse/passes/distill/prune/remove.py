"""Taking units out for good: the layers that write and read them become narrower."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from stillhouse.errors import SpecError
from stillhouse.passes.distill.prune.config import FIELD
from stillhouse.passes.distill.prune.unit import Slot, Units
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.pruned import narrow, sizes_of

__all__ = ["check_removal", "remove"]

_CLOSE: Final = 1e-3
_BODY: Final = "body."


def remove(network: Network, chosen: Sequence[tuple[Units, Tensor]]) -> None:
    """Keep of each `Units` only those that its bool [count] tells; the network's architecture then says the new sizes."""
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}
    for units, kept in chosen:
        for slots, stays, axis in ((units.writers, outputs, 0), (units.readers, inputs, 1)):
            for slot in slots:
                width = sizes_of(network.get_submodule(slot.path))[axis]
                stays[slot.path] = stays.get(slot.path, torch.ones(width, dtype=torch.bool)) & _there(slot, kept, width)
    sizes = dict(network.architecture.pruned or {})
    for path in sorted({*outputs, *inputs}):
        module = network.get_submodule(path)
        narrow(module, *(index[path].nonzero()[:, 0] if path in index else None for index in (outputs, inputs)))
        if path.startswith(_BODY):  # a projection's size is told by its weights
            sizes[path.removeprefix(_BODY)] = sizes_of(module)
    network.architecture = network.architecture.model_copy(update={"pruned": sizes})


def check_removal(network: Network, units: Sequence[Units], example: tuple[Tensor, ...]) -> None:
    """Try on a copy whether the network without the first unit of each layer answers as it does when that is masked.

    Raises:
        SpecError: it does not, or cannot be called: its code has sizes of its own.
    """
    if not units:
        return
    masked, smaller = copy.deepcopy(network).eval(), copy.deepcopy(network).eval()
    keeps = []
    for each in units:
        keep = torch.ones(each.count, dtype=torch.bool)
        keep[0] = each.count == 1
        keeps.append((each, keep))
        for slot in each.readers:
            weight = masked.get_submodule(slot.path).weight
            with torch.no_grad():
                weight[:, ~_there(slot, keep, weight.shape[1])] = 0.0
    remove(smaller, keeps)
    found = ""
    with torch.no_grad():
        expected = masked(*example)
        try:
            difference = float((smaller(*example) - expected).abs().max())
        except (RuntimeError, ValueError) as error:
            found = str(error).strip().partition("\n")[0][:200]
        else:
            if not difference <= _CLOSE:
                found = f"answers that differ by {difference:.3g}"
    if found:
        kinds = ", ".join(sorted({each.kind for each in units}))
        raise SpecError(
            f"the student's code does not do with fewer {kinds} than it was built with",
            field=FIELD,
            found=found,
            allowed="a network that takes the sizes of its layers from their weights",
            fix="prune weights instead, or other parts",
        )


def _there(slot: Slot, kept: Tensor, width: int) -> Tensor:
    """Return bool [width], False at what the units that are not kept occupy."""
    there = torch.ones(width, dtype=torch.bool)
    there[slot.offset : slot.offset + len(kept) * slot.block] = kept.repeat_interleave(slot.block)
    return there
