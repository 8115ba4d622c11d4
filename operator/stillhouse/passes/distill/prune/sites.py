"""Where something is pruned: single weights of a matrix, or units by the columns that read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from stillhouse.errors import SpecError
from stillhouse.passes.distill.prune.config import FIELD
from stillhouse.passes.distill.prune.importance import lamp, levelled
from stillhouse.passes.distill.prune.unit import Units
from stillhouse.passes.models.network import Network

__all__ = ["MATRICES", "Site", "UnitSite", "WeightSite", "weight_sites"]

MATRICES: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.RNNBase)


class Site(ABC):
    """One layer's share of what is ranked together. `parameters` are masked, by name; `count` things can be taken out."""

    kind: str
    name: str
    count: int
    parameters: dict[str, nn.Parameter]

    @abstractmethod
    def summed(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of `values`, one tensor for each parameter and of its shape, over each thing."""

    @abstractmethod
    def spread(self, kept: Tensor) -> dict[str, Tensor]:
        """Return parameter → mask that multiplies it, broadcastable to its shape."""

    @abstractmethod
    def magnitudes(self) -> Tensor:
        """Return the importance by magnitude, comparable among layers."""

    def blank(self) -> Tensor:
        """Return a zero for each thing."""
        return self.summed({name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()})


class WeightSite(Site):
    """The single weights of one matrix."""

    kind = "weights"

    def __init__(self, name: str, parameter: nn.Parameter) -> None:
        self.name, self.count, self.parameters = name, parameter.numel(), {name: parameter}

    def summed(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the values as they are: each weight is one thing."""
        return values[self.name].detach()

    def spread(self, kept: Tensor) -> dict[str, Tensor]:
        """Return the mask as it is."""
        return {self.name: kept}

    def magnitudes(self) -> Tensor:
        """Return LAMP's scores."""
        return lamp(self.parameters[self.name])


class UnitSite(Site):
    """The units of one layer."""

    def __init__(self, network: Network, units: Units) -> None:
        self.units, self.kind, self.name, self.count = units, units.kind, units.name, units.count
        self._readers = {f"{slot.path}.weight": slot for slot in units.readers}
        self.parameters = {name: network.get_submodule(slot.path).weight for name, slot in self._readers.items()}
        # A batch norm has a weight for each channel, no norm of what it reads.
        writers = [(slot, network.get_submodule(slot.path).weight) for slot in units.writers]
        self._writers = [(slot, weight) for slot, weight in writers if weight.dim() > 1]

    def summed(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the sums over the columns that read each unit."""
        total: Tensor | int = 0
        for name, slot in self._readers.items():
            value = values[name].detach()
            columns = value[:, slot.offset : slot.offset + self.count * slot.block]
            total = total + columns.reshape(len(value), self.count, -1).sum((0, 2))
        assert isinstance(total, Tensor)
        return total

    def spread(self, kept: Tensor) -> dict[str, Tensor]:
        """Return masks of the columns that read them."""
        masks = {}
        for name, slot in self._readers.items():
            weight = self.parameters[name]
            mask = torch.ones(weight.shape[1], dtype=torch.bool, device=kept.device)
            mask[slot.offset : slot.offset + self.count * slot.block] = kept.repeat_interleave(slot.block)
            masks[name] = mask.view(1, -1, *[1] * (weight.dim() - 2))
        return masks

    def magnitudes(self) -> Tensor:
        """Return the norm of what reads each unit times the norm of what writes it."""
        read = self.summed({name: parameter.detach().pow(2) for name, parameter in self.parameters.items()})
        written = torch.zeros_like(read)
        for slot, weight in self._writers:
            rows = weight.detach()[slot.offset : slot.offset + self.count * slot.block]
            written += rows.pow(2).reshape(self.count, -1).sum(1)
        return levelled((read * written).sqrt())


def weight_sites(network: Network) -> list[Site]:
    """Return the matrices of a network that learn, but its embeddings and what shares weights with them.

    Raises:
        SpecError: there are none.
    """
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    found: dict[int, Site] = {}
    for path, module in network.named_modules():
        if not isinstance(module, MATRICES):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() > 1 and parameter.requires_grad and id(parameter) not in tables:
                found.setdefault(id(parameter), WeightSite(f"{path}.{name}", parameter))
    if not found:
        raise SpecError(
            "the student has no weights that could be pruned",
            field=f"{FIELD}.weights",
            found=f"a network of kind {network.architecture.kind}, all of it embeddings, or frozen",
            allowed="linear, convolutional or recurrent layers that learn",
            fix="leave prune out, or freeze less",
        )
    return list(found.values())
