"""Takes more and more out of a network that learns, and leaves a smaller one.

While it learns, what is out is 0: weights stay in place, multiplied by a mask after every step. Masks, scores and (for
`movement`) the weights behind the masks are buffers: a checkpoint carries them, and a run that was stopped goes on the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.passes.distill.prune.config import Course, PruneConfig
from stillhouse.passes.distill.prune.importance import REMEMBERED, floors, kept, levelled
from stillhouse.passes.distill.prune.remove import check_removal, remove
from stillhouse.passes.distill.prune.sites import MATRICES, Site, UnitSite, WeightSite, weight_sites
from stillhouse.passes.distill.prune.units import find_units
from stillhouse.passes.models.network import Network, count_parameters

__all__ = ["Pruned", "Pruner"]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was taken out.

    `before`, `after`: parameters without embeddings that are not 0. `kinds` maps weights, heads, neurons, channels to how many
    there were and how many are left; `layers` the same for each layer, by kind and name.
    """

    by: str
    before: int
    after: int
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    layers: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """What it was, in words."""
        parts = [f"{kind} {was:,} → {left:,}" for kind, (was, left) in self.kinds.items()]
        return f"pruned: {', '.join(parts)}; without embeddings {self.before:,} → {self.after:,} weights"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)


class Pruner(nn.Module):  # type: ignore[misc]
    """The masks of one stage."""

    def __init__(self, network: Network, config: PruneConfig, course: Course, example: tuple[Tensor, ...]) -> None:
        """Find what can be taken out, and try whether the network does without. `example` is what it reads.

        Raises:
            SpecError: it has none of what is asked for, or too little, or does not do without.
        """
        super().__init__()
        self._config, self._course = config, course
        units = find_units(network, config, example)
        check_removal(network, units, example)
        self._sites: list[Site] = [UnitSite(network, each) for each in units]
        if config.weights is not None:
            self._sites += weight_sites(network)
        self._before = _used(network)
        self._parameters_masked = {name: each for site in self._sites for name, each in site.parameters.items()}
        for number, site in enumerate(self._sites):
            blank = site.blank()
            self.register_buffer(f"kept-{number}", torch.ones_like(blank, dtype=torch.bool))
            if config.by != "magnitude":
                self.register_buffer(f"score-{number}", blank.float())
        if config.by == "movement":
            for number, parameter in enumerate(self._parameters_masked.values()):
                self.register_buffer(f"behind-{number}", parameter.detach().clone())

    def forward(self) -> None:
        """Compute nothing: it is a module for the sake of its buffers."""

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def learn(self) -> None:
        """Look at a step's gradients, before the optimizer does; hide from it those of what is out."""
        if self._config.by != "magnitude":
            effects = {}
            for number, (name, parameter) in enumerate(self._parameters_masked.items()):
                weight = self._buffer("behind", number) if self._config.by == "movement" else parameter
                effects[name] = torch.zeros_like(parameter) if parameter.grad is None else weight * parameter.grad
            for number, site in enumerate(self._sites):
                found, score = site.summed(effects), self._buffer("score", number)
                if self._config.by == "movement":
                    score -= found
                else:
                    score.mul_(REMEMBERED).add_(found.abs(), alpha=1.0 - REMEMBERED)
        for name, mask in self._masks():
            gradient = self._parameters_masked[name].grad
            if gradient is not None:
                gradient.mul_(mask)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def apply_after(self, step: int) -> None:
        """Set to 0 what is out once the optimizer has done `step` (from 0), which may be more than before it."""
        if self._config.by == "movement":
            masks = dict(self._masks())
            for number, (name, parameter) in enumerate(self._parameters_masked.items()):
                behind = self._buffer("behind", number)
                behind.copy_(torch.where(masks[name], parameter, behind))
        share = self._course.after(step)
        if share is not None:
            self._rank(share)
            if self._config.by == "movement":  # what comes back does so with the weights that it left with
                for number, parameter in enumerate(self._parameters_masked.values()):
                    parameter.copy_(self._buffer("behind", number))
        for name, mask in self._masks():
            self._parameters_masked[name].mul_(mask)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def finish(self, network: Network) -> Pruned:
        """Take the units that are out off `network`, which is smaller then; return what was taken."""
        layers: dict[str, dict[str, tuple[int, int]]] = {}
        keeps = {number: self._buffer("kept", number).cpu() for number in range(len(self._sites))}
        for number, site in enumerate(self._sites):
            layers.setdefault(site.kind, {})[site.name] = (site.count, int(keeps[number].sum()))
        chosen = [(site.units, keeps[number]) for number, site in enumerate(self._sites) if isinstance(site, UnitSite)]
        if chosen:
            remove(network, chosen)
        kinds = {
            kind: (sum(was for was, _ in each.values()), sum(left for _, left in each.values())) for kind, each in layers.items()
        }
        return Pruned(self._config.by, self._before, _used(network), kinds, layers)

    def _rank(self, share: float) -> None:
        for kind, ratio in self._config.shares.items():
            numbers = [number for number, site in enumerate(self._sites) if site.kind == kind]
            sites = [self._sites[number] for number in numbers]
            counts = [site.count for site in sites]
            least = floors(counts, ratio if isinstance(sites[0], WeightSite) else None)
            for number, stays in zip(
                numbers, kept([self._score(number) for number in numbers], round(share * ratio * sum(counts)), least), strict=True
            ):
                self._buffer("kept", number).copy_(stays)

    def _score(self, number: int) -> Tensor:
        if self._config.by == "magnitude":
            return self._sites[number].magnitudes()
        score = levelled(self._buffer("score", number))
        # What is out has no effect that could be measured: it stays out.
        return score if self._config.by == "movement" else score.masked_fill(~self._buffer("kept", number), -1.0)

    def _masks(self) -> list[tuple[str, Tensor]]:
        """Return parameter → mask; a parameter that reads units of several layers has the masks of all."""
        masks: dict[str, Tensor] = {}
        for number, site in enumerate(self._sites):
            for name, mask in site.spread(self._buffer("kept", number)).items():
                masks[name] = masks[name] & mask if name in masks else mask
        return list(masks.items())

    def _buffer(self, what: str, number: int) -> Tensor:
        found: Tensor = self.get_buffer(f"{what}-{number}")
        return found


def _used(network: Network) -> int:
    """Return how many parameters outside of embeddings are not 0."""
    layers = [module for module in network.modules() if isinstance(module, MATRICES)]
    matrices = {id(each): each for layer in layers for each in layer.parameters(recurse=False) if each.dim() > 1}
    zeros = sum(int((each == 0).sum()) for each in matrices.values())
    return count_parameters(network)[1] - zeros
