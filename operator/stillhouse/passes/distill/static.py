"""Static token vectors: what the teacher says of every token alone, reduced by PCA and weighted by rarity.

The weighted mean of such vectors over a text's tokens is already a fair sentence embedding (Minish Lab's Model2Vec, 2024;
weights a / (a + p) of Arora, Liang & Ma 2017, "A simple but tough-to-beat baseline", section 3), so a student whose first
layers change little starts where a bag of words stands, and training adds what word order means.

A layer normalisation follows a transformer's embeddings and would make all tokens equally long, which is to say equally
weighty. So two dimensions are given up: one takes what a token's length lacks (a constant that the projection behind the
pooling can take off again), one is the mean over the width, which the normalisation takes away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from stillhouse.passes.base import Progress
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.precision import reading_precision

__all__ = ["StaticVectors", "reduce", "token_vectors"]

_AT_ONCE: Final = 256  # larger blocks leave the cache: three tokens a row, but the hidden layers are wide
_RARE: Final = 1e-3  # a of a / (a + p); the paper finds 1e-3 to 1e-4 equally good
_LONGEST: Final = 0.98  # quantile of the lengths that just fits; the few longer tokens are cut to it


@dataclass(frozen=True, slots=True)
class StaticVectors:
    """`tokens` float32 [vocabulary, hidden], each of mean 0 and mean square 1 (what layer normalisation leaves as it is).

    `kept` is the share of the tokens' variance that the narrower width holds, weighted as the tokens are.
    """

    tokens: Tensor
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
        with torch.inference_mode(), reading_precision(teacher):
            parts.append(teacher(*(made.get(name, torch.zeros_like(ids)) for name in teacher.signature.inputs)).float())
        progress.update(first + rows, len(tokens), "tokens", "asking the teacher about each token")
    return torch.cat(parts).clone()


def reduce(vectors: Tensor, counts: Tensor, silent: Tensor, hidden: int, seed: int) -> StaticVectors:
    """Reduce token vectors to `hidden` numbers.

    Args:
        vectors: float32 [vocabulary, dimension].
        counts: how often the data has each token, [vocabulary].
        silent: bool [vocabulary], tokens that say nothing (the special ones); their weight is 0.
        hidden: width of the result, at least 3.
        seed: of the rotation that spreads the principal axes, whose variances are very unequal, over all numbers:
            attention heads take the width in equal parts.
    """
    probability = (counts.double() + 1.0) / float(counts.sum() + len(counts))
    weights = torch.where(silent, 0.0, _RARE / (_RARE + probability))
    vectors = vectors.double()
    share = torch.where(silent, 0.0, probability.sqrt())
    share = share / share.sum()
    centred = (vectors - share @ vectors) * weights.unsqueeze(1)
    values, axes = torch.linalg.eigh((centred * share.unsqueeze(1)).T @ centred)
    values, axes = values.flip(0).clamp(min=0), axes.flip(1)
    size = min(hidden - 2, axes.shape[1])
    axes = axes[:, :size]
    axes = axes * torch.sign(axes[axes.abs().argmax(0), torch.arange(size)])
    content = centred @ axes
    lengths = content.norm(dim=1)
    longest = torch.quantile(lengths[~silent], _LONGEST) if bool((~silent).any()) else lengths.max()
    content = content / torch.maximum(lengths, longest).clamp(min=1e-12).unsqueeze(1)
    filler = (1.0 - content.pow(2).sum(1)).clamp(min=0).sqrt()
    whole = torch.cat([filler.unsqueeze(1), content], dim=1) @ _orthogonal_to_ones(hidden, seed)[: size + 1]
    tokens = (whole * hidden**0.5).float()
    return StaticVectors(tokens, float(values[:size].sum() / values.sum().clamp(min=1e-30)))


def _orthogonal_to_ones(width: int, seed: int) -> Tensor:
    """Return float64 [width − 1, width]: a random orthonormal basis of the vectors whose numbers sum to 0."""
    generator = np.random.Generator(np.random.PCG64(seed))
    start = generator.standard_normal((width, width))
    start[:, 0] = 1.0
    square, upper = np.linalg.qr(start)
    return torch.from_numpy((square * np.sign(np.diag(upper))).T[1:])
