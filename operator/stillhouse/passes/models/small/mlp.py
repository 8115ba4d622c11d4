"""A text as the mean of its token vectors, and layers over that.

Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification" (deep averaging networks).
With `bigrams`, pairs of neighbouring tokens have vectors of their own, in a table in which pairs may meet by chance: Joulin et
al. 2016, "Bag of Tricks for Efficient Text Classification", arXiv:1607.01759, section 2.2. They begin at nothing, so that the
network begins as the bag of its tokens.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from stillhouse.passes.models.shapes import TextShape
from stillhouse.passes.models.small.words import Words, pooled

__all__ = ["TextMlp", "layers_of"]

_MULTIPLIER: Final = 2_654_435_761
"""Knuth's: near 2³² over the golden ratio, and prime; a vocabulary is below 2²⁰, so products stay below 2⁵²."""


class TextMlp(Words):
    """The network of a `TextShape` of form `mlp`."""

    def __init__(self, shape: TextShape) -> None:
        """Make it, at random."""
        super().__init__(shape)
        if shape.bigrams:
            self.pairs = nn.Embedding(shape.bigrams, shape.embedding_size)
            nn.init.zeros_(self.pairs.weight)
        # Behind the mean, not before: how long a token's vector is says how much it counts.
        self.norm = nn.LayerNorm(shape.embedding_size)
        self.layers = layers_of(shape.embedding_size, shape.hidden_size, shape.layers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return features, float32 [batch, hidden_size]."""
        mean = pooled(self.tokens(input_ids), attention_mask, "mean")
        if self.shape.bigrams:
            # The first of a pair stands before the second; a text's first token has padding's id before it, as a mark.
            first = nn.functional.pad(input_ids, (1, 0))[:, :-1]
            place = (first * _MULTIPLIER + input_ids) % self.shape.bigrams
            mean = mean + pooled(self.pairs(place), attention_mask, "mean")
        return self.layers(self.norm(mean))


def layers_of(inputs: int, width: int, count: int) -> nn.Sequential:
    """Return `count` linear layers of a width, a rectifier behind each."""
    made: list[nn.Module] = []
    for number in range(count):
        made += [nn.Linear(width if number else inputs, width), nn.ReLU()]
    return nn.Sequential(*made)
