"""How important weights and units are, and which of them stay.

`magnitude` of single weights: w² over the sum of the squares that are no smaller in the same matrix (LAMP: Lee et al. 2021,
arXiv:2010.07611, equation 4), so that matrices of unlike scales can be ranked together. Of units: the norm of what writes them
times the norm of what reads them. `taylor`: |Σ w·∂L/∂w| over what reads a unit, which is how much the objective changes
without it to the first order (Michel et al. 2019, arXiv:1905.10650, equation 2; Molchanov et al. 2019, arXiv:1906.10771), as a
moving average over steps. `movement`: −Σ over steps of w·∂L/∂w (Sanh et al. 2020, arXiv:2005.07683, equation 3). All but LAMP
are divided by their layer's norm before layers are ranked together (Molchanov et al. 2017, arXiv:1611.06440, section 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

__all__ = ["FLOOR", "REMEMBERED", "floors", "kept", "lamp", "levelled"]

REMEMBERED: Final = 0.9
"""Of a moving average: what it keeps in a step (Molchanov et al. 2019, section 4.1)."""
FLOOR: Final = 0.1
"""Of single weights: a matrix keeps so much of the share that all keep together, whatever its weights."""


def lamp(weight: Tensor) -> Tensor:
    """Return the scores of a matrix, of its shape."""
    square = weight.detach().float().pow(2).flatten()
    order = torch.argsort(square, stable=True)
    rising = square[order]
    above = rising.flip(0).cumsum(0).flip(0).clamp(min=1e-30)
    scores = torch.empty_like(square)
    scores[order] = rising / above
    return scores.view_as(weight)


def levelled(scores: Tensor) -> Tensor:
    """Return one layer's scores, comparable with other layers'."""
    norm: Tensor = torch.linalg.vector_norm(scores)
    return scores / norm.clamp(min=1e-30)


def floors(counts: Sequence[int], ratio: float | None) -> list[int]:
    """Return how many each layer keeps at least: one unit (`ratio` None), or of weights `FLOOR` of the share that is kept."""
    if ratio is None:
        return [1] * len(counts)
    return [max(1, math.ceil(FLOOR * (1.0 - ratio) * count)) for count in counts]


def kept(scores: Sequence[Tensor], out: int, least: Sequence[int]) -> list[Tensor]:
    """Return what stays, bool of the scores' shapes: all but the `out` lowest, of each layer at least the `least` highest."""
    flat = []
    for score, keep in zip(scores, least, strict=True):
        values = score.detach().float().flatten().clone()
        values[torch.topk(values, min(keep, len(values))).indices] = math.inf
        flat.append(values)
    together = torch.cat(flat)
    stays = torch.ones(len(together), dtype=torch.bool, device=together.device)
    out = min(out, int((together < math.inf).sum()))
    stays[torch.argsort(together, stable=True)[:out]] = False
    parts = stays.split([len(values) for values in flat])
    return [part.view(score.shape) for part, score in zip(parts, scores, strict=True)]
