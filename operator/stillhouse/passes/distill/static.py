"""Static token vectors: what the teacher says of every token alone, reduced by PCA.

The mean of such vectors over a text's tokens is already a fair sentence embedding (Minish Lab's Model2Vec, 2024), so a student
whose first layers change little starts where a bag of words stands, and training adds what word order means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stillhouse.passes.base import Progress
from stillhouse.passes.models.network import Network

__all__ = ["StaticVectors", "reduce", "token_vectors"]

_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class StaticVectors:
    """`tokens` float32 [vocabulary, hidden] of unit mean square, and the map back to the teacher's space.

    `weight` float32 [dimension, hidden] and `bias` [dimension]: `weight @ tokens[i] + bias` comes near the teacher's
    vector of token i. `kept` is the share of the (weighted) variance that is left.
    """

    tokens: Tensor
    weight: Tensor
    bias: Tensor
    kept: float


def token_vectors(teacher: Network, tokens: Tensor, around: tuple[list[int], list[int]], progress: Progress) -> Tensor:
    """Return the teacher's embedding of each token alone, between the special tokens `around`: float32 [n, dimension]."""
    before, after = (torch.tensor(part, dtype=torch.int64) for part in around)
    parts: list[Tensor] = []
    for first in range(0, len(tokens), _AT_ONCE):
        chosen = tokens[first : first + _AT_ONCE].unsqueeze(1)
        rows = len(chosen)
        ids = torch.cat([before.expand(rows, -1), chosen, after.expand(rows, -1)], dim=1)
        made = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.inference_mode():
            parts.append(teacher(*(made.get(name, torch.zeros_like(ids)) for name in teacher.signature.inputs)))
        progress.update(first + rows, len(tokens), "tokens", "asking the teacher about each token")
    return torch.cat(parts).clone()


def reduce(vectors: Tensor, counts: Tensor, hidden: int, seed: int) -> StaticVectors:
    """Reduce token vectors [vocabulary, dimension] to `hidden` numbers by PCA, weighted by the root of their counts.

    The result is turned by a random rotation: principal axes have very unequal variances, and both layer normalisation
    and the split into attention heads want them alike.
    """
    weights = (counts.double() + 1.0).sqrt()
    weights = weights / weights.sum()
    vectors = vectors.double()
    mean = weights @ vectors
    centred = vectors - mean
    values, axes = torch.linalg.eigh((centred * weights.unsqueeze(1)).T @ centred)
    values, axes = values.flip(0), axes.flip(1)
    size = min(hidden, axes.shape[1])
    axes = axes[:, :size]
    axes = axes * torch.sign(axes[axes.abs().argmax(0), torch.arange(size)])
    generator = np.random.Generator(np.random.PCG64(seed))
    square, upper = np.linalg.qr(generator.standard_normal((hidden, hidden)))
    rotation = torch.from_numpy(square * np.sign(np.diag(upper)))[:size]
    reduced = centred @ axes @ rotation
    scale = reduced.pow(2).mean().sqrt()
    kept = float(values[:size].clamp(min=0).sum() / values.clamp(min=0).sum())
    return StaticVectors((reduced / scale).float(), (axes @ rotation * scale).float(), mean.float(), kept)
