"""The residual student before training: token vectors of the teacher's, weighted by rarity and fitted to its answers.

What the teacher says of every token alone is centred and averaged with the weights a / (a + p) of Arora, Liang & Ma
2017, "A simple but tough-to-beat baseline for sentence embeddings", section 3 (p: the token's share of the data). Such a
bag of words finds texts well, but lies askew to the teacher's space: a linear map, found by ridge regression onto
what the teacher says of whole texts, is multiplied into the token vectors, its constant goes into the output's bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stillhouse.passes.base import Progress
from stillhouse.passes.distill.fit import ridge
from stillhouse.passes.distill.rows import Texts
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.residual import ResidualEncoder

__all__ = ["MOST_ROWS", "RARE", "Bag", "fill", "fit", "weighted"]

RARE: Final = 1e-3
"""a of a / (a + p). On docstring search 1e-3 finds more than 3e-4 and 1e-4."""
MOST_ROWS: Final = 32_768
"""Rows of the regression: some hundred unknowns per output are settled by then."""


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
    """Fit the bag to the teacher; return the mean cosine to it on every fifth text, fitted to the others.

    Args:
        network: of kind `residual-encoder`, filled, its encoder silent (`project` is 0).
        texts: tokenised for the student.
        wanted: the teacher's embeddings of the same texts, float32 [rows, dimension].
        progress: is told.
    """
    body = _body(network)
    progress.update(0, None, "", "fitting the token vectors to the teacher")
    weight, bias, closeness = ridge(_bags(body, texts), wanted)
    with torch.no_grad():
        tokens = body.tokens.weight @ weight.T
        scale = tokens.pow(2).mean().sqrt().clamp(min=1e-12)
        body.tokens.weight.copy_(tokens / scale)
        body.token_weights.weight.mul_(scale)
        body.project.bias.copy_(bias)
    return closeness


def _bags(body: ResidualEncoder, texts: Texts) -> Tensor:
    """Return the weighted means of the texts' token vectors, float32 [rows, dimension], without the encoder's work."""
    ids = torch.from_numpy(texts.ids).long()
    lengths = torch.from_numpy(texts.lengths).clamp(min=1)
    with torch.no_grad():
        weights = body.token_weights.weight[ids, 0] / lengths.repeat_interleave(lengths)[: len(ids)]
        starts = torch.from_numpy(texts.starts[:-1])
        return nn.functional.embedding_bag(ids, body.tokens.weight, starts, mode="sum", per_sample_weights=weights)


def _body(network: Network) -> ResidualEncoder:
    assert isinstance(network.body, ResidualEncoder)
    return network.body
