"""The residual student before training: token vectors of the teacher's, weighted by rarity and fitted to its answers.

What the teacher says of every token alone is centred and averaged with the weights a / (a + p) of Arora, Liang & Ma
2017, "A simple but tough-to-beat baseline for sentence embeddings", section 3 (p: the token's share of the data). From
there the vectors X are moved to where the bags come nearest to what the teacher says of whole texts, first all of them
by one affine map, then each by itself: with A [texts, vocabulary] the weighted means and T the teacher's embeddings less
the map's constant, X minimises |A·X − T|² + λ·|X − X₀|² (ridge regression about X₀, Hoerl & Kennard 1970). Conjugate
gradients on the normal equations (Hestenes & Stiefel 1952) need products with the sparse A alone. A token that the data
lacks is moved by the map only.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stillhouse.passes.base import Progress
from stillhouse.passes.distill.encoded import Texts
from stillhouse.passes.distill.fit import ridge
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.residual import ResidualEncoder

__all__ = ["MOST_ROWS", "RARE", "Bag", "fill", "fit", "weighted"]

RARE: Final = 1e-3
"""a of a / (a + p). Docstring search, 16,384 texts, fitted, validation: mrr@10 0.503, cosine 0.83 (3e-4: 0.501, 0.81)."""
MOST_ROWS: Final = 32_768
"""Rows of the regression: a minute of work at most."""
_PENALTY: Final = 0.1
_STEPS: Final = 20
_HELD: Final = 16
"""One text in so many, at most 1,024, is left out to tell how near the bag is."""


@dataclass(frozen=True, slots=True)
class Bag:
    """`tokens` float32 [vocabulary, dimension] of mean square 1; `weights` float32 [vocabulary], what they count for."""

    tokens: Tensor
    weights: Tensor


def weighted(vectors: Tensor, counts: npt.NDArray[np.int64], silent: Tensor) -> Bag:
    """Centre and weigh token vectors.

    Args:
        vectors: float32 [vocabulary, dimension], what the teacher says of each token alone.
        counts: how often the data has each token, [vocabulary]. One is added to each: what the data lacks is rare.
        silent: bool [vocabulary], tokens that say nothing (the special ones); their weight is 0.
    """
    probability = torch.from_numpy(counts).double() + 1.0
    probability = probability / probability.sum()
    share = torch.where(silent, 0.0, probability.sqrt())
    centred = vectors.double() - (share / share.sum()) @ vectors.double()
    scale = centred[~silent].pow(2).mean().sqrt().clamp(min=1e-12)
    weights = torch.where(silent, 0.0, RARE / (RARE + probability)) * scale
    return Bag((centred / scale).float(), weights.float())


def fill(network: Network, bag: Bag) -> None:
    """Put the bag into a network of kind `residual-encoder`."""
    body = _body(network)
    with torch.no_grad():
        body.tokens.weight.copy_(bag.tokens)
        body.token_weights.weight.copy_(bag.weights.unsqueeze(1))


def fit(network: Network, texts: Texts, wanted: Tensor, progress: Progress) -> float:
    """Fit the token vectors to the teacher; return the mean cosine to it on texts that were left out.

    Args:
        network: of kind `residual-encoder`, filled, its encoder silent (`project` is 0).
        texts: tokenised for the student.
        wanted: the teacher's embeddings of the same texts, float32 [rows, dimension].
        progress: is told after each step.
    """
    body = _body(network)
    held = np.zeros(texts.count, dtype=bool)
    held[::_HELD] = texts.count >= 2 * _HELD
    held[1024 * _HELD :] = False
    with torch.no_grad():
        largest = body.token_weights.weight.max().clamp(min=1e-12)
        weights = body.token_weights.weight[:, 0] / largest
        start = body.tokens.weight * largest
        matrix = _bags(texts, ~held, weights)
        target = wanted[torch.from_numpy(~held)]
        turn, bias, _ = ridge(matrix @ start, target)
        found = _ridge(matrix, target - bias, start @ turn.T, progress)
        body.project.bias.copy_(bias)
        scale = found[weights > 0].pow(2).mean().sqrt().clamp(min=1e-12)
        body.tokens.weight.copy_(found / scale)
        body.token_weights.weight.copy_((weights * scale).unsqueeze(1))
        judged = held if held.any() else ~held
        made = _bags(texts, judged, weights) @ found + bias
        near = nn.functional.cosine_similarity(made, wanted[torch.from_numpy(judged)], dim=1)
    return float(near.mean())


def _ridge(matrix: Tensor, wanted: Tensor, start: Tensor, progress: Progress) -> Tensor:
    """Return X that minimises |matrix·X − wanted|² + λ·|X − start|², all columns at once."""
    turned = _by_rows(matrix.to_sparse_coo().t().coalesce())
    found = start.clone()
    residual = turned @ (wanted - matrix @ found)
    direction = residual.clone()
    size = residual.pow(2).sum(0)
    for step in range(_STEPS):
        image = turned @ (matrix @ direction) + _PENALTY * direction
        length = size / (direction * image).sum(0).clamp(min=1e-30)
        found += length * direction
        residual -= length * image
        after = residual.pow(2).sum(0)
        direction = residual + after / size.clamp(min=1e-30) * direction
        size = after
        progress.update(step + 1, _STEPS, "steps", "fitting the token vectors to the teacher")
    return found


def _bags(texts: Texts, chosen: npt.NDArray[np.bool_], weights: Tensor) -> Tensor:
    """Return the chosen texts' weighted means as a sparse float32 [rows, vocabulary]."""
    lengths = texts.lengths
    rows = np.repeat(np.cumsum(chosen) - 1, lengths)
    there = np.repeat(chosen, lengths)
    ids = torch.from_numpy(texts.ids[there]).long()
    shares = torch.from_numpy(np.repeat(1.0 / np.maximum(lengths, 1), lengths)[there]).float()
    places = torch.stack([torch.from_numpy(rows[there]), ids])
    size = (int(chosen.sum()), len(weights))
    made = torch.sparse_coo_tensor(places, weights[ids] * shares, size, check_invariants=True)
    return _by_rows(made.coalesce())


def _by_rows(matrix: Tensor) -> Tensor:
    """Return a sparse matrix in compressed rows, which multiply several times faster."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls this form of tensors young
        return matrix.to_sparse_csr()


def _body(network: Network) -> ResidualEncoder:
    assert isinstance(network.body, ResidualEncoder)
    return network.body
