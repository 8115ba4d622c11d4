"""The student's first projection: the linear map that brings its pooled states nearest to the teacher's embeddings."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from stillhouse.passes.base import Progress
from stillhouse.passes.distill.encoded import Texts
from stillhouse.passes.distill.validation import outputs_of
from stillhouse.passes.models.device import there
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.precision import reading_precision
from stillhouse.planning.estimate import PROJECTION_ROWS

__all__ = ["ask_sample", "fit_projection", "ridge", "sample_rows"]

# A regression onto h ≈ 200 unknowns per output is settled by some thousand rows (which the plan's estimate counts).
SAMPLE: Final = PROJECTION_ROWS
_STRENGTHS: Final = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def sample_rows(count: int) -> list[int]:
    """Return at most 2,048 row numbers, evenly spread: data is often sorted by where it comes from."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(int)).tolist() if count else []


def ask_sample(teacher: Network, theirs: Texts, progress: Progress) -> Tensor:
    """Return the teacher's embeddings of the sample, float32 [rows, dimension]; `theirs` are tokenised for it."""
    with there(teacher), reading_precision(teacher):
        return outputs_of(teacher, theirs, progress, "asking the teacher about a sample")


def fit_projection(network: Network, own: Texts, wanted: Tensor, progress: Progress) -> float:
    """Set `network.projection` by ridge regression; return the mean cosine to the teacher on rows that were left out.

    `own` are texts tokenised for the student, `wanted` the teacher's embeddings of them (`ask_sample`).
    """
    assert network.projection is not None
    projection, network.projection = network.projection, None
    architecture, network.architecture = network.architecture, network.architecture.model_copy(update={"normalize": False})
    try:
        states = outputs_of(network, own, progress, "reading a sample")
    finally:
        network.projection, network.architecture = projection, architecture
    weight, bias, closeness = ridge(states, wanted)
    with torch.no_grad():
        projection.weight.copy_(weight)
        if projection.bias is not None:
            projection.bias.copy_(bias)
    return closeness


def ridge(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return weight [outputs, inputs], bias [outputs] and the cosine on left-out rows of the best ridge regression.

    Args:
        states: float32 [rows, inputs].
        wanted: float32 [rows, outputs].

    Every fifth row chooses the strength (Hoerl & Kennard 1970); the result is then fitted to all rows.
    """
    rows = len(states)
    held = torch.arange(rows) % 5 == 4
    if rows < 10:
        held = torch.ones(rows, dtype=torch.bool)
    fitted = ~held if rows >= 10 else held
    best = (-2.0, _STRENGTHS[0])
    for strength in _STRENGTHS:
        weight, bias = _solve(states[fitted], wanted[fitted], strength)
        found = nn.functional.linear(states[held], weight, bias)
        closeness = float(nn.functional.cosine_similarity(found, wanted[held], dim=1).mean())
        best = max(best, (closeness, strength))
    weight, bias = _solve(states, wanted, best[1])
    return weight, bias, best[0]


def _solve(states: Tensor, wanted: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    inputs, outputs = states.double(), wanted.double()
    mean_in, mean_out = inputs.mean(0), outputs.mean(0)
    inputs, outputs = inputs - mean_in, outputs - mean_out
    gram = inputs.T @ inputs
    # Relative to the states' own size, so that the strengths mean the same for every network.
    gram += torch.eye(len(gram), dtype=gram.dtype) * (strength * gram.diagonal().mean() + 1e-12)
    weight = torch.linalg.solve(gram, inputs.T @ outputs).T
    return weight.float(), (mean_out - weight @ mean_in).float()
